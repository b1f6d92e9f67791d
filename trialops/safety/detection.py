"""Adverse events that the results show: new or worsened grades, and whether the site has reported them.

A finding is a run of results of one subject and term, each worse than the baseline, that no better result interrupts:
repeated results are one finding. It is reported when an adverse event of a matching term was going on near it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.safety.ecg import DISAGREE
from trialops.safety.results import BEFORE

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy
    from trialops.trial.tables import TrialTables

REPORTED, NOT_REPORTED = "reported", "not reported"
NEW, WORSENED, UNKNOWN = "new", "worsened", "baseline not known"
NO_EVENT, CONTRADICTED = "GRD01", "GRD03"
_SPELLED = (("HAEM", "HEM"), ("OEDEM", "EDEM"), ("AEMIA", "EMIA"), ("LEUCO", "LEUKO"), ("DIARRHOEA", "DIARRHEA"))


@dataclass(frozen=True)
class Detection:
    """What the results of a trial show. Identifiable: never leaves a step but sealed.

    Attributes:
        findings: One row per finding, see :func:`detect`.
        queries: rule, USUBJID, domain, sequence, severity, text.
    """

    findings: pl.DataFrame
    queries: pl.DataFrame


@cache
def reported_terms() -> Mapping[str, tuple[str, ...]]:
    """Reported terms of each CTCAE term, from detection.yaml, groups written out."""
    import yaml

    content = yaml.safe_load(Path(__file__).with_name("detection.yaml").read_text("utf-8"))
    found = {}
    for term, names in content["terms"].items():
        whole: list[str] = []
        for name in names:
            if name.startswith("+") and not isinstance(content.get(name[1:]), list):
                raise TrialOpsError(f"{term} names the group {name}, which is not there", where="detection.yaml")
            whole += content[name[1:]] if name.startswith("+") else [name]
        found[term] = tuple(dict.fromkeys(_folded(name) for name in whole))
    return found


def _folded(text: str) -> str:
    text = " ".join(text.upper().split())
    for british, american in _SPELLED:
        text = text.replace(british, american)
    return text


def detect(graded: pl.DataFrame, trial: TrialTables, policy: GradingPolicy) -> Detection:
    """Findings among graded results, matched with what was reported.

    Args:
        graded: From :func:`trialops.safety.graded.graded_results`.
        trial: For AE.
        policy: From which grade an unreported finding is asked about, and how near an event must be.

    Returns:
        Findings sorted by subject, term and day: USUBJID, TERM, DIRECTION, DOMAIN, TEST, SEQ (of the worst result),
        FIRST_DAY, LAST_DAY, WORST_DAY, RESULTS, TIMES and ASKED_SEQ (how often the grade that is asked about was
        reached, and where first: a query is known by it, and stays the same query when a worse result follows), GRADE
        (the worst; as if the baseline had been normal where there is none), GRADE_ALONE (the worst by the result
        alone), BASE_GRADE, KIND (new, worsened, baseline not known), STATUS (reported, not reported), AESEQ and AETERM
        of the matching event that began nearest.
    """
    import polars as pl

    findings = _matched(_runs(graded, policy), trial, policy)
    counted = pl.col("GRADE_ALONE") if policy.query_alone else pl.col("GRADE")
    enough = pl.col("TIMES") >= pl.col("DOMAIN").replace_strict(policy.query_times, default=1)
    asked = findings.filter((pl.col("STATUS") == NOT_REPORTED) & (counted >= policy.query_from_grade) & enough)
    queries = pl.concat([_questions(asked, counted), _contradictions(graded)]).sort(
        "rule", "USUBJID", "domain", "sequence", "text"
    )
    return Detection(findings, queries)


def _runs(graded: pl.DataFrame, policy: GradingPolicy) -> pl.DataFrame:
    """Runs of worsened results after the baseline, one row each."""
    import polars as pl

    worst = pl.coalesce("GRADE", "PROVISIONAL")
    after = graded.filter(
        ~pl.col("AT_BASELINE") & (pl.col("PERIOD") != BEFORE) & worst.is_not_null() & pl.col("DAY").is_not_null()
    ).with_columns(_grade=worst)
    # Where nothing is assumed both grades are one; a provisional grade has no other.
    alone = pl.coalesce("GRADE_ALONE", "PROVISIONAL")
    rows = after.with_columns(
        _worse=pl.col("_grade") > pl.col("BASE_GRADE").fill_null(0),
        _alone=pl.when(alone > pl.col("BASE_GRADE_ALONE").fill_null(0)).then(alone).otherwise(pl.lit(0, pl.Int8)),
    )
    # Several tests or positions at one time are one look at the term: the worst of them counts.
    looks = (
        rows.sort(
            "USUBJID", "TERM", "DTC", "_worse", "_grade", "SEQ", descending=[False, False, False, True, True, False]
        )
        .group_by("USUBJID", "TERM", "DTC", maintain_order=True)
        .agg(pl.all().exclude("_alone").first(), pl.col("_alone").max())
    )
    numbered = looks.with_columns(_run=(~pl.col("_worse")).cum_sum().over("USUBJID", "TERM")).filter("_worse")
    counted = pl.col("_alone" if policy.query_alone else "_grade")
    asked_order = pl.col("DTC").filter(counted >= policy.query_from_grade)
    order = ["USUBJID", "TERM", "_run", "_grade", "_alone", "DTC"]
    return (
        numbered.sort(*order, descending=[False, False, False, True, True, False])
        .group_by("USUBJID", "TERM", "_run", maintain_order=True)
        .agg(
            DIRECTION=pl.col("DIRECTION").first(),
            DOMAIN=pl.col("DOMAIN").first(),
            TEST=pl.col("TEST").first(),
            SEQ=pl.col("SEQ").first(),
            FIRST_DAY=pl.col("DAY").min(),
            LAST_DAY=pl.col("DAY").max(),
            WORST_DAY=pl.col("DAY").first(),
            RESULTS=pl.len(),
            TIMES=(counted >= policy.query_from_grade).sum(),
            ASKED_SEQ=pl.col("SEQ").filter(counted >= policy.query_from_grade).sort_by(asked_order).first(),
            GRADE=pl.col("_grade").first(),
            GRADE_ALONE=pl.col("_alone").max(),
            BASE_GRADE=pl.col("BASE_GRADE").first(),
        )
        .with_columns(
            KIND=pl.when(pl.col("BASE_GRADE").is_null())
            .then(pl.lit(UNKNOWN))
            .when(pl.col("BASE_GRADE") == 0)
            .then(pl.lit(NEW))
            .otherwise(pl.lit(WORSENED))
        )
        .drop("_run")
        .sort("USUBJID", "TERM", "FIRST_DAY", "SEQ")
    )


def _matched(findings: pl.DataFrame, trial: TrialTables, policy: GradingPolicy) -> pl.DataFrame:
    """Findings with the reported event that matches, the one that began nearest."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest

    numbered = findings.with_row_index("_finding")
    events = trial.get("AE")
    if events is None or events.is_empty():
        return findings.with_columns(
            STATUS=pl.lit(NOT_REPORTED), AESEQ=pl.lit(None, pl.Float64), AETERM=pl.lit(None, pl.String)
        )
    names = [(name, term) for term, listed in reported_terms().items() for name in listed]
    table = pl.DataFrame(names, schema={"_name": pl.String, "TERM": pl.String}, orient="row")
    columns = [c for c in ("AEDECOD", "AELLT", "AETERM") if c in events.columns]
    # A column that is missing throughout may have been delivered as a number.
    dates = [pl.col(c).cast(pl.String) for c in ("AESTDTC", "AEENDTC") if c in events.columns]
    begins = (
        events.with_columns(dates)
        .with_row_index("_event")
        .select(
            "_event",
            "USUBJID",
            *columns,
            AESEQ=pl.col("AESEQ").cast(pl.Float64),
            _begins=earliest("AESTDTC"),
            _ends=latest("AEENDTC") if "AEENDTC" in events.columns else pl.lit(None, pl.Date),
        )
    )
    spelled = [_respelled(pl.col(c)).alias(f"_{c}") for c in columns]
    long = begins.with_columns(spelled).unpivot(
        [f"_{c}" for c in columns], index=["_event", "USUBJID", "AESEQ", "_begins", "_ends"], value_name="_name"
    )
    long = long.join(table, on="_name").select("_event", "USUBJID", "AESEQ", "_begins", "_ends", "TERM").unique()
    shown = begins.select("_event", AETERM=columns[-1])
    pairs = numbered.select("_finding", "USUBJID", "TERM", "FIRST_DAY", "LAST_DAY").join(long, on=["USUBJID", "TERM"])
    opens = pl.col("FIRST_DAY") - pl.duration(days=policy.window_before_days)
    closes = pl.col("LAST_DAY") + pl.duration(days=policy.window_after_days)
    near = (pl.col("_begins") <= closes).fill_null(True) & (pl.col("_ends") >= opens).fill_null(True)
    away = (pl.col("_begins") - pl.col("FIRST_DAY")).dt.total_days().abs().fill_null(10**6)
    chosen = (
        pairs.filter(near)
        .with_columns(_away=away)
        .sort("_finding", "_away", "AESEQ")
        .unique("_finding", keep="first", maintain_order=True)
        .join(shown, on="_event", how="left", maintain_order="left")
        .select("_finding", "AESEQ", "AETERM")
    )
    return (
        numbered.join(chosen, on="_finding", how="left", maintain_order="left")
        .with_columns(STATUS=pl.when(pl.col("AESEQ").is_null()).then(pl.lit(NOT_REPORTED)).otherwise(pl.lit(REPORTED)))
        .select(*findings.columns, "STATUS", "AESEQ", "AETERM")
    )


