"""The tables a recipient gets: the columns agreed, coarse enough, small cells suppressed, identifiers of their own.

Every recipient's copy has subject and site identifiers that only the vault can make, and its rows stand in the order
of those identifiers. Neither changes a value that is analysed; both tell whose copy it is (see `sharing_trace`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trialops.errors import TrialOpsError
from trialops.privacy.risk import Generalised, Judgement, assess, generalise, judge
from trialops.privacy.risk_policy import RiskPolicy, default_risk_policy
from trialops.privacy.sharing_agreement import SITE, SUBJECT, Agreement

if TYPE_CHECKING:
    import polars as pl

GATE = "partner"
OTHER = "OTHER"


class Pseudonyms(Protocol):
    """The part of the vault that makes identifiers."""

    def pseudonyms(self, kind: str, values: Sequence[str]) -> list[str]:
        """Pseudonyms of many values, in their order."""
        ...


@dataclass(frozen=True)
class Release:
    """What a recipient gets.

    Attributes:
        tables: By name, rows in the recipient's order.
        before: Judgement of the agreed columns as they are.
        coarse: What was made coarser, subjects left out, and the judgement of the result.
        replaced: Values replaced because fewer than k subjects have them, by TABLE.COLUMN.
        summary: Subjects by value of the categorical columns of DM: column, value, subjects; small cells are null.
        policy: Version of risk.yaml and thresholds.
    """

    tables: dict[str, pl.DataFrame]
    before: Judgement
    coarse: Generalised
    replaced: dict[str, int]
    summary: pl.DataFrame
    policy: dict[str, Any]


def prepare(
    clean: Mapping[str, pl.DataFrame], agreement: Agreement, names: Pseudonyms, policy: RiskPolicy | None = None
) -> Release:
    """Make a recipient's tables from de-identified ones.

    Args:
        clean: De-identified tables by name.
        agreement: What was agreed.
        names: Makes the recipient's identifiers.
        policy: Quasi-identifiers, ladders and thresholds; the platform's own by default.

    Returns:
        The release; the same for the same tables and agreement.

    Raises:
        TrialOpsError: A table or column is not there, a quasi-identifier stands outside DM, or k cannot be reached.
    """
    import polars as pl

    policy = policy or default_risk_policy()
    declared, gate = policy.declared("dm"), policy.gate(GATE)
    least = max(agreement.k, gate.k or 1)
    gate = type(gate)(**{**vars(gate), "k": least, "least": max(gate.least, 2 * least)})
    tables = _agreed(clean, agreement, declared.quasi)
    quasi = [c for c in declared.quasi if c in tables["DM"].columns]
    before = judge(assess(tables["DM"], quasi, k=least), gate, policy.decimals)
    coarse = generalise(tables["DM"], quasi, declared.ladders, gate, decimals=policy.decimals)
    if coarse.judgement.verdict != "pass":
        raise TrialOpsError(
            f"The data cannot be shared: k = {coarse.risk.k} where {least} is agreed, after making them as coarse as "
            f"allowed and leaving out {_bounded(coarse.suppressed)} of {tables['DM'].height} subjects",
            where=f"agreement {agreement.id}",
            fix="Share fewer of the quasi-identifiers " + ", ".join(quasi) + ", or wait for more subjects.",
        )
    kept = coarse.frame.select(SUBJECT)
    tables = {n: (coarse.frame if n == "DM" else f.join(kept, on=SUBJECT, how="semi")) for n, f in tables.items()}
    replaced = {}
    for place in agreement.small_cells:
        name, _, column = place.partition(".")
        if column not in tables[name].columns:
            continue
        few = pl.col(SUBJECT).n_unique().over(column) < least
        there = few & pl.col(column).is_not_null()
        replaced[place] = int(tables[name].select(there.sum()).item())
        text = pl.col(column).cast(pl.String)
        tables[name] = tables[name].with_columns(pl.when(there).then(pl.lit(OTHER)).otherwise(text).alias(column))
    # DM's order inside a subject is trivial; other tables keep the order the clean table has.
    marked = {name: _marked(frame, agreement, names) for name, frame in tables.items()}
    summary = summarise(marked["DM"], least)
    thresholds = {name: threshold for name, _, threshold, _ in coarse.judgement.checks}
    said = {"risk": policy.version, "gate": GATE, "k": least, "quasi": quasi, "thresholds": thresholds}
    return Release(marked, before, coarse, replaced, summary, said)


def _bounded(count: int) -> str:
    return str(count) if count == 0 or count >= 11 else "fewer than 11"


def _agreed(clean: Mapping[str, pl.DataFrame], agreement: Agreement, quasi: Sequence[str]) -> dict[str, pl.DataFrame]:
    """The agreed columns of the agreed tables."""
    there = {name.upper(): frame for name, frame in clean.items()}
    faults = []
    for name, columns in agreement.tables.items():
        if name not in there:
            faults.append(f"table {name}")
            continue
        faults += [f"column {name}.{c}" for c in columns if c not in there[name].columns]
    if faults:
        raise TrialOpsError(
            "The agreement names what the clean tables do not have: " + ", ".join(faults),
            where=f"agreement {agreement.id}",
            fix="Correct the agreement; nothing was shared.",
        )
    outside = [f"{n}.{c}" for n, columns in agreement.tables.items() if n != "DM" for c in columns if c in quasi]
    if outside:
        raise TrialOpsError(
            "Quasi-identifiers may be shared in DM alone, where their risk is measured: " + ", ".join(outside),
            where=f"agreement {agreement.id}",
            fix="Leave these columns out; nothing was shared.",
        )
    return {name: there[name].select(columns) for name, columns in agreement.tables.items()}


def _marked(frame: pl.DataFrame, agreement: Agreement, names: Pseudonyms) -> pl.DataFrame:
    """The table under the recipient's identifiers, in their order."""
    import polars as pl

    for column, kind in ((SUBJECT, "subject"), (SITE, "site")):
        if column not in frame.columns:
            continue
        values = frame[column].drop_nulls().cast(pl.String).unique().sort().to_list()
        own = [v for v in values if v != OTHER]
        new = names.pseudonyms(f"share/{agreement.id}/{agreement.recipient}/{kind}", own)
        swapped = pl.col(column).cast(pl.String).replace_strict(own, new, default=pl.col(column).cast(pl.String))
        frame = frame.with_columns(swapped)
    rest = [c for c in frame.columns if c != SUBJECT]
    return frame.sort([SUBJECT, *rest], nulls_last=False)


def summarise(dm: pl.DataFrame, least: int) -> pl.DataFrame:
    """Subjects by value of DM's categorical columns.

    Args:
        dm: One row per subject.
        least: Counts below it are left empty, and one more where a single one could be worked out by subtraction.

    Returns:
        Column, value, subjects (null where suppressed).
    """
    import polars as pl

    parts = []
    for column in dm.columns:
        if column in (SUBJECT, SITE) or dm[column].dtype.is_numeric() or dm[column].n_unique() > 50:
            continue
        counts = dm.group_by(pl.col(column).cast(pl.String).alias("value")).agg(pl.len().cast(pl.Int64).alias("n"))
        counts = counts.sort("n", "value", nulls_last=True)
        small = counts["n"] < least
        hidden = int(small.sum())
        if hidden == 1 and counts.height > 1:
            hidden = 2
        shown = pl.when(pl.int_range(pl.len()) >= hidden).then("n").alias("subjects")
        parts.append(counts.select(pl.lit(column).alias("column"), "value", shown).sort("value", nulls_last=True))
    schema = {"column": pl.String, "value": pl.String, "subjects": pl.Int64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)
