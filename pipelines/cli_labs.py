"""Commands of the laboratory interface and of the queue of results, images and genomes that belong to nobody yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.stores.context import Step

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
QUEUES = (("laboratory", "labs/unmatched"), ("imaging", "imaging/unmatched"), ("genomes", "controlled/unmatched"))
DEFAULT = "127.0.0.1:2575"


@click.group()
def labs() -> None:
    """Laboratory messages (HL7 v2 over MLLP), and whom external data belongs to."""


def _step(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step(name, {}, settings())


def _endpoint(at: str) -> str:
    from trialops.settings import settings

    return at or settings().lab_system_endpoint or DEFAULT


@labs.command()
@click.option("--at", default="", help="host:port [LAB_SYSTEM_ENDPOINT, or 127.0.0.1:2575]; port 0 takes a free one.")
@click.option("--certificate", type=FILE, help="PEM; required unless the host is loopback.")
@click.option("--key", type=FILE, help="PEM key of the certificate.")
@click.option("--client-authority", type=FILE, help="PEM; only clients with a certificate of it get in.")
@click.option("--idle", default=300.0, show_default=True, help="Seconds of silence before a connection is closed.")
@click.option("--max-mb", default=16, show_default=True, help="Largest message.")
def listen(
    at: str, certificate: Path | None, key: Path | None, client_authority: Path | None, idle: float, max_mb: int
) -> None:
    """Receive messages until SIGTERM or Ctrl-C; what is being stored then is finished and acknowledged.

    A message is acknowledged only after it is on disk, encrypted. The next run of external_data_ingestion reads it.
    """
    import asyncio
    import signal

    from trialops.errors import TrialOpsError
    from trialops.intake.lab_inbox import LabInbox
    from trialops.intake.mllp import LabServer, endpoint, server_context

    if (certificate is None) != (key is None) or (client_authority is not None and certificate is None):
        raise TrialOpsError("TLS needs a certificate and its key.", where="--certificate, --key", fix="Give both.")
    where = endpoint(_endpoint(at))
    run = _step("labs-listen")
    tls = server_context(certificate, key, client_authority) if certificate and key else None
    server = LabServer(LabInbox(run.vault, run.objects), where, tls=tls, most=max_mb * 1024 * 1024, idle=idle)

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await server.start()
        run.audit("labs.listen", f"{where.host}:{server.port}", tls=tls is not None)
        click.echo(f"listening on {where.host}:{server.port}" + (" with TLS" if tls else ""))
        await stop.wait()
        await server.drain()

    asyncio.run(serve())
    tally = server.tally
    counts = {name: getattr(tally, name) for name in ("connections", "stored", "known", "refused", "broken")}
    run.audit("labs.stop", f"{where.host}:{where.port}", counts=counts)
    click.echo(json.dumps(counts))


@labs.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--to", default="", help="host:port, mllp:// or mllps:// [LAB_SYSTEM_ENDPOINT, or 127.0.0.1:2575].")
@click.option("--authority", type=FILE, help="PEM of the authority that signed the server's certificate.")
@click.option("--certificate", type=FILE, help="PEM of the client.")
@click.option("--key", type=FILE, help="PEM key of the client.")
def send(files: tuple[Path, ...], to: str, authority: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Send the messages of FILES and show how they were acknowledged; exit code 1 when one was not accepted."""
    import asyncio
    from collections import Counter

    from trialops.intake.hl7_parse import split_file
    from trialops.intake.mllp import client_context, endpoint
    from trialops.intake.mllp import send as deliver

    where = endpoint(_endpoint(to))
    tls = client_context(authority, certificate, key) if where.tls else None
    messages = [b"\r".join(m.lines) + b"\r" for path in files for m in split_file(path.read_bytes()).messages]
    answers = asyncio.run(deliver(messages, where, tls=tls))
    for (code, text), n in sorted(Counter((a.code, a.text) for a in answers).items()):
        click.echo(f"{code} {n}" + (f"  {text}" if text else ""))
    if any(a.code not in ("AA", "CA") for a in answers):
        raise SystemExit(1)


@labs.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inbox(as_json: bool) -> None:
    """Count what came over the wire, and say why messages were refused."""
    from trialops.intake.lab_inbox import LabInbox

    run = _step("labs-inbox")
    box = LabInbox(run.vault, run.objects)
    refused = box.refused()
    if as_json:
        click.echo(json.dumps({"messages": len(box.keys()), "refused": refused}, indent=1))
        return
    from pipelines.cli_output import table

    click.echo(f"{len(box.keys())} messages, {len(refused)} refused")
    if refused:
        table(["received", "reason", "sha256"], [[r["received"], r["reason"], r["sha256"][:16]] for r in refused])


@labs.command()
@click.option("--identify", is_flag=True, help="Show the identifiers as sent; needs --reason, and is audited.")
@click.option("--reason", default="", help="Why you look.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def unmatched(identify: bool, reason: str, as_json: bool) -> None:
    """List what waits for a subject, of the newest intake of each kind."""
    from trialops.errors import TrialOpsError
    from trialops.intake.subjects import IDENTIFIER

    if identify and not reason.strip():
        raise TrialOpsError("Looking at identifiers needs a reason.", where="--reason", fix="Say why.")
    run = _step("labs-unmatched")
    found = []
    for kind, name in QUEUES:
        frame = run.read_latest(name)
        for row in frame.to_dicts() if frame is not None else []:
            counts = {k: v for k, v in row.items() if k not in ("QUEUE", "REASON")}
            line = {"kind": kind, "queue": row["QUEUE"], "reason": row["REASON"], "records": sum(counts.values())}
            if identify and row["QUEUE"]:
                value = run.vault.reidentify(
                    IDENTIFIER, row["QUEUE"], reason=reason, actor=run.settings.who, engine=run.engine
                )
                line["authority"], line["identifier"] = value.split("\0", 1)
            found.append(line)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from pipelines.cli_output import table

    columns = ["kind", "queue", "reason", "records", *(["authority", "identifier"] if identify else [])]
    table(columns, [[str(line.get(c, "")) for c in columns] for line in found])


@labs.command()
@click.argument("queue")
@click.argument("usubjid")
@click.option("--reason", required=True, help="On what grounds; it goes into the audit trail.")
def match(queue: str, usubjid: str, reason: str) -> None:
    """Decide that the identifier QUEUE is the subject USUBJID's; the next intake follows."""
    from trialops.errors import TrialOpsError
    from trialops.intake.subjects import decide, load_subjects

    run = _step("labs-match")
    known = load_subjects(run.vault, run.objects, clean_dm=run.read_latest("clean/dm"), crosswalk=None)
    if not known.known(usubjid):
        raise TrialOpsError("The trial knows no such subject.", where="USUBJID", fix="Give a USUBJID of its DM table.")
    decide(run.vault, run.objects, queue, usubjid, actor=run.settings.who, reason=reason)
    run.audit("labs.match", f"{queue}", run.vault.pseudonym("subject", usubjid), reason=reason)
    click.echo("noted; run external_data_ingestion again")
