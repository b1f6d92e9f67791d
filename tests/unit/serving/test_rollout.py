"""Rollouts over real HTTP: two model servers, the router, callers who must not notice, and candidates that are bad."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sqlalchemy import Engine
from toy_bundles import FEATURES, logistic

from tests.support.live_callers import Callers
from trialops.models.bundle import Bundle
from trialops.serving.client import HOST
from trialops.serving.observation import Observer, Truth
from trialops.serving.policy import DEFAULT, CanaryPolicy
from trialops.serving.process import SERVER, RouterProcess, ServerProcess
from trialops.serving.rollout import LiveTraffic, Rollout
from trialops.serving.rollout_result import CanaryResult, Plan
from trialops.serving.route_request import asked
from trialops.serving.routing import Backend, Routing, read_routing, write_routing
from trialops.serving.traffic import RouterTraffic
from trialops.stores.database import connect, migrate
from trialops.stores.rollouts import RolloutTaken, append_event, open_rollouts, rollout_events

ROOT = Path(__file__).resolve().parents[3]
BETTER = logistic((0.85, -0.62, 0.31), -0.42)
X = np.random.default_rng(5).normal(size=(500, 3))
LABELS = (np.random.default_rng(6).random(500) < logistic().predict(X)).astype(float)


def document(requests: int = 120, **change: Any) -> dict[str, Any]:
    """The policy in force with fewer requests, latency judged as generously as a busy machine needs."""
    content = yaml.safe_load(DEFAULT.read_text())
    content["requests_per_step"] = requests
    content["look_every"] = 30
    content["candidate_timeout_seconds"] = 5.0
    content["latency"]["p50"] |= {"ratio": 3.0, "floor_seconds": 0.3, "min_requests": 20}
    content["latency"]["p99"] |= {"floor_seconds": 20.0, "min_requests": 20}
    content["required_live"] = ["error_rate", "latency_p50", "distribution"]
    content["error_rate"]["max"] = 0.02
    return content | change


def policy(requests: int = 120, **change: Any) -> CanaryPolicy:
    return CanaryPolicy.from_dict(document(requests, **change))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    engine = connect(f"sqlite:///{tmp_path_factory.mktemp('journal')}/journal.db")
    migrate(engine)
    return engine


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The model in use, one server for all tests."""
    folder = tmp_path_factory.mktemp("stable")
    with ServerProcess(logistic().save(folder / "bundle"), "withdrawal", "1", folder / "server") as server:
        yield server


@dataclass
class Stage:
    """Everything but the controller."""

    stable: ServerProcess
    candidate: ServerProcess
    router: RouterProcess
    bundle: Bundle

    @property
    def backend(self) -> Backend:
        return Backend(HOST, self.candidate.port, "2", self.bundle.digest)

    def routing(self) -> Routing:
        return read_routing(self.router.routing)

    def traffic(self, rollout: str, chosen: CanaryPolicy) -> RouterTraffic:
        return RouterTraffic(
            self.router.routing,
            self.backend,
            rollout,
            candidate_timeout=chosen.candidate_timeout_seconds,
            breaker=chosen.max_consecutive_failures,
        )

    def lead(
        self,
        rollout: str,
        engine: Engine,
        chosen: CanaryPolicy,
        truth: Callable[[], Truth] = Truth,
        conclude: Callable[[CanaryResult], None] | None = None,
    ) -> CanaryResult:
        digests = {"candidate": self.bundle.digest, "stable": logistic().digest}
        return Rollout(
            plan(rollout, self.bundle),
            chosen,
            self.traffic(rollout, chosen),
            Observer(self.router.calls, rollout, digests),
            LiveTraffic(poll_seconds=0.01, most_seconds=60),
            engine,
            live=True,
            truth=truth,
            conclude=conclude,
        ).run()


def plan(rollout: str, bundle: Bundle) -> Plan:
    return Plan(rollout, "withdrawal", "2", "1", bundle.digest, logistic().digest, "tester", "run-9")


@contextmanager
def stage(stable: ServerProcess, folder: Path, bundle: Bundle = BETTER, fault: str = "") -> Iterator[Stage]:
    program = ("-m", "tests.support.faulty_server", fault) if fault else SERVER
    with ExitStack() as stack:
        saved = bundle.save(folder / "bundle")
        candidate = stack.enter_context(
            ServerProcess(saved, "withdrawal", "2", folder / "candidate", program=program, stop_seconds=3.0)
        )
        write_routing(folder / "routing.json", Routing("withdrawal", Backend(HOST, stable.port, "1")))
        router = stack.enter_context(RouterProcess(folder / "routing.json", "withdrawal", folder / "router"))
        yield Stage(stable, candidate, router, bundle)


def outcomes() -> Truth:
    """Outcomes of the rows the callers send, by the unit the router makes of them."""
    units = []
    for row in X.tolist():
        inputs = [
            {"name": n, "datatype": "FP64", "shape": [1], "data": [v]} for n, v in zip(FEATURES, row, strict=True)
        ]
        found = asked(json.dumps({"inputs": inputs}).encode())
        assert found is not None
        units.append(found.unit)
    return Truth(labels=dict(zip(units, LABELS.tolist(), strict=True)))


