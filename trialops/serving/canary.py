"""Canary release: replay traffic to a candidate in growing shares, and decide to promote or to roll back.

Both models run as real server processes and are asked in one interleaved run, so that whatever else the
machine does meets both alike. The first step that fails ends the run.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.serving.analysis import OVERALL, Arm, Check, Samples, analyse, analyse_run
from trialops.serving.policy import CanaryPolicy, load_policy
from trialops.serving.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from trialops.serving.client import Answer, InferenceClient

    Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Replay:
    """The traffic a canary replays.

    Args:
        x: float64 [n, p], feature rows; NaN for a missing value.
        features: The p column names of x, in any order; each model is asked with its own among them.
        ids: n row identifiers (pseudonyms); they decide the assignment and go nowhere else.
        labels: float64 [n], outcome 0 or 1, NaN when not known yet; None without any.
    """

    x: NDArray[np.float64]
    features: Sequence[str]
    ids: Sequence[str]
    labels: NDArray[np.float64] | None = None

    def columns(self, features: Sequence[str]) -> NDArray[np.float64]:
        """The rows in another column order.

        Raises:
            TrialOpsError: A feature is not among the columns.
        """
        missing = [name for name in features if name not in self.features]
        if missing:
            raise TrialOpsError(
                f"the replay lacks {len(missing)} of the model's features: {', '.join(missing)}",
                where="canary replay",
                fix="replay rows of the feature view the model was trained on",
            )
        order = [list(self.features).index(name) for name in features]
        return self.x[:, order]


@dataclass(frozen=True)
class CanaryResult:
    """The decision and everything it was made from.

    Args:
        decision: "promote" or "rollback".
        steps: One record per step and attempt: counts, errors, latencies, verdict.
        checks: Every check made, in order; percent -1 is the whole run.
        reasons: Why it was rolled back; empty for a promotion.
        seconds: Wall time.
        candidate_digest: Bundle digest; empty when the bundle could not be read.
        stable_digest: Bundle digest; empty without a stable model.
        policy_digest: Of the policy applied.
    """

    decision: Literal["promote", "rollback"]
    steps: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    seconds: float
    candidate_digest: str
    stable_digest: str
    policy_digest: str

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON values, for a step record, a page or the promotion log."""
        record = asdict(self)
        for key in ("steps", "checks", "reasons"):
            record[key] = list(record[key])
        for check in record["checks"]:
            for key in ("stable", "candidate"):
                if check[key] is not None and not np.isfinite(check[key]):
                    check[key], check["note"] = None, f"{check['note']} {key} not finite".strip()
        return record


@dataclass(frozen=True)
class _Side:
    """A model under comparison: what it is asked, its offline predictions, its server, a connection to it."""

    digest: str
    features: tuple[str, ...]
    x: NDArray[np.float64]
    offline: NDArray[np.float64]
    server: ServerProcess
    client: InferenceClient


def assign(row_id: str, percent: float) -> bool:
    """Whether a row belongs to the candidate's share.

    The same row always falls the same way, and a row in a small share is in every larger one.

    Args:
        row_id: Any identifier.
        percent: Share of the candidate, 0 to 100.
    """
    point = int.from_bytes(hashlib.sha256(f"canary\0{row_id}".encode()).digest()[:8], "big")
    return point < percent / 100 * 2**64


