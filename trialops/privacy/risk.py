"""Residual risk of re-identification: k-anonymity, l-diversity, t-closeness, three attackers, and a release gate.

Classes are records that are equal in all quasi-identifiers; a missing value is a value. Sources: Sweeney 2002
(k-anonymity), Machanavajjhala et al. 2007 (l-diversity), Li, Li and Venkatasubramanian 2007 (t-closeness), El Emam and
Dankar 2008 and El Emam 2013 (prosecutor, journalist, marketer), EMA Policy 0070 (threshold 0.09).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.risk_policy import Gate

Verdict = Literal["pass", "fail", "insufficient"]


@dataclass(frozen=True)
class Diversity:
    """How much a class tells of one sensitive column.

    Attributes:
        column: The column.
        distinct: Fewest distinct values in a class.
        entropy: Smallest exp(entropy) of a class: the number of equally frequent values that tell as little.
        closeness: Largest Earth Mover's Distance of a class from the whole table, 0 to 1.
        ordered: Whether values are ranked (distance by rank) or any two are equally far apart.
    """

    column: str
    distinct: int
    entropy: float
    closeness: float
    ordered: bool


@dataclass(frozen=True)
class Risk:
    """Risk of one table.

    Attributes:
        records: Subjects.
        classes: Classes of equal quasi-identifiers.
        k: Size of the smallest class; 0 in an empty table.
        prosecutor: Highest risk of a record for an attacker who knows the person is in the table: 1 / k.
        prosecutor_mean: Mean over records.
        at_risk: Part of the records whose class is smaller than the gate's k.
        journalist: Highest risk for an attacker who does not know who is in the table: 1 / smallest class in the
            population; None where no population is given.
        marketer: Expected part of all records re-identified.
        sizes: Class size -> number of classes.
        diversity: One for each sensitive column.
    """

    records: int
    classes: int
    k: int
    prosecutor: float
    prosecutor_mean: float
    at_risk: float
    journalist: float | None
    marketer: float
    sizes: dict[int, int]
    diversity: tuple[Diversity, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a step record."""
        return asdict(self) | {"sizes": {str(k): n for k, n in self.sizes.items()}}


def assess(
    frame: pl.DataFrame,
    quasi: Sequence[str],
    sensitive: Sequence[str] = (),
    *,
    k: int = 11,
    ordered: Sequence[str] = (),
    population: pl.DataFrame | None = None,
) -> Risk:
    """Measure a table.

    Args:
        frame: One row per subject.
        quasi: Quasi-identifiers; none makes one class of everybody.
        sensitive: Sensitive columns.
        k: Size below which a record is at risk.
        ordered: Sensitive columns whose values are ranked (numbers, grades).
        population: The people an outsider could search, with the same quasi-identifiers; the table is a sample of it.

    Raises:
        TrialOpsError: A column is missing, or a class of the table is larger than in the population.
    """
    import polars as pl

    missing = sorted({*quasi, *sensitive} - set(frame.columns))
    if missing:
        raise TrialOpsError(
            f"Risk cannot be measured: {', '.join(missing)} is not in the table.",
            where="risk.yaml",
            fix="Name quasi-identifiers and sensitive columns that the table has.",
        )
    if frame.is_empty():
        return Risk(0, 0, 0, 1.0, 1.0, 1.0, None, 1.0, {}, ())
    key: list[str | pl.Expr] = [*quasi] or [pl.lit(0).alias("_all")]
    sizes = frame.group_by(key).agg(pl.len().alias("_f"))
    records, classes = frame.height, sizes.height
    smallest = int(sizes["_f"].min() or 0)  # type: ignore[arg-type]
    at_risk = int(sizes.filter(pl.col("_f") < k)["_f"].sum())
    journalist, marketer = None, classes / records
    if population is not None:
        journalist, marketer = _against(sizes, population, list(quasi), records)
    counted = sizes.group_by("_f").len().sort("_f")
    return Risk(
        records,
        classes,
        smallest,
        1 / smallest,
        classes / records,
        at_risk / records,
        journalist,
        marketer,
        dict(counted.iter_rows()),
        tuple(_diversity(frame, list(quasi), column, column in ordered) for column in sensitive),
    )