def names(result: CanaryResult) -> set[str]:
    """The checks it was rolled back for."""
    return {reason.split(": ")[1].split()[0] for reason in result.reasons}


def test_a_good_challenger_is_promoted_by_itself_and_callers_see_nothing(
    stable: ServerProcess, journal: Engine, tmp_path: Path
) -> None:
    concluded: list[str] = []
    with stage(stable, tmp_path) as on:
        with Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
            result = on.lead("good", journal, policy(), outcomes, lambda r: concluded.append(r.decision))
            told = dict(callers.answers)
            until = time.monotonic() + 20
            while callers.answers[BETTER.digest] < told.get(BETTER.digest, 0) + 20 and time.monotonic() < until:
                time.sleep(0.02)
        assert (result.decision, result.reasons) == ("promote", ())
        assert callers.failures == [] and concluded == ["promote"]
        assert [step["percent"] for step in result.steps] == [0, 5, 25, 50, 100]
        assert {"log_loss", "calibration", "distribution"} <= {c.name for c in result.checks if c.passed}
        assert callers.answers[logistic().digest] > 0 and callers.answers[BETTER.digest] >= told[BETTER.digest] + 20
        routing = on.routing()
        assert (routing.stable, routing.candidate) == (on.backend, None)
        assert routing.previous is not None and routing.previous.version == "1"
    rows = rollout_events(journal, "good")
    assert [e.event for e in rows] == ["started", *["step", "judged"] * 5, "decided", "concluded"]
    assert {(e.policy_digest, e.actor, e.run_id) for e in rows} == {(policy().digest, "tester", "run-9")}
    assert "good" not in open_rollouts(journal, "withdrawal")
    assert result.as_dict()["steps"][2]["candidate_served"] > 0


@pytest.mark.parametrize("first", [0, 100])
def test_a_candidate_that_nobody_could_ask_does_not_pass(
    stable: ServerProcess, journal: Engine, tmp_path: Path, first: int
) -> None:
    """The router asks it in no step, as after failures in a row: nothing bad is on record, and nothing good."""
    chosen, rollout = policy(steps_percent=[0, 100]), f"unasked-{first}"
    with stage(stable, tmp_path) as on, Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
        traffic = on.traffic(rollout, chosen)

        class Deaf(RouterTraffic):
            def set_share(self, percent: int, *, step: int, attempt: int) -> None:
                traffic._breaker = 0 if percent >= first else 10
                traffic.set_share(percent, step=step, attempt=attempt)

        result = Rollout(
            plan(rollout, on.bundle),
            chosen,
            Deaf(on.router.routing, on.backend, rollout),
            Observer(on.router.calls, rollout, {"candidate": on.bundle.digest, "stable": logistic().digest}),
            LiveTraffic(poll_seconds=0.01, most_seconds=2.0 if first == 0 else 4.0),
            journal,
            live=True,
        ).run()
        assert callers.failures == []
    assert result.decision == "rollback" and names(result) == {"reached"}
    assert [step["percent"] for step in result.steps] == ([0] if first == 0 else [0, 100])


@pytest.mark.parametrize(
    ("case", "bundle", "fault", "caught_by", "served_at_most"),
    [
        ("errors", BETTER, "errors:0.15", {"error_rate"}, None),
        ("slow", BETTER, "slow:0.7", {"latency_p50"}, 0),
        ("hanging", BETTER, "hang", {"error_rate"}, 0),
        ("crashing", BETTER, "crash:40", {"error_rate"}, None),
        ("shifted", logistic(intercept=2.5), "", {"distribution"}, 0),
        ("worse", logistic((-0.8, 0.6, -0.3)), "", {"log_loss"}, 0),
    ],
)
def test_a_bad_candidate_is_rolled_back_by_itself_and_callers_see_nothing(
    stable: ServerProcess,
    journal: Engine,
    tmp_path: Path,
    case: str,
    bundle: Bundle,
    fault: str,
    caught_by: set[str],
    served_at_most: int | None,
) -> None:
    truth = outcomes if case == "worse" else Truth
    chosen = policy(candidate_timeout_seconds=0.5) if case == "hanging" else policy()
    with stage(stable, tmp_path, bundle, fault) as on:
        with Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
            result = on.lead(case, journal, chosen, truth)
            before = callers.answers[logistic().digest]
            until = time.monotonic() + 20
            while callers.answers[logistic().digest] < before + 20 and time.monotonic() < until:
                time.sleep(0.02)
        assert result.decision == "rollback"
        assert caught_by <= names(result)
        assert callers.failures == []
        assert callers.answers[logistic().digest] >= before + 20
        if served_at_most is not None:  # caught in the shadow: no caller ever got one of its answers
            assert callers.answers[bundle.digest] <= served_at_most
        routing = on.routing()
        assert routing.candidate is None and routing.stable is not None and routing.stable.version == "1"
    last = rollout_events(journal, case)[-2:]
    assert [e.event for e in last] == ["decided", "concluded"]
    assert last[0].detail["reasons"] == list(result.reasons)


