"""Changing the champion, crash-safe: intent into the log, then the alias, then the confirmation.

The log is append-only, so a change is two rows: an intent and a confirmation. A call that died in between
is finished by calling again with the same run id; a finished one is not repeated, so an old run cannot take
the alias back.

Both halves hold the log's write lock (SQLite: the writer's transaction; PostgreSQL: an advisory lock of the
model) while they look at the alias and move it. So a model is promoted only over the champion it was compared
with, and of two runs that compared with the same champion one succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.stores.registry import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from trialops.stores.database import Promotion
    from trialops.stores.registry import ModelRegistry

Kept = Literal["hold", "reject", "unchanged"]
Action = Literal["promote", "rollback"] | Kept
PHASE, INTENT, DONE = "phase", "intent", "done"


@dataclass(frozen=True)
class Transition:
    """One decision about a model's champion, as history tells it.

    Args:
        model: Registered model.
        action: "promote", "rollback", "hold", "reject" or "unchanged".
        version: The version decided on.
        from_version: The champion before; empty where there was none.
        to_version: The champion after.
        reason: In words.
        decision: Numbers and policy.
        actor: Who, or which service.
        run_id: The run that decided.
        intended: When it was begun, UTC.
        confirmed: When it was complete, UTC; empty where it has not been completed.
        entry: Number of its first row in the promotion log.
    """

    model: str
    action: str
    version: str
    from_version: str
    to_version: str
    reason: str
    decision: dict[str, Any]
    actor: str
    run_id: str
    intended: str
    confirmed: str
    entry: int


def history(engine: Engine, name: str, *, connection: Connection | None = None) -> list[Transition]:
    """The decisions about a model, oldest first, each with its intent and confirmation put together."""
    from trialops.stores.database import promotions

    found: dict[tuple[str, str], Transition] = {}
    for row in promotions(engine, name, connection=connection):
        key, phase = (row.run_id, row.action), row.decision.get(PHASE)
        if phase == INTENT:
            found[key] = _transition(row)
        elif phase == DONE and key in found:
            found[key] = replace(found[key], confirmed=row.at)
    return list(found.values())


def transition(
    registry: ModelRegistry,
    action: Action,
    name: str,
    version: str,
    *,
    engine: Engine,
    expected_from: str | None = None,
    to_version: str | None = None,
    reason: str,
    decision: Mapping[str, Any],
    actor: str,
    run_id: str,
) -> Transition:
    """Carry out a decision, or finish one that was interrupted.

    Args:
        registry: Where the aliases are.
        action: What was decided.
        name: Registered model.
        version: The version decided on: to put in, to take out, or not to put in.
        engine: Where the log is.
        expected_from: With "promote", the champion the version was compared with; None where there was none.
        to_version: With "rollback" of the champion, the version to return to; None for the one it replaced.
        reason: In words.
        decision: Numbers and policy, JSON values.
        actor: Who, or which service.
        run_id: The run that decided; required, because it makes the call repeatable.

    Returns:
        The confirmed transition.

    Raises:
        TrialOpsError: The version does not exist, the run has decided otherwise before, another version than
            the expected one is the champion, or a later decision has overtaken the interrupted one. Nothing
            has changed then.
    """
    if not run_id:
        raise TrialOpsError("a decision needs the id of the run that made it", where=f"model {name}", fix="pass run_id")
    asked = Transition(name, action, version, "", to_version or "", reason, dict(decision), actor, run_id, "", "", 0)
    with _turn(engine, name) as connection:
        past = history(engine, name, connection=connection)
        own = next((entry for entry in past if entry.run_id == run_id), None)
        if own is None:
            own = _intend(registry, past, asked, expected_from, engine, connection)
        elif (own.action, own.version) != (action, version):
            raise TrialOpsError(
                f"run {run_id} has already decided to {own.action} version {own.version}",
                where=f"model {name}",
                fix="make a new decision in a new run",
            )
        elif own.confirmed:
            return own
    with _turn(engine, name) as connection:
        _refuse_overtaken(history(engine, name, connection=connection), own)
        if own.to_version != own.from_version:
            registry.set_alias(name, CHAMPION, own.to_version)
        challenger = registry.by_alias(name, CHALLENGER)
        if challenger is not None and challenger.version == own.version:
            registry.remove_alias(name, CHALLENGER)
        return replace(own, confirmed=_append(own, engine, connection, DONE).at)


@contextmanager
def _turn(engine: Engine, name: str) -> Iterator[Connection]:
    """A transaction in which nobody else decides about this model."""
    from trialops.stores.database import lock_row, writing

    with writing(engine) as connection:
        lock_row(connection, f"promotions/{name}")
        yield connection


def _intend(
    registry: ModelRegistry,
    past: list[Transition],
    asked: Transition,
    expected_from: str | None,
    engine: Engine,
    connection: Connection,
) -> Transition:
    name, version = asked.model, asked.version
    present = registry.by_alias(name, CHAMPION)
    champion = present.version if present is not None else ""
    after = champion
    if asked.action == "promote":
        _refuse_displacing(name, version, champion, expected_from or "")
        after = version
    elif asked.action == "rollback" and (asked.to_version or version == champion):
        after = asked.to_version or replaced_by(past, champion)
        if after in ("", version):
            raise TrialOpsError(
                f"there is no earlier version to return to from version {version}",
                where=f"model {name}",
                fix="name the version to return to",
            )
    for number in {version, after} - {""}:
        registry.version(name, number)  # an unknown version is refused before anything is written
    intended = replace(asked, from_version=champion, to_version=after)
    return _transition(_append(intended, engine, connection, INTENT))


def _refuse_displacing(name: str, version: str, champion: str, expected: str) -> None:
    """A version may take the place of the champion it was compared with, and of no other."""
    if champion in (expected, version):
        return
    compared = f"was compared with version {expected}" if expected else "was judged while there was no champion"
    now = f"version {champion} is the champion now" if champion else "there is no champion now"
    raise TrialOpsError(
        f"version {version} {compared}, but {now}: it is not promoted, and nothing was changed",
        where=f"model {name}",
        fix="start a new run: it compares with the model in use now",
    )


def _refuse_overtaken(past: list[Transition], own: Transition) -> None:
    last = past[-1]
    if last.entry != own.entry:
        raise TrialOpsError(
            f"the interrupted {own.action} of run {own.run_id} was overtaken by run {last.run_id}",
            where=f"model {own.model}",
            fix="make a new decision in a new run",
        )


def replaced_by(past: list[Transition], champion: str) -> str:
    """The version that the champion replaced when it was last promoted; empty where there was none."""
    for entry in reversed(past):
        moved = entry.confirmed and entry.from_version != entry.to_version
        if entry.action == "promote" and moved and entry.to_version == champion:
            return entry.from_version
    return ""


def _append(entry: Transition, engine: Engine, connection: Connection, phase: str) -> Promotion:
    from trialops.stores.database import record_promotion

    return record_promotion(
        engine,
        model=entry.model,
        version=entry.version,
        alias=CHAMPION,
        action=entry.action,
        from_version=entry.from_version,
        to_version=entry.to_version,
        reason=entry.reason,
        decision={PHASE: phase, "basis": entry.decision},
        run_id=entry.run_id,
        actor=entry.actor,
        connection=connection,
    )


def _transition(row: Promotion) -> Transition:
    return Transition(
        model=row.model,
        action=row.action,
        version=row.version,
        from_version=row.from_version,
        to_version=row.to_version,
        reason=row.reason,
        decision=row.decision["basis"],
        actor=row.actor,
        run_id=row.run_id,
        intended=row.at,
        confirmed="",
        entry=row.id,
    )
