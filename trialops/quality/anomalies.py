"""Anomalies in single measurements: robust z, delta check, wrong units and decimal points.

All work on one long table per domain, on the log scale, with window aggregates; no row is visited twice.
Thresholds and sources are in anomalies.yaml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

MAD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution."""
MEAN = 1.2533
"""Mean absolute deviation likewise; used where more than half of the deviations are 0 (Iglewicz and Hoaglin)."""
FLOOR = 0.01
"""Smallest spread on the log scale: printed decimals alone make results repeat."""


@dataclass(frozen=True)
class Marks:
    """A method's verdict on each row of a table: which rows it could judge, which it flags, and a label per flag."""

    applies: pl.Series
    flagged: pl.Series
    label: pl.Series | None = None


@cache
def methods() -> dict[str, dict[str, Any]]:
    """The methods' settings, labels and sources."""
    import yaml

    read = yaml.safe_load(Path(__file__).with_name("anomalies.yaml").read_text("utf-8"))
    return dict(read["methods"])


def measurements(frame: pl.DataFrame, domain: str) -> pl.DataFrame:
    """The numeric results of LB or VS in one shape.

    Args:
        frame: Rows with --TESTCD, --STRESN, --STRESU, USUBJID; VISITNUM, --DY and --POS where there are any.
        domain: "LB" or "VS".

    Returns:
        row (position in the table), subject, test (with the position of the body, which moves a blood pressure),
        code, unit, value, log (natural logarithm of the value), at (order in time); positive results alone.
    """
    import polars as pl

    code, value, unit, place, day = (f"{domain}{name}" for name in ("TESTCD", "STRESN", "STRESU", "POS", "DY"))
    have = frame.columns
    time = [pl.col(c).cast(pl.Float64) for c in (day, "VISITNUM") if c in have]
    spot = pl.concat_str(code, pl.col(place).fill_null(""), separator=" ") if place in have else pl.col(code)
    return (
        frame.select(
            row=pl.int_range(pl.len(), dtype=pl.UInt32),
            subject=pl.col("USUBJID"),
            test=spot.str.strip_chars(),
            code=pl.col(code),
            unit=pl.col(unit).fill_null(""),
            value=pl.col(value).cast(pl.Float64),
            at=pl.coalesce(*time) if time else pl.int_range(pl.len()).cast(pl.Float64),
        )
        .filter((pl.col("value") > 0) & pl.col("subject").is_not_null() & pl.col("test").is_not_null())
        .with_columns(log=pl.col("value").log())
    )


def _marks(height: int, judged: pl.DataFrame) -> Marks:
    """Marks of all rows of a table from those of the rows judged: columns row, flagged and maybe label."""
    import polars as pl

    rows = pl.DataFrame({"row": pl.int_range(height, dtype=pl.UInt32, eager=True)})
    all_rows = rows.join(judged, on="row", how="left", maintain_order="left")
    label = all_rows["label"] if "label" in judged.columns else None
    return Marks(all_rows["flagged"].is_not_null(), all_rows["flagged"].fill_null(False), label)


KEY = ("test", "unit")


def _spread(deviation: pl.Expr) -> pl.Expr:
    """Standard deviation from absolute deviations, robustly: results printed with few decimals repeat."""
    import polars as pl

    median = deviation.median() * MAD
    return pl.when(median > 0).then(median).otherwise(deviation.mean() * MEAN).fill_null(0.0).clip(lower_bound=FLOOR)


def robust_z(data: pl.DataFrame, height: int, *, limit: float, least: int, **_: Any) -> Marks:
    """Flag results far from the median of their test in their unit.

    Args:
        data: From `measurements`.
        height: Rows of the table it came from.
        limit: Distance in scaled median absolute deviations.
        least: Fewest results of a test to judge it.
    """
    import polars as pl

    away = (pl.col("log") - pl.col("log").median().over(KEY)).abs()
    judged = (
        data.select("row", *KEY, "log", n=pl.len().over(KEY), away=away)
        .filter(pl.col("n") >= least)
        .with_columns(scale=_spread(pl.col("away")).over(KEY))
        .select("row", flagged=pl.col("away") > limit * pl.col("scale"))
    )
    return _marks(height, judged)


