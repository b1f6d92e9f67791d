"""Reports that another system has sent, taken over from its list: a trial in progress then starts with its own clocks.

A sponsor that begins with a running trial has told the authorities of most cases already. Without that list every one
of them is an open clock, long overdue. Who has sent a report knew of the case by then: where the register believes in a
later awareness, it is moved to the stated one, or to the sending.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.safety.case_versions import authorities_of, event_hash
from trialops.safety.clock_times import moment, utc_text
from trialops.safety.register_records import AWARE, SENT, Action, Version

if TYPE_CHECKING:
    from trialops.safety.register import CaseRegister
    from trialops.stores.context import Step
    from trialops.trial.study_file import StudyFile

COLUMNS = ("USUBJID", "EVENT", "authority", "sent", "message")
"""Of the list: EVENT is AESPID, else AESEQ; sent is ISO 8601, UTC without a zone; message is the receiver's number."""
OPTIONAL = ("aware",)
MOST_NAMED = 10


@dataclass(frozen=True)
class Earlier:
    """One report of the list, found in the register."""

    case: str
    version: int
    authority: str
    sent: datetime
    aware: datetime
    message: str


@dataclass(frozen=True)
class TakenOver:
    """What came of a list.

    Attributes:
        taken: Reports entered.
        known: Reports that had been entered before.
        moved: Cases whose awareness was moved.
    """

    taken: int
    known: int
    moved: int


def take_over(
    run: Step, register: CaseRegister, study: StudyFile, data: bytes, *, now: datetime, purpose: str
) -> TakenOver:
    """Enter the reports of a list; a list with a fault enters nothing, one that is known already nothing more.

    Args:
        run: The step.
        register: The cases of the study; the delivery they are in has been assessed.
        study: The study file: whom it reports to.
        data: CSV with COLUMNS, and `aware` where the day 0 of the former system is known.
        now: The time; nothing was sent later.
        purpose: Why, in a sentence; it goes into the audit trail and stands beside every entry.

    Raises:
        TrialOpsError: Lines that cannot be entered, by number and reason; never their content.
    """
    cases = {stated["event"]: case for case, stated in register.cases().items()}
    versions, actions = register.versions(), register.actions()
    rows, faults = _rows(data), []
    found: list[Earlier] = []
    for line, row in rows:
        try:
            case = _case(run, cases, row["USUBJID"].strip(), row["EVENT"].strip())
            found.append(_earlier(row, case, versions.get(case or "", ()), authorities_of(study), now))
        except TrialOpsError as error:
            faults.append(f"line {line}: {error.what}")
    if faults:
        more = f"; {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
        raise TrialOpsError(
            f"{len(faults)} of {len(rows)} reports cannot be taken over; nothing was",
            where="; ".join(faults[:MOST_NAMED]) + more,
            fix="Correct these lines. A case is known once adverse_event_monitoring has read its delivery.",
        )
    taken, moved = 0, set()
    for one in found:
        before = actions.setdefault(one.case, [])
        if any((a.action, a.authority, a.detail.get("message")) == (SENT, one.authority, one.message) for a in before):
            continue
        known_by = _awareness(versions[one.case], before)
        if one.aware < known_by:
            before.append(
                register.act(
                    one.case, AWARE, version=1, moment=utc_text(one.aware), reason=purpose, actor=run.settings.who,
                    role=run.settings.role, run_id=run.run_id,
                )
            )  # fmt: skip
            moved.add(one.case)
        before.append(
            register.mark_sent(
                one.case, one.version, one.authority, at=utc_text(one.sent), message=one.message,
                actor=run.settings.who,
            )
        )  # fmt: skip
        taken += 1
        run.audit("report.take_over", f"{one.case} version {one.version} for {one.authority}", one.message,
                  reason=purpose, moment=utc_text(one.sent))  # fmt: skip
    return TakenOver(taken, len(found) - taken, len(moved))


def _case(run: Step, cases: Mapping[str, str], subject: str, event: str) -> str | None:
    """The case of an event: by its AESPID, or, where the delivery has none, by its AESEQ."""
    names = (event, f"SEQ{int(event)}") if event.isascii() and event.isdigit() else (event,)
    return next((cases[hashed] for name in names if (hashed := event_hash(run, subject, name)) in cases), None)


def _rows(data: bytes) -> list[tuple[int, Mapping[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), strict=True)
        rows: list[tuple[int, Mapping[str, str]]] = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error):
        raise TrialOpsError("The list is no CSV file in UTF-8", where="list", fix=_form()) from None
    wrong = set(COLUMNS) - set(reader.fieldnames or ()) or set(reader.fieldnames or ()) - {*COLUMNS, *OPTIONAL}
    if wrong or any(None in row or None in row.values() for _, row in rows):
        raise TrialOpsError("The list has other columns", where="list", fix=_form())
    return rows


def _form() -> str:
    return f"Columns: {', '.join(COLUMNS)}; and {', '.join(OPTIONAL)} where it is known."


def _earlier(
    row: Mapping[str, str], case: str | None, versions: Sequence[Version], parties: Sequence[str], now: datetime
) -> Earlier:
    if case is None or not versions:
        raise TrialOpsError("the register knows no case of this event")
    authority, message = row["authority"].strip(), row["message"].strip()
    if authority not in parties:
        raise TrialOpsError(f"the study does not report to this authority, but to {', '.join(parties)}")
    if not message:
        raise TrialOpsError("the receiver's number of the message is missing")
    sent = moment(row["sent"], where="sent")
    stated = (row.get("aware") or "").strip()
    aware = moment(stated, where="aware") if stated else sent
    if not aware <= sent <= now:
        raise TrialOpsError("it was sent before anybody knew, or in the future")
    told = [version.version for version in versions if moment(version.aware) <= sent]
    return Earlier(case, max(told, default=1), authority, sent, aware, message)


def _awareness(versions: Sequence[Version], actions: Sequence[Action]) -> datetime:
    """When the first version was known, as the clocks have it."""
    stated = {a.version: a.moment for a in actions if a.action == AWARE}
    return moment(stated.get(1, versions[0].aware))