def _against(sizes: pl.DataFrame, population: pl.DataFrame, quasi: list[str], records: int) -> tuple[float, float]:
    """Journalist and marketer risk against a population."""
    import polars as pl

    whole = population.group_by(quasi or [pl.lit(0).alias("_all")]).agg(pl.len().alias("_F"))
    both = sizes.join(whole, on=quasi or ["_all"], how="left", nulls_equal=True)
    if both.filter(pl.col("_F").is_null() | (pl.col("_F") < pl.col("_f"))).height:
        raise TrialOpsError(
            "The population does not hold the table: a class is larger in the table.",
            where="population",
            fix="Give the population the table was drawn from, its columns made coarser in the same way.",
        )
    return 1 / int(both["_F"].min()), float((both["_f"] / both["_F"]).sum()) / records  # type: ignore[arg-type]


def _diversity(frame: pl.DataFrame, quasi: list[str], column: str, ordered: bool) -> Diversity:
    """Diversity and closeness of one sensitive column; a missing value is a value, the lowest of a ranked column."""
    import polars as pl

    values = frame.select(pl.col(column)).to_series().unique().sort(nulls_last=False)
    rank = pl.DataFrame({"_v": values, "_r": range(values.len())})
    table = frame.select(*quasi, _v=pl.col(column)).join(rank, on="_v", how="left", nulls_equal=True)
    group: list[str | pl.Expr] = [*quasi] or [pl.lit(0).alias("_all")]
    counts = table.group_by([*group, "_r"]).agg(pl.len().alias("_n"))
    names = quasi or ["_all"]
    part = counts.with_columns(_p=pl.col("_n") / pl.col("_n").sum().over(names))
    spread = part.group_by(names).agg(distinct=pl.len(), entropy=(-(pl.col("_p") * pl.col("_p").log()).sum()).exp())
    base = table.group_by("_r").len().sort("_r")
    q = base.select("_r", _q=pl.col("len") / frame.height)
    dense = part.select(names).unique().join(q, how="cross")
    dense = dense.join(part.select(*names, "_r", "_p"), on=[*names, "_r"], how="left", nulls_equal=True)
    gap = dense.sort(*names, "_r").with_columns(_d=pl.col("_p").fill_null(0.0) - pl.col("_q"))
    m = values.len()
    if ordered:
        # Li et al. 2007, 3.2: ground distance |i - j| / (m - 1).
        moved = gap.group_by(names).agg(pl.col("_d").cum_sum().abs().sum().alias("_t")) if m > 1 else None
        t = 0.0 if moved is None else float(moved["_t"].max()) / (m - 1)  # type: ignore[arg-type]
    else:
        t = float(gap.group_by(names).agg((pl.col("_d").abs().sum() / 2).alias("_t"))["_t"].max())  # type: ignore[arg-type]
    distinct, entropy = int(spread["distinct"].min()), float(spread["entropy"].min())  # type: ignore[arg-type]
    return Diversity(column, distinct, entropy, t, ordered)


@dataclass(frozen=True)
class Judgement:
    """What a gate says of a table.

    Attributes:
        verdict: pass, fail, or insufficient where there are too few subjects to judge.
        checks: One line each: name, value, threshold, met.
    """

    verdict: Verdict
    checks: tuple[tuple[str, float, float, bool], ...]

    def numbers(self) -> dict[str, float]:
        """Values by name."""
        return {name: value for name, value, _, _ in self.checks}


def judge(risk: Risk, gate: Gate, decimals: int = 2) -> Judgement:
    """Compare a table's risk with the thresholds of a release.

    Args:
        risk: Of the table.
        gate: Thresholds.
        decimals: At how many decimals risks are compared: 0.09 stands for 1/11.
    """
    if risk.records < gate.least:
        return Judgement("insufficient", (("subjects", float(risk.records), float(gate.least), False),))
    checks: list[tuple[str, float, float, bool]] = []

    def at_least(name: str, value: float, threshold: float | None) -> None:
        if threshold is not None:
            checks.append((name, value, threshold, value >= threshold - 1e-9))

    def at_most(name: str, value: float | None, threshold: float | None) -> None:
        if threshold is not None and value is not None:
            checks.append((name, value, threshold, round(value, decimals) <= threshold + 1e-12))

    at_least("k", risk.k, gate.k)
    at_most("prosecutor", risk.prosecutor, gate.prosecutor)
    at_most("journalist", risk.journalist, gate.journalist)
    at_most("marketer", risk.marketer, gate.marketer)
    for one in risk.diversity:
        at_least(f"l {one.column}", one.distinct, gate.l)
        at_least(f"entropy l {one.column}", one.entropy, gate.entropy_l)
        at_most(f"t {one.column}", one.closeness, gate.t)
    return Judgement("pass" if all(met for *_, met in checks) else "fail", tuple(checks))


