"""A rollout under the callers a model has: the router and both servers run already, this leads and ends.

Nothing is kept in this process: killed, it leaves traffic as it was; started again, it goes on.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.serving.deployment import APPROVED, Gate, conclude_deployment, deployment_gate
from trialops.serving.observation import Observer, Truth
from trialops.serving.policy import CanaryPolicy, load_policy
from trialops.serving.rollback import routing_file
from trialops.serving.rollout import LiveTraffic, Rollout
from trialops.serving.rollout_result import CanaryResult, Plan
from trialops.serving.routing import Backend, read_routing, unit_of
from trialops.serving.traffic import RouterTraffic
from trialops.stores.rollouts import open_rollouts, rollout_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialops.settings import Settings
    from trialops.stores.context import Step

CALLS = "calls"


def roll_out_live(
    chosen: Settings,
    task: str,
    version: str,
    host: str,
    port: int,
    *,
    policy: CanaryPolicy | None = None,
    outcomes: Path | None = None,
    poll_seconds: float = 1.0,
    most_seconds: float = 86_400.0,
    progress: Callable[[str, float], None] | None = None,
) -> CanaryResult:
    """Lead a version's rollout behind the model's router, or go on with it.

    Args:
        chosen: Settings of the installation.
        task: Prediction task, and name of the registered model.
        version: Registered version, approved by signature.
        host: Address of the server that serves it.
        port: Its port.
        policy: Steps and limits; None for policies/canary.yaml.
        outcomes: CSV file with the columns subject_id and label (0 or 1), read again at every look; what is in
            it by then are the outcomes known.
        poll_seconds: Time between two looks at the router's record.
        most_seconds: Longest wait for the requests of one attempt at a step.
        progress: Called with a message and the fraction done.

    Raises:
        TrialOpsError: The version is not approved, there is no router, or another model is in use than the one
            it was compared with.
    """
    policy = policy or load_policy()
    asking = _step(chosen, "rollout")
    gate = _going_on(asking, task, version) or _approved(asking, task, version)
    before, _, before_digest = gate.champion.partition(":")
    run = _step(chosen, f"rollout-{gate.to_sign[:12]}")
    rollout = f"{task}/{version}/{run.run_id}"
    file = routing_file(chosen.home.resolve(), task)
    read_routing(file)  # without a router there is nothing to lead
    plan = Plan(
        rollout=rollout,
        model=task,
        candidate=version,
        stable=before if before_digest else "",
        candidate_digest=gate.model,
        stable_digest=before_digest,
        actor=chosen.who,
        run_id=run.run_id,
    )
    return Rollout(
        plan,
        policy,
        RouterTraffic(
            file,
            Backend(host, port, version, gate.model),
            rollout,
            mirror=policy.mirror,
            candidate_timeout=policy.candidate_timeout_seconds,
            breaker=policy.max_consecutive_failures,
        ),
        Observer(
            file.parent / CALLS,
            rollout,
            {"candidate": plan.candidate_digest, "stable": plan.stable_digest},
            has_stable=bool(plan.stable),
        ),
        LiveTraffic(poll_seconds=poll_seconds, most_seconds=most_seconds),
        run.engine,
        live=True,
        truth=lambda: Truth(labels=known_labels(outcomes)),
        conclude=lambda result: _conclude(run, gate, result),
        progress=progress,
    ).run()


def _step(chosen: Settings, run_id: str) -> Step:
    from trialops.stores.context import Step

    return Step("rollout", {}, chosen.model_copy(update={"run_id": run_id}))


def _approved(run: Step, task: str, version: str) -> Gate:
    champion = run.registry.by_alias(task, "champion")
    gate = deployment_gate(run, task, version, f"{champion.version}:{champion.digest}" if champion else "none")
    if gate.state != APPROVED:
        raise TrialOpsError(
            f"version {version} may not be rolled out: {'; '.join(gate.reasons)}",
            where=f"model {task}",
            fix="Run model_deployment; it says what is missing, and what to sign.",
        )
    return gate


def _going_on(run: Step, task: str, version: str) -> Gate | None:
    """The approval of a rollout that was begun and not ended, as it was when it began."""
    for rollout in open_rollouts(run.engine, task):
        plan = rollout_events(run.engine, rollout)[0].detail["plan"]
        if plan["candidate"] != version or not rollout.startswith(f"{task}/{version}/rollout-"):
            continue
        champion = f"{plan['stable']}:{plan['stable_digest']}" if plan["stable"] else "none"
        gate = deployment_gate(run, task, version, champion)
        if rollout.endswith(gate.to_sign[:12]):
            return gate
        raise TrialOpsError(
            "the evidence has changed since the rollout was begun",
            where=f"rollout {rollout}",
            fix="End it (trialops rollback), and have the new evidence signed.",
        )
    return None


def _conclude(run: Step, gate: Gate, result: CanaryResult) -> None:
    run.audit("decision.rollout", gate.task, gate.version, decision=result.decision, reasons=list(result.reasons))
    conclude_deployment(run, asdict(gate), result.decision)


def known_labels(path: Path | None) -> dict[str, float]:
    """Labels by unit, of a CSV file with the columns subject_id and label; none where there is no file."""
    import polars as pl

    if path is None or not path.exists():
        return {}
    known = pl.read_csv(path, schema_overrides={"subject_id": pl.String, "label": pl.Float64}).drop_nulls()
    return dict(zip(map(unit_of, known["subject_id"].to_list()), known["label"].to_list(), strict=True))