def run_canary(
    candidate: Path,
    stable: Path | None,
    requests: Replay,
    policy: CanaryPolicy | None = None,
    *,
    workdir: Path,
    candidate_version: str = "candidate",
    stable_version: str = "stable",
    progress: Progress | None = None,
) -> CanaryResult:
    """Run a canary.

    Args:
        candidate: Bundle folder of the new model.
        stable: Bundle folder of the model in service; None for a first release, which is judged on its own:
            no shares, no comparison, latency against the floors alone.
        requests: Traffic to replay.
        policy: Steps and limits; None for policies/canary.yaml.
        workdir: Folder for the servers' logs.
        candidate_version: Version the candidate answers with.
        stable_version: Version the stable model answers with.
        progress: Called with a message and the fraction done.

    Returns:
        The decision. A candidate that does not load, start or answer is rolled back, not an error.

    Raises:
        TrialOpsError: The stable model cannot be read or started, or the replay is unusable, so that nothing
            can be judged.
    """
    started = time.perf_counter()
    policy = policy or load_policy()
    if len(requests.x) == 0 or len(requests.ids) != len(requests.x):
        raise TrialOpsError(
            f"the replay has {len(requests.x)} rows and {len(requests.ids)} ids",
            where="canary replay",
            fix="give at least one row and one id per row",
        )
    report = progress or (lambda message, fraction: None)
    steps: list[dict[str, Any]] = []
    checks: list[Check] = []
    digests = {"candidate": "", "stable": ""}

    def result(reasons: Sequence[str]) -> CanaryResult:
        return CanaryResult(
            decision="rollback" if reasons else "promote",
            steps=tuple(steps),
            checks=tuple(checks),
            reasons=tuple(reasons),
            seconds=time.perf_counter() - started,
            candidate_digest=digests["candidate"],
            stable_digest=digests["stable"],
            policy_digest=policy.digest,
        )

    with contextlib.ExitStack() as stack:

        def open_side(folder: Path, kind: str, version: str) -> _Side:
            bundle = Bundle.load(folder)
            digests[kind] = bundle.digest
            x = requests.columns(bundle.features)
            offline = bundle.predict(x)
            report(f"starting the {kind} model", 0.0)
            server = ServerProcess(folder, bundle.name, version, workdir / kind)
            stack.enter_context(server)
            client = stack.enter_context(server.client(timeout=policy.request_timeout_seconds))
            return _Side(bundle.digest, bundle.features, x, offline, server, client)

        base = open_side(stable, "stable", stable_version) if stable is not None else None
        try:
            new = open_side(candidate, "candidate", candidate_version)
        except TrialOpsError as error:
            return result([f"the candidate could not be served: {error.what}"])

        percents = policy.steps_percent if base is not None else (100,)
        recorded: list[Samples] = []
        for number, percent in enumerate(percents):
            for attempt in range(1, policy.latency_attempts + 1):
                report(f"{percent} % to the candidate", number / len(percents))
                samples = _replay(new, base, requests, policy, number, percent)
                found = analyse(samples, policy)
                failed = [check for check in found if check.passed is False]
                recorded.append(samples)
                checks.extend(found)
                steps.append(_step_record(samples, attempt, not failed))
                if not failed or not all(check.name.startswith("latency") for check in failed):
                    break
            if failed:
                dead = [] if new.server.alive() else ["the candidate's server ended during the step"]
                return result([_reason(check) for check in failed] + dead)
        overall = analyse_run(recorded, checks, policy)
        checks.extend(overall)
        report("decided", 1.0)
        return result([_reason(check) for check in overall if check.passed is False])


def _replay(
    new: _Side, base: _Side | None, requests: Replay, policy: CanaryPolicy, number: int, percent: int
) -> Samples:
    """Send one step's requests, one row each, starting where the step before stopped."""
    n = len(requests.x)
    answers: dict[int, list[tuple[int, Answer]]] = {id(new): [], id(base): []}
    failures = 0
    for k in range(policy.requests_per_step):
        row = (number * policy.requests_per_step + k) % n
        if base is None:
            sides = [new]
        elif percent in (0, 100):  # mirrored; the order alternates so that neither model always comes second
            sides = [new, base] if k % 2 else [base, new]
        else:
            sides = [new if assign(requests.ids[row], percent) else base]
        for side in sides:
            answer = side.client.infer(side.x[row : row + 1], side.features)
            answers[id(side)].append((row, answer))
            if side is new:
                failures = 0 if answer.status == 200 and not answer.error else failures + 1
        if failures >= policy.max_consecutive_failures:
            break
    return Samples(
        percent,
        _arm(new, answers[id(new)]),
        _arm(base, answers[id(base)]) if base is not None else None,
        base.offline if base is not None else None,
        requests.labels,
    )


def _arm(side: _Side, answers: Sequence[tuple[int, Answer]]) -> Arm:
    row = np.array([row for row, _ in answers], dtype=np.int64)
    return Arm(
        row=row,
        ok=np.array([a.status == 200 and not a.error for _, a in answers], dtype=bool),
        seconds=np.array([a.seconds for _, a in answers], dtype=np.float64),
        probability=np.array([a.probability[0] for _, a in answers], dtype=np.float64),
        offline=side.offline[row],
        same_bundle=np.array([a.digest == side.digest for _, a in answers], dtype=bool),
    )


def _step_record(samples: Samples, attempt: int, passed: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"percent": samples.percent, "attempt": attempt, "passed": passed}
    for name, arm in (("candidate", samples.candidate), ("stable", samples.stable)):
        record[f"{name}_requests"] = len(arm.ok) if arm is not None else 0
        record[f"{name}_errors"] = arm.errors if arm is not None else 0
        for q in (50, 99):
            seconds = arm.quantile(q / 100) if arm is not None else None
            record[f"{name}_p{q}_ms"] = None if seconds is None else round(seconds * 1000, 3)
    return record


def _reason(check: Check) -> str:
    where = "whole run" if check.percent == OVERALL else f"step {check.percent} %"
    values = [f"candidate {check.candidate:.4g}" if check.candidate is not None else "candidate unknown"]
    if check.stable is not None:
        values.append(f"stable {check.stable:.4g}")
    note = f" ({check.note})" if check.note else ""
    return f"{where}: {check.name} {', '.join(values)}, limit {check.limit:.4g}, n {check.n}{note}"
