"""The step that keeps the case register: events become cases, changes become versions, versions run the clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.safety.blinding import blind
from trialops.safety.case_queries import keep_queries
from trialops.safety.case_rows import CaseEvent, SubjectRows, case_events
from trialops.safety.case_versions import CaseVersions, authorities_of, event_hash
from trialops.safety.classification import Authority
from trialops.safety.clock_times import local_day, utc_text
from trialops.safety.clocks import Clock, clocks
from trialops.safety.events import SafetyEvents
from trialops.safety.judged import event_hashes, judged_events
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import FOLLOW_UP, INITIAL, NULLIFICATION, Action, Version, history
from trialops.safety.safety_policy import clock_days
from trialops.trial.tables import cut_at

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Artifact, Step
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables


@dataclass(frozen=True)
class Assessed:
    """What a run of the register came to.

    Attributes:
        events: The safety event table; identifiable.
        cases: case, version, USUBJID, EVENT, AEDECOD, serious, criteria, expected, investigator, sponsor, aware;
            identifiable.
        clocks: All clocks by case.
        added: Versions entered by this run, by kind.
        rulings: Newest ruling of each case, by authority.
        queries: Safety queries with state and age, as the register of queries has them.
        now: The time it is about.
    """

    events: SafetyEvents
    cases: pl.DataFrame
    clocks: Mapping[str, Sequence[Clock]]
    added: Mapping[str, int]
    rulings: Mapping[str, Mapping[str, Mapping[str, Any]]]
    queries: pl.DataFrame
    now: datetime


def assess_cases(
    run: Step,
    trial: TrialTables,
    study: StudyFile,
    policy: SafetyPolicy,
    *,
    now: datetime,
    received: datetime,
    back: bool = False,
) -> Assessed:
    """Bring the register in line with a delivery and run the clocks.

    Args:
        run: The step.
        trial: The delivery as it came, unblinded.
        study: The study file.
        policy: Its safety policy.
        now: The time the clocks are read at, UTC.
        received: When the delivery was received, UTC: day 0 of what has no better date.
        back: Whether `now` was asked for and may lie in the past: what began or was written down later is left out.
            Otherwise nothing is left out, for a date mistyped into the future must not hide an event.

    Raises:
        TrialOpsError: The register knows more than was known at that time already.
    """
    register = CaseRegister(run.engine, trial.study)
    work = CaseVersions(run, register, trial, study, policy, now, min(received, now))
    latest = max((version.aware for made in work.versions.values() for version in made), default="")
    if latest > utc_text(now):
        raise TrialOpsError(
            "The case register knows later information: it is not written backwards",
            where="as_of",
            fix="Give a later as_of, or use another TRIALOPS_HOME to look back.",
        )
    tables = blind(trial) if study.blinded else trial
    if back:
        tables = _known_by(tables, local_day(now, policy.time_zone))
    events = judged_events(run, tables, policy, register=work.register, by_event=work.by_event)
    hashes = event_hashes(run, events.events)
    already = [key for key, hashed in hashes.items() if hashed in work.by_event]
    found = case_events(events.events, policy, also=already)
    rows = SubjectRows(tables, [subject for subject, _ in found])
    added = dict.fromkeys((INITIAL, FOLLOW_UP, NULLIFICATION), 0)
    # New cases are numbered as they became known: in the order of subjects a number would tell who it is about.
    order = sorted(found, key=lambda key: (found[key].aware or now.date(), hashes[key]))
    for number, event in enumerate((found[key] for key in order), start=1):
        if number % 25 == 0:
            run.progress(f"{number} of {len(found)} cases", number / len(found))
        if version := work.enter(rows, event):
            added[version.kind] += 1
    added[NULLIFICATION] += work.nullify(list(hashes.values()) if not back else list(_all_hashes(run, trial, policy)))
    versions, actions = register.versions(), register.actions()
    parties = authorities_of(study)
    return Assessed(
        events,
        _case_table(run, found, {case: made[-1] for case, made in versions.items() if made}, work.by_event),
        {case: case_clocks(made, actions.get(case, []), policy, parties) for case, made in versions.items()},
        added,
        {case: made[-1].rulings for case, made in versions.items() if made},
        keep_queries(run, trial.study, events.queries, policy.digest),
        now,
    )


def keep_delivery(run: Step, raw: Artifact, trial: TrialTables) -> None:
    """Keep what names the sealed delivery, so that a case of it can be unblinded later; it holds digests alone."""
    run.objects.put(delivery_key(trial.source), Path(raw.path).read_bytes())


def delivery_key(source: str) -> str:
    """Where the reference of a sealed delivery is kept."""
    return f"safety/deliveries/{source}.json"


def case_clocks(
    versions: Sequence[Version], actions: Sequence[Action], policy: SafetyPolicy, parties: Sequence[Authority]
) -> list[Clock]:
    """The clocks of one case for every authority of the study."""
    days = clock_days()
    found: list[Clock] = []
    for authority in parties:
        known, sent = history(versions, actions, authority)
        found += clocks(known, sent, authority=authority, days=days[authority], zone=policy.time_zone)
    return found


def _known_by(trial: TrialTables, day: Any) -> TrialTables:
    """What was known at the end of a day: nothing that begins or was written down later."""
    import polars as pl

    from trialops.intake.partial_dates import earliest

    cut = cut_at(trial, day)
    ae = cut.table("AE")
    if "AEDTC" in trial.table("AE").columns:
        # The cut has emptied later dates of collection: they are read from the table before it.
        later = trial.table("AE").filter(earliest("AEDTC") > pl.lit(day)).select("USUBJID", "AESEQ")
        ae = ae.join(later, on=["USUBJID", "AESEQ"], how="anti", maintain_order="left")
    return type(cut)(cut.study, {**cut.tables, "AE": ae}, cut.source, cut.cut)


def _all_hashes(run: Step, trial: TrialTables, policy: SafetyPolicy) -> list[str]:
    """Of the whole delivery: what only lies after the time looked at has not been deleted."""
    from trialops.safety.seriousness import seriousness

    return list(event_hashes(run, seriousness(trial, policy)).values())


def _case_table(
    run: Step, found: Mapping[tuple[str, str], CaseEvent], newest: Mapping[str, Version], by_event: Mapping[str, str]
) -> pl.DataFrame:
    """The cases with who and what: to be sealed."""
    import polars as pl

    rows = []
    for (subject, name), event in found.items():
        version = newest[by_event[event_hash(run, subject, name)]]
        rows.append(
            {
                "case": version.case,
                "version": version.version,
                "USUBJID": subject,
                "EVENT": name,
                "AEDECOD": str(event.row.get("AEDECOD") or ""),
                "serious": event.serious,
                "criteria": ", ".join(event.criteria),
                "expected": event.expected,
                "investigator": event.investigator,
                "sponsor": event.sponsor,
                "aware": version.aware,
            }
        )
    schema: dict[str, Any] = dict.fromkeys(
        ("case", "version", "USUBJID", "EVENT", "AEDECOD", "serious", "criteria"), pl.String
    )
    schema |= dict.fromkeys(("expected", "investigator", "sponsor"), pl.Boolean)
    schema |= {"aware": pl.String, "version": pl.Int64}
    return pl.DataFrame(rows, schema=schema).sort("case")
