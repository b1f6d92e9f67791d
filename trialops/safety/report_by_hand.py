"""The report of a released case for an authority that this program does not send to: written for a person who does."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.safety.e2b.outbox import Version
from trialops.safety.e2b.reports import EV_CTM, ReportSettings, destination, eu_report
from trialops.safety.e2b.writer import write_batch
from trialops.safety.hand_over import message_number, sender_number
from trialops.safety.release import released_cases

if TYPE_CHECKING:
    from trialops.safety.register import CaseRegister
    from trialops.stores.context import Step
    from trialops.trial.study_file import StudyFile

BY_HAND = {"EU": EV_CTM}
"""Authority -> destination of the message a person sends."""


def report_by_hand(
    run: Step,
    register: CaseRegister,
    study: StudyFile,
    case: str,
    authority: str,
    *,
    purpose: str,
    now: datetime,
) -> tuple[Version, bytes]:
    """The message of a released case, as E2B(R3), numbered as all messages of this version are.

    Args:
        run: The step; its role must be one that may send reports. What was read goes into the audit trail.
        register: The cases of the study.
        study: The study file; it names the sender.
        case: Case id.
        authority: One of `BY_HAND`.
        purpose: Why, in a sentence.
        now: When the message is made.

    Returns:
        The version that is reported, and the message.

    Raises:
        TrialOpsError: The case was not released to this authority or was taken back, its signature does not hold, or
            the case cannot be written (what is missing is named).
    """
    from trialops.governance.signatures import Signatures

    released = released_cases(run, register, Signatures(run.engine, run.vault), purpose=purpose)
    found = next((each for each in released if (each.case, each.authority) == (case, authority)), None)
    if found is None:
        raise TrialOpsError(
            f"No release of this case waits for {authority}",
            where=case,
            fix="See: trialops safety case CASE; a safety physician releases it with: trialops safety release CASE",
        )
    version = Version(found.case, found.version, found.authority)
    settings = ReportSettings(sender_number(study), BY_HAND[authority])
    made = eu_report(found.told, settings, now.isoformat(timespec="seconds"))
    batch = replace(made.batch, number=message_number(version))
    data = write_batch(batch, [(made.message, made.case)], fda=destination(settings.destination).fda)
    run.audit("report.read", str(version), found.digest, reason=purpose)
    return version, data
