"""Handing over released cases: written, checked, queued, sent, acknowledged; each released version counted once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.governance.access import may
from trialops.safety.case_run import case_clocks
from trialops.safety.case_versions import authorities_of
from trialops.safety.clocks import OPEN
from trialops.safety.e2b.checking import check, rejections
from trialops.safety.e2b.outbox import Message, Outbox, Version, unsent_reject, utc_text
from trialops.safety.e2b.reader import parse
from trialops.safety.e2b.receiving import Received, Reconciliation, collect, reconcile
from trialops.safety.e2b.reports import FDA_IND_CDER, ReportSettings, ind_report
from trialops.safety.e2b.rule_language import Facts
from trialops.safety.e2b.submission import Alert, Sent, alerts, send_due, send_policy
from trialops.safety.e2b.transport import Transport, open_transport
from trialops.safety.e2b.writer import write_batch
from trialops.safety.register_records import RELEASED, SENT, WITHDRAWN
from trialops.safety.release import ReleasedCase, released_cases

if TYPE_CHECKING:
    from trialops.safety.register import CaseRegister
    from trialops.safety.safety_policy import SafetyPolicy
    from trialops.stores.context import Step
    from trialops.trial.study_file import StudyFile

USE = "safety_reporting"
RULES: Mapping[str, str] = {
    "SUB01": "A released report does not pass the check of its receiver and was not sent",
    "SUB02": "A report was rejected by its receiver",
}
"""Queries to the safety physician; a corrected version of the case closes them."""


@dataclass
class HandedOver:
    """What a pass came to.

    Attributes:
        now: The time it is about.
        allowed: Whether the role may send; where not, nothing was read, written or sent.
        gateway: Whether a gateway is configured.
        queued: Message numbers queued by this pass.
        stopped: Message number -> rules and elements, for released cases that do not pass the check.
        elsewhere: Released versions for authorities this pass does not send to.
        sent: What the sender did.
        received: What became of acknowledgements.
        messages: The outbox afterwards.
        alerts: Who has to look at what.
        balance: The reconciliation.
    """

    now: datetime
    allowed: bool
    gateway: bool
    queued: list[str] = field(default_factory=list)
    stopped: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: list[Version] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)
    received: list[Received] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    balance: Reconciliation = field(default_factory=lambda: Reconciliation({}, {}, ()))


def outbox_of(run: Step, study: str, clock: Callable[[], datetime]) -> Outbox:
    """The outbox of a study, for a step."""
    return Outbox(run.engine, study, run.vault, run.objects, actor=run.settings.who, run_id=run.run_id, clock=clock)


def hand_over(
    run: Step,
    register: CaseRegister,
    study: StudyFile,
    policy: SafetyPolicy,
    *,
    clock: Callable[[], datetime],
    purpose: str,
    destination: str = FDA_IND_CDER,
) -> HandedOver:
    """Queue what is released, send what is due, read what was answered.

    Args:
        run: The step; its role must be one that may send reports.
        register: The cases of the study.
        study: The study file.
        policy: Its safety policy.
        clock: The time now.
        purpose: Why, in a sentence.
        destination: Where reports for FDA go, a name of destinations.yaml.

    Raises:
        TrialOpsError: No purpose is stated, a release is not covered by a valid signature, or the gateway's address
            cannot be used.
    """
    outbox = outbox_of(run, register.study, clock)
    done = _seen(run, clock())
    if done.allowed and (register.released() or outbox.messages()):
        transport = open_transport(run.settings, timeout=send_policy().timeout) if done.gateway else None
        try:
            _withdraw(outbox, register)
            _queue(run, outbox, register, study, policy, purpose, destination, done)
        finally:
            # A release that cannot be read must not keep back what others have released before.
            if transport is not None:
                with closing(transport):
                    _exchange(run, outbox, register, transport, done)
        _ask(run, outbox, register.study)
    return _counted(outbox, register, done)


def look_back(run: Step, register: CaseRegister, now: datetime) -> HandedOver:
    """The outbox as it stands, judged at a time; nothing is queued, sent or asked."""
    return _counted(outbox_of(run, register.study, lambda: now), register, _seen(run, now))


def _seen(run: Step, now: datetime) -> HandedOver:
    return HandedOver(now, may(run.settings.role, USE), bool(run.settings.regulatory_reporting_api.strip()))


def _counted(outbox: Outbox, register: CaseRegister, done: HandedOver) -> HandedOver:
    done.messages = outbox.messages()
    done.alerts = alerts(done.messages, done.now)
    done.balance = reconcile(outbox, released_versions(register, authorities=("FDA",)))
    return done


def _queue(
    run: Step,
    outbox: Outbox,
    register: CaseRegister,
    study: StudyFile,
    policy: SafetyPolicy,
    purpose: str,
    destination: str,
    done: HandedOver,
) -> None:
    from trialops.governance.signatures import Signatures

    for case in released_cases(run, register, Signatures(run.engine, run.vault), purpose=purpose):
        version = Version(case.case, case.version, case.authority)
        if case.authority != "FDA":
            # The wrapper for other receivers could not be held against their own documents: a person sends it.
            done.elsewhere.append(version)
            continue
        number = message_number(version)
        known = outbox.message(number)
        if known is not None and not unsent_reject(known):
            continue
        due = _due(register, study, policy, version)
        data, faults = write_report(
            case, study, destination, outbox.clock(), initial=not outbox.reported_before(version)
        )
        if faults:
            outbox.stop(number, version, due=due, rules=faults)
            done.stopped[number] = faults
            run.audit("report.stop", str(version), case.digest, reason=purpose, rules=faults)
            continue
        try:
            message = outbox.queue(number, version, data, due=due, signed=case.digest, destination=destination)
        except TrialOpsError:
            other = outbox.message(number)
            if other is None or unsent_reject(other):
                raise
            continue  # another pass has queued it in between
        done.queued.append(number)
        run.audit("report.queue", str(version), message.digest, reason=purpose, signed=case.digest)


def message_number(version: Version) -> str:
    """The number of the batch a version of a case goes out in: the same for ever, so that it goes out once."""
    return f"{version.case_id}-{version.number}-{version.authority}"


def sender_number(study: StudyFile) -> str:
    """Who sends, as the wrapper of a message names them; empty where the study file does not say."""
    return str(study.sender.get("identifier") or study.sender.get("duns") or "")


def write_report(
    case: ReleasedCase, study: StudyFile, destination: str, now: datetime, *, initial: bool
) -> tuple[bytes, list[str]]:
    """The message of a released case, and what its receiver would reject it for.

    Args:
        case: The case as it was signed.
        study: The study file.
        destination: A name of destinations.yaml.
        now: When the message is made.
        initial: Whether no version of the case has been reported before.

    Returns:
        The message, and the rules with the elements they are about; a message only where there are none.
    """
    version = Version(case.case, case.version, case.authority)
    try:
        settings = ReportSettings(sender_number(study), destination)
        made = ind_report(case.told, settings, now.isoformat(timespec="seconds"))
        batch = replace(made.batch, number=message_number(version))
        data = write_batch(batch, [(made.message, made.case)])
    except TrialOpsError as error:
        return b"", [f"INCOMPLETE: {part.strip()}" for part in (error.where or error.what).split(";")]
    found = rejections(check(parse(data), facts=_facts(made.case, study, initial), as_of=now))
    return data, [" ".join(part for part in (each.rule, each.element, each.repeat) if part) for each in found]


def _facts(case: Any, study: StudyFile, initial: bool) -> Facts:
    number = str(study.safety.get("ind_number") or "")
    crossed = {each for each in case.study.cross_reported if isinstance(each, str)} if case.study else set()
    products = {str(each["name"]) for each in study.safety.get("products", ()) if each.get("role") == "investigational"}
    return Facts(
        route="premarket",
        initial=initial,
        registered=frozenset({number} | crossed) if number else None,
        products=frozenset(products) or None,
    )


def _due(register: CaseRegister, study: StudyFile, policy: SafetyPolicy, version: Version) -> str:
    """The end of the first open clock of a case for an authority; empty where none is open."""
    made = register.versions(version.case_id)[version.case_id]
    actions = register.actions(version.case_id).get(version.case_id, [])
    found = case_clocks(made, actions, policy, authorities_of(study))
    ends = [each.due for each in found if each.authority == version.authority and each.state == OPEN]
    return utc_text(min(ends)) if ends else ""


def _withdraw(outbox: Outbox, register: CaseRegister) -> None:
    """Take out of the queue what was released and taken back, where it was never tried."""
    released = set(released_versions(register))
    for each in outbox.messages():
        version = Version(each.case_id, each.case_version, each.authority)
        if version not in released and ((each.state == "queued" and each.attempt == 0) or unsent_reject(each)):
            outbox.append(each, "superseded", by="release taken back")


def _exchange(run: Step, outbox: Outbox, register: CaseRegister, transport: Transport, done: HandedOver) -> None:
    done.sent = send_due(outbox, transport, say=run.progress)
    done.received = collect(outbox, transport)
    end_clocks(run, outbox, register)
    for key in (*done.sent.sent, *done.sent.adopted):
        run.audit("report.send", key, reason="handed over to the gateway", adopted=key in done.sent.adopted)
    for each in done.received:
        if each.state != "repeated":
            what = each.outcome or each.what
            run.audit("report.acknowledgement", each.message_id or "(no message)", each.digest, reason=what)


def end_clocks(run: Step, outbox: Outbox, register: CaseRegister) -> None:
    """Tell the register what the authority has taken: it ends the clocks, at the time it was sent.

    A report that was sent and not yet acknowledged may still be rejected: its clock runs on.
    """
    actions = register.actions()
    for each in outbox.messages():
        told = [a for a in actions.get(each.case_id, []) if (a.action, a.authority) == (SENT, each.authority)]
        if each.state != "acknowledged" or any(a.version == each.case_version for a in told):
            continue
        sent = next(row.at for row in outbox.history(each.message_id) if row.state == "sent")
        register.mark_sent(
            each.case_id,
            each.case_version,
            each.authority,
            at=sent,
            message=each.message_id,
            actor=run.settings.who,
        )


def _ask(run: Step, outbox: Outbox, study: str) -> None:
    """Ask the safety physician about what was stopped or rejected; a later version answers it."""
    import polars as pl

    from trialops.quality.queries import Queries

    messages = outbox.messages()
    newest = {each.lane: max(m.case_version for m in messages if m.lane == each.lane) for each in messages}
    rows = []
    for each in messages:
        if each.state != "rejected" or each.case_version < newest[each.lane]:
            continue
        rule = "SUB01" if each.detail.get("cause") == "check" else "SUB02"
        named = ", ".join(str(v) for v in each.detail.get("rules") or each.detail.get("errors") or ())
        text = f"{RULES[rule]}: {named or 'see the acknowledgement'}"
        rows.append((rule, "critical", "ICSR", "", f"{each.case_id} version {each.case_version}", text))
    columns = ("rule", "priority", "domain", "USUBJID", "record", "message")
    findings = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    changed = Queries(run.engine, study).sync(findings, set(RULES), actor=run.settings.who, run_id=run.run_id)
    run.audit("queries.sync", study, send_policy().digest, **asdict(changed))


def released_versions(register: CaseRegister, authorities: Sequence[str] = ()) -> list[Version]:
    """Every version that was released to an authority and not taken back, sent or not."""
    found: dict[Version, None] = {}
    for case, actions in register.actions().items():
        for action in actions:
            version = Version(case, action.version, action.authority)
            if action.action == RELEASED:
                found[version] = None
            elif action.action == WITHDRAWN:
                found.pop(version, None)
    return sorted(each for each in found if not authorities or each.authority in authorities)
