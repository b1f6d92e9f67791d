"""Silences: for a time nobody is told of alerts that match, with who wants that and why."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from trialops.alerts.register import Known, utc_text
from trialops.errors import TrialOpsError
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from trialops.alerts.register import AlertRegister

LONGEST = timedelta(days=30)


@dataclass(frozen=True)
class Silence:
    """One silence; times are UTC text."""

    silence: str
    seq: int
    matchers: tuple[Mapping[str, Any], ...]
    starts: str
    ends: str
    reason: str
    author: str

    def covers(self, alert: Known, now: datetime) -> bool:
        """Whether an alert is silenced at a time."""
        return self.starts <= utc_text(now) < self.ends and alert.matches(self.matchers)


def matcher(text: str) -> dict[str, Any]:
    """A matcher as people write it: ``name=value``, or ``name=~pattern``.

    Raises:
        TrialOpsError: It is neither, or the pattern is none.
    """
    import re

    name, sign, value = text.partition("=")
    regex = value.startswith("~")
    if not sign or not name.strip():
        raise TrialOpsError(f"{text!r} is no matcher", where="silence", fix="Write pipeline=data_quality.")
    if regex:
        try:
            re.compile(value[1:])
        except re.error:
            raise TrialOpsError("The pattern cannot be read", where=text, fix="Write a regular expression.") from None
    return {"name": name.strip(), "value": value[regex:].strip(), "regex": regex}


def add_silence(
    register: AlertRegister, matchers: Sequence[Mapping[str, Any]], lasts: timedelta, reason: str, now: datetime
) -> Silence:
    """Silence what matches, from now on.

    Raises:
        TrialOpsError: It matches everything, has no reason, or lasts longer than 30 days.
    """
    from trialops.alerts.guard import guard_of
    from trialops.stores.database import writing

    if not matchers or all(m.get("regex") and m["value"] in (".*", ".+", "") for m in matchers):
        raise TrialOpsError("A silence must not match everything", where="silence", fix="Name the alert.")
    if len(reason.strip()) < 3:
        raise TrialOpsError("A silence needs a reason", where="silence", fix="Say why nobody is to be told.")
    if not timedelta() < lasts <= LONGEST:
        raise TrialOpsError(f"A silence lasts at most {LONGEST.days} days", where="silence", fix="Shorten it.")
    made = Silence(
        str(uuid.uuid4()),
        0,
        tuple(dict(m) for m in matchers),
        utc_text(now),
        utc_text(now + lasts),
        guard_of(register.engine).clean(reason.strip()),
        register.actor,
    )
    with writing(register.engine) as connection:
        return _write(register, connection, made, now)


def end_silence(register: AlertRegister, prefix: str, reason: str, now: datetime) -> Silence:
    """End a silence before its time, by the beginning of its id.

    Raises:
        TrialOpsError: None that lasts, or more than one, begins so.
    """
    from trialops.stores.database import writing

    with writing(register.engine) as connection:
        register.lock(connection)
        found = [s for s in silences(register, connection=connection) if s.silence.startswith(prefix)]
        lasting = [silence for silence in found if silence.ends > utc_text(now)]
        if len(lasting) != 1:
            raise TrialOpsError(
                f"{len(lasting)} silences that last begin with {prefix!r}", where="silence", fix="List them, take one."
            )
        return _write(register, connection, replace(lasting[0], ends=utc_text(now), reason=reason), now)


def silences(register: AlertRegister, *, connection: Connection | None = None) -> list[Silence]:
    """All silences as they stand, oldest first."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import alert_silences as table

    query = sa.select(table).where(table.c.study == register.study).order_by(table.c.id)
    found: dict[str, Silence] = {}
    with reading(register.engine) if connection is None else nullcontext(connection) as at:
        for row in at.execute(query):
            author = found[row.silence].author if row.silence in found else row.actor
            found[row.silence] = Silence(
                row.silence, row.seq, tuple(json.loads(row.matchers)), row.starts, row.ends, row.reason, author
            )
    return list(found.values())


def _write(register: AlertRegister, connection: Connection, silence: Silence, now: datetime) -> Silence:
    from trialops.stores.tables import alert_silences as table

    connection.execute(
        table.insert().values(
            at=utc_text(now),
            study=register.study,
            silence=silence.silence,
            seq=silence.seq + 1,
            matchers=canonical(list(silence.matchers)),
            starts=silence.starts,
            ends=silence.ends,
            reason=silence.reason,
            detail="{}",
            actor=register.actor,
            run_id=register.run_id,
        )
    )
    return replace(silence, seq=silence.seq + 1)
