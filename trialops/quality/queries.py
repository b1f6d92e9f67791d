"""Queries to the sites: opened by findings, answered and closed by people, closed by corrected data.

A query is known by what it asks: study, rule, domain, subject and record. The same finding in the next run is therefore
the same query, and a second one is never opened. Every change of state is a further row with who, when and why; no row
is changed. A query holds the pseudonym of the subject and the key of the record, and no value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import lock_row, reading, utc_now, writing

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Connection, Engine

STATES = ("open", "answered", "closed", "reopened", "cancelled")
WAITING = ("open", "answered", "reopened")
"""States in which a query still asks for something."""
MOVES = {
    "answered": ("open", "reopened"),
    "closed": WAITING,
    "reopened": ("answered", "closed"),
    "cancelled": WAITING,
}
"""What a person may do -> the states in which they may."""
LONGEST_REASON = 500


@dataclass(frozen=True)
class Event:
    """One change of state; `cause` is finding, person or corrected."""

    at: str
    state: str
    cause: str
    actor: str
    reason: str
    run_id: str


@dataclass(frozen=True)
class Query:
    """A query with its history, oldest first."""

    query: str
    opened: str
    study: str
    rule: str
    priority: str
    domain: str
    subject: str
    record: str
    message: str
    history: tuple[Event, ...]

    @property
    def state(self) -> str:
        """State after the last event."""
        return self.history[-1].state


@dataclass(frozen=True)
class Synced:
    """What a run of the rules changed: queries opened, re-opened, closed by a correction, and those left alone."""

    opened: int
    reopened: int
    closed: int
    unchanged: int


def query_id(study: str, rule: str, domain: str, subject: str | None, record: str | None) -> str:
    """The name of a query, from what it asks: Q- and 12 hexadecimal digits."""
    text = "\0".join((study, rule, domain, subject or "", record or ""))
    return "Q-" + hashlib.sha256(text.encode()).hexdigest()[:12]


class Queries:
    """The queries of a study."""

    def __init__(self, engine: Engine, study: str) -> None:
        """Take a migrated database and the study the queries are of."""
        self.engine, self.study = engine, study

    # -- what the rules find ------------------------------------------------------------------------------------------

    def sync(self, findings: pl.DataFrame, judged: Collection[str], *, actor: str, run_id: str = "") -> Synced:
        """Bring the queries in line with what the rules have just found.

        A new finding opens a query. A query that was closed because the data had been corrected is re-opened when the
        finding is back; one that a person closed or cancelled stays so: they have looked at it. A waiting query of a
        rule that was judged and no longer finds it is closed, because the data were corrected.

        Args:
            findings: Columns rule, priority, domain, USUBJID, record, message.
            judged: Rules that passed or failed in this run; a rule that did not apply says nothing about its queries.
            actor: Who, or which service.
            run_id: The run that judged.

        Returns:
            Counts of what changed.
        """
        from trialops.stores.tables import quality_queries, quality_query_events

        found: dict[str, dict[str, Any]] = {}
        columns = ("rule", "priority", "domain", "USUBJID", "record", "message")
        for rule, priority, domain, subject, record, message in findings.select(columns).iter_rows():
            name = query_id(self.study, rule, domain, subject, record)
            found.setdefault(
                name,
                {
                    "query": name,
                    "study": self.study,
                    "rule": rule,
                    "priority": priority,
                    "domain": domain,
                    "subject": subject or "",
                    "record": record or "",
                    "message": message,
                    "run_id": run_id,
                },
            )
        with writing(self.engine) as connection:
            lock_row(connection, f"queries/{self.study}")
            now = utc_now()
            known = self._states(connection)
            new = [{**row, "at": now} for name, row in found.items() if name not in known]
            events = [_event(now, row["query"], "open", "finding", actor, row["message"], run_id) for row in new]
            back = [
                n for n in found if n in known and known[n]["state"] == "closed" and known[n]["cause"] == "corrected"
            ]
            events += [
                _event(now, n, "reopened", "finding", actor, "The finding is back.", run_id) for n in sorted(back)
            ]
            gone = [
                name
                for name, row in known.items()
                if name not in found and row["state"] in WAITING and row["rule"] in judged
            ]
            events += [
                _event(now, n, "closed", "corrected", actor, "The finding is gone: the data were corrected.", run_id)
                for n in sorted(gone)
            ]
            if new:
                connection.execute(quality_queries.insert(), new)
            if events:
                connection.execute(quality_query_events.insert(), events)
        return Synced(len(new), len(back), len(gone), len(found) - len(new) - len(back))

    def _states(self, connection: Connection) -> dict[str, dict[str, str]]:
        """Rule, last state and its cause, by query."""
        return {row["query"]: row for row in self._rows(connection)}

    def _rows(self, connection: Connection) -> list[dict[str, Any]]:
        """Every query of the study with its last event, in the order of opening."""
        import sqlalchemy as sa

        from trialops.stores.tables import quality_queries as q
        from trialops.stores.tables import quality_query_events as e

        last = sa.select(e.c.query, sa.func.max(e.c.id).label("id")).group_by(e.c.query).subquery()
        joined = sa.select(
            *(q.c[name] for name in ("query", "rule", "priority", "domain", "subject", "record", "message")),
            q.c.at.label("opened"),
            e.c.at.label("changed"),
            *(e.c[name] for name in ("state", "cause", "actor")),
        ).select_from(q.join(last, last.c.query == q.c.query).join(e, e.c.id == last.c.id))
        ordered = joined.where(q.c.study == self.study).order_by(q.c.id)
        return [dict(row._mapping) for row in connection.execute(ordered)]

    # -- what people do -----------------------------------------------------------------------------------------------

    def move(self, query: str, state: str, *, actor: str, reason: str, run_id: str = "") -> Query:
        """Answer, close, re-open or cancel a query.

        Args:
            query: Its name.
            state: answered, closed, reopened or cancelled.
            actor: The person.
            reason: Why, or the answer; at most 500 characters and nothing that identifies a subject.
            run_id: The run it happens in, where there is one.

        Raises:
            TrialOpsError: There is no such query, its state does not allow it, or the reason is missing or too long.
        """
        from trialops.stores.tables import quality_query_events

        text = " ".join(reason.split())
        if not text or len(text) > LONGEST_REASON:
            raise TrialOpsError(
                "A query changes its state with a reason of 1 to 500 characters",
                where=query,
                fix="Say what was found or done; name the subject by nothing but the query.",
            )
        with writing(self.engine) as connection:
            lock_row(connection, f"queries/{self.study}")
            now = self._states(connection).get(query)
            if now is None:
                raise TrialOpsError(f"There is no query {query!r}", where="queries", fix="See: trialops queries list")
            if state not in MOVES or now["state"] not in MOVES[state]:
                allowed = [name for name, states in MOVES.items() if now["state"] in states]
                raise TrialOpsError(
                    f"Query {query} is {now['state']}; it cannot become {state}",
                    where="queries",
                    fix=f"It can become: {', '.join(allowed) or 'nothing else'}.",
                )
            event = _event(utc_now(), query, state, "person", actor, text, run_id)
            connection.execute(quality_query_events.insert(), [event])
        return self.show(query)

    # -- reading ------------------------------------------------------------------------------------------------------

    def show(self, query: str) -> Query:
        """One query with its history.

        Raises:
            TrialOpsError: There is no such query in this study.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import quality_queries as q
        from trialops.stores.tables import quality_query_events as e

        with reading(self.engine) as connection:
            row = connection.execute(sa.select(q).where(q.c.query == query, q.c.study == self.study)).first()
            if row is None:
                raise TrialOpsError(f"There is no query {query!r}", where="queries", fix="See: trialops queries list")
            columns = (e.c.at, e.c.state, e.c.cause, e.c.actor, e.c.reason, e.c.run_id)
            history = connection.execute(sa.select(*columns).where(e.c.query == query).order_by(e.c.id)).all()
        fields = ("query", "study", "rule", "priority", "domain", "subject", "record", "message")
        named = {name: str(row._mapping[name]) for name in fields}
        return Query(opened=str(row._mapping["at"]), history=tuple(Event(*h) for h in history), **named)

    def table(self, *, states: Sequence[str] = (), now: datetime | None = None) -> pl.DataFrame:
        """All queries with their state and age.

        Args:
            states: Only those in one of these; all by default.
            now: The time ages are counted to; the present by default.

        Returns:
            query, rule, priority, domain, subject, record, message, opened, changed, state, cause, actor, and age:
            whole days since opening, of a query that no longer waits until it was closed.
        """
        import polars as pl

        with reading(self.engine) as connection:
            rows = self._rows(connection)
        names = ("query", "rule", "priority", "domain", "subject", "record", "message", "opened", "changed")
        schema = dict.fromkeys((*names, "state", "cause", "actor"), pl.String)
        frame = pl.DataFrame(rows, schema=schema)
        if states:
            frame = frame.filter(pl.col("state").is_in(list(states)))
        opened, changed = (pl.col(c).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ") for c in ("opened", "changed"))
        until = (now or datetime.now(UTC)).replace(tzinfo=None)
        end = pl.when(pl.col("state").is_in(WAITING)).then(pl.lit(until)).otherwise(changed)
        return frame.with_columns(age=(end - opened).dt.total_days())


def _event(at: str, query: str, state: str, cause: str, actor: str, reason: str, run_id: str) -> dict[str, str]:
    names = ("at", "query", "state", "cause", "actor", "reason", "run_id")
    return dict(zip(names, (at, query, state, cause, actor, reason, run_id), strict=True))
