"""Canaries with real server processes, and candidates that are really bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_bundles import FEATURES, TREE, logistic, overflowing, trees

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.serving.canary import run_canary
from trialops.serving.policy import DEFAULT, CanaryPolicy
from trialops.serving.replay import Replay
from trialops.serving.rollout_result import CanaryResult
from trialops.serving.routing import assign
from trialops.stores.database import connect, migrate
from trialops.stores.rollouts import rollout_events

Save = Callable[[Bundle, str], Path]


def policy(requests: int = 120) -> CanaryPolicy:
    """The policy in force with fewer requests, latency judged as generously as a busy machine needs."""
    content = yaml.safe_load(DEFAULT.read_text())
    content["requests_per_step"] = requests
    content["latency"]["p50"] |= {"floor_seconds": 1.0, "min_requests": 20}
    content["latency"]["p99"] |= {"floor_seconds": 5.0, "min_requests": 20}
    return CanaryPolicy.from_dict(content)


def replay(x: np.ndarray, *, labels: bool = False) -> Replay:
    outcome = None
    if labels:
        outcome = (np.random.default_rng(3).random(len(x)) < logistic().predict(x)).astype(float)
    return Replay(x, FEATURES, [f"S{i:03d}" for i in range(len(x))], outcome)


def test_a_good_candidate_takes_all_traffic_step_by_step(save: Save, rows: np.ndarray, tmp_path: Path) -> None:
    better = logistic((0.85, -0.62, 0.31), -0.42)
    messages: list[tuple[str, float]] = []
    result = run_canary(
        save(better, "new"),
        save(logistic(), "old"),
        replay(rows, labels=True),
        policy(),
        workdir=tmp_path / "w",
        progress=lambda message, fraction: messages.append((message, fraction)),
    )
    assert (result.decision, result.reasons) == ("promote", ())
    last = {step["percent"]: step for step in result.steps}
    assert list(last) == [0, 5, 25, 50, 100]
    for step in last.values():  # mirrored: both models answer every request, one of them the caller
        assert step["requests"] == step["candidate_requests"] == step["stable_requests"] == 120
        assert step["fallbacks"] == 0
    shares = [last[p]["candidate_served"] for p in (0, 5, 25, 50, 100)]
    assert shares == sorted(shares) and (shares[0], shares[4]) == (0, 120) and 0 < shares[1] < 30 < shares[3] < 90
    assert all(step["candidate_errors"] == 0 for step in result.steps)
    assert {c.name for c in result.checks if c.passed} >= {
        "error_rate", "parity", "probability_range", "bundle_digest", "distribution", "log_loss", "calibration",
        "latency_p50",
    }  # fmt: skip
    assert (result.candidate_digest, result.stable_digest) == (better.digest, logistic().digest)
    assert result.policy_digest == policy().digest != ""
    assert [fraction for _, fraction in messages] == sorted(fraction for _, fraction in messages)
    assert messages[-1] == ("decided", 1.0)
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert "S000" not in text


def test_a_candidate_trained_with_columns_swapped_is_rolled_back_in_the_shadow(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    swapped = replace(logistic(), features=("weight_slope", "age", "ae_count"), coefficients=(2.4, -1.8, 0.9))
    stable = replace(logistic(), coefficients=(2.4, -1.8, 0.9))
    outcome = (np.random.default_rng(3).random(len(rows)) < stable.predict(rows)).astype(float)
    traffic = replace(replay(rows), labels=outcome)
    result = run_canary(save(swapped, "new"), save(stable, "old"), traffic, policy(200), workdir=tmp_path / "w")
    assert result.decision == "rollback"
    assert [step["percent"] for step in result.steps] == [0]  # no caller ever got one of its answers
    assert "log_loss" in [r.split(": ")[1].split()[0] for r in result.reasons]
    assert result.steps[0]["requests"] < 200  # the harm was clear before the step was over


def test_a_candidate_on_another_scale_is_rolled_back_without_labels(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    result = run_canary(
        save(logistic(intercept=3.0), "new"),
        save(logistic(), "old"),
        replay(rows),
        policy(),
        workdir=tmp_path / "w",
    )
    assert result.decision == "rollback"
    assert len(result.reasons) == 1 and "step 0 %: distribution" in result.reasons[0]


def test_a_candidate_whose_booster_was_altered_is_rolled_back(save: Save, rows: np.ndarray, tmp_path: Path) -> None:
    folder = save(trees(), "new")
    (folder / "booster.lgb").write_text(TREE.replace("0.5", "0.9"))
    result = run_canary(folder, save(logistic(), "old"), replay(rows), policy(), workdir=tmp_path / "w")
    assert result.decision == "rollback"
    assert result.steps == ()
    assert "altered" in result.reasons[0]


def test_a_candidate_replaced_between_verification_and_start_is_found_out(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    folder = save(logistic((0.85, -0.62, 0.31)), "new")

    def tamper(message: str, fraction: float) -> None:
        if message == "starting the candidate model":
            logistic((0.85, -0.62, 0.32)).save(folder)

    result = run_canary(
        folder, save(logistic(), "old"), replay(rows), policy(), workdir=tmp_path / "w", progress=tamper
    )
    assert result.decision == "rollback"
    assert {"bundle_digest", "parity"} <= {c.name for c in result.checks if c.passed is False}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_candidate_that_fails_on_ordinary_rows_is_rolled_back_early(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    result = run_canary(
        save(overflowing(), "new"),
        save(logistic(), "old"),
        replay(np.abs(np.nan_to_num(rows, nan=1.0))),
        policy(),
        workdir=tmp_path / "w",
    )
    assert result.decision == "rollback"
    assert "step 0 %: error_rate" in result.reasons[0]
    assert result.steps[0]["candidate_requests"] < 120


def test_a_candidate_too_slow_on_every_attempt_is_rolled_back(save: Save, rows: np.ndarray, tmp_path: Path) -> None:
    strict = replace(policy(40), latency_p50=replace(policy().latency_p50, ratio=0.0, floor_seconds=-1.0))
    result = run_canary(save(logistic(), "new"), save(logistic(), "old"), replay(rows), strict, workdir=tmp_path / "w")
    assert result.decision == "rollback"
    assert [(s["percent"], s["attempt"], s["passed"]) for s in result.steps] == [(0, 1, False), (0, 2, False)]
    assert "latency_p50" in result.reasons[0]


def test_a_first_release_is_judged_on_its_own(save: Save, rows: np.ndarray, tmp_path: Path) -> None:
    enough = policy(300)
    result = run_canary(save(trees(), "new"), None, replay(rows, labels=True), enough, workdir=tmp_path / "w")
    assert (result.decision, result.reasons, result.stable_digest) == ("promote", (), "")
    assert [step["percent"] for step in result.steps] == [100]
    scarce = run_canary(save(trees(), "new"), None, replay(rows), policy(30), workdir=tmp_path / "w2")
    assert scarce.decision == "rollback"
    assert "whole run: error_rate" in scarce.reasons[0]


def test_a_rollout_goes_on_in_new_processes_and_takes_a_step_again_whose_record_is_lost(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    engine = connect(f"sqlite:///{tmp_path}/journal.db")
    migrate(engine)
    new, old, work = save(logistic((0.85, -0.62, 0.31), -0.42), "new"), save(logistic(), "old"), tmp_path / "w"

    class Killed(Exception):
        """Stands for the end of the process."""

    def end_at(share: str) -> Callable[[str, float], None]:
        def progress(message: str, fraction: float) -> None:
            if message.startswith(share):
                raise Killed

        return progress

    def run(progress: Callable[[str, float], None] | None = None) -> CanaryResult:
        return run_canary(
            new, old, replay(rows), policy(60), workdir=work, engine=engine, rollout="again", progress=progress
        )

    with pytest.raises(Killed):
        run(end_at("25 %"))
    shutil.rmtree(work / "router" / "calls")
    with pytest.raises(Killed):
        run(end_at("50 %"))
    result = run()
    assert [step["percent"] for step in result.steps] == [0, 5, 0, 5, 25, 50, 100]
    events = [event.event for event in rollout_events(engine, "again")]
    assert events.count("resumed") == 2 and events[-1] == "concluded"
    assert replace(run(), seconds=result.seconds) == result  # an ended one stays ended


def test_models_with_different_features_are_each_asked_with_their_own(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    two = FEATURES[:2]
    small = replace(
        logistic(),
        features=two,
        fill=dict.fromkeys(two, 0.0),
        centre=(0.0, 0.0),
        scale=(1.0, 1.0),
        coefficients=(0.8, -0.6),
    )
    wide = Replay(np.column_stack([rows, rows[:, 0]]), (*FEATURES, "unused"), [f"S{i}" for i in range(200)])
    result = run_canary(save(logistic(), "new"), save(small, "old"), wide, policy(), workdir=tmp_path / "w")
    assert (result.decision, result.reasons) == ("promote", ())
    assert all(step["candidate_errors"] == step["stable_errors"] == 0 for step in result.steps)


def test_a_stable_model_that_cannot_be_read_is_an_error_not_a_decision(
    save: Save, rows: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(TrialOpsError, match="no model bundle"):
        run_canary(save(logistic(), "new"), tmp_path / "absent", replay(rows), policy(), workdir=tmp_path / "w")


def test_replays_that_cannot_be_judged_are_refused(save: Save, rows: np.ndarray, tmp_path: Path) -> None:
    old = save(logistic(), "old")
    with pytest.raises(TrialOpsError, match="0 rows"):
        run_canary(old, old, Replay(rows[:0], FEATURES, []), policy(), workdir=tmp_path / "w")
    with pytest.raises(TrialOpsError, match="lacks 1 of the model's features: ae_count"):
        run_canary(old, old, Replay(rows[:, :2], FEATURES[:2], ["a"] * 200), policy(), workdir=tmp_path / "w")


def test_assignment_is_sticky_nested_and_close_to_its_share() -> None:
    ids = [f"S{i}" for i in range(20_000)]
    small, large = ({i for i in ids if assign(i, percent)} for percent in (5, 25))
    assert small < large
    assert len(small) / 20_000 == pytest.approx(0.05, abs=0.006)
    assert len(large) / 20_000 == pytest.approx(0.25, abs=0.012)
    assert not any(assign(i, 0) for i in ids) and all(assign(i, 100) for i in ids)
