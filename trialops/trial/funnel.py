"""The way of subjects through a trial, from consent to the end: counts that add up, per site and in total.

A subject's stages are read off DM, DS and EX independently of one another; every box of the diagram is counted by a
rule of its own and then compared with the sum of its exits. Where they differ the subjects concerned are queries, and
the diagram says so: no number is made to fit.

    consented ──▶ screened ──▶ randomised ──▶ dosed ──▶ completed
        │            ├▶ screen failure    └▶ not dosed      ├▶ discontinued, by reason
        │            ├▶ passed, not randomised              └▶ ongoing
        └▶ not screened yet
                     └▶ in screening
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

EXITS: Mapping[str, tuple[str, ...]] = {
    "consented": ("not_screened", "screened"),
    "screened": ("screen_failure", "in_screening", "not_randomised", "randomised"),
    "randomised": ("not_dosed", "dosed"),
    "dosed": ("completed", "discontinued", "ongoing"),
}
"""Boxes and the boxes a subject leaves them to: each subject to exactly one."""

BOXES = ("consented", "not_screened", "screened", "screen_failure", "in_screening", "not_randomised", "randomised",
         "not_dosed", "dosed", "completed", "discontinued", "ongoing")  # fmt: skip

FINDINGS = {
    "FUNL001": ("critical", "A randomised subject has no date of informed consent."),
    "FUNL002": ("critical", "A subject was randomised before informed consent."),
    "FUNL003": ("critical", "A screen failure was dosed."),
    "FUNL004": ("critical", "A subject was dosed without being randomised."),
    "FUNL005": ("major", "DM and DS disagree on whether the subject was randomised."),
    "FUNL006": ("major", "A subject has both completed and discontinued."),
    "FUNL007": ("major", "A screen failure has a disposition of a treated subject, or the other way round."),
    "FUNL008": ("major", "A subject's end of participation lies before randomisation."),
    "FUNL009": ("major", "A subject leaves a stage to none of its exits, or to several."),
    "FUNL010": ("minor", "A subject was screened and no date of informed consent is recorded."),
}
"""Rule of a query, its severity, its text."""

FAILED = ("SCREEN FAILURE", "SCREENING NOT COMPLETED", "FAILURE TO MEET RANDOMIZATION CRITERIA")
"""DSDECOD of a subject who did not get past screening (CDISC NCOMPLT)."""


@dataclass(frozen=True)
class Imbalance:
    """A box whose exits do not add up: how many are in it, and in its exits."""

    box: str
    count: int
    exits: int
    subjects: int


@dataclass(frozen=True)
class Funnel:
    """Stages of all subjects and their counts.

    Attributes:
        subjects: USUBJID, SITEID, one Boolean per box, ``reason`` (of discontinuation), ``failure`` (why screening
            failed, where IE says so), ``consent``, ``screened_on``, ``randomised_on`` (Date). Identifiable.
        total: Subjects per box.
        sites: SITEID and subjects per box, sorted.
        reasons: Reason of discontinuation and subjects, most frequent first.
        failures: Criterion recorded in IE for screen failures, and subjects; empty without IE.
        imbalances: Boxes that do not add up; empty when all do.
        queries: rule, severity, USUBJID, SITEID, domain, text; identifiable.
        consent_recorded: Whether any date of consent was delivered; without one, "consented" counts who was screened.
        prescreened: Pre-screened persons from the study file; None where it does not say.
    """

    subjects: pl.DataFrame
    total: Mapping[str, int]
    sites: pl.DataFrame
    reasons: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, int], ...]
    imbalances: tuple[Imbalance, ...]
    queries: pl.DataFrame
    consent_recorded: bool
    prescreened: int | None = None


def funnel(trial: TrialTables, *, prescreened: Mapping[str, int] | None = None) -> Funnel:
    """Count the subjects of a trial at every stage.

    Args:
        trial: The delivery as known on the day of the report: :func:`trialops.trial.enrolment.known_at`.
        prescreened: Pre-screened persons by SITEID; no SDTM domain has them.
    """
    found = _stages(trial)
    _, lost = _reconcile(found)
    recorded = bool(found["consent"].is_not_null().any())
    stages = found.drop("_milestone", "_failed", "_end", "_treated_end", "_treated")
    logged = sum(prescreened.values()) if prescreened else None
    return recounted(stages, _queries(found, lost, recorded), prescreened=logged)


def recounted(stages: pl.DataFrame, queries: pl.DataFrame, *, prescreened: int | None = None) -> Funnel:
    """The funnel of stages that were told before.

    Args:
        stages: ``subjects`` of a funnel.
        queries: Its queries.
        prescreened: Pre-screened persons.
    """
    import polars as pl

    total = {box: int(stages[box].sum()) for box in BOXES}
    sites = stages.group_by("SITEID").agg(pl.col(b).sum().cast(pl.Int64) for b in BOXES).sort("SITEID")
    reasons = stages.filter("discontinued").group_by(pl.col("reason").fill_null("not stated")).len()
    failures = stages.filter("screen_failure").drop_nulls("failure").group_by("failure").len()
    return Funnel(
        subjects=stages,
        total=total,
        sites=sites,
        reasons=tuple(reasons.sort(["len", "reason"], descending=[True, False]).rows()),
        failures=tuple(failures.sort(["len", "failure"], descending=[True, False]).rows()),
        imbalances=_reconcile(stages)[0],
        queries=queries,
        consent_recorded=bool(stages["consent"].is_not_null().any()),
        prescreened=prescreened,
    )


def by_arm(trial: TrialTables, found: Funnel) -> pl.DataFrame:
    """Boxes from randomisation on by planned arm: SITEID, ARM, ARMCD, one count per box. Unblinded: it stays sealed."""
    import polars as pl

    arms = trial.table("DM").select("USUBJID", pl.col("ARM", "ARMCD")).unique("USUBJID", keep="last")
    boxes = BOXES[BOXES.index("randomised") :]
    rows = found.subjects.filter("randomised").join(arms, on="USUBJID", how="left")
    return (
        rows.group_by("SITEID", "ARMCD", "ARM")
        .agg(pl.col(b).sum().cast(pl.Int64) for b in boxes)
        .sort("SITEID", "ARMCD")
    )


def screen_failure_rates(found: Funnel) -> pl.DataFrame:
    """Screen failures among those whose screening has ended, per site, with the exact 95 % interval.

    The interval is Clopper and Pearson's (Biometrika 1934;26:404).

    Returns:
        SITEID, ``failed``, ``screened`` (screening ended), ``rate``, ``low``, ``high``; the last row is "all sites".
    """
    import polars as pl

    counts = found.sites.select(
        "SITEID",
        failed="screen_failure",
        screened=pl.col("screen_failure") + pl.col("not_randomised") + pl.col("randomised"),
    )
    whole = counts.select(pl.lit("all sites").alias("SITEID"), pl.col("failed", "screened").sum())
    rows = []
    for site, failed, ended in pl.concat([counts, whole]).iter_rows():
        low, high = clopper_pearson(failed, ended)
        rows.append((site, failed, ended, failed / ended if ended else None, low, high))
    schema = {"SITEID": pl.String, "failed": pl.Int64, "screened": pl.Int64}
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(("rate", "low", "high"), pl.Float64), orient="row")


def clopper_pearson(count: int, n: int, level: float = 0.95) -> tuple[float | None, float | None]:
    """Exact interval of a proportion; (None, None) where nobody was looked at."""
    from scipy.stats import beta

    if n == 0:
        return None, None
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def _stages(trial: TrialTables) -> pl.DataFrame:
    """One row per subject of DM with a Boolean per box, each by its own rule."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, exact_day
    from trialops.trial.populations import NOT_ASSIGNED, populations

    dm = trial.table("DM").unique("USUBJID", keep="last", maintain_order=True).sort("USUBJID")

    def day(name: str) -> pl.Expr:
        return exact_day(name) if name in dm.columns else pl.lit(None, pl.Date)

    frame = dm.select(
        "USUBJID",
        SITEID=pl.col("SITEID").cast(pl.String) if "SITEID" in dm.columns else pl.lit(""),
        consent=earliest("RFICDTC") if "RFICDTC" in dm.columns else pl.lit(None, pl.Date),
        screened_on=day("DMDTC"),
        _start=day("RFSTDTC"),
        _code=pl.col("ARMCD").str.strip_chars().fill_null("") if "ARMCD" in dm.columns else pl.lit(""),
        _armnrs=(pl.col("ARMNRS").str.strip_chars().str.to_uppercase() if "ARMNRS" in dm.columns else pl.lit("")),
    )
    for more in (populations(trial).drop("last_dose"), _disposition(trial), _visited(trial), _exception(trial)):
        frame = frame.join(more, on="USUBJID", how="left", maintain_order="left")
    flags = ("_milestone", "_completed", "_discontinued", "_failed", "_consented", "_visited")
    frame = frame.with_columns(pl.col(flags).fill_null(False), pl.col("_armnrs").fill_null(""))
    frame = frame.with_columns(randomised_on=pl.coalesce("_milestone_on", "_start", "first_dose"))
    treated, randomised = pl.col("treated"), pl.col("randomised")
    passed = ~randomised & ~pl.col("screen_failure")
    unassigned = pl.col("_code").str.to_uppercase().is_in(NOT_ASSIGNED) | (
        (pl.col("_code") == "") & (pl.col("_armnrs") == "NOT ASSIGNED")
    )
    recorded = (pl.col("consent").is_not_null() | pl.col("_consented")).any()
    seen = pl.col("screened_on").is_not_null() | pl.col("_visited") | randomised | pl.col("screen_failure")
    agreed = pl.col("consent").is_not_null() | pl.col("_consented")
    return frame.with_columns(
        consent=pl.coalesce("consent", "_consented_on"),
        consented=pl.when(recorded).then(agreed).otherwise(seen),
        screened=seen,
        not_screened=agreed & ~seen,
        in_screening=seen & passed & ~unassigned & ~pl.col("_failed"),
        not_randomised=seen & passed & unassigned,
        screen_failure=pl.col("screen_failure") | (passed & ~unassigned & pl.col("_failed")),
        not_dosed=randomised & ~treated,
        dosed=treated,
        completed=treated & pl.col("_completed"),
        discontinued=treated & pl.col("_discontinued"),
        ongoing=treated & ~pl.col("_completed") & ~pl.col("_discontinued"),
        reason=pl.when("_discontinued").then("_reason"),
        randomised_on=pl.when(randomised).then("randomised_on"),
        _treated_end=pl.col("_completed") | pl.col("_discontinued"),
        _treated=treated,
    ).select(
        "USUBJID", "SITEID", *BOXES, "reason", "failure", "consent", "screened_on", "randomised_on", "_milestone",
        "_failed", "_end", "_treated_end", "_treated",
    )  # fmt: skip


