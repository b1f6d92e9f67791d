"""Commands for data subjects' requests, legal holds, milestones and certificates."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.stores.context import Step

REASON = click.option("--reason", required=True, help="Why; it goes into the audit trail.")


@click.group()
def privacy() -> None:
    """Requests of data subjects, legal holds, retention milestones, certificates."""


def _run() -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step("privacy", {}, settings())


@privacy.command("request")
@click.option("--kind", type=click.Choice(["erasure", "restriction"]), default="erasure", show_default=True)
@click.option(
    "--subject",
    help="USUBJID or Patient/<id> of the requester; asked for, unseen, when not given. It is not stored.",
)
@REASON
def enter(kind: str, subject: str | None, reason: str) -> None:
    """Enter a request of a subject whose identity has been verified; the next data_privacy run carries it out."""
    from trialops.privacy import requests

    run = _run()
    key = subject or click.prompt("Subject key", hide_input=True)
    event = requests.receive(run.engine, run.vault, kind=kind, subject_key=key, actor=run.settings.who, reason=reason)
    click.echo(f"{kind} request {event.request} received")


@privacy.command("requests")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_requests(as_json: bool) -> None:
    """List requests and where they stand."""
    from pipelines.cli_output import table
    from trialops.privacy import requests

    last = requests.last_events(_run().engine)
    rows = [[e.request, e.kind, e.action, e.at[:19], e.subject, e.actor, e.reason] for e in last]
    names = ["request", "kind", "state", "at (UTC)", "subject (pseudonym)", "by", "reason"]
    if as_json:
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1))
        return
    table(names, rows)


@privacy.command()
@click.argument("request")
@REASON
def lift(request: str, reason: str) -> None:
    """End the restriction of processing that a request brought."""
    from trialops.errors import TrialOpsError
    from trialops.privacy import requests

    run = _run()
    events = requests.events(run.engine, request)
    if not events:
        raise TrialOpsError(
            "There is no such request.", where=f"request {request}", fix="List them: trialops privacy requests"
        )
    last = events[-1]
    requests.append(
        run.engine,
        request,
        "lifted",
        last.kind,
        last.study,
        last.subject,
        actor=run.settings.who,
        reason=reason,
    )
    click.echo(f"restriction of request {request} lifted")


@privacy.command()
@click.option("--class", "record_class", default="*", show_default=True, help="Class of records, as in retention.yaml.")
@click.option("--object", "object_", default="*", show_default=True, help="Pattern of tables or object keys.")
@click.option("--subject", help="Hold everything about one subject (pseudonym) against erasure.")
@REASON
def hold(record_class: str, object_: str, subject: str | None, reason: str) -> None:
    """Place a legal hold: what it covers is neither disposed of nor erased."""
    from trialops.privacy import holds

    run = _run()
    if subject:
        record_class, object_ = "subject", f"subject/{subject}"
    placed = holds.place(run.engine, record_class=record_class, object=object_, actor=run.settings.who, reason=reason)
    click.echo(f"hold {placed.hold} placed on {record_class}: {object_}")


@privacy.command("holds")
def list_holds() -> None:
    """List the legal holds in force."""
    from pipelines.cli_output import table
    from trialops.privacy import holds

    rows = [[h.hold, h.at[:19], h.record_class, h.object, h.actor, h.reason] for h in holds.active(_run().engine)]
    table(["hold", "since (UTC)", "class", "records", "by", "reason"], rows)


@privacy.command("release-hold")
@click.argument("hold_id", metavar="HOLD")
@REASON
def release_hold(hold_id: str, reason: str) -> None:
    """Release a legal hold."""
    from trialops.privacy import holds

    run = _run()
    holds.release(run.engine, hold_id, actor=run.settings.who, reason=reason)
    click.echo(f"hold {hold_id} released")


@privacy.command()
@click.argument("name", type=click.Choice(["end_of_trial", "approval_or_discontinuation"]))
@click.argument("day", type=click.DateTime(formats=["%Y-%m-%d"]))
@REASON
def milestone(name: str, day: object, reason: str) -> None:
    """Record a milestone that retention counts from."""
    import datetime as dt

    from trialops.privacy.retention import record_milestone

    assert isinstance(day, dt.datetime)
    run = _run()
    record_milestone(run.objects, name, day.date(), actor=run.settings.who, reason=reason)
    run.audit("retention.milestone", name, day.date().isoformat(), reason=reason)
    click.echo(f"{name}: {day.date()}")


@privacy.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(as_json: bool) -> None:
    """What stands open and what was certified; exit code 1 where a certificate was altered."""
    from trialops.errors import TrialOpsError
    from trialops.privacy import certificate, holds, requests
    from trialops.privacy.retention import milestones

    run = _run()
    try:
        certificates = certificate.stored(run.objects)
    except TrialOpsError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    content = {
        "open requests": len(requests.open_requests(run.engine)),
        "restricted subjects": len(requests.restricted(run.engine, run.vault.study)),
        "legal holds": len(holds.active(run.engine)),
        "milestones": {name: str(day) for name, day in sorted(milestones(run.objects).items())},
        "certificates": [
            {"kind": c["body"]["kind"], "at": c["body"]["at"], "digest": c["digest"]} for c in certificates
        ],
    }
    if as_json:
        click.echo(json.dumps(content, indent=1))
        return
    for name, value in content.items():
        click.echo(f"{name}: {len(value) if isinstance(value, list) else value}")
