"""Back to an earlier model in one call: traffic first, then the alias, then the record of who and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.serving.routing import read_routing, write_routing
from trialops.stores.promotion import replaced_by
from trialops.stores.rollouts import append_event, open_rollouts, rollout_events

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.governance.audit import AuditTrail
    from trialops.stores.registry import ModelRegistry


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        model: Registered model.
        from_version: The champion before, or the candidate of the rollout that was ended.
        to_version: What answers now.
        ended: Rollouts in progress that were ended.
        traffic: What became of the router's traffic, in words.
    """

    model: str
    from_version: str
    to_version: str
    ended: tuple[str, ...]
    traffic: str


def routing_file(home: Path, model: str) -> Path:
    """Where the router of a model is told what to do, embedded."""
    return home / "serving" / model / "routing.json"


def roll_back(
    model: str,
    *,
    to_version: str = "",
    reason: str,
    actor: str,
    run_id: str,
    registry: ModelRegistry,
    engine: Engine,
    trail: AuditTrail,
    home: Path,
) -> RolledBack:
    """Take a rollout's candidate, or else the champion, out of service.

    While a rollout is in progress and no version is named, it is ended and the champion stays. Otherwise the
    champion gives way to the version it replaced, or to the one named.

    Args:
        model: Registered model.
        to_version: Version to return to; empty as above.
        reason: Why, in words.
        actor: Who.
        run_id: Id of this act; repeated with it, the call changes nothing more.
        registry: Model registry.
        engine: The database.
        trail: The audit trail.
        home: Folder of the embedded stores.

    Raises:
        TrialOpsError: No reason is given, nothing is in service, or there is no version to return to.
    """
    if not reason.strip():
        raise TrialOpsError("a rollback needs a reason", where=f"model {model}", fix="say why: --reason TEXT")
    champion = registry.by_alias(model, "champion")
    ended = tuple(open_rollouts(engine, model))
    if champion is None and not ended:
        raise TrialOpsError("no version is in service", where=f"model {model}", fix="see: trialops runs")
    now = champion.version if champion is not None else ""
    plans = [rollout_events(engine, rollout)[0].detail["plan"] for rollout in ended]
    target = to_version or (str(plans[-1]["stable"]) if ended else _before(registry, engine, model, now))
    if target:
        registry.version(model, target)  # an unknown one is refused before anything changes
    # The journal first: a controller that has just set a share looks into it and takes the share back.
    for rollout in ended:
        _end(engine, rollout, model, reason, actor, run_id)
    traffic = _traffic(routing_file(home, model), target)
    from_version = str(plans[-1]["candidate"]) if ended and target == now else now
    if target and now and target != now:
        done = registry.rollback(
            model,
            now,
            to_version=target,
            reason=reason,
            decision={"by": "a person", "ended": list(ended)},
            actor=actor,
            run_id=run_id,
            engine=engine,
        )
        now = done.to_version
    trail.append(
        actor=actor,
        action="model.rollback",
        object=model,
        version=now,
        reason=reason,
        run_id=run_id,
        detail={"from": from_version, "to": now, "ended": list(ended), "traffic": traffic},
    )
    return RolledBack(model, from_version, now, ended, traffic)


def _before(registry: ModelRegistry, engine: Engine, model: str, champion: str) -> str:
    found = replaced_by(registry.history(model, engine), champion)
    if not found or found == champion:
        raise TrialOpsError(
            f"there is no earlier version to return to from version {champion}",
            where=f"model {model}",
            fix="name the version: --to VERSION",
        )
    return found


def _traffic(file: Path, target: str) -> str:
    """Change the router's file; the next request already goes the other way."""
    if not file.exists():
        return "no router here"
    routing = read_routing(file)
    if routing.candidate is not None:
        write_routing(file, routing := routing.aborted())
    stable, previous = routing.stable, routing.previous
    if not target or (stable is not None and stable.version == target):
        return f"on version {stable.version}" if stable is not None else "nowhere"
    if previous is None or previous.version != target:
        now = f"still on version {stable.version}" if stable is not None else "nowhere"
        return f"{now}: no server of version {target} is known to the router; start one and route to it"
    write_routing(file, routing.rolled_back())
    return f"on version {target}"


def _end(engine: Engine, rollout: str, model: str, reason: str, actor: str, run_id: str) -> None:
    rows = rollout_events(engine, rollout)
    append_event(
        engine,
        rollout,
        len(rows) + 1,
        "aborted",
        model=model,
        detail={"reasons": [f"ended by {actor}: {reason}"]},
        policy_digest=rows[0].policy_digest,
        actor=actor,
        run_id=run_id,
    )
