"""Commands of regulatory and trial documents: list, get, sign, check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.regulatory.documents.register import Version
    from trialops.stores.context import Step

NAME = click.argument("document")
VERSION = click.option("--version", type=int, default=0, help="Version; the newest by default.")
USES = {"blinded": "report_documents", "unblinded": "unblinded_documents"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def documents() -> None:
    """Regulatory and trial documents: what there is, its files, its signatures."""


@documents.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the versions of all documents."""
    import json
    from dataclasses import asdict

    from pipelines.cli_output import table
    from trialops.regulatory.documents.register import signatures_on, versions

    run = _step("documents-list")
    found = versions(run)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    rows = [
        [v.document, str(v.version), v.cut, v.at[:16], str(len(signatures_on(run, v))), v.manifest[:12]] for v in found
    ]
    table(["document", "version", "data cut", "made", "signatures", "manifest"], rows)


@documents.command()
@NAME
@VERSION
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
def get(document: str, version: int, target: Path, purpose: str) -> None:
    """Write the files of DOCUMENT to a folder outside the platform's home."""
    from trialops.regulatory.documents.register import MANIFEST, read_file
    from trialops.stores.folders import outside_home

    run, found = _open(document, version, purpose)
    folder = outside_home(str(target), run.settings.home.resolve(), what="A document")
    data = {name: read_file(run, found, name) for name in (*found.files, MANIFEST)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in data.items():
        (folder / name).write_bytes(content)
    run.audit("document.read", found.record, found.manifest, reason=purpose)
    click.echo(f"{len(data)} files in {folder}")


@documents.command()
@NAME
@VERSION
@click.option("--user", required=True, help="User id of the signer.")
@click.option("--passphrase", prompt=True, hide_input=True, help="Asked for when not given.")
@click.option("--meaning", default="approved", show_default=True, help="What the signature means (21 CFR 11.50).")
@click.option("--reason", default="", help="What the signer adds.")
def sign(document: str, version: int, user: str, passphrase: str, meaning: str, reason: str) -> None:
    """Sign a version of DOCUMENT: its manifest, and with it every file."""
    from trialops.governance.signatures import Signatures
    from trialops.regulatory.documents.register import RECORD_KIND, check_version

    run, found = _open(document, version, f"to be signed as {meaning}")
    problems = check_version(run, found)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.echo("Not signed: the document is not what was registered.", err=True)
        sys.exit(1)
    made = Signatures(run.engine, run.vault).sign(
        user=user, passphrase=passphrase, meaning=meaning, kind=RECORD_KIND, record=found.record, digest=found.manifest,
        reason=reason, run_id=run.run_id,
    )  # fmt: skip
    click.echo(f"{found.record}: {meaning} by {made.printed_name}, {made.at}; manifest {found.manifest}")


@documents.command()
@NAME
@VERSION
def check(document: str, version: int) -> None:
    """Check a version of DOCUMENT byte by byte, and its signatures; exit code 1 if anything is not as it was."""
    from trialops.regulatory.documents.register import check_version, signatures_on, version_of

    run = _step("documents-check")
    found = version_of(run, document, version)
    problems = check_version(run, found)
    for signature, problem in signatures_on(run, found):
        state = problem or "holds"
        click.echo(f"{signature.meaning} by {signature.printed_name}, {signature.at}: {state}")
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(1)
    click.echo(f"{found.record}: {len(found.files)} files are what was registered; manifest {found.manifest}")


def _open(document: str, version: int, purpose: str) -> tuple[Step, Version]:
    from trialops.governance.access import authorise
    from trialops.regulatory.documents.register import version_of

    run = _step("documents-open")
    found = version_of(run, document, version)
    authorise(run, USES[found.audience], purpose, subject=found.record)
    return run, found


def _step(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step(name, {}, settings())
