"""Commands over the queries to the sites."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.quality.queries import Queries, Query


@click.group()
def queries() -> None:
    """Queries to the sites: list, show, answer, close, export."""


def _open() -> tuple[Engine, Queries]:
    """The database and the queries of the study these stores hold.

    Raises:
        TrialOpsError: There is no study yet.
    """
    from trialops.errors import TrialOpsError
    from trialops.quality.queries import Queries
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.objects import open_store
    from trialops.stores.study import bound_study

    study = bound_study(open_store(settings().objects))
    if not study:
        raise TrialOpsError(
            "There are no queries: these stores hold no study yet",
            where=str(settings().home),
            fix="Run data_quality first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    engine = connect(settings().database)
    migrate(engine)
    return engine, Queries(engine, study)


def _move(query: str, state: str, reason: str) -> None:
    """Change a query's state, with an audit event."""
    from trialops.governance.audit import AuditTrail
    from trialops.settings import settings

    engine, known = _open()
    who = settings().who
    after = known.move(query, state, actor=who, reason=reason)
    if settings().audit_log_enabled:
        AuditTrail(engine).append(
            actor=who, action=f"query.{state}", object=query, version=after.rule, reason=after.history[-1].reason
        )
    click.echo(f"{query} is {after.state}")


@queries.command("list")
@click.option("--state", "states", multiple=True, help="Only this state; repeatable. Default: those that wait.")
@click.option("--all", "everything", is_flag=True, help="Closed and cancelled ones too.")
@click.option("--priority", help="Only critical, major or minor.")
@click.option("--rule", help="Only this rule.")
@click.option("--older", type=int, default=0, help="Only those open for so many days or more.")
@click.option("--limit", default=50, show_default=True, help="At most so many.")
def list_queries(
    states: tuple[str, ...], everything: bool, priority: str | None, rule: str | None, older: int, limit: int
) -> None:
    """Show queries, critical and old ones first."""
    import polars as pl

    from pipelines.cli_output import table
    from trialops.quality.evaluation import PRIORITIES
    from trialops.quality.queries import WAITING

    _, known = _open()
    frame = known.table(states=states or (() if everything else WAITING)).filter(pl.col("age") >= older)
    if priority:
        frame = frame.filter(pl.col("priority") == priority)
    if rule:
        frame = frame.filter(pl.col("rule") == rule)
    order = pl.col("priority").replace_strict({p: i for i, p in enumerate(PRIORITIES)}, default=9)
    shown = frame.sort(order, -pl.col("age"), "query").head(limit)
    columns = ["query", "state", "priority", "age", "rule", "subject", "record", "message"]
    table(columns, [[str(v) for v in row] for row in shown.select(columns).iter_rows()])
    if frame.height > limit:
        click.echo(f"{frame.height - limit} more; see --limit")


@queries.command()
@click.argument("query")
def show(query: str) -> None:
    """Show one query with its history."""
    from pipelines.cli_output import table

    _, known = _open()
    found: Query = known.show(query)
    for name in ("query", "state", "priority", "rule", "domain", "subject", "record", "message"):
        click.echo(f"{name:<9} {getattr(found, name)}")
    table(
        ["at (UTC)", "state", "cause", "who", "why"],
        [[e.at[:19], e.state, e.cause, e.actor, e.reason] for e in found.history],
    )


@queries.command()
@click.argument("query")
@click.option("--reason", required=True, help="The answer; nothing that identifies a subject.")
def answer(query: str, reason: str) -> None:
    """Record the site's answer."""
    _move(query, "answered", reason)


@queries.command()
@click.argument("query")
@click.option("--reason", required=True, help="Why it is settled; nothing that identifies a subject.")
def close(query: str, reason: str) -> None:
    """Close a query: the data are right, or will stay as they are."""
    _move(query, "closed", reason)


@queries.command()
@click.argument("query")
@click.option("--reason", required=True, help="Why it must be looked at again.")
def reopen(query: str, reason: str) -> None:
    """Re-open an answered or closed query."""
    _move(query, "reopened", reason)


@queries.command()
@click.argument("query")
@click.option("--reason", required=True, help="Why it should not have been asked.")
def cancel(query: str, reason: str) -> None:
    """Cancel a query that should not have been asked."""
    _move(query, "cancelled", reason)


@queries.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file to write.")
@click.option("--all", "everything", is_flag=True, help="Closed and cancelled ones too.")
def export(out: Path, everything: bool) -> None:
    """Write the queries as CSV, for the sites."""
    from trialops.quality.queries import WAITING

    _, known = _open()
    frame = known.table(states=() if everything else WAITING)
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(frame.columns)
        writer.writerows(frame.iter_rows())
    partial.replace(out)
    click.echo(f"{frame.height} queries in {out}")
