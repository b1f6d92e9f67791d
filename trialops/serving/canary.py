"""A rollout on one machine: both models and the router as processes, held-out subjects as the callers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.serving.client import HOST
from trialops.serving.observation import Observer, Truth
from trialops.serving.policy import CanaryPolicy, load_policy
from trialops.serving.process import RouterProcess, ServerProcess
from trialops.serving.replay import Replay, ReplayTraffic
from trialops.serving.rollout import Rollout
from trialops.serving.rollout_result import ROLLBACK, CanaryResult, Plan
from trialops.serving.routing import CANDIDATE, STABLE, Backend, Routing, unit_of, write_routing
from trialops.serving.traffic import RouterTraffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    Progress = Callable[[str, float], None]


def run_canary(
    candidate: Path,
    stable: Path | None,
    requests: Replay,
    policy: CanaryPolicy | None = None,
    *,
    workdir: Path,
    engine: Engine | None = None,
    rollout: str = "canary",
    candidate_version: str = "candidate",
    stable_version: str = "stable",
    actor: str = "",
    run_id: str = "",
    progress: Progress | None = None,
) -> CanaryResult:
    """Roll a model out to replayed traffic.

    Called again after a crash with the same folder, database and id, it starts the processes anew and goes on with
    the rollout where it stood.

    Args:
        candidate: Bundle folder of the new model.
        stable: Bundle folder of the model in service; None for a first release, which is judged on its own:
            no shares, no comparison, latency against the floors alone.
        requests: Traffic to replay.
        policy: Steps and limits; None for policies/canary.yaml.
        workdir: Folder for logs, the routing file and the router's record.
        engine: Database of the journal; None for a file in workdir.
        rollout: Id of the rollout.
        candidate_version: Version the candidate answers with.
        stable_version: Version the stable model answers with.
        actor: Who, or which service.
        run_id: The run it belongs to.
        progress: Called with a message and the fraction done.

    Returns:
        The decision. A candidate that does not load, start or answer is rolled back, not an error.

    Raises:
        TrialOpsError: The stable model cannot be read or started, or the replay is unusable, so that nothing
            can be judged.
    """
    policy = policy or load_policy()
    if len(requests.x) == 0 or len(requests.ids) != len(requests.x):
        raise TrialOpsError(
            f"the replay has {len(requests.x)} rows and {len(requests.ids)} ids",
            where="canary replay",
            fix="give at least one row and one id per row",
        )
    report = progress or (lambda message, fraction: None)
    units = [unit_of(name) for name in requests.ids]
    digests = {CANDIDATE: "", STABLE: ""}
    with contextlib.ExitStack() as stack:

        def start(folder: Path, kind: Literal["candidate", "stable"], version: str) -> tuple[Backend, _Offline]:
            bundle = Bundle.load(folder)
            digests[kind] = bundle.digest
            predicted = dict(zip(units, bundle.predict(requests.columns(bundle.features)).tolist(), strict=True))
            report(f"starting the {kind} model", 0.0)
            server = stack.enter_context(ServerProcess(folder, bundle.name, version, workdir / kind))
            backend = Backend(HOST, server.port, version, bundle.digest, bundle.features)
            return backend, _Offline(bundle.name, bundle.features, predicted)

        base = start(stable, STABLE, stable_version) if stable is not None else None
        try:
            new = start(candidate, CANDIDATE, candidate_version)
        except TrialOpsError as error:
            reasons = (f"the candidate could not be served: {error.what}",)
            return CanaryResult(ROLLBACK, (), (), reasons, 0.0, digests[CANDIDATE], digests[STABLE], policy.digest)
        name, backend = new[1].name, new[0]
        routing = workdir / "routing.json"
        # Alone, the candidate needs no share; beside a stable model it gets one from the rollout.
        alone = Routing(name, None, backend, percent=100)
        write_routing(routing, Routing(name, base[0]) if base is not None else alone)
        router = stack.enter_context(RouterProcess(routing, name, workdir / "router"))
        client = stack.enter_context(router.client(timeout=policy.request_timeout_seconds))
        features = list(dict.fromkeys([*new[1].features, *(base[1].features if base is not None else ())]))
        truth = Truth(
            labels=_labels(units, requests.labels),
            candidate=new[1].predicted,
            stable=base[1].predicted if base is not None else {},
        )
        return Rollout(
            Plan(
                rollout,
                name,
                candidate_version,
                stable_version if base is not None else "",
                digests[CANDIDATE],
                digests[STABLE],
                actor,
                run_id,
            ),
            policy,
            RouterTraffic(
                routing,
                backend,
                rollout,
                mirror=policy.mirror,
                candidate_timeout=policy.candidate_timeout_seconds,
                breaker=policy.max_consecutive_failures,
            ),
            Observer(router.calls, rollout, digests, has_stable=base is not None),
            ReplayTraffic(
                requests,
                features,
                client,
                rollout,
                per_step=policy.requests_per_step,
                patience=policy.request_timeout_seconds,
            ),
            engine if engine is not None else _own_journal(workdir),
            truth=lambda: truth,
            progress=progress,
        ).run()


class _Offline:
    """A model's name, features and predictions made without a server, by unit."""

    def __init__(self, name: str, features: tuple[str, ...], predicted: dict[str, float]) -> None:
        self.name, self.features, self.predicted = name, features, predicted


def _labels(units: list[str], labels: NDArray[np.float64] | None) -> dict[str, float]:
    if labels is None:
        return {}
    return {unit: float(label) for unit, label in zip(units, labels, strict=True) if not np.isnan(label)}


def _own_journal(workdir: Path) -> Engine:
    from trialops.stores.database import connect, migrate

    engine = connect(f"sqlite:///{workdir.resolve() / 'journal.db'}")
    migrate(engine)
    return engine
