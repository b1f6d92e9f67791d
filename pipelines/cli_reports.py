"""Commands of the reports to authorities: the outbox, sending, acknowledgements, reconciliation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.safety.e2b.outbox import Outbox
    from trialops.safety.register import CaseRegister
    from trialops.stores.context import Step

PURPOSE = click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def reports() -> None:
    """Reports to authorities: what is on its way, send, read acknowledgements, reconcile."""


def _open(name: str, purpose: str) -> tuple[Step, CaseRegister, Outbox]:
    """A step by hand that may send reports, the register, and the outbox."""
    from datetime import UTC, datetime

    from pipelines.cli_safety import _open as opened
    from trialops.governance.access import authorise
    from trialops.safety.hand_over import USE, outbox_of

    run, register = opened(name)
    authorise(run, USE, purpose)
    return run, register, outbox_of(run, register.study, lambda: datetime.now(UTC))


@reports.command("list")
@click.option("--waiting", is_flag=True, help="Only those that have not reached the gateway.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@PURPOSE
def list_(waiting: bool, as_json: bool, purpose: str) -> None:
    """List the messages of the outbox by number, with state and due time; no content."""
    from pipelines.cli_output import table
    from trialops.safety.e2b.submission import alerts

    _, _, outbox = _open("reports-list", purpose)
    messages = [each for each in outbox.messages() if each.waiting or not waiting]
    whys = {alert.message_id: alert.why for alert in alerts(messages, outbox.clock())}
    if as_json:
        click.echo(json.dumps([vars(each) | {"alert": whys.get(each.message_id, "")} for each in messages], indent=1))
        return
    rows = [
        [
            m.message_id,
            m.state,
            m.due[:16],
            m.until[:16] if m.waiting else "",
            str(m.attempt),
            whys.get(m.message_id, ""),
        ]
        for m in messages
    ]
    table(["message", "state", "due (UTC)", "next (UTC)", "tries", "alert"], rows)


@reports.command()
@click.argument("message")
@PURPOSE
def history(message: str, purpose: str) -> None:
    """Show every row of MESSAGE."""
    from pipelines.cli_output import table

    _, _, outbox = _open("reports-history", purpose)
    rows = [
        [str(m.seq), m.at[:19], m.state, m.actor, json.dumps(dict(m.detail), sort_keys=True)]
        for m in outbox.history(message)
    ]
    table(["row", "at (UTC)", "state", "who", "detail"], rows)


@reports.command()
@click.argument("message")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@PURPOSE
def get(message: str, target: Path, purpose: str) -> None:
    """Write the content of MESSAGE to a folder outside the platform's home. It identifies a person."""
    from trialops.errors import TrialOpsError
    from trialops.safety.e2b.folder_transport import file_name
    from trialops.stores.folders import outside_home

    run, _, outbox = _open("reports-get", purpose)
    found = outbox.message(message)
    if found is None or not found.digest:
        raise TrialOpsError(
            "There is no such message in the outbox", where=message, fix="See: trialops safety reports list"
        )
    folder = outside_home(str(target), run.settings.home.resolve(), what="A report")
    data = outbox.content(found)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{file_name(message)}.xml"
    file.write_bytes(data)
    run.audit("report.read", message, found.digest, reason=purpose)
    click.echo(f"{len(data):,} bytes in {file}")


@reports.command()
@click.option("--retry", "again", multiple=True, help="Put this message back into the queue first; repeatable.")
@PURPOSE
def send(again: tuple[str, ...], purpose: str) -> None:
    """Send what is due now, once, and read what was answered."""
    from trialops.errors import TrialOpsError
    from trialops.safety.e2b.receiving import collect, count
    from trialops.safety.e2b.submission import describe, retry_now, send_due, send_policy
    from trialops.safety.e2b.transport import open_transport
    from trialops.safety.hand_over import end_clocks

    run, register, outbox = _open("reports-send", purpose)
    for message in again:
        if retry_now(outbox, message) is None:
            raise TrialOpsError("Only a message that failed is put back", where=message)
        run.audit("report.retry", message, reason=purpose)
    transport = open_transport(run.settings, timeout=send_policy().timeout)
    try:
        sent = send_due(outbox, transport)
        received = collect(outbox, transport)
    finally:
        transport.close()
    end_clocks(run, outbox, register)
    for key in (*sent.sent, *sent.adopted):
        run.audit("report.send", key, reason=purpose, adopted=key in sent.adopted)
    for name, value in {**describe(sent), **count(received)}.items():
        click.echo(f"{name:<13} {value}")
    for key, reason in sent.failed.items():
        click.echo(f"{key}: {reason}; tried again by the next run or: trialops safety reports send")


