"""Commands over the database: back up, verify, restore, list."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.operations.database_operator import DatabaseResult
    from trialops.stores.context import Step


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def database() -> None:
    """Backups of the database: make, verify by a restore, restore, list."""


def _run(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    class AtTheTerminal(Step):
        """A step that tells a person, not a runner, how far it is."""

        def progress(self, message: str, fraction: float | None = None) -> None:
            click.echo(message, err=True)

    return AtTheTerminal(name, {}, settings())


def _verify(run: Step, backup: str) -> DatabaseResult:
    from trialops.operations.database_operator import ClinicalDatabaseOperator

    scratch = run.settings.scratch_database_url
    return ClinicalDatabaseOperator().run(run, "verify", backup=backup, scratch_url=scratch)


def _show(result: DatabaseResult) -> None:
    from pipelines.cli_output import table

    made = result.verification
    assert made is not None
    table(["check", "holds", "what was found"], [[c.name, "yes" if c.ok else "no", c.detail] for c in made.checks])
    click.echo(f"{made.backup} is {made.outcome}: {made.tables[0]} tables, {made.tables[1]} rows, "
               f"restored in {made.restore_seconds:.1f} s")  # fmt: skip
    if made.outcome != "verified":
        sys.exit(1)


@database.command()
@click.option("--no-verify", is_flag=True, help="Do not restore it into a scratch database afterwards.")
def backup(no_verify: bool) -> None:
    """Back the database up, encrypted; then restore it into a scratch database and compare."""
    from trialops.operations.database_operator import ClinicalDatabaseOperator

    run = _run("database-backup")
    made = ClinicalDatabaseOperator().run(run, "back up").backup
    assert made is not None
    click.echo(f"{made.id}: {made.size:,} bytes with {made.body['tool']}")
    if no_verify:
        click.echo(f"not verified; a backup is none before it was restored: trialops database verify {made.id}")
    else:
        _show(_verify(run, made.id))


@database.command()
@click.argument("backup_id", default="")
def verify(backup_id: str) -> None:
    """Restore a backup (the newest by default) into a scratch database and compare it table by table."""
    _show(_verify(_run("database-verify"), backup_id))


@database.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_backups(as_json: bool) -> None:
    """Show backups, the newest first, and whether they were verified."""
    from pipelines.cli_output import table
    from trialops.operations.backup_archive import backups, databases, last_check
    from trialops.operations.backup_make import database_name

    run = _run("database-list")
    names = databases(run.objects)
    rows = []
    for name in names:
        for one in reversed(backups(run.objects, name)):
            told = last_check(run.objects, one) or {}
            tables = one.body.get("contents", {}).get("tables", {})
            rows.append(
                [name, one.id, one.started[:19], one.size, len(tables), str(one.body.get("method", "")),
                 str(told.get("outcome", "not verified")), str(told.get("at", ""))[:19]]
            )  # fmt: skip
    columns = ["database", "backup", "state of (UTC)", "bytes", "tables", "by", "outcome", "verified at"]
    if as_json:
        click.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1))
        return
    table(columns, [[str(value) for value in row] for row in rows])
    if not rows:
        click.echo(f"no backup of {database_name(run.engine)}; make one: trialops database backup")


@database.command()
@click.argument("backup_id")
@click.option("--into", default="", help="URL of another database to fill; default: the one in service.")
@click.option("--force", is_flag=True, help="Replace what the database holds.")
@click.option("--purpose", required=True, help="Why; it goes into the audit trail. Nothing of a subject.")
@click.option("--database", "name", default="", help="Name of the backed-up database; default: the one in service.")
def restore(backup_id: str, into: str, force: bool, purpose: str, name: str) -> None:
    """Restore a backup and compare the result with it; one that holds tables is replaced only with --force."""
    from trialops.operations.backup_archive import find
    from trialops.operations.backup_make import database_name
    from trialops.operations.database_restore import restore as bring_back
    from trialops.stores.database import connect

    run = _run("database-restore")
    url = into or run.settings.database
    found = find(run.objects, name or database_name(connect(run.settings.database)), backup_id)
    done = bring_back(run, found, url=url, force=force, purpose=purpose)
    for line in done.differences:
        click.echo(line)
    click.echo(f"{done.backup} restored into {done.target}: {done.tables} tables, {len(done.differences)} differences")
    if done.differences:
        sys.exit(1)
