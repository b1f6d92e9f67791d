"""The event table as people have judged it: with the sponsor's causality and what the sites have answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.safety.case_queries import confirmed
from trialops.safety.case_versions import event_hash
from trialops.safety.events import SafetyEvents, safety_events
from trialops.safety.register import CaseRegister

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Step
    from trialops.trial.tables import TrialTables


@dataclass(frozen=True)
class Words:
    """What people have said about events; both as `safety_events` takes them.

    Attributes:
        sponsor: The sponsor's newest assessment of each event that has one: USUBJID, EVENT, RELATED.
        confirmed: Events the sites have answered were not serious: USUBJID, AESEQ.
    """

    sponsor: pl.DataFrame
    confirmed: pl.DataFrame


def event_hashes(run: Step, events: pl.DataFrame) -> dict[tuple[str, str], str]:
    """The register's name of every event, by subject and event."""
    pairs = events.select("USUBJID", "EVENT").unique().sort("USUBJID", "EVENT").rows()
    return {(s, e): event_hash(run, s, e) for s, e in pairs}


def words(run: Step, judged: SafetyEvents, register: CaseRegister, by_event: Mapping[str, str] | None = None) -> Words:
    """Read what was said about the events of a table.

    Args:
        run: The step.
        judged: The event table without anybody's word.
        register: The case register.
        by_event: Case by the register's name of its event, where the caller has read it.
    """
    import polars as pl

    cases = by_event if by_event is not None else {v["event"]: case for case, v in register.cases().items()}
    latest = {a.case: a.related for a in register.assessments()}
    said = [
        (*key, latest[cases[hashed]])
        for key, hashed in (event_hashes(run, judged.events).items() if latest else ())
        if cases.get(hashed) in latest
    ]
    schema = {"USUBJID": pl.String, "EVENT": pl.String, "RELATED": pl.Boolean}
    return Words(pl.DataFrame(said, schema=schema, orient="row"), confirmed(run, register.study, judged.queries))


def judged_events(
    run: Step,
    tables: TrialTables,
    policy: SafetyPolicy,
    *,
    register: CaseRegister,
    by_event: Mapping[str, str] | None = None,
) -> SafetyEvents:
    """The event table, with the sponsor's assessments and what the sites have answered.

    Args:
        run: The step.
        tables: The delivery.
        policy: The study's safety policy.
        register: The case register.
        by_event: As `words`.

    Returns:
        The queries stay those of the data; that a person has answered them is for the register of queries to know.
    """
    first = safety_events(tables, policy)
    told = words(run, first, register, by_event)
    if told.sponsor.is_empty() and told.confirmed.is_empty():
        return first
    judged = safety_events(tables, policy, sponsor=told.sponsor, confirmed=told.confirmed)
    return SafetyEvents(judged.events, first.queries)
