"""Hysteresis over windows: two of five start a retraining, once; the same evidence is one window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.monitoring.verdict import SHIPPED, Window, Windows, conclude, load_policy
from trialops.stores.chain_log import IntegrityError
from trialops.stores.objects import open_store

FINE = {"performance": "not degraded", "feature drift": "no drift", "concept": "no concept drift"}
DRIFT = {**FINE, "feature drift": "drift"}
POLICY = load_policy()


def watch(tmp_path: Path, *verdicts: dict[str, str], model: str = "1:abc", start: int = 0) -> list[str]:
    windows = Windows(open_store(str(tmp_path)), "withdrawal")
    return [
        windows.look(model, f"digest {start + n}", parts, POLICY, run_id=f"run-{n}").state
        for n, parts in enumerate(verdicts)
    ]


def test_two_of_five_start_a_retraining_once(tmp_path: Path) -> None:
    found = watch(tmp_path, FINE, DRIFT, FINE, FINE, DRIFT, DRIFT, FINE, FINE, DRIFT)
    # The second bad window asks; the next three wait for what was asked for; then it is asked again.
    assert found == ["healthy", "watch", "watch", "watch", "retrain", "waiting", "waiting", "waiting", "retrain"]


def test_bad_windows_far_apart_do_not(tmp_path: Path) -> None:
    assert "retrain" not in watch(tmp_path, DRIFT, FINE, FINE, FINE, FINE, DRIFT, FINE, FINE, FINE, FINE, DRIFT)


def test_the_same_evidence_is_one_window(tmp_path: Path) -> None:
    windows = Windows(open_store(str(tmp_path)), "withdrawal")
    first = [windows.look("1:abc", "same", DRIFT, POLICY, run_id=f"run-{n}") for n in range(6)]
    assert [verdict.state for verdict in first] == ["watch"] * 6
    assert [verdict.new for verdict in first] == [True] + [False] * 5 and len(windows.all()) == 1
    asked = [windows.look("1:abc", "other", DRIFT, POLICY, run_id=f"run-{n}").state for n in range(3)]
    assert asked == ["retrain", "waiting", "waiting"]
    again = windows.look("1:abc", "other", DRIFT, POLICY, run_id="later")
    assert again.asks == 2 and not again.new  # a run that died before it passed the request on is made good


def test_another_model_starts_afresh(tmp_path: Path) -> None:
    assert watch(tmp_path, DRIFT, DRIFT) == ["watch", "retrain"]
    assert watch(tmp_path, DRIFT, DRIFT, model="2:def", start=2) == ["watch", "retrain"]


def test_nothing_to_judge_is_unknown_not_healthy(tmp_path: Path) -> None:
    silent = dict.fromkeys(FINE, "insufficient evidence")
    assert watch(tmp_path, silent, {**silent, "concept": "no concept drift"}) == ["unknown", "healthy"]


def test_false_alarms_of_chance_findings() -> None:
    """One window in twenty bad by chance: two of five make far fewer retrainings than there are bad windows."""
    bad = np.random.default_rng(3).uniform(size=4000) < 0.05
    history: list[Window] = []
    for number, one in enumerate(bad, start=1):
        parts = DRIFT if one else FINE
        state, _, _ = conclude(history[-10:], parts, POLICY)
        history.append(Window(number, "1:abc", str(number), parts, state, ""))
    asked = sum(window.state == "retrain" for window in history)
    # Of 5 % bad windows about 1 - 0.95**4 have another one before them.
    assert 0 < asked / len(bad) < 0.012


def test_an_altered_window_is_noticed(tmp_path: Path) -> None:
    watch(tmp_path, FINE, DRIFT)
    path = sorted((tmp_path / "monitoring" / "withdrawal").iterdir())[0]
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "state": "retrain"}))
    with pytest.raises(IntegrityError, match="chain of monitoring windows is broken"):
        Windows(open_store(str(tmp_path)), "withdrawal").all()


def test_policy_is_checked(tmp_path: Path) -> None:
    text = SHIPPED.read_text()
    for old, new, what in (
        ("bad: 2", "bad: 6", "bad"),
        ("slope: [0.70, 1.40]", "slope: [1.1, 1.4]", "slope"),
        ("delta: 0.05", "detla: 0.05", "delta"),
    ):
        changed = tmp_path / "policy.yaml"
        changed.write_text(text.replace(old, new))
        with pytest.raises(TrialOpsError) as refused:
            load_policy(changed)
        assert what in str(refused.value)