def within_subject(data: pl.DataFrame) -> pl.DataFrame:
    """Typical spread within a subject, per test and unit: scaled MAD of consecutive differences over sqrt 2."""
    import polars as pl

    ordered = data.sort("subject", "test", "unit", "at", "row")
    step = pl.col("log") - pl.col("log").shift(1).over("subject", *KEY)
    return (
        ordered.with_columns(step=step)
        .group_by(KEY)
        .agg(within=_spread(pl.col("step").drop_nulls().abs()) / math.sqrt(2), steps=pl.col("step").count())
    )


def delta(data: pl.DataFrame, height: int, *, limit: float, least: int, **_: Any) -> Marks:
    """Flag results that leap from both neighbours in time.

    The reference change value is limit x sqrt(2) x the spread within subjects (Fraser and Harris). A lone step, which
    a disease can make, is no flag; a leap there and back is. The first and the last result have one neighbour: they
    are flagged when the neighbour agrees with the one behind it.
    """
    import polars as pl

    over = ("subject", *KEY)
    ordered = data.sort("subject", "test", "unit", "at", "row").join(within_subject(data), on=KEY, how="left")

    def shifted(by: int) -> pl.Expr:
        return pl.col("log").shift(by).over(over)

    back, ahead = pl.col("log") - shifted(1), pl.col("log") - shifted(-1)
    bound = limit * math.sqrt(2) * pl.col("within")
    marked = ordered.with_columns(
        back=back,
        ahead=ahead,
        bound=bound,
        back2=shifted(1) - shifted(2),
        ahead2=shifted(-1) - shifted(-2),
    )
    spike = (
        (pl.col("back").abs() > pl.col("bound"))
        & (pl.col("ahead").abs() > pl.col("bound"))
        & (pl.col("back").sign() == pl.col("ahead").sign())
    )
    first = pl.col("back").is_null() & (pl.col("ahead").abs() > pl.col("bound"))
    first = first & (pl.col("ahead2").abs() <= pl.col("bound"))
    last = pl.col("ahead").is_null() & (pl.col("back").abs() > pl.col("bound"))
    last = last & (pl.col("back2").abs() <= pl.col("bound"))
    judged = marked.filter(
        (pl.col("steps") >= least) & (pl.col("back").is_not_null() | pl.col("ahead").is_not_null())
    ).select("row", flagged=(spike | first | last).fill_null(False))
    return _marks(height, judged)


def _swap_factors(code: str, unit: str, typical: float, smallest: float) -> list[float]:
    """By what a result is off (natural logarithm) when one unit of the test is taken for the other.

    Args:
        code: SDTM test code.
        unit: Unit the results are in.
        typical: A usual result in that unit; a temperature's ratio depends on it.
        smallest: Factors nearer to 1 are left out: they cannot be told from an unusual patient.
    """
    from trialops.standards.units import find_analyte, solve

    known = find_analyte(code)
    if known is None:
        return []
    pairs = {(known.us, known.si), (known.si, known.us)}
    found = set()
    for source, target in pairs:
        conversion = solve(source, target, code)
        if conversion.reason or conversion.rule == "curve":
            continue
        wrong = typical * conversion.factor + conversion.offset
        if wrong > 0 and abs(math.log(wrong / typical)) >= math.log(smallest):
            found.add(round(math.log(wrong / typical), 6))
    if not unit:
        return []
    return sorted(found)


