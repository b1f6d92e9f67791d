"""Legal holds: who keeps what from disposal, since when and why; events that are only ever added."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.database import reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class Hold:
    """A hold in force.

    Attributes:
        hold: Its id.
        at: Since when, UTC.
        record_class: Class of records, or "*".
        object: Pattern of table names or object keys, or "subject/<pseudonym>"; "*" holds the whole class.
        actor: Who placed it.
        reason: Why.
    """

    hold: str
    at: str
    record_class: str
    object: str
    actor: str
    reason: str

    def covers(self, record_class: str, name: str) -> bool:
        """Whether a record of a class may not be disposed of."""
        return fnmatchcase(record_class, self.record_class) and fnmatchcase(name, self.object)


def place(engine: Engine, *, record_class: str, object: str, actor: str, reason: str) -> Hold:
    """Place a hold; it counts from the next disposal on.

    Raises:
        TrialOpsError: A field is empty.
    """
    hold = Hold(str(uuid.uuid4()), utc_now(), record_class, object, actor, reason)
    _add(engine, hold, "place", hold.at)
    return hold


def release(engine: Engine, hold: str, *, actor: str, reason: str) -> Hold:
    """Release a hold.

    Raises:
        TrialOpsError: There is no such hold in force, or a field is empty.
    """
    found = next((h for h in active(engine) if h.hold == hold), None)
    if found is None:
        raise TrialOpsError(
            "There is no such legal hold in force.", where=f"hold {hold}", fix="List them: trialops privacy holds"
        )
    released = Hold(hold, found.at, found.record_class, found.object, actor, reason)
    _add(engine, released, "release", utc_now())
    return released


def active(engine: Engine) -> list[Hold]:
    """Holds in force, oldest first."""
    import sqlalchemy as sa

    from trialops.stores.tables import legal_holds as table

    held: dict[str, Hold] = {}
    with reading(engine) as connection:
        for row in connection.execute(sa.select(table).order_by(table.c.id)):
            if row.action == "place":
                held[row.hold] = Hold(row.hold, row.at, row.record_class, row.object, row.actor, row.reason)
            else:
                held.pop(row.hold, None)
    return list(held.values())


def _add(engine: Engine, hold: Hold, action: str, at: str) -> None:
    from trialops.governance.audit import AuditTrail
    from trialops.stores.tables import legal_holds as table

    fields = {"record_class": hold.record_class, "object": hold.object, "actor": hold.actor, "reason": hold.reason}
    for name, value in fields.items():
        if not value.strip():
            raise TrialOpsError(
                f"A legal hold needs {'an' if name[0] in 'ao' else 'a'} {name.replace('_', ' ')}.",
                where="legal hold",
                fix="Say what is held, by whom and why; * holds everything.",
            )
    with writing(engine) as connection:
        connection.execute(table.insert().values(at=at, hold=hold.hold, action=action, **fields))
        AuditTrail(engine).append(
            actor=hold.actor,
            action=f"hold.{action}",
            object=f"{hold.record_class}/{hold.object}",
            version=hold.hold,
            reason=hold.reason,
            connection=connection,
        )