@reports.command()
@click.argument("case")
@click.option("--authority", required=True, type=click.Choice(["EU"]), help="Whom it is for.")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option("--study", default="", help="Study file; the demonstration trial's by default.")
@PURPOSE
def write(case: str, authority: str, target: Path, study: str, purpose: str) -> None:
    """Write the released version of CASE for an authority this program does not send to. It identifies a person.

    The message is ICH E2B(R3) without the authority's own elements: send a test message first. When it has gone, say so
    with: trialops safety reports sent.
    """
    from trialops.safety.e2b.folder_transport import file_name
    from trialops.safety.hand_over import message_number
    from trialops.safety.report_by_hand import report_by_hand
    from trialops.stores.folders import outside_home
    from trialops.trial.study_file import study_file

    run, register, outbox = _open("reports-write", purpose)
    folder = outside_home(str(target), run.settings.home.resolve(), what="A report")
    version, data = report_by_hand(
        run, register, study_file(study), case, authority, purpose=purpose, now=outbox.clock()
    )
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{file_name(message_number(version))}.xml"
    file.write_bytes(data)
    click.echo(f"{version}: {len(data):,} bytes in {file}")


@reports.command("sent")
@click.argument("case")
@click.option("--authority", required=True, type=click.Choice(["EU"]), help="Whom it went to.")
@click.option("--at", required=True, help="When it went, ISO 8601; without a zone it is UTC.")
@click.option("--message", required=True, help="The receiver's number of it.")
@PURPOSE
def sent_elsewhere(case: str, authority: str, at: str, message: str, purpose: str) -> None:
    """Record that a person sent the released version of CASE to an authority this program does not send to."""
    from trialops.errors import TrialOpsError
    from trialops.safety.clock_times import moment, utc_text

    run, register, outbox = _open("reports-sent", purpose)
    waiting = [each for each in register.released() if (each.case, each.authority) == (case, authority)]
    when = moment(at, where="--at")
    if not waiting or when > outbox.clock():
        what = (
            "No release of this case waits for this authority" if not waiting else "It cannot have gone in the future"
        )
        raise TrialOpsError(what, where=case if not waiting else "--at", fix="See: trialops safety case CASE")
    number = waiting[0].version
    register.mark_sent(case, number, authority, at=utc_text(when), message=message, actor=run.settings.who)
    run.audit("report.sent", f"{case} version {number} for {authority}", message, reason=purpose, moment=utc_text(when))
    click.echo(f"{case} version {number}: sent to {authority}, {utc_text(when)}")


@reports.command("take-over")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--study", default="", help="Study file; the demonstration trial's by default.")
@PURPOSE
def take_over_(file: Path, study: str, purpose: str) -> None:
    """Enter reports that another system has sent before, from the CSV list in FILE.

    Columns: USUBJID, EVENT (AESPID, else AESEQ), authority, sent, message; and aware, where the former day 0 is known.
    For a trial that was in progress when it came here: run adverse_event_monitoring first.
    """
    from trialops.safety.taken_over import take_over
    from trialops.trial.study_file import study_file

    run, register, outbox = _open("reports-take-over", purpose)
    done = take_over(run, register, study_file(study), file.read_bytes(), now=outbox.clock(), purpose=purpose)
    click.echo(f"{done.taken} reports taken over, {done.known} known already; awareness moved in {done.moved} cases")


@reports.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@PURPOSE
def acks(files: tuple[Path, ...], purpose: str) -> None:
    """Read acknowledgements from FILES, as a gateway's person would hand them over."""
    from trialops.safety.e2b.receiving import receive
    from trialops.safety.hand_over import end_clocks

    run, register, outbox = _open("reports-acks", purpose)
    wrong = 0
    for file in files:
        found = receive(outbox, file.read_bytes(), source=file.name)
        wrong += found.state == "quarantined"
        said = f"{found.what} ({found.where})" if found.what else f"{found.message_id} {found.outcome}"
        click.echo(f"{file.name}: {found.state}, {said}")
        run.audit("report.acknowledgement", found.message_id or "(no message)", found.digest, reason=purpose)
    end_clocks(run, outbox, register)
    if wrong:
        raise SystemExit(1)


@reports.command("reconcile")
@click.option("--offline", is_flag=True, help="Do not ask the gateway.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@PURPOSE
def reconcile_(offline: bool, as_json: bool, purpose: str) -> None:
    """Hold released versions against the outbox, and the outbox against the gateway; nothing is sent."""
    from trialops.safety.e2b.receiving import reconcile
    from trialops.safety.e2b.transport import open_transport
    from trialops.safety.hand_over import released_versions

    run, register, outbox = _open("reports-reconcile", purpose)
    transport = None if offline else open_transport(run.settings)
    try:
        found = reconcile(outbox, released_versions(register, authorities=("FDA",)), transport)
    finally:
        if transport is not None:
            transport.close()
    run.audit(
        "report.reconcile", register.study, reason=purpose, problems=len(found.problems), counts=dict(found.counts)
    )
    if as_json:
        lines = [{"version": str(version), "state": state} for version, state in found.classes.items()]
        click.echo(json.dumps({"counts": found.counts, "versions": lines, "problems": found.problems}, indent=1))
    else:
        for name, value in {**found.counts, "released": sum(found.counts.values())}.items():
            click.echo(f"{name:<13} {value}")
        for key in found.adopted:
            click.echo(f"adopted: {key}")
        for problem in found.problems:
            click.echo(f"problem: {problem}")
    if found.problems:
        raise SystemExit(1)