@pytest.mark.slow
def test_errors_that_begin_when_the_candidate_serves_are_answered_by_the_stable_model(
    stable: ServerProcess, journal: Engine, tmp_path: Path
) -> None:
    with stage(stable, tmp_path, BETTER, "errors:0.3") as on:
        chosen = policy(steps_percent=[100])
        with Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
            result = on.lead("late", journal, chosen)
        assert result.decision == "rollback" and callers.failures == []
        assert result.steps[0]["fallbacks"] > 0 and result.steps[0]["candidate_served"] > 0
        assert result.steps[0]["fallbacks"] == result.steps[0]["candidate_errors"]


@pytest.mark.slow
def test_a_killed_controller_leaves_traffic_as_it_was_and_goes_on_when_started_again(
    stable: ServerProcess, tmp_path: Path, database_url: str
) -> None:
    with stage(stable, tmp_path) as on:
        given = {
            "plan": asdict(plan("killed", BETTER)),
            "policy": document(150),
            "routing": str(on.router.routing),
            "calls": str(on.router.calls),
            "database": database_url,
            "candidate": asdict(on.backend) | {"features": []},
            "most_seconds": 60,
            "result": str(tmp_path / "result.json"),
        }
        (tmp_path / "given.json").write_text(json.dumps(given))
        engine = connect(database_url)
        migrate(engine)
        with Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
            first = _controller(tmp_path / "given.json")
            _wait(lambda: on.routing().percent == 25.0, first)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            killed = on.routing()
            assert (killed.percent, killed.candidate) == (25.0, replace(on.backend, features=()))
            answered = sum(callers.answers.values())
            _wait(lambda: sum(callers.answers.values()) > answered + 50)
            assert on.routing() == killed  # nobody leads, and traffic goes on as it was
            rows = rollout_events(engine, "killed")
            assert rows[-1].event == "step" and rows[-1].percent == 25.0
            second = _controller(tmp_path / "given.json")
            assert second.wait(120) == 0
        assert callers.failures == []
        result = json.loads((tmp_path / "result.json").read_text())
        assert result["decision"] == "promote"
        assert [step["percent"] for step in result["steps"]] == [0, 5, 25, 50, 100]
        after = rollout_events(engine, "killed")
        assert [e.event for e in after[: len(rows) + 1]] == [*[e.event for e in rows], "resumed"]
        assert sum(e.event == "step" and e.percent == 25.0 for e in after) == 1  # it went on, it did not begin again
        assert on.routing().stable == replace(on.backend, features=())
        third = _controller(tmp_path / "given.json")
        assert third.wait(60) == 0 and rollout_events(engine, "killed") == after


@pytest.mark.slow
def test_a_restarted_router_goes_on_as_told(stable: ServerProcess, tmp_path: Path) -> None:
    with stage(stable, tmp_path) as on:
        on.traffic("kept", policy()).set_share(100, step=4, attempt=1)
        os.kill(on.router.pid, signal.SIGKILL)
        _wait(lambda: not on.router.alive())
        with on.router as router, router.client() as client:
            assert client.infer(X[:1], FEATURES).digest == BETTER.digest
        assert on.router.stop() == 0


def test_a_rollout_ended_by_a_person_touches_traffic_no_more(
    stable: ServerProcess, journal: Engine, tmp_path: Path
) -> None:
    with stage(stable, tmp_path) as on:

        def end_it() -> Truth:
            rows = rollout_events(journal, "ended")
            if rows[-1].event != "aborted" and rows[-1].percent == 5.0:
                on.traffic("ended", policy()).abort()
                append_event(
                    journal, "ended", len(rows) + 1, "aborted", model="withdrawal", detail={"reasons": ["told to"]}
                )
            return Truth()

        with Callers(on.router.port, "withdrawal", X, FEATURES) as callers:
            result = on.lead("ended", journal, policy(60), end_it)
        assert (result.decision, result.reasons) == ("rollback", ("told to",))
        assert on.routing().candidate is None and callers.failures == []
        assert on.lead("ended", journal, policy(60)).decision == "rollback"


def test_two_controllers_cannot_lead_the_same_rollout(engine: Engine) -> None:
    append_event(engine, "r", 1, "started", model="m")
    append_event(engine, "r", 2, "resumed", model="m")
    with pytest.raises(RolloutTaken, match="another controller"):
        append_event(engine, "r", 2, "step", model="m")
    assert open_rollouts(engine, "m") == ["r"]
    append_event(engine, "r", 3, "aborted", model="m")
    assert open_rollouts(engine, "m") == []
    with pytest.raises(Exception, match="append-only"), engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM rollouts")


def _controller(file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.rollout_controller", str(file)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def _wait(true: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until and (process is None or process.poll() is None)
        time.sleep(0.005)