def _respelled(text: pl.Expr) -> pl.Expr:
    import polars as pl

    text = text.cast(pl.String).str.to_uppercase().str.replace_all(r"\s+", " ").str.strip_chars()
    for british, american in _SPELLED:
        text = text.str.replace_all(british, american, literal=True)
    return text


def _questions(asked: pl.DataFrame, counted: pl.Expr) -> pl.DataFrame:
    """One query per unreported finding."""
    import polars as pl

    before = (
        pl.when(pl.col("BASE_GRADE").is_null())
        .then(pl.lit("no baseline"))
        .otherwise(pl.format("grade {} at baseline", pl.col("BASE_GRADE").fill_null(0)))
    )
    text = pl.format(
        "{}: grade {} on {} ({}; {} result(s) from {} to {}), and no adverse event is reported. Report one, or record "
        "why the result is not clinically significant.",
        pl.col("TERM"),
        counted,
        pl.col("WORST_DAY").dt.to_string("%Y-%m-%d"),
        before,
        pl.col("RESULTS"),
        pl.col("FIRST_DAY").dt.to_string("%Y-%m-%d"),
        pl.col("LAST_DAY").dt.to_string("%Y-%m-%d"),
    )
    return asked.select(
        rule=pl.lit(NO_EVENT),
        USUBJID="USUBJID",
        domain="DOMAIN",
        sequence=pl.col("ASKED_SEQ").cast(pl.Float64),
        severity=pl.when(counted >= 4).then(pl.lit("critical")).otherwise(pl.lit("major")),
        text=text,
    )


def _contradictions(graded: pl.DataFrame) -> pl.DataFrame:
    """One query per subject whose recordings contradict themselves."""
    import polars as pl

    off = graded.filter(pl.col("REASON") == DISAGREE).group_by("USUBJID").agg(pl.len(), pl.col("SEQ").min())
    return off.select(
        rule=pl.lit(CONTRADICTED),
        USUBJID="USUBJID",
        domain=pl.lit("EG"),
        sequence=pl.col("SEQ").cast(pl.Float64),
        severity=pl.lit("minor"),
        text=pl.format(
            "{} electrocardiogram(s) have an RR interval that contradicts the heart rate: QTcF is not computed from "
            "them. Check the intervals.",
            pl.col("len"),
        ),
    )
