"""Commands over cohorts: import definitions, list, show and compare; members for who may see them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

PURPOSE = click.option("--purpose", default="", help="Why, in a sentence; needed with --members, for the audit trail.")
MEMBERS = click.option("--members", is_flag=True, help="Persons by number, not counts: for who may see subjects.")
USE = "subject_lists"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cohort() -> None:
    """Cohorts: definitions and their members."""


def _run() -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step("cohort", {}, settings())


@cohort.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Only read it: what is not supported is named, nothing is kept.")
def import_command(file: Path, check: bool) -> None:
    """Keep a definition, JSON as ATLAS exports it or YAML, for cohort_management; other content is a new version."""
    from trialops.stores.database import utc_now
    from trialops.trial.cohorts.definitions import keep, read_definition

    found = read_definition(file)
    told = f"{found.name}: {len(found.expression.rules)} inclusion rule(s), digest {found.digest[:16]}"
    if check:
        click.echo(f"{told}; can be used")
        return
    run = _run()
    version, new = keep(run.objects, found, who=run.settings.who, at=utc_now())
    run.audit("cohort.import", found.name, found.digest, reason=f"import of {file.name}", number=version)
    click.echo(f"{told}; version {version}{'' if new else ' already'}")


@cohort.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(as_json: bool) -> None:
    """List the definitions cohort_management would use, and what the newest run made of them."""
    from pipelines.cli_output import table
    from trialops.trial.cohorts.definitions import definitions
    from trialops.trial.cohorts.records import last

    run = _run()
    chosen, source = definitions(run.objects)
    before = last(run)
    rows: list[dict[str, Any]] = []
    for one in chosen:
        noted = before.noted(one.name) if before else {}
        state = "not evaluated yet" if not noted else "evaluated" if noted["digest"] == one.digest else "has changed"
        rows.append(
            {
                "name": one.name,
                "title": one.title,
                "rules": len(one.expression.rules),
                "digest": one.digest[:16],
                "version": str(noted.get("version", "")),
                "state": state,
            }
        )
    if as_json:
        click.echo(json.dumps({"source": source, "cohorts": rows}, indent=1))
        return
    table(list(rows[0]), [[str(value) for value in row.values()] for row in rows], title=f"From: {source}")


@cohort.command()
@click.argument("name")
@click.option("--expression", "as_expression", is_flag=True, help="The definition as JSON, for ATLAS.")
@click.option("--sql", "as_sql", is_flag=True, help="The SQL it becomes, without a vocabulary.")
@MEMBERS
@PURPOSE
def show(name: str, as_expression: bool, as_sql: bool, members: bool, purpose: str) -> None:
    """Show cohort NAME of the newest run: counts, definition, SQL, or its members."""
    from trialops.trial.cohorts.circe import read_expression
    from trialops.trial.cohorts.concept_sets import resolve
    from trialops.trial.cohorts.membership import members_of
    from trialops.trial.cohorts.records import last
    from trialops.trial.cohorts.sql_cohort import compile_expression

    run = _run()
    before = last(run)
    noted = before.noted(name) if before else {}
    if before is None or not noted:
        raise _unknown(name)
    syntax = before.definitions[noted["id"]]
    if as_expression:
        click.echo(json.dumps(json.loads(syntax), indent=1))
    elif as_sql:
        expression = read_expression(json.loads(syntax))
        click.echo(compile_expression(expression, resolve(expression, None).concepts).sql)
    elif members:
        from trialops.governance.access import authorise

        authorise(run, USE, purpose, subject=f"members of cohort {name}")
        frame = members_of(before.cohorts, noted["id"])
        _print(frame)
    else:
        told = {"name": name, **{key: value for key, value in noted.items() if key != "changes"}}
        for key, value in {**told, "run": before.manifest.run_id}.items():
            click.echo(f"{key:<8} {value}")


@cohort.command()
@click.argument("name", required=False, default="")
@MEMBERS
@PURPOSE
def diff(name: str, members: bool, purpose: str) -> None:
    """Say what the newest change of the memberships was: who entered, left or has other dates, and why."""
    import polars as pl

    from pipelines.cli_output import table
    from trialops.stores.sealed import unseal
    from trialops.trial.cohorts.records import last

    run = _run()
    before = last(run)
    if before is None or (name and not before.noted(name)):
        raise _unknown(name)
    noted = {n: c for n, c in sorted(before.manifest.evidence["cohorts"].items()) if n == name or not name}
    if not members:
        table(
            ["cohort", "members", "since the run before"],
            [[n, str(c["members"]), c["since"]] for n, c in noted.items()],
        )
        rows = [[n, *(str(value) for value in line)] for n, c in noted.items() for line in c["changes"]]
        if rows:
            table(["cohort", "change", "reason", "persons"], rows)
        return
    from trialops.governance.access import authorise

    authorise(run, USE, purpose, subject=f"changes of {f'cohort {name}' if name else 'all cohorts'}")
    sealed = before.manifest.evidence["sealed"]
    run.audit("data.unseal", "cohort changes", str(sealed["digest"]), reason=purpose)
    changes = unseal(sealed, vault=run.vault, objects=run.objects)["changes"]
    columns = ["cohort", "person_id", "change", "reason", "before", "now", "status", "unmet"]
    _print(changes.filter(pl.col("cohort").is_in(list(noted))).select(columns))


@cohort.command()
@click.argument("name")
@MEMBERS
@PURPOSE
def history(name: str, members: bool, purpose: str) -> None:
    """Follow cohort NAME over the runs in which anybody's standing changed: its size, or with --members each person."""
    from pipelines.cli_output import table
    from trialops.trial.cohorts.records import DATASET, last

    run = _run()
    if last(run) is None:
        raise _unknown(name)
    links = [link for link in run.lake.manifests(DATASET) if name in link.evidence["cohorts"]]
    if not links:
        raise _unknown(name)
    if members:
        from trialops.governance.access import authorise
        from trialops.trial.cohorts.records import standing_over_time

        authorise(run, USE, purpose, subject=f"eligibility for cohort {name} over time")
        _print(standing_over_time(run, links, name))
        return
    rows = []
    for link in links:
        noted = link.evidence["cohorts"][name]
        rows.append([link.at[:19], str(noted["version"]), str(noted["members"]), noted["since"]])
    table(["at (UTC)", "version", "members", "since the run before"], rows)


def _print(frame: pl.DataFrame) -> None:
    """Rows as CSV: for a person who may see them, or a file of theirs."""
    click.echo(frame.write_csv(), nl=False)


def _unknown(name: str) -> Exception:
    from trialops.errors import TrialOpsError

    return TrialOpsError(
        f"The newest run has no cohort {name}" if name else "There are no cohorts yet",
        where="cohorts",
        fix="Run cohort_management; trialops trial cohort list names what it would evaluate.",
    )
