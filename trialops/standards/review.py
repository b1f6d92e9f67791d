"""The queue of codes that wait for a person: items, candidates, decisions.

Nothing is overwritten. An item met again with other candidates is a further row, a changed mind is a further
decision, and the state of an item follows from all of them. A decision names who, when and why, and the row of
the item that was on the screen when it was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.database import canonical, lock_row, reading, utc_now, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

ACTIONS = ("accept", "reject", "assign", "reopen")
STATES = ("open", "second", "conflict", "accepted", "rejected")
DECIDED = ("accepted", "rejected")


@dataclass(frozen=True)
class Candidate:
    """A code proposed for an item.

    Attributes:
        code, display: In the item's code system.
        score: Between 0 and 1.
        reasons: Why it was proposed and what speaks against it.
    """

    code: str
    display: str
    score: float
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"code": self.code, "display": self.display, "score": self.score, "reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """What :meth:`as_dict` gave."""
        return cls(values["code"], values["display"], float(values["score"]), tuple(values["reasons"]))


@dataclass(frozen=True)
class Waiting:
    """What a run puts into the queue.

    Attributes:
        kind: "lab", "condition", "event" or "medication".
        system: Code system asked for: "LOINC", "ICD-10-CM", "MedDRA", "WHODrug".
        verbatim: The text or code to be coded, from de-identified data.
        context: What else decides (specimen, unit, test code); text to text.
        candidates: Best first.
        reason: Why a person must look.
        release: Release of the code system the candidates are from.
        rows: Rows of the data that carry it.
    """

    kind: str
    system: str
    verbatim: str
    context: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()
    reason: str = ""
    release: str = ""
    rows: int = 0

    def key(self, study: str) -> str:
        """What makes two items the same: study, kind, system, text without case and blanks, context."""
        return item_key(study, self.kind, self.system, self.verbatim, self.context)


def item_key(study: str, kind: str, system: str, verbatim: str, context: Mapping[str, str]) -> str:
    """SHA-256 over what identifies an item; 64 hexadecimal digits."""
    folded = " ".join(verbatim.split()).casefold()
    plain = {name: " ".join(value.split()) for name, value in context.items() if value.strip()}
    return hashlib.sha256(canonical([study, kind, system, folded, plain]).encode()).hexdigest()


@dataclass(frozen=True)
class Decision:
    """One entry of the decision log."""

    id: int
    at: str
    item: str
    action: str
    code: str
    display: str
    actor: str
    assignee: str
    reason: str
    seen: int


@dataclass(frozen=True)
class Item:
    """An item as it stands: its newest row and all that was decided on it.

    Attributes:
        id: Of the newest row; decisions name it as what was seen.
        item: The key.
        state: One of STATES. "second": one reviewer of two has decided; "conflict": reviewers disagree.
        code, display: The code accepted, when it was.
        assignee: Whose desk it is on; empty while nobody's.
        decisions: Oldest first.
    """

    id: int
    at: str
    item: str
    study: str
    kind: str
    system: str
    verbatim: str
    context: dict[str, str]
    candidates: tuple[Candidate, ...]
    reason: str
    release: str
    rows: int
    reviewers: int
    run_id: str
    state: str
    code: str = ""
    display: str = ""
    assignee: str = ""
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class ReviewQueue:
    """The queue of one study in one database.

    Args:
        engine: From trialops.stores.database.connect, migrated.
        study: Study the decisions hold for.
    """

    engine: Engine = field(repr=False)
    study: str

    def add(self, items: Iterable[Waiting], *, run_id: str = "", reviewers: int = 1) -> int:
        """Put items in; one that is known with the same candidates is left alone.

        Args:
            items: What waits.
            run_id: The run that found them.
            reviewers: People who must agree on each, 1 or 2.

        Returns:
            Rows written.
        """
        import sqlalchemy as sa

        from trialops.stores.tables import coding_items as table

        if reviewers not in (1, 2):
            raise TrialOpsError("An item needs one or two reviewers.", where="coding queue")
        rows = {item.key(self.study): _item_row(item, self.study, run_id, reviewers) for item in items}
        with writing(self.engine) as connection:
            lock_row(connection, "coding_items")
            newest = {row["item"]: row for row in _newest(connection, self.study, list(rows))}
            fresh = [row for key, row in rows.items() if _changed(row, newest.get(key))]
            if fresh:
                connection.execute(sa.insert(table), fresh)
        return len(fresh)

    def items(self, state: str = "", *, kind: str = "", assignee: str = "") -> list[Item]:
        """Items, those on the most rows first; of one state, kind or person where given."""
        with reading(self.engine) as connection:
            found = self._items(connection)
        chosen = [
            item
            for item in found
            if (not state or item.state == state)
            and (not kind or item.kind == kind)
            and (not assignee or item.assignee == assignee)
        ]
        return sorted(chosen, key=lambda item: (-item.rows, item.system, item.verbatim, item.item))

    def item(self, key: str) -> Item:
        """One item by its key or the beginning of it.

        Raises:
            TrialOpsError: There is none, or several begin like this.
        """
        with reading(self.engine) as connection:
            return self._one(connection, key)

    def decided(self) -> dict[str, Item]:
        """What is settled, by key: re-applied by every later run."""
        return {item.item: item for item in self.items() if item.state in DECIDED}

    def decide(
        self,
        key: str,
        action: str,
        *,
        actor: str,
        reason: str,
        code: str = "",
        display: str = "",
        assignee: str = "",
        seen: int | None = None,
    ) -> Item:
        """Append a decision, and an event to the audit trail in the same transaction.

        Args:
            key: Of the item, or its beginning.
            action: "accept" a code, "reject" the item (it stays uncoded), "assign" it to a person, "reopen" it.
            actor: Who decides.
            reason: Why; not empty.
            code: For accept: one of the candidates, or another code with its display.
            display: Of a code that is no candidate.
            assignee: For assign.
            seen: The row that was on the screen; refused when the item has changed since.

        Returns:
            The item as it stands then.

        Raises:
            TrialOpsError: Something is missing, or the item has changed or is settled.
        """
        from trialops.governance.audit import AuditTrail
        from trialops.stores.tables import coding_decisions as table

        if action not in ACTIONS:
            raise TrialOpsError(f"{action!r} is no action.", where="coding queue", fix=f"Use {', '.join(ACTIONS)}.")
        if not reason.strip() or not actor.strip():
            raise TrialOpsError("A decision needs a person and a reason.", where="coding queue")
        if (action == "accept") != bool(code) or (action == "assign") != bool(assignee):
            needs = {"accept": "a code", "assign": "a person"}.get(action, "neither code nor person")
            raise TrialOpsError(f"{action} needs {needs}.", where="coding queue")
        with writing(self.engine) as connection:
            lock_row(connection, "coding_decisions")
            item = self._one(connection, key)
            _check(item, action, actor, seen)
            proposed = {candidate.code: candidate.display for candidate in item.candidates}
            shown = proposed.get(code, display)
            if action == "accept" and not shown:
                raise TrialOpsError(
                    "The code is no candidate, and its text is missing.",
                    where="coding queue",
                    fix="Give the code's text with it.",
                )
            connection.execute(
                table.insert().values(
                    at=utc_now(),
                    item=item.item,
                    action=action,
                    code=code,
                    display=shown if action == "accept" else "",
                    actor=actor,
                    assignee=assignee,
                    reason=reason,
                    seen=item.id,
                )
            )
            AuditTrail(self.engine).append(
                actor=actor,
                action=f"coding.{action}",
                object=f"coding/{item.item[:16]}",
                version=str(item.id),
                reason=reason,
                detail={"system": item.system, "code": code, "assignee": assignee, "candidate": code in proposed},
                connection=connection,
            )
            return self._one(connection, item.item)

    def _one(self, connection: Connection, key: str) -> Item:
        found = self._items(connection, key)
        if len(found) != 1:
            raise TrialOpsError(
                "No such item in the queue." if not found else "Several items begin like this.",
                where="coding queue",
                fix="List the queue with: trialops coding queue",
            )
        return found[0]

    def _items(self, connection: Connection, beginning: str = "") -> list[Item]:
        import sqlalchemy as sa

        from trialops.stores.tables import coding_decisions as decisions

        rows = _newest(connection, self.study, None, beginning)
        log: dict[str, list[Decision]] = {}
        query = sa.select(decisions).order_by(decisions.c.id)
        if beginning:
            query = query.where(decisions.c.item.startswith(beginning, autoescape=True))
        for row in connection.execute(query):
            log.setdefault(row.item, []).append(Decision(**row._mapping))
        return [_item(row, log.get(row["item"], [])) for row in rows]


def _item_row(item: Waiting, study: str, run_id: str, reviewers: int) -> dict[str, Any]:
    return {
        "at": utc_now(),
        "item": item.key(study),
        "study": study,
        "kind": item.kind,
        "system": item.system,
        "verbatim": item.verbatim,
        "context": canonical(dict(item.context)),
        "candidates": canonical([candidate.as_dict() for candidate in item.candidates]),
        "reason": item.reason,
        "release": item.release,
        "rows": item.rows,
        "reviewers": reviewers,
        "run_id": run_id,
    }


def _changed(row: Mapping[str, Any], known: Mapping[str, Any] | None) -> bool:
    return known is None or any(row[name] != known[name] for name in ("candidates", "reason", "release", "reviewers"))


def _newest(
    connection: Connection, study: str, keys: Sequence[str] | None, beginning: str = ""
) -> list[Mapping[str, Any]]:
    """The newest row of each item."""
    import sqlalchemy as sa

    from trialops.stores.tables import coding_items as table

    newest = sa.select(sa.func.max(table.c.id)).where(table.c.study == study).group_by(table.c.item)
    query = sa.select(table).where(table.c.id.in_(newest)).order_by(table.c.id)
    if beginning:
        query = query.where(table.c.item.startswith(beginning, autoescape=True))
    rows = [dict(row._mapping) for row in connection.execute(query)]
    wanted = None if keys is None else set(keys)
    return [row for row in rows if wanted is None or row["item"] in wanted]


def _check(item: Item, action: str, actor: str, seen: int | None) -> None:
    if seen is not None and seen != item.id:
        raise TrialOpsError(
            "The item has changed since you looked at it.", where="coding queue", fix="Look again, then decide."
        )
    if item.state in DECIDED and action != "reopen":
        raise TrialOpsError(
            f"The item is {item.state} already.", where="coding queue", fix="Reopen it first, with a reason."
        )
    if item.state not in DECIDED and action == "reopen":
        raise TrialOpsError("The item is open.", where="coding queue")
    if item.state == "second" and action in ("accept", "reject"):
        first = next(d for d in reversed(item.decisions) if d.action in ("accept", "reject"))
        if first.actor == actor:
            raise TrialOpsError(
                "The second reviewer must be another person.", where="coding queue", fix="Ask a colleague to decide."
            )


def _item(row: Mapping[str, Any], log: Sequence[Decision]) -> Item:
    state, code, display = judged(log, row["reviewers"])
    assignee = next((d.assignee for d in reversed(log) if d.action == "assign"), "")
    parts = {
        "context": json.loads(row["context"]),
        "candidates": tuple(Candidate.from_dict(values) for values in json.loads(row["candidates"])),
    }
    return Item(**(dict(row) | parts), state=state, code=code, display=display, assignee=assignee, decisions=tuple(log))


def judged(log: Sequence[Decision], reviewers: int) -> tuple[str, str, str]:
    """State, code and display that follow from a decision log.

    Each person counts with the last thing they decided since the item was last reopened; it is settled as soon as
    so many people as are required agree.
    """
    votes: dict[str, tuple[str, str, str]] = {}
    for decision in log:
        if decision.action == "reopen":
            votes.clear()
        elif decision.action in ("accept", "reject"):
            votes.pop(decision.actor, None)
            votes[decision.actor] = (decision.action, decision.code, decision.display)
    if not votes:
        return "open", "", ""
    counts: dict[tuple[str, str], int] = {}
    for action, code, _ in votes.values():
        counts[action, code] = counts.get((action, code), 0) + 1
    for action, code, display in reversed(list(votes.values())):
        if counts[action, code] >= reviewers:
            return ("accepted", code, display) if action == "accept" else ("rejected", "", "")
    return ("second" if len(votes) < reviewers else "conflict"), "", ""
