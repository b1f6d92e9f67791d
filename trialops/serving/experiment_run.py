"""An experiment behind the model's router: begun, looked at, ended; every look kept in a chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.serving.ab import Look, SampleRatio, exposures, look
from trialops.serving.deployment import APPROVED, deployment_gate
from trialops.serving.live import CALLS
from trialops.serving.rollback import routing_file
from trialops.serving.routing import Backend, read_routing, write_routing
from trialops.stores.chain_log import ChainLog
from trialops.stores.rollouts import open_rollouts

if TYPE_CHECKING:
    from trialops.serving.experiment import Experiment
    from trialops.stores.context import Step

BEGAN, LOOKED, ENDED = "began", "looked", "ended"


def begin_experiment(run: Step, experiment: Experiment, host: str, port: int) -> None:
    """Give the second arm its share of the subjects.

    Args:
        run: The step.
        experiment: Its first arm is the version in use; its second one is approved by signature.
        host: Address of the server of the second arm's version.
        port: Its port.

    Raises:
        TrialOpsError: The arms are not the versions in use and approved, a rollout or another experiment is going on,
            or this one has begun before.
    """
    control, other = experiment.arms
    task, where = experiment.task, f"experiment {experiment.name}"
    if _log(run, experiment).links():
        raise TrialOpsError("It has begun before", where=where, fix="Give a new experiment a new name.")
    champion = run.registry.by_alias(task, "champion")
    if champion is None or champion.version != control.version:
        raise TrialOpsError(
            f"Arm {control.name} has version {control.version}; in service is "
            f"{'version ' + champion.version if champion else 'none'}",
            where=where,
            fix="The first arm is the version in use.",
        )
    gate = deployment_gate(run, task, other.version, f"{champion.version}:{champion.digest}")
    if gate.state != APPROVED:
        raise TrialOpsError(
            f"Version {other.version} of arm {other.name} is not approved: {'; '.join(gate.reasons)}",
            where=where,
            fix="Run model_deployment; it says what is missing, and what to sign.",
        )
    file = routing_file(run.settings.home.resolve(), task)
    routing = read_routing(file)
    busy = open_rollouts(run.engine, task)
    if busy or routing.candidate is not None:
        raise TrialOpsError(
            f"{(busy or [routing.rollout])[-1]} is going on", where=where, fix="End it first: one change at a time."
        )
    _log(run, experiment).append({"event": BEGAN, "experiment": experiment.digest, "policy": experiment.policy_digest})
    shared = replace(
        routing,
        candidate=Backend(host, port, other.version, gate.model),
        percent=100 * other.share,
        mirror=False,
        rollout=experiment.name,
        salt=experiment.name,
        step=0,
        attempt=1,
    )
    write_routing(file, shared)
    run.audit(
        "experiment.begin", experiment.name, experiment.digest, reason=experiment.protocol, arms=_arms(experiment)
    )


def take_look(run: Step, experiment: Experiment, outcomes: Mapping[str, float]) -> tuple[Look, ...]:
    """Look at the outcomes known by now, and end the experiment where the look says so.

    Args:
        run: The step.
        experiment: As it was begun.
        outcomes: Outcome by unit (`trialops.serving.routing.unit_of`).

    Returns:
        All looks so far, this one last.

    Raises:
        TrialOpsError: It has not begun or has ended, its file has changed since, or there is too little to look at.
    """
    log = _log(run, experiment)
    chain = log.links()
    _going_on(experiment, chain)
    before = [_look(link.body["look"]) for link in chain if link.body["event"] == LOOKED]
    folder = routing_file(run.settings.home.resolve(), experiment.task).parent / CALLS
    one = look(experiment, exposures(folder, experiment), outcomes, [was.information for was in before])
    log.append({"event": LOOKED, "look": asdict(one)})
    run.audit("decision.experiment", experiment.name, one.decision, n=list(one.n), z=one.z, boundary=one.boundary)
    if one.decision != "continue":
        end_experiment(run, experiment, one.decision)
    return (*before, one)


def end_experiment(run: Step, experiment: Experiment, reason: str) -> None:
    """Put everybody back on the version in use.

    Args:
        run: The step.
        experiment: As it was begun.
        reason: Why, in words.

    Raises:
        TrialOpsError: It has not begun or has ended.
    """
    log = _log(run, experiment)
    _going_on(experiment, log.links())
    file = routing_file(run.settings.home.resolve(), experiment.task)
    routing = read_routing(file)
    if routing.rollout == experiment.name:
        write_routing(file, routing.aborted())
    log.append({"event": ENDED, "reason": reason})
    run.audit("experiment.end", experiment.name, experiment.digest, reason=reason)


def _log(run: Step, experiment: Experiment) -> ChainLog:
    return ChainLog(run.objects, f"experiments/{experiment.name}", f"experiment {experiment.name}")


def _going_on(experiment: Experiment, chain: list[Any]) -> None:
    where = f"experiment {experiment.name}"
    if not chain:
        raise TrialOpsError("It has not begun", where=where, fix="Begin it: trialops experiment begin FILE ...")
    if chain[0].body["experiment"] != experiment.digest:
        raise TrialOpsError(
            "Its file is not the one it was begun with: a plan does not change while it is looked at",
            where=where,
            fix="Bring the file back, or end this experiment and begin another.",
        )
    if chain[-1].body["event"] == ENDED:
        raise TrialOpsError(f"It has ended: {chain[-1].body['reason']}", where=where)


def _look(document: Mapping[str, Any]) -> Look:
    ratio = document["sample_ratio"]
    fields = dict(document) | {name: tuple(document[name]) for name in ("n", "values")}
    counts = {name: tuple(ratio[name]) for name in ("counts", "expected")}
    return Look(**(fields | {"sample_ratio": SampleRatio(**(ratio | counts))}))


def _arms(experiment: Experiment) -> dict[str, Any]:
    return {arm.name: {"version": arm.version, "share": arm.share} for arm in experiment.arms}
