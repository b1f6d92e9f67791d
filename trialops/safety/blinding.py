"""The blind: a trial without anything that tells the treatment, the treatment of one subject, and the scan for leaks.

SDTM is unblinded data: DM has the arms, EX product and dose. Whatever is made for a blinded reader starts from
:func:`blind`. The treatment of a single subject is given out by :func:`treatment_of` alone, to the role that may,
for a case, on record. :func:`leaks` looks at what was written and is meant to be hard to satisfy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.leaks import Leak, leaks

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.trial.tables import TrialTables

__all__ = ["BLINDED", "Exposure", "Leak", "Treatment", "arms_named", "blind", "leaks", "treatment_of"]

BLINDED = "BLINDED"
"""What stands where an arm stood."""

REMOVED = "[blinded]"
"""What stands in a text where it named a treatment."""

SHORTEST_NAME = 3
"""An arm code shorter than this is a letter or a number: it is looked for as a whole value, never inside a text."""


@dataclass(frozen=True)
class Exposure:
    """One interval of one product; dates as delivered, doses as numbers of the unit."""

    product: str
    dose: float | None
    unit: str
    form: str
    frequency: str
    route: str
    start: str
    end: str


@dataclass(frozen=True)
class Treatment:
    """What one subject was to get and got. Unblinded: it stays sealed."""

    subject: str
    planned: str
    actual: str
    exposures: tuple[Exposure, ...]


@cache
def rules() -> Mapping[str, Any]:
    """blinding.yaml."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("blinding.yaml").read_text("utf-8"))
    return loaded


def arms_named(trial: TrialTables) -> tuple[str, ...]:
    """The strings that tell a treatment in this trial: names and codes of arms, names of products given.

    Returns:
        Sorted, without those that say there was no arm. Empty for a trial that is blinded already.
    """
    import polars as pl

    found: set[str] = set()
    for domain, columns in (("DM", rules()["arm"]), ("EX", ("EXTRT",)), ("TA", ("ARM", "ARMCD"))):
        frame = trial.get(domain)
        for column in columns if frame is not None else ():
            if frame is not None and column in frame.columns and frame[column].dtype == pl.String:
                found |= {str(value).strip() for value in frame[column].drop_nulls().unique()}
    nothing = {*rules()["no_arm"], BLINDED, ""}
    return tuple(sorted(name for name in found if name.upper() not in nothing))


def blind(trial: TrialTables) -> TrialTables:
    """The trial without anything that tells the treatment.

    Arms are replaced by ``BLINDED`` (the codes of screen failures and of those never assigned stay); EX keeps the
    intervals of exposure, joined where they touch, without product and dose; planned arms, elements, drug levels and
    accountability are left out; laboratory tests named after a product too; and where any other text names an arm or a
    product, the name is replaced. What a term itself says (an event that only the active product causes) stays.

    Args:
        trial: The delivery, cut or not.

    Returns:
        The same study, source and cut.
    """
    import polars as pl

    rule, names = rules(), arms_named(trial)
    tables: dict[str, pl.DataFrame] = {}
    for name, frame in trial.tables.items():
        if name in rule["dropped"]:
            continue
        if name == "DM":
            frame = _without_arms(frame)
        elif name == "EX":
            frame = _without_product(frame)
        elif name in rule["tests"]:
            frame = _without_levels(frame, rule["tests"][name], names)
        frame = frame.drop([c for c in (*rule["numbers"], *rule["telling"]) if c in frame.columns and name != "DM"])
        if {"QNAM", "QVAL"} <= set(frame.columns):
            told = pl.col("QNAM").str.contains(r"TRT|ARM|DOSE|RAND|KIT|BLIND") & (pl.col("QNAM") != "AETRTEM")
            frame = frame.filter(~told.fill_null(False))
        tables[name] = _without_names(frame, names)
    return replace(trial, tables=tables)


def treatment_of(run: Step, trial: TrialTables, subject: str, *, purpose: str, case: str) -> Treatment:
    """The treatment of one subject, for an expedited report or an emergency; who asked and what for is on record.

    Args:
        run: The step; its role must be one that may unblind.
        trial: The delivery, not blinded.
        subject: USUBJID.
        purpose: Why, in a sentence; it goes into the audit trail.
        case: The case it is for, which stands for the subject in the audit trail.

    Raises:
        TrialOpsError: The role may not, no purpose is stated, there is no such subject, or the trial is blinded.
    """
    import polars as pl

    from trialops.governance.access import authorise

    authorise(run, "unblinding", purpose, subject=case)
    rows = trial.table("DM").filter(pl.col("USUBJID") == subject)
    if rows.is_empty():
        raise TrialOpsError("The delivery has no such subject", where=case, fix="Look which delivery the case is of.")
    row = rows.row(rows.height - 1, named=True)
    planned, actual = _text(row, "ARM", "ARMCD"), _text(row, "ACTARM", "ACTARMCD")
    if BLINDED in (planned, actual):
        raise TrialOpsError("These tables are blinded: they do not have the treatment", where=case)
    given: list[Exposure] = []
    ex = trial.get("EX")
    if ex is not None:
        ordered = ex.filter(pl.col("USUBJID") == subject).sort([c for c in ("EXSTDTC", "EXSEQ") if c in ex.columns])
        for item in ordered.iter_rows(named=True):
            dose = item.get("EXDOSE")
            given.append(
                Exposure(
                    _text(item, "EXTRT"),
                    None if dose is None else float(dose),
                    *(_text(item, c) for c in ("EXDOSU", "EXDOSFRM", "EXDOSFRQ", "EXROUTE", "EXSTDTC", "EXENDTC")),
                )
            )
    run.audit("unblind.subject", case, reason=purpose.strip(), exposures=len(given))
    return Treatment(subject, planned, actual or planned, tuple(given))


