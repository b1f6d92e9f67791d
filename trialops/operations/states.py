"""States of components over time: one row per look and component, for the pages that show how things went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from trialops.operations.health import Finding, State, by_component, in_order
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from sqlalchemy import Engine

KEEP_DAYS = 90


@dataclass(frozen=True)
class Seen:
    """A component at one look; `values` are its measured figures by check."""

    at: str
    component: str
    state: State
    values: Mapping[str, float]


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def remember(engine: Engine, run_id: str, pipeline: str, at: datetime, findings: Sequence[Finding]) -> None:
    """Keep the state of each component; the same run again replaces what it said, and what is too old goes."""
    import sqlalchemy as sa

    from trialops.stores.database import writing
    from trialops.stores.tables import health_states as table

    rows = []
    for component, state in by_component(findings).items():
        own = [found for found in in_order(findings) if found.component == component]
        detail = {
            "check": own[0].check if state != "healthy" else "",
            "values": {found.check: found.value for found in own if found.value is not None},
        }
        rows.append(
            {
                "at": _text(at),
                "run_id": run_id,
                "pipeline": pipeline,
                "component": component,
                "state": state,
                "detail": canonical(detail),
            }
        )
    old = sa.and_(table.c.pipeline == pipeline, table.c.at < _text(at - timedelta(days=KEEP_DAYS)))
    with writing(engine) as connection:
        connection.execute(table.delete().where((table.c.run_id == run_id) & (table.c.pipeline == pipeline) | old))
        if rows:
            connection.execute(table.insert(), rows)


def seen(engine: Engine, pipeline: str, since: datetime, until: datetime) -> list[Seen]:
    """What the looks of a pipeline saw, the oldest first."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import health_states as table

    query = (
        sa.select(table.c.at, table.c.component, table.c.state, table.c.detail)
        .where(table.c.pipeline == pipeline, table.c.at >= _text(since), table.c.at <= _text(until))
        .order_by(table.c.at, table.c.component)
    )
    with reading(engine) as connection:
        return [
            Seen(row.at, row.component, cast(State, row.state), json.loads(row.detail)["values"])
            for row in connection.execute(query)
        ]