@dataclass(frozen=True)
class Generalised:
    """A table made coarse enough.

    Attributes:
        frame: The table; quasi-identifiers are text where they were made coarser.
        steps: What was done, in order: column, rung, classes before, classes after.
        suppressed: Subjects left out.
        risk: Of the result.
        judgement: Of the result.
    """

    frame: pl.DataFrame
    steps: tuple[tuple[str, str, int, int], ...]
    suppressed: int
    risk: Risk
    judgement: Judgement


def generalise(
    frame: pl.DataFrame,
    quasi: Sequence[str],
    ladders: Mapping[str, Sequence[Mapping[str, Any]]],
    gate: Gate,
    *,
    sensitive: Sequence[str] = (),
    ordered: Sequence[str] = (),
    decimals: int = 2,
) -> Generalised:
    """Make a table coarser, one rung at a time, until the gate passes with few enough subjects left out.

    Each time the rung is taken that leaves the fewest subjects in small classes; of equals the one that keeps most
    classes, then the first declared. Greedy: not the optimum over all combinations, and the same for the same table.

    Returns:
        The result; its judgement is "fail" where even the coarsest table does not pass.
    """
    least = max(int(gate.k or 1), 1)
    state = {column: 0 for column in quasi if ladders.get(column)}
    current, left = frame, list(quasi)
    steps: list[tuple[str, str, int, int]] = []
    while True:
        kept, gone = _suppressed(current, left, least)
        risk = assess(kept, left, sensitive, k=least, ordered=ordered)
        judged = judge(risk, gate, decimals)
        few = gone <= gate.suppress * frame.height
        choices = [column for column in state if state[column] < len(ladders[column])]
        if (few and judged.verdict != "fail") or not choices:
            if not few and judged.verdict == "pass":
                judged = Judgement("fail", (*judged.checks, ("suppressed", gone / frame.height, gate.suppress, False)))
            return Generalised(kept, tuple(steps), gone, risk, judged)
        tried = []
        for order, column in enumerate(choices):
            rung = ladders[column][state[column]]
            coarse, names = _rung(current, left, column, rung)
            small = _suppressed(coarse, names, least)[1]
            tried.append((small, -_classes(coarse, names), order, column, coarse, names))
        before = _classes(current, left)
        _, after, _, column, current, left = min(tried, key=lambda t: t[:3])
        steps.append((column, _say(ladders[column][state[column]]), before, -after))
        state[column] += 1


def _classes(frame: pl.DataFrame, quasi: Sequence[str]) -> int:
    return frame.select(quasi).unique().height if quasi else min(frame.height, 1)


def _suppressed(frame: pl.DataFrame, quasi: Sequence[str], k: int) -> tuple[pl.DataFrame, int]:
    """The table without the records of small classes, and how many those are."""
    import polars as pl

    if not quasi:
        return (frame, 0) if frame.height >= k else (frame.clear(), frame.height)
    kept = frame.filter(pl.len().over(list(quasi)) >= k)
    return kept, frame.height - kept.height


def _rung(
    frame: pl.DataFrame, quasi: Sequence[str], column: str, rung: Mapping[str, Any]
) -> tuple[pl.DataFrame, list[str]]:
    """The table with one column made coarser, and the quasi-identifiers that are left."""
    import polars as pl

    if rung.get("drop"):
        return frame.drop(column), [c for c in quasi if c != column]
    value = pl.col(column)
    if "bands" in rung:
        step = int(rung["bands"])
        number = value.cast(pl.String).str.extract(r"^(-?\d+(?:\.\d+)?)", 1).cast(pl.Float64)
        low = (number / step).floor().cast(pl.Int64) * step
        new: pl.Expr = pl.when(number.is_not_null()).then(pl.format("{}-{}", low, low + step - 1))
    elif "merge" in rung:
        often = pl.len().over(column) >= int(rung["merge"])
        new = pl.when(often).then(value.cast(pl.String)).otherwise(pl.lit(str(rung["other"])))
    else:
        kept = value.cast(pl.String).is_in(list(rung["keep"]))
        new = pl.when(kept).then(value.cast(pl.String)).otherwise(pl.lit(str(rung["other"])))
    return frame.with_columns(new.alias(column)), list(quasi)


def _say(rung: Mapping[str, Any]) -> str:
    if rung.get("drop"):
        return "left out"
    if "bands" in rung:
        return f"bands of {rung['bands']}"
    if "merge" in rung:
        return f"values of fewer than {rung['merge']} subjects become {rung['other']}"
    return f"all but {len(rung['keep'])} values become {rung['other']}"