def _text(row: Mapping[str, Any], *columns: str) -> str:
    return next((str(row[c]).strip() for c in columns if row.get(c) not in (None, "")), "")


def _without_arms(dm: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    rule = rules()
    none = [*rule["no_arm"], ""]
    kept = [
        pl.when(pl.col(c).is_null() | pl.col(c).str.strip_chars().str.to_uppercase().is_in(none))
        .then(pl.col(c))
        .otherwise(pl.lit(BLINDED))
        .alias(c)
        for c in rule["arm"]
        if c in dm.columns
    ]
    gone = [c for c in (*rule["arm_removed"], *rule["telling"]) if c in dm.columns and c not in rule["arm"]]
    return dm.with_columns(kept).drop(gone)


def _without_product(ex: pl.DataFrame) -> pl.DataFrame:
    """Intervals of exposure: rows that overlap or follow within a day are one, with the first start and last end."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest

    kept = ex.select([c for c in rules()["exposure"] if c in ex.columns])
    if "EXSTDTC" not in kept.columns or kept.is_empty():
        return kept
    end = latest("EXENDTC") if "EXENDTC" in kept.columns else pl.lit(None, pl.Date)
    rows = kept.with_columns(_start=earliest("EXSTDTC"), _end=pl.coalesce(end, latest("EXSTDTC")))
    rows = rows.sort("USUBJID", "_start", "_end", maintain_order=True, nulls_last=True)
    reach = pl.col("_end").cum_max().over("USUBJID").shift(1).over("USUBJID")
    apart = (pl.col("_start") > reach + pl.duration(days=1)) | reach.is_null() | pl.col("_start").is_null()
    rows = rows.with_columns(_run=apart.cast(pl.Int32).cum_sum().over("USUBJID"))
    ends = [c for c in ("EXENDTC", "EXENDY") if c in rows.columns]
    last = [pl.col(c).sort_by(pl.col("_end"), maintain_order=True, nulls_last=True).last().alias(c) for c in ends]
    # An exposure that goes on has no end; joined with earlier rows it still has none.
    if "EXENDTC" in ends:
        going = (pl.col("EXENDTC").fill_null("") == "") & (pl.col("_start") >= pl.col("_end").max())
        last = [pl.when(going.any()).then(None).otherwise(expr).alias(c) for c, expr in zip(ends, last, strict=True)]
    firsts = [pl.col(c).first() for c in kept.columns if c not in (*ends, "USUBJID", "EXSEQ")]
    joined = rows.group_by("USUBJID", "_run", maintain_order=True).agg(*firsts, *last)
    numbered = joined.with_columns(pl.col("_run").cast(pl.Float64).alias("EXSEQ"))
    return numbered.select(kept.columns)


def _without_levels(frame: pl.DataFrame, columns: list[str], names: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl

    there = [c for c in columns if c in frame.columns]
    words = sorted({n for name in names for n in name.upper().split() if len(n) > SHORTEST_NAME and n not in _COMMON})
    if not there or not words:
        return frame
    told = pl.any_horizontal([pl.col(c).str.to_uppercase().str.contains_any(words) for c in there])
    return frame.filter(~told.fill_null(False))


_COMMON = ("HIGH", "DOSE", "MEDIUM", "GROUP", "COHORT", "TREATMENT", "ACTIVE", "CONTROL", "PLACEBO", "STANDARD", "CARE")


def _without_names(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """Names of arms and products inside other texts replaced; whole values are left to the columns' own rules."""
    import polars as pl

    from trialops.safety.leaks import pattern

    long = [n for n in names if len(n) >= SHORTEST_NAME]
    skip = {"STUDYID", "DOMAIN", "USUBJID", "SUBJID", "SITEID", "RDOMAIN", "IDVAR", *rules()["arm"]}
    columns = [c for c, kind in frame.schema.items() if kind == pl.String and c not in skip]
    if not long or not columns:
        return frame
    search = "(?i)" + pattern(long)
    return frame.with_columns(
        pl.when(pl.col(c).str.contains(search)).then(pl.col(c).str.replace_all(search, REMOVED)).otherwise(pl.col(c))
        for c in columns
    )
