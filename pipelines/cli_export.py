"""Commands of data export: check a package, and what happens to shared ones afterwards."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.privacy.sharing_register import ShareRegister
    from trialops.stores.context import Step

REASON = click.option("--reason", required=True, help="Why; it goes into the audit trail.")
PACKAGE = click.argument("package", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group()
def export() -> None:
    """Exported data: verify a submission; list, open, revoke and trace what was shared."""


def _run(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step(name, {}, settings())


def _register() -> ShareRegister:
    from trialops.privacy.sharing_run import register_of

    return register_of(_run("export"))


@export.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--manifest", default="", help="SHA-256 the manifest must have, as the audit trail has it.")
def verify(folder: Path, manifest: str) -> None:
    """Check a submission package byte by byte, then its definitions against its data; exit code 1 if not whole."""
    from trialops.regulatory.package import read_manifest
    from trialops.regulatory.submission import verify_submission

    problems, findings = verify_submission(folder, expected=manifest)
    for problem in problems:
        click.echo(f"{problem.path}: {problem.text}", err=True)
    for finding in findings:
        click.echo(f"{finding.rule} {finding.where}: {finding.text}", err=True)
    document, digest = read_manifest(folder)
    if problems:
        click.echo(f"{len(problems)} of {len(document['files'])} files are not what was written", err=True)
        sys.exit(1)
    click.echo(f"{len(document['files'])} files are what was written; manifest {digest}")
    if findings:
        click.echo(f"{len(findings)} finding(s) about definitions and data", err=True)


@export.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def shares(as_json: bool) -> None:
    """List packages given to partners; those whose last day has passed are ended first."""
    from datetime import UTC, datetime

    from pipelines.cli_output import table

    register = _register()
    register.expire(datetime.now(UTC).date())
    found = register.shares()
    if as_json:
        rows = [{**vars(s), "expires": s.expires.isoformat()} for s in found]
        click.echo(json.dumps(rows, indent=1, default=str))
        return
    columns = ["share", "recipient", "state", "expires", "issued", "opened"]
    table(columns, [[s.share, s.recipient, s.state, s.expires.isoformat(), s.at[:10], str(s.opened)] for s in found])


@export.command()
@click.argument("share")
@REASON
def revoke(share: str, reason: str) -> None:
    """Take SHARE back: its key is destroyed, no copy of it can be opened any more."""
    _register().revoke(share, reason=reason)
    click.echo(f"{share} is revoked; its key is destroyed")


@export.command()
@click.argument("share")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New file for the key.")
@REASON
def key(share: str, out: Path, reason: str) -> None:
    """Write the recipient's key of SHARE to a file, to be handed over by another way than the package."""
    _write(out, (_register().recipient_key(share, reason=reason) + "\n").encode())


@export.command()
@PACKAGE
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New file for the release.")
@REASON
def release(package: Path, out: Path, reason: str) -> None:
    """Write the sponsor's part of opening PACKAGE, for a recipient who opens it elsewhere with his key."""
    from datetime import UTC, datetime

    part = _register().release(package.read_bytes(), reason=reason, today=datetime.now(UTC).date())
    _write(out, part)


@export.command("open")
@PACKAGE
@click.option("--key", "key_file", type=click.Path(path_type=Path, exists=True), required=True, help="File of the key.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the files.")
@click.option("--release", "part", type=click.Path(path_type=Path, exists=True), help="File of the sponsor's release.")
@click.option("--reason", default="opened by the recipient", show_default=True, help="Why; for the audit trail.")
def open_command(package: Path, key_file: Path, out: Path, part: Path | None, reason: str) -> None:
    """Open PACKAGE: with the sponsor's release anywhere, or without it where the vault is."""
    from datetime import UTC, datetime

    from trialops.privacy.sharing_package import open_package, unpack

    data, secret = package.read_bytes(), key_file.read_text("utf-8").strip()
    if part is None:
        content = _register().open(data, secret, reason=reason, today=datetime.now(UTC).date())
    else:
        content = open_package(data, secret, part.read_bytes())
    for name in unpack(content, out):
        click.echo(str(out / name))


@export.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--table", "name", required=True, help="Which shared table it is (AE).")
def trace(file: Path, name: str) -> None:
    """Name the recipient of a leaked copy (CSV); exit code 1 when it is nobody's."""
    import polars as pl

    from pipelines.cli_output import table
    from trialops.privacy.sharing_run import trace_copy

    run = _run("export-trace")
    found = trace_copy(run, pl.read_csv(file, infer_schema_length=None), name)
    run.audit("share.trace", file.name, "", reason="a copy was found", named=[t.share for t in found if t.named])
    rows = [[t.share, str(t.identifiers), str(t.subjects), f"{t.ascents:.3f}", f"{t.p:.1g}", "yes" if t.named else ""]
            for t in found]  # fmt: skip
    table(["share", "identifiers", "subjects in order", "ascents", "p", "this copy"], rows)
    if not any(t.named for t in found):
        sys.exit(1)


def _write(path: Path, data: bytes) -> None:
    import os

    from trialops.errors import TrialOpsError

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise TrialOpsError("The file exists already", where=str(path), fix="Name a new one.") from None
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    click.echo(str(path))
