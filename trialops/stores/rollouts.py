"""The journal of rollouts: append-only rows in the database, numbered within a rollout.

A row is written before what it announces is done. Numbers have no gaps and are unique, so of two controllers that
both think they lead a rollout, the second one to write finds its number taken and stops before it touches traffic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

EVENTS = ("started", "resumed", "step", "judged", "decided", "concluded", "aborted")
FINAL = ("concluded", "aborted")


@dataclass(frozen=True)
class RolloutEvent:
    """One row.

    Attributes:
        at: When, UTC.
        rollout: Rollout.
        seq: Number within the rollout, from 1.
        model: Registered model.
        event: "started", "resumed", "step" (about to set the share), "judged" (checks of a step), "decided",
            "concluded" (traffic and alias follow the decision) or "aborted" (by a person).
        step: Number of the step; -1 where the row is about none.
        attempt: Attempt at the step, from 1.
        percent: Share of the candidate in per cent.
        detail: Numbers, checks and reasons, JSON values.
        policy_digest: Of the policy applied.
        actor: Who, or which service.
        run_id: The run that leads the rollout.
    """

    at: str
    rollout: str
    seq: int
    model: str
    event: str
    step: int
    attempt: int
    percent: float
    detail: dict[str, Any]
    policy_digest: str
    actor: str
    run_id: str


class RolloutTaken(TrialOpsError):
    """Somebody else has written the journal's next row."""


def rollout_events(engine: Engine, rollout: str) -> list[RolloutEvent]:
    """The rows of a rollout in order."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import rollouts as table

    columns = [column for column in table.c if column.name != "id"]
    with reading(engine) as connection:
        rows = connection.execute(sa.select(*columns).where(table.c.rollout == rollout).order_by(table.c.seq)).all()
    return [RolloutEvent(**(dict(row._mapping) | {"detail": json.loads(row.detail)})) for row in rows]


def open_rollouts(engine: Engine, model: str) -> list[str]:
    """The rollouts of a model that have begun and not ended, oldest first."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import rollouts as table

    ended = sa.select(table.c.rollout).where(table.c.event.in_(FINAL))
    query = (
        sa.select(table.c.rollout)
        .where(table.c.model == model, table.c.seq == 1, table.c.rollout.not_in(ended))
        .order_by(table.c.id)
    )
    with reading(engine) as connection:
        return [str(name) for name in connection.execute(query).scalars()]


def append_event(
    engine: Engine,
    rollout: str,
    seq: int,
    event: str,
    *,
    model: str,
    step: int = -1,
    attempt: int = 1,
    percent: float = 0.0,
    detail: Mapping[str, Any] | None = None,
    policy_digest: str = "",
    actor: str = "",
    run_id: str = "",
) -> RolloutEvent:
    """Write the next row.

    Args:
        engine: From `trialops.stores.database.connect`, migrated.
        rollout: Rollout.
        seq: The number the caller believes to be next.
        event: One of EVENTS.
        model: Registered model.
        step: Number of the step.
        attempt: Attempt at it.
        percent: Share of the candidate.
        detail: JSON values.
        policy_digest: Of the policy applied.
        actor: Who, or which service.
        run_id: The run that leads the rollout.

    Raises:
        RolloutTaken: The number is taken: another controller leads the rollout, or a person has ended it.
        TrialOpsError: The event is not one of EVENTS.
    """
    import sqlalchemy as sa

    from trialops.stores.database import canonical, utc_now, writing
    from trialops.stores.tables import rollouts as table

    if event not in EVENTS:
        raise TrialOpsError(f"{event!r} is no event of a rollout", where=rollout, fix=f"use {', '.join(EVENTS)}")
    row = RolloutEvent(
        at=utc_now(),
        rollout=rollout,
        seq=seq,
        model=model,
        event=event,
        step=step,
        attempt=attempt,
        percent=float(percent),
        detail=dict(detail or {}),
        policy_digest=policy_digest,
        actor=actor,
        run_id=run_id,
    )
    values = vars(row) | {"detail": canonical(row.detail)}
    try:
        with writing(engine) as connection:
            connection.execute(table.insert().values(**values))
    except sa.exc.IntegrityError:
        raise RolloutTaken(
            "another controller leads this rollout, or a person has ended it",
            where=f"rollout {rollout}, row {seq}",
            fix="look at its rows; start this controller again once it is the only one",
        ) from None
    return row
