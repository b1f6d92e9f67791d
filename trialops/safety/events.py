"""The safety event table: every adverse event with seriousness, causality, expectedness, emergence and grade."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trialops.safety.causality import related_by_investigator
from trialops.safety.expectedness import expected_column
from trialops.safety.seriousness import NOT_SERIOUS, SERIOUS, TO_CONFIRM, queries, seriousness

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.trial.tables import TrialTables

__all__ = ["NOT_SERIOUS", "SERIOUS", "TO_CONFIRM", "SafetyEvents", "safety_events"]


@dataclass(frozen=True)
class SafetyEvents:
    """The events of a trial and what the sites are asked about them. Identifiable: never leaves a step but sealed.

    Attributes:
        events: AE rows in their order with the added columns of :func:`safety_events`.
        queries: rule, USUBJID, domain, sequence, severity, text.
    """

    events: pl.DataFrame
    queries: pl.DataFrame


def safety_events(
    trial: TrialTables,
    policy: SafetyPolicy,
    *,
    sponsor: pl.DataFrame | None = None,
    confirmed: pl.DataFrame | None = None,
) -> SafetyEvents:
    """Judge every adverse event; nothing here looks at the treatment.

    Args:
        trial: The delivery, blinded or not, cut or not.
        policy: :func:`trialops.safety.safety_policy.safety_policy` of the study file.
        sponsor: The sponsor's causality assessments: USUBJID, EVENT, RELATED (bool).
        confirmed: Events of which the site has answered that they were not serious: USUBJID, AESEQ. They are asked
            about no more and are "not serious"; a fatal event cannot be answered away.

    Returns:
        AE rows with: ``EVENT``; ``ONSET_EARLIEST``, ``ONSET_LATEST`` (Date); ``FATAL``, ``LIFE_THREATENING``, ``DIED``
        (bool); ``CRITERIA`` (list of str); ``SERIOUS`` ("serious", "to confirm", "not serious"); ``SERIOUS_BASIS``;
        ``RELATED_INVESTIGATOR``, ``RELATED_SPONSOR``, ``EXPECTED`` (bool or null); ``TEAE`` (bool or null) and
        ``TEAE_BASIS``; ``GRADE`` (Int64 or null, AETOXGR as delivered). And the queries.
    """
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest
    from trialops.safety.teae import teae_policy, treatment_emergent

    events = seriousness(trial, policy)
    there = set(events.columns)
    nothing: pl.Expr = pl.lit(None, pl.Boolean)
    grade = pl.col("AETOXGR").cast(pl.String).str.strip_chars() if "AETOXGR" in there else pl.lit(None, pl.String)
    events = events.with_columns(
        ONSET_EARLIEST=earliest("AESTDTC"),
        ONSET_LATEST=latest("AESTDTC"),
        RELATED_INVESTIGATOR=related_by_investigator(policy) if "AEREL" in there else nothing,
        GRADE=grade.cast(pl.Int64, strict=False),
    )
    if confirmed is not None and confirmed.height:
        answered = confirmed.select("USUBJID", pl.col("AESEQ").cast(events.schema["AESEQ"]), _answered=pl.lit(True))
        events = events.join(answered.unique(), on=["USUBJID", "AESEQ"], how="left", maintain_order="left")
        settled = pl.col("_answered").fill_null(False) & (pl.col("SERIOUS") == TO_CONFIRM)
        events = events.with_columns(
            SERIOUS=pl.when(settled).then(pl.lit(NOT_SERIOUS)).otherwise("SERIOUS"),
            SERIOUS_BASIS=pl.when(settled).then(pl.lit("confirmed by the site")).otherwise("SERIOUS_BASIS"),
        ).drop("_answered")
    if sponsor is not None and sponsor.height:
        said = sponsor.select("USUBJID", "EVENT", RELATED_SPONSOR="RELATED")
        events = events.join(said, on=["USUBJID", "EVENT"], how="left", maintain_order="left")
    else:
        events = events.with_columns(RELATED_SPONSOR=nothing)
    emergence = replace(teae_policy(), window_days=policy.teae_window_days)
    flagged = treatment_emergent(trial, "reported" if policy.teae_rule == "reported" else "sponsor", emergence)
    events = events.with_columns(TEAE=flagged["TEAE"], TEAE_BASIS=flagged["TEAE_BASIS"])
    events = events.with_columns(EXPECTED=expected_column(events, policy.references))
    return SafetyEvents(events, queries(events, trial, policy))
