"""The log of pipeline runs in the database: what ran, how it ended, where its page is; for every orchestrator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, lock_row, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Engine, Row

STATES = ("running", "succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Run:
    """One run of a pipeline; times are UTC text, `finished` is empty while it runs."""

    run_id: str
    pipeline: str
    parameters: dict[str, Any]
    state: str
    started: str
    finished: str
    code_version: str
    page: str


def record_run(
    engine: Engine,
    run_id: str,
    pipeline: str,
    *,
    parameters: Mapping[str, Any] | None = None,
    code_version: str = "",
    page: str = "",
) -> Run:
    """Record that a run started.

    Recording it again (a retried step) keeps its first start and makes it running.

    Args:
        engine: From `connect`, migrated.
        run_id: The orchestrator's id of the run.
        pipeline: Catalogue name.
        parameters: JSON values the run was given.
        code_version: Of the program that runs.
        page: Object-store key of the run's home page.

    Raises:
        TrialOpsError: The id belongs to a run of another pipeline.
    """
    import sqlalchemy as sa

    from trialops.stores.tables import runs as table

    with writing(engine) as connection:
        lock_row(connection, run_id)
        row = connection.execute(sa.select(table).where(table.c.run_id == run_id)).first()
        if row is None:
            connection.execute(
                table.insert().values(
                    run_id=run_id,
                    pipeline=pipeline,
                    parameters=canonical(dict(parameters or {})),
                    state="running",
                    started=utc_now(),
                    finished="",
                    code_version=code_version,
                    page=page,
                )
            )
        elif row.pipeline != pipeline:
            raise TrialOpsError(
                f"Run {run_id!r} is recorded as a run of {row.pipeline!r}, not of {pipeline!r}.",
                where="runs",
                fix="Give the run an id of its own.",
            )
        else:
            connection.execute(
                table.update()
                .where(table.c.run_id == run_id)
                .values(
                    state="running",
                    finished="",
                    page=page or row.page,
                    code_version=code_version or row.code_version,
                )
            )
        return _run(connection.execute(sa.select(table).where(table.c.run_id == run_id)).one())


def finish_run(engine: Engine, run_id: str, state: str, *, page: str = "") -> Run:
    """Record how a run ended.

    Args:
        engine: From `connect`, migrated.
        run_id: As recorded.
        state: succeeded, failed or cancelled.
        page: Object-store key of the run's home page, if it is known only now.

    Raises:
        TrialOpsError: The run or the state is unknown.
    """
    from trialops.stores.tables import runs as table

    if state not in STATES[1:]:
        raise TrialOpsError(
            f"A run does not end as {state!r}.", where="runs", fix=f"Use one of {', '.join(STATES[1:])}."
        )
    values = {"state": state, "finished": utc_now()} | ({"page": page} if page else {})
    with writing(engine) as connection:
        connection.execute(table.update().where(table.c.run_id == run_id).values(**values))
    return run(engine, run_id)


def run(engine: Engine, run_id: str) -> Run:
    """One recorded run.

    Raises:
        TrialOpsError: No run has this id.
    """
    import sqlalchemy as sa

    from trialops.stores.tables import runs as table

    with reading(engine) as connection:
        row = connection.execute(sa.select(table).where(table.c.run_id == run_id)).first()
    if row is None:
        raise TrialOpsError(
            f"No run {run_id!r} is recorded.", where="runs", fix="List the runs and take an id from there."
        )
    return _run(row)


def runs(engine: Engine, *, pipeline: str = "", state: str = "", limit: int = 100) -> list[Run]:
    """Recorded runs, newest first, at most `limit`, of one pipeline or state where given."""
    import sqlalchemy as sa

    from trialops.stores.tables import runs as table

    query = sa.select(table).order_by(table.c.started.desc(), table.c.run_id.desc()).limit(limit)
    if pipeline:
        query = query.where(table.c.pipeline == pipeline)
    if state:
        query = query.where(table.c.state == state)
    with reading(engine) as connection:
        return [_run(row) for row in connection.execute(query)]


def _run(row: Row[Any]) -> Run:
    fields = dict(row._mapping)
    return Run(**(fields | {"parameters": json.loads(fields["parameters"])}))
