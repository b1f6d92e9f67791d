"""Changing the champion, crash-safe: intent into the log, then the alias, then the confirmation.

The log is append-only, so a change is two rows: an intent and a confirmation. A call that died in between
is finished by calling again with the same run id; a finished one is not repeated, so an old run cannot take
the alias back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.stores.registry import CHALLENGER, CHAMPION

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.database import Promotion
    from trialops.stores.registry import ModelRegistry

Action = Literal["promote", "rollback", "hold"]
PHASE, INTENT, DONE = "phase", "intent", "done"


@dataclass(frozen=True)
class Transition:
    """One decision about a model's champion, as history tells it.

    Args:
        model: Registered model.
        action: "promote", "rollback" or "hold".
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


def history(engine: Engine, name: str) -> list[Transition]:
    """The decisions about a model, oldest first, each with its intent and confirmation put together."""
    from trialops.stores.database import promotions

    found: dict[tuple[str, str], Transition] = {}
    for row in promotions(engine, name):
        key, phase = (row.run_id, row.action), row.decision.get(PHASE)
        if phase == INTENT:
            found[key] = _transition(row)
        elif phase == DONE and key in found:
            found[key] = replace(found[key], confirmed=row.at)
    return list(found.values())


def transition(
    registry: ModelRegistry,
    engine: Engine,
    action: Action,
    name: str,
    version: str,
    *,
    to_version: str | None = None,
    reason: str,
    decision: Mapping[str, Any],
    actor: str,
    run_id: str,
) -> Transition:
    """Carry out a decision, or finish one that was interrupted.

    Args:
        registry: Where the aliases are.
        engine: Where the log is.
        action: What was decided.
        name: Registered model.
        version: The version decided on: to put in, to take out, or not to put in.
        to_version: With "rollback" of the champion, the version to return to; None for the one it replaced.
        reason: In words.
        decision: Numbers and policy, JSON values.
        actor: Who, or which service.
        run_id: The run that decided; required, because it makes the call repeatable.

    Returns:
        The confirmed transition.

    Raises:
        TrialOpsError: The version does not exist, the run has decided otherwise before, or a later decision
            has overtaken the interrupted one.
    """
    if not run_id:
        raise TrialOpsError("a decision needs the id of the run that made it", where=f"model {name}", fix="pass run_id")
    past = history(engine, name)
    own = next((entry for entry in past if entry.run_id == run_id), None)
    if own is None:
        own = _intend(registry, engine, past, action, name, version, to_version, reason, decision, actor, run_id)
    elif (own.action, own.version) != (action, version):
        raise TrialOpsError(
            f"run {run_id} has already decided to {own.action} version {own.version}",
            where=f"model {name}",
            fix="make a new decision in a new run",
        )
    elif own.confirmed:
        return own
    elif past[-1] != own:
        raise TrialOpsError(
            f"the interrupted {own.action} of run {run_id} was overtaken by run {past[-1].run_id}",
            where=f"model {name}",
            fix="make a new decision in a new run",
        )
    if own.to_version != own.from_version:
        registry.set_alias(name, CHAMPION, own.to_version)
    challenger = registry.by_alias(name, CHALLENGER)
    if challenger is not None and challenger.version == own.version:
        registry.remove_alias(name, CHALLENGER)
    return replace(own, confirmed=_append(engine, own, DONE).at)


def _intend(
    registry: ModelRegistry,
    engine: Engine,
    past: list[Transition],
    action: Action,
    name: str,
    version: str,
    to_version: str | None,
    reason: str,
    decision: Mapping[str, Any],
    actor: str,
    run_id: str,
) -> Transition:
    present = registry.by_alias(name, CHAMPION)
    champion = present.version if present is not None else ""
    after = champion
    if action == "promote":
        after = version
    elif action == "rollback" and (to_version is not None or version == champion):
        after = to_version if to_version is not None else _replaced_by(past, champion)
        if after in ("", version):
            raise TrialOpsError(
                f"there is no earlier version to return to from version {version}",
                where=f"model {name}",
                fix="name the version to return to",
            )
    for number in {version, after} - {""}:
        registry.version(name, number)  # an unknown version is refused before anything is written
    intended = Transition(
        model=name,
        action=action,
        version=version,
        from_version=champion,
        to_version=after,
        reason=reason,
        decision=dict(decision),
        actor=actor,
        run_id=run_id,
        intended="",
        confirmed="",
        entry=0,
    )
    return _transition(_append(engine, intended, INTENT))


def _replaced_by(past: list[Transition], champion: str) -> str:
    """The version that the champion replaced when it was last promoted; empty where there was none."""
    for entry in reversed(past):
        if entry.action == "promote" and entry.confirmed and entry.to_version == champion:
            return entry.from_version
    return ""


def _append(engine: Engine, entry: Transition, phase: str) -> Promotion:
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