def scale_errors(
    data: pl.DataFrame,
    height: int,
    *,
    smallest_factor: float,
    own_least: int,
    few_spread: float,
    mixture: float,
    decisive: float,
    spread: float,
    powers: list[float],
    power_spread: float,
    power_room: float,
    least: int,
    **_: Any,
) -> Marks:
    """Flag results that are off by a conversion factor or by a power of ten; the label says which.

    Each hypothesis (no error, each factor) predicts where the result lies on the log scale; the nearest one wins. The
    centre is the median of the subject's own results, or of all subjects where there are fewer than `own_least`, or
    where the subject's median itself is off (a whole history in the wrong unit) or lies between two units. A factor is
    tried only where half of it is more than `spread` typical deviations, so that nature cannot reach it often; a
    slipped decimal point must also be met to within that: a disease can raise an enzyme tenfold, hardly by exactly ten.

    Args:
        data: From `measurements`.
        height: Rows of the table it came from.
        smallest_factor: Nearest to 1 that a conversion factor may be.
        own_least: Fewest own results to compare with.
        mixture: Part of a subject's results away from their own median, from which on that median is not trusted.
        decisive: Deviations between subjects beyond which all subjects tell more than a doubtful own median.
        few_spread: Deviations between subjects that a result must be off at least, where there are few own results.
        spread: See above.
        powers: Slipped decimal points to look for, in results with own ones to compare with.
        power_spread: As `spread`, for these.
        power_room: How far from the power of ten a result may be in any case, on the log scale.
        least: Fewest subjects with a test to judge it.
    """
    import polars as pl

    own = data.group_by("subject", *KEY, maintain_order=True).agg(own=pl.col("log").median(), results=pl.len())
    among = own.group_by(KEY, maintain_order=True).agg(
        centre=pl.col("own").median(),
        subjects=pl.len(),
        between=_spread((pl.col("own") - pl.col("own").median()).abs()),
    )
    facts = (
        data.group_by(KEY, maintain_order=True)
        .agg(pl.col("code").first())
        .join(among, on=KEY)
        .join(within_subject(data).select(*KEY, "within"), on=KEY)
    )
    hypotheses = []
    for test, unit, code, centre, within in facts.select(*KEY, "code", "centre", "within").iter_rows():
        swaps = _swap_factors(code, unit, math.exp(centre), smallest_factor)
        tens = [sign * math.log(p) for p in powers for sign in (1, -1)]
        tens = [t for t in tens if not any(abs(t - s) < 0.35 for s in swaps)]
        for label, offsets in (("unit", swaps), ("decimal point", tens)):
            hypotheses += [
                {"test": test, "unit": unit, "label": label, "offset": o}
                for o in offsets
                if abs(o) / 2 > (spread if label == "unit" else power_spread) * within
            ]
    shape = {"test": pl.String, "unit": pl.String, "label": pl.String, "offset": pl.Float64}
    tried = pl.DataFrame(hypotheses, schema=shape).group_by(KEY, maintain_order=True).agg("offset", "label")
    joined = (
        data.join(own, on=["subject", *KEY], how="left", maintain_order="left")
        .join(facts.drop("code"), on=KEY, how="left", maintain_order="left")
        .join(tried, on=KEY, how="left", maintain_order="left")
        .filter((pl.col("subjects") >= least) & pl.col("offset").is_not_null())
    )
    smallest = pl.col("offset").list.eval(pl.element().abs()).list.min()
    lost = (pl.col("own") - pl.col("centre")).abs() > pl.max_horizontal(smallest / 2, decisive * pl.col("between"))
    # A history of which a good part is away from its own median is a mixture: some of it is in the other unit.
    apart = ((pl.col("log") - pl.col("own")).abs() > smallest / 4).mean().over("subject", *KEY)
    mixed = (apart >= mixture) & (smallest / 2 > decisive * pl.col("between"))
    few = (pl.col("results") < own_least) | lost | mixed
    judged = joined.with_columns(few=few).with_columns(
        off=pl.col("log") - pl.when("few").then("centre").otherwise("own"),
        room=pl.when("few").then(few_spread * pl.col("between")).otherwise(0.0),
    )
    # Most rows are near their centre; only the few that are not are compared with every hypothesis.
    far = judged.filter(pl.col("off").abs() > pl.max_horizontal(smallest / 2, "room"))
    half = pl.col("offset").abs() / 2
    near_enough = pl.max_horizontal(spread * pl.col("within"), pl.lit(power_room))
    met = ~pl.col("few") & (pl.col("miss") <= pl.min_horizontal(half, near_enough))
    near = (
        far.select("row", "off", "offset", "label", "within", "few")
        .explode("offset", "label")
        .with_columns(miss=(pl.col("off") - pl.col("offset")).abs())
        .filter(pl.col("miss") < pl.col("off").abs())
        .filter(pl.when(pl.col("label") == "unit").then(pl.col("miss") <= half).otherwise(met))
        .sort("row", "miss")
        .unique("row", keep="first", maintain_order=True)
    )
    marked = judged.select("row").join(near.select("row", "label"), on="row", how="left", maintain_order="left")
    return _marks(height, marked.with_columns(flagged=pl.col("label").is_not_null()))