def _disposition(trial: TrialTables) -> pl.DataFrame:
    """What DS says: randomised, completed, discontinued and why, failed screening, consented, and when."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, exact_day

    schema = {"USUBJID": pl.String, "_milestone": pl.Boolean, "_milestone_on": pl.Date, "_consented": pl.Boolean,
              "_consented_on": pl.Date, "_completed": pl.Boolean, "_discontinued": pl.Boolean, "_failed": pl.Boolean,
              "_reason": pl.String, "_end": pl.Date}  # fmt: skip
    ds = trial.get("DS")
    if ds is None or "DSDECOD" not in ds.columns:
        return pl.DataFrame(schema=schema)
    category = pl.col("DSCAT").str.to_uppercase() if "DSCAT" in ds.columns else pl.lit("DISPOSITION EVENT")
    rows = ds.select(
        "USUBJID",
        term=pl.col("DSDECOD").str.strip_chars().str.to_uppercase(),
        category=category.fill_null(""),
        # Screening, treatment and follow-up have dispositions of their own (SDTMIG 3.3, DSSCAT, EPOCH).
        part=_text(ds, "DSSCAT") + " " + _text(ds, "EPOCH"),
        day=exact_day("DSSTDTC") if "DSSTDTC" in ds.columns else pl.lit(None, pl.Date),
        first=earliest("DSSTDTC") if "DSSTDTC" in ds.columns else pl.lit(None, pl.Date),
        number=pl.col("DSSEQ").cast(pl.Float64, strict=False) if "DSSEQ" in ds.columns else pl.lit(0.0),
    ).sort("USUBJID", "number")
    event = pl.col("category") == "DISPOSITION EVENT"
    failed = event & pl.col("term").is_in(FAILED)
    # Where parts are told apart, the end of the trial or of its treatment counts, not that of screening or follow-up.
    own = event & ~failed & ~pl.col("part").str.contains("SCREEN|FOLLOW|RUN-IN|INFORMED")
    done, left = own & (pl.col("term") == "COMPLETED"), own & (pl.col("term") != "COMPLETED")
    randomised = ~event & pl.col("term").str.contains(r"^RANDOMI[SZ]ED$")
    consented = ~event & pl.col("term").str.contains(r"^INFORMED CONSENT OBTAINED$")
    return rows.group_by("USUBJID").agg(
        _milestone=randomised.any(),
        _milestone_on=pl.col("day").filter(randomised).min(),
        _consented=consented.any(),
        _consented_on=pl.col("first").filter(consented).min(),
        _completed=done.any(),
        _discontinued=left.any(),
        _failed=failed.any(),
        _reason=pl.col("term").filter(left).first(),
        _end=pl.col("day").filter(own).max(),
    )


def _text(frame: pl.DataFrame, column: str) -> pl.Expr:
    import polars as pl

    return pl.col(column).cast(pl.String).str.to_uppercase().fill_null("") if column in frame.columns else pl.lit("")


def _visited(trial: TrialTables) -> pl.DataFrame:
    import polars as pl

    sv = trial.get("SV")
    empty = pl.DataFrame(schema={"USUBJID": pl.String, "_visited": pl.Boolean})
    return empty if sv is None else sv.select("USUBJID", _visited=pl.lit(True)).unique()


def _exception(trial: TrialTables) -> pl.DataFrame:
    """The first criterion recorded as not fulfilled."""
    import polars as pl

    ie = trial.get("IE")
    if ie is None or "IETESTCD" not in ie.columns:
        return pl.DataFrame(schema={"USUBJID": pl.String, "failure": pl.String})
    return (
        ie.sort("USUBJID", *(["IESEQ"] if "IESEQ" in ie.columns else []))
        .group_by("USUBJID")
        .agg(failure=pl.col("IETESTCD").first())
    )


def _reconcile(found: pl.DataFrame) -> tuple[tuple[Imbalance, ...], pl.DataFrame]:
    """Boxes that do not equal the sum of their exits, and who is in none of them, in several, or came from outside."""
    import polars as pl

    wrong, lost = [], []
    for box, exits in EXITS.items():
        taken = pl.sum_horizontal(pl.col(e).cast(pl.Int32) for e in exits)
        count, left = int(found[box].sum()), int(found.select(taken.sum()).item() or 0)
        outside = found.filter(taken != pl.col(box).cast(pl.Int32))
        if outside.height:
            wrong.append(Imbalance(box, count, left, outside.height))
            lost.append(outside.select("USUBJID", "SITEID"))
    empty = pl.DataFrame(schema={"USUBJID": pl.String, "SITEID": pl.String})
    return tuple(wrong), pl.concat([empty, *lost]).unique().sort("USUBJID")


def _queries(found: pl.DataFrame, lost: pl.DataFrame, recorded: bool) -> pl.DataFrame:
    import polars as pl

    randomised, consent = pl.col("randomised"), pl.col("consent")
    failed = pl.col("screen_failure")
    tests = {
        "FUNL001": (pl.lit(recorded) & randomised & consent.is_null(), "DM"),
        "FUNL002": (consent > pl.col("randomised_on"), "DM"),
        "FUNL003": (failed & pl.col("_treated"), "EX"),
        "FUNL004": (~randomised & ~failed & pl.col("_treated"), "EX"),
        "FUNL005": (pl.lit(bool(found["_milestone"].any())) & (randomised != pl.col("_milestone")), "DS"),
        "FUNL006": (pl.col("completed") & pl.col("discontinued"), "DS"),
        "FUNL007": ((failed & pl.col("_treated_end")) | (randomised & pl.col("_failed")), "DS"),
        "FUNL008": (pl.col("_end") < pl.col("randomised_on"), "DS"),
        "FUNL009": (pl.col("USUBJID").is_in(lost["USUBJID"].implode()), "DM"),
        "FUNL010": (pl.lit(recorded) & pl.col("screened") & ~randomised & consent.is_null(), "DM"),
    }
    parts = [
        found.filter(test.fill_null(False)).select(
            rule=pl.lit(rule), severity=pl.lit(FINDINGS[rule][0]), USUBJID="USUBJID", SITEID="SITEID",
            domain=pl.lit(domain), text=pl.lit(FINDINGS[rule][1]),
        )
        for rule, (test, domain) in tests.items()
    ]  # fmt: skip
    return pl.concat(parts).sort("rule", "USUBJID")
