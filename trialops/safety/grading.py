"""Grading a trial: results graded, events the results show, shifts, liver and QTc, and the graded event table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trialops.safety.detection import CONTRADICTED, NO_EVENT, REPORTED, detect
from trialops.safety.ecg import e14_categories, qtc_results
from trialops.safety.graded import graded_results
from trialops.safety.hys_law import QUERY as HYS_LAW
from trialops.safety.hys_law import LiverSafety, liver_safety
from trialops.safety.results import ON, results
from trialops.safety.shift import shifts
from trialops.safety.teae import compare_rules, teae_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    import polars as pl

    from trialops.safety.grading_policy import GradingPolicy
    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Step
    from trialops.trial.tables import TrialTables

RULES = {
    NO_EVENT: "An abnormal result has no adverse event: report one, or record why it is not clinically significant.",
    HYS_LAW: "Liver tests fit Hy's law: report a serious event, repeat the tests and look for other causes.",
    CONTRADICTED: "RR intervals contradict the heart rate: check the electrocardiograms.",
}
"""Queries of the grading by rule: what the register of queries says, without a value."""


@dataclass(frozen=True)
class Grading:
    """A trial, graded. Identifiable: never leaves a step but sealed; :mod:`trialops.safety.grading_page` shows counts.

    Attributes:
        version: CTCAE version.
        events: The safety event table (:func:`trialops.safety.events.safety_events`) with RESULT_TERM, RESULT_GRADE and
            RESULT_DAY: the worst finding that each event accounts for.
        results: :func:`trialops.safety.graded.graded_results`.
        findings: :func:`trialops.safety.detection.detect`.
        queries: rule, USUBJID, domain, sequence, severity, text.
        shifts: :func:`trialops.safety.shift.shifts` under treatment, blinded.
        liver: Hy's law screening.
        qtc: :func:`trialops.safety.ecg.e14_categories`.
        emergence: :func:`trialops.safety.teae.compare_rules`.
        treated: Subjects treated.
    """

    version: str
    events: pl.DataFrame
    results: pl.DataFrame
    findings: pl.DataFrame
    queries: pl.DataFrame
    shifts: pl.DataFrame
    liver: LiverSafety
    qtc: pl.DataFrame
    emergence: pl.DataFrame
    treated: int

    def sealed(self) -> dict[str, pl.DataFrame]:
        """The tables another step reads, by name."""
        return {
            "events": self.events,
            "results": self.results,
            "findings": self.findings,
            "queries": self.queries,
            "shifts": self.shifts,
            "liver_peaks": self.liver.peaks,
            "liver_cases": self.liver.cases,
            "qtc": self.qtc,
            "emergence": self.emergence,
        }


def grade_trial(
    trial: TrialTables,
    policy: GradingPolicy,
    safety: SafetyPolicy,
    *,
    version: str = "",
    progress: Callable[[str, float], None] | None = None,
) -> Grading:
    """Grade a trial by CTCAE and look for events that nobody has reported.

    Args:
        trial: The delivery, cut or not. No treatment is looked at.
        policy: grading.yaml.
        safety: The study's safety policy, for the event table and the treatment-emergent window.
        version: CTCAE version; the policy's by default.
        progress: Told what is going on, with the share that is done.
    """
    import polars as pl

    from trialops.safety.events import safety_events
    from trialops.trial.populations import populations

    say = progress or (lambda message, done: None)
    say("Grading laboratory, vital signs and electrocardiograms", 0.1)
    graded = graded_results(trial, policy, version)
    say("Looking for events that the results show", 0.5)
    found = detect(graded, trial, policy)
    liver = liver_safety(results(trial, "LB", policy), policy)
    say("Treatment-emergent events by both rules", 0.7)
    window = replace(teae_policy(), window_days=safety.teae_window_days)
    queries = pl.concat([found.queries, liver.queries]).sort("rule", "USUBJID", "domain", "sequence", "text")
    return Grading(
        version=version or policy.ctcae,
        events=_with_findings(safety_events(trial, safety).events, found.findings),
        results=graded,
        findings=found.findings,
        queries=queries,
        shifts=shifts(graded, periods=(ON,)),
        liver=liver,
        qtc=e14_categories(qtc_results(trial, policy), policy),
        emergence=compare_rules(trial, window),
        treated=populations(trial).filter("treated").height,
    )


def cut_day(text: str, time_zone: str) -> date:
    """The last day that counts: a day as it stands, or the day that a time falls on at the safety desk.

    Args:
        text: ISO 8601.
        time_zone: IANA name.

    Raises:
        TrialOpsError: The text is neither.
    """
    from datetime import date

    from trialops.safety.clock_times import local_day, moment

    at = moment(text, where="cut")
    return date.fromisoformat(text.strip()) if len(text.strip()) == 10 else local_day(at, time_zone)


def _with_findings(events: pl.DataFrame, findings: pl.DataFrame) -> pl.DataFrame:
    """Events with the worst finding each accounts for."""
    import polars as pl

    worst = (
        findings.filter(pl.col("STATUS") == REPORTED)
        .sort("USUBJID", "AESEQ", "GRADE", "TERM", "FIRST_DAY", descending=[False, False, True, False, False])
        .unique(["USUBJID", "AESEQ"], keep="first", maintain_order=True)
        .select("USUBJID", "AESEQ", RESULT_TERM="TERM", RESULT_GRADE="GRADE", RESULT_DAY="WORST_DAY")
    )
    return (
        events.with_columns(_seq=pl.col("AESEQ").cast(pl.Float64))
        .join(worst.rename({"AESEQ": "_seq"}), on=["USUBJID", "_seq"], how="left", maintain_order="left")
        .drop("_seq")
    )


def basis(done: Grading, trial: TrialTables, policy: GradingPolicy, safety: SafetyPolicy) -> dict[str, str]:
    """What a grading was made from: digests and versions."""
    from trialops.safety.criteria import criteria

    return {
        "delivery": trial.source,
        "ctcae": done.version,
        "policy": policy.digest,
        "safety_policy": safety.digest,
        "laboratory": criteria(done.version).digest,
        "vital_signs": criteria(done.version, "VS").digest,
    }


def keep_queries(run: Step, study: str, queries: pl.DataFrame, version: str) -> dict[str, int]:
    """Open, re-open and close the queries of the grading in the register, which holds pseudonyms and no value.

    Args:
        run: The step.
        study: STUDYID.
        queries: Of :class:`Grading`.
        version: Digest of the policy, for the audit trail.

    Returns:
        How many were opened, reopened, closed and left alone.
    """
    from dataclasses import asdict

    import polars as pl

    from trialops.quality.queries import Queries

    pseudonyms = run.vault.pseudonyms("subject", queries["USUBJID"].to_list())
    findings = queries.select(
        "rule",
        "domain",
        USUBJID=pl.Series(pseudonyms, dtype=pl.String),
        record=pl.format("{}SEQ={}", pl.col("domain"), pl.col("sequence").cast(pl.Int64)),
        priority=pl.col("severity"),
        message=pl.col("rule").replace_strict(RULES, return_dtype=pl.String),
    )
    done = Queries(run.engine, study).sync(findings, set(RULES), actor=run.settings.who, run_id=run.run_id)
    run.audit("queries.sync", study, version, **asdict(done))
    return asdict(done)
