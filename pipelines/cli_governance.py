"""Commands over the audit trail and electronic signatures."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.governance.audit import Anchor


@click.group()
def audit() -> None:
    """The audit trail: verify, read, export, sign."""


def _engine() -> Engine:
    """The database, migrated.

    Raises:
        TrialOpsError: There is none: an audit trail that does not exist yet is an error, not an empty one, and one
            that was anchored is gone.
    """
    from trialops.errors import TrialOpsError
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate

    url = settings().database
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        last = max((anchor.seq for anchor in _anchors()), default=0)
        if last:
            raise TrialOpsError(
                f"The audit trail is gone: its newest anchor was written at record {last}",
                where=url.removeprefix("sqlite:///"),
                fix="Restore the database from a backup; call the auditor.",
            )
        raise TrialOpsError(
            "There is no audit trail yet",
            where=url.removeprefix("sqlite:///"),
            fix="Run a pipeline first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    engine = connect(url)
    migrate(engine)
    return engine


def _anchors() -> list[Anchor]:
    from trialops.governance.anchors import anchors_of
    from trialops.settings import settings

    return anchors_of(settings())


def anchored(engine: Engine) -> Anchor:
    """Anchor the audit trail after a record that must not be lost."""
    from trialops.governance.anchors import anchor_head
    from trialops.governance.audit import AuditTrail
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    return anchor_head(AuditTrail(engine), open_store(settings().objects))


@audit.command()
def verify() -> None:
    """Check every record, link and anchor; exit code 1 when one does not hold.

    Warns when there are no anchors or the newest is old: records cut off the end are found by an anchor alone.
    """
    from trialops.governance.anchors import unanchored
    from trialops.governance.audit import AuditTrail

    trail, anchors = AuditTrail(_engine()), _anchors()
    found = trail.verify(anchors)
    seq, digest = found.head
    if not found.ok:
        click.echo(f"the audit trail does not hold from record {found.bad}: {found.problem}", err=True)
        sys.exit(1)
    click.echo(f"the audit trail holds: {found.checked} records, {found.anchors} anchors, head {seq} {digest[:16]}")
    warning = unanchored(trail, anchors)
    if warning:
        click.echo(f"warning: {warning} (trialops audit anchor writes one)", err=True)


@audit.command()
def anchor() -> None:
    """Write the trail's head to the object store, as each run does at its end."""
    from trialops.errors import TrialOpsError
    from trialops.governance.audit import AuditTrail

    engine = _engine()
    # An anchor written over a trail that was tampered with would vouch for it.
    found = AuditTrail(engine).verify(_anchors())
    if not found.ok:
        raise TrialOpsError(
            f"The audit trail does not hold from record {found.bad}, so it is not anchored",
            where=found.problem,
            fix="Keep the database as it is; call the auditor.",
        )
    written = anchored(engine)
    click.echo(f"anchored: record {written.seq} {written.digest[:16]}")


@audit.command("list")
@click.option("--run", "run_id", help="Only records of this run.")
@click.option("--limit", default=50, show_default=True, help="The last so many.")
def list_events(run_id: str | None, limit: int) -> None:
    """Show the last records."""
    from collections import deque

    from pipelines.cli_output import table
    from trialops.governance.audit import AuditTrail

    trail = AuditTrail(_engine())
    after = 0 if run_id else max(0, trail.head()[0] - limit)
    events = deque(trail.events(run_id, after=after), maxlen=limit)
    table(
        ["seq", "at (UTC)", "actor", "action", "object", "version", "reason"],
        [[str(e.seq), e.at[:19], e.actor, e.action, e.object, e.version[:12], e.reason] for e in events],
    )


@audit.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write: JSON lines.")
@click.option("--run", "run_id", help="Only records of this run.")
def export(out: Path, run_id: str | None) -> None:
    """Write the records as JSON lines, for an inspector."""
    from dataclasses import asdict

    from trialops.governance.audit import AuditTrail

    count = 0
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(partial, "w") as file:
        for event in AuditTrail(_engine()).events(run_id):
            file.write(json.dumps(asdict(event), sort_keys=True) + "\n")
            count += 1
    partial.replace(out)
    click.echo(f"{count} records in {out}")


@audit.command()
@click.option("--user", required=True, help="User id of the signer.")
@click.option("--passphrase", prompt=True, hide_input=True, help="Asked for when not given.")
@click.option("--meaning", required=True, help="What the signature means, for example approved.")
@click.option("--kind", required=True, help="Kind of record: model, report, table, ...")
@click.option("--record", required=True, help="Id of the record.")
@click.option("--digest", required=True, help="SHA-256 of what is signed.")
@click.option("--reason", default="", help="What the signer adds.")
@click.option("--run", "run_id", default="", help="The run it belongs to.")
def sign(
    user: str, passphrase: str, meaning: str, kind: str, record: str, digest: str, reason: str, run_id: str
) -> None:
    """Sign a record electronically (21 CFR 11.50, 11.70, 11.200)."""
    from trialops.governance.signatures import Signatures, as_text
    from trialops.settings import settings
    from trialops.stores.vault import open_vault

    engine = _engine()
    signature = Signatures(engine, open_vault(settings())).sign(
        user=user,
        passphrase=passphrase,
        meaning=meaning,
        kind=kind,
        record=record,
        digest=digest,
        reason=reason,
        run_id=run_id,
    )
    anchored(engine)
    click.echo(as_text(signature))


@audit.command()
@click.option("--user", required=True, help="User id of the new signer.")
@click.option("--name", required=True, help="Printed name, as it appears in signatures.")
@click.option("--passphrase", prompt="Passphrase of the new signer", hide_input=True, confirmation_prompt=True)
@click.option("--by", default="", help="User id of the signer who verified the new signer's identity.")
@click.option("--by-passphrase", default="", help="That signer's passphrase; asked for when not given.")
def enrol(user: str, name: str, passphrase: str, by: str, by_passphrase: str) -> None:
    """Register a signer whose identity has been verified (21 CFR 11.100).

    Nobody enrols himself: an enrolled signer, neither suspended nor locked out, vouches for the next one with --by and
    his own passphrase. Only the first signer of an installation enrols without. Enrol two soon: one alone, once
    locked out, could not be replaced.
    """
    from trialops.governance.signatures import Signatures
    from trialops.settings import settings
    from trialops.stores.vault import open_vault

    if by and not by_passphrase:
        by_passphrase = click.prompt(f"Passphrase of {by}", hide_input=True)
    chosen, engine = settings(), _engine()
    signers = Signatures(engine, open_vault(chosen))
    key_id = signers.enrol(user, name, passphrase, actor=chosen.who, by=by, by_passphrase=by_passphrase)
    anchored(engine)
    click.echo(f"enrolled {user}, key {key_id[:16]}")
