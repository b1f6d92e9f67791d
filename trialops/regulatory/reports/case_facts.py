"""What the case register and the outbox know, as reports read it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from trialops.regulatory.reports.kinds import SentReport
from trialops.safety.clock_times import local_day, moment
from trialops.safety.events import safety_events
from trialops.safety.judged import Words, words
from trialops.safety.register import SENT, CaseRegister

if TYPE_CHECKING:
    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Step
    from trialops.trial.tables import TrialTables

UNKNOWN = "sent by a person"


def said_of(run: Step, trial: TrialTables, policy: SafetyPolicy) -> Words:
    """What sponsor and sites have said about the events of a delivery."""
    return words(run, safety_events(trial, policy), CaseRegister(run.engine, trial.study))


def sent_reports(run: Step, study: str, policy: SafetyPolicy) -> tuple[SentReport, ...]:
    """Every individual case safety report that has gone out, with what came back.

    Args:
        run: The step.
        study: STUDYID.
        policy: Its time zone says on which day a report went.
    """
    from trialops.safety.e2b.outbox import Outbox

    register = CaseRegister(run.engine, study)
    states = {
        message.message_id: message.state for message in Outbox(run.engine, study, run.vault, run.objects).messages()
    }
    versions = register.versions()
    found = []
    for case, actions in register.actions().items():
        rulings = {version.version: version.rulings for version in versions.get(case, [])}
        for action in actions:
            if action.action != SENT:
                continue
            ruling = rulings.get(action.version, {}).get(action.authority, {})
            state = states.get(str(action.detail.get("message", "")), UNKNOWN)
            day: date = local_day(moment(action.moment), policy.time_zone)
            found.append(SentReport(case, action.version, action.authority, str(ruling.get("rule", "")), day, state))
    return tuple(found)
