"""Durations against their own history, the bottleneck, and the pages that name it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from trialops.pages import render
from trialops.stores.objects import open_store
from trialops.transfer import durations
from trialops.transfer.checkpoints import Checkpoint
from trialops.transfer.page import durations_page, run_page
from trialops.transfer.policy import transfer_policy

NOW = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = transfer_policy()


def done(run: str, step: str, seconds: float, *, day: int = 0, part: str = "", resumed: bool = False) -> Checkpoint:
    began = NOW + timedelta(days=day)
    ended = began + timedelta(seconds=seconds)
    events = ({"at": began.isoformat(), "owner": "h/1/a", "event": "taken up"},) if resumed else ()
    return Checkpoint(
        run, step, part, "", 1, "t", "succeeded", "h/1/a", began.isoformat(), finished=ended.isoformat(), events=events
    )


def test_z_is_the_robust_one_of_the_log() -> None:
    rng = np.random.default_rng(4)
    before = np.exp(rng.normal(math.log(600), 0.2, 40))
    logs = np.log(before)
    centre = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - centre))
    judged = durations.judge("backup", 1800.0, list(before), POLICY)
    assert judged.z == pytest.approx((math.log(1800) - centre) / spread, abs=0.01)
    assert judged.usual == pytest.approx(float(np.exp(centre)), rel=1e-3)
    assert durations.judge("backup", float(np.median(before)), list(before), POLICY).z == pytest.approx(0, abs=0.3)


def test_few_runs_say_nothing_and_equal_runs_are_no_alarm() -> None:
    assert durations.judge("backup", 900.0, [600.0] * 7, POLICY).z is None
    steady = durations.judge("backup", 612.0, [600.0] * 20, POLICY)
    assert steady.z is not None and steady.z < 1
    slow = durations.judge("backup", 900.0, [600.0] * 20, POLICY)
    assert slow.z is not None and slow.z > POLICY.durations["z"]


def test_the_bottleneck_is_what_is_slower_than_usual_before_what_is_long() -> None:
    usual = {"extract": 600.0, "backup": 7200.0, "ingest": 300.0}
    judged = [durations.judge(step, seconds, [seconds] * 20, POLICY) for step, seconds in usual.items()]
    found = durations.bottleneck(judged, POLICY)
    assert found is not None and (found.label, found.why) == ("backup", "longest")
    judged[2] = durations.judge("ingest", 1500.0, [300.0] * 20, POLICY)
    found = durations.bottleneck(judged, POLICY)
    assert found is not None and (found.label, found.why) == ("ingest", "slower than usual")
    assert durations.bottleneck([], POLICY) is None


def test_a_history_keeps_each_job_once_and_leaves_interrupted_runs_out(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for day in range(12):
        for part, seconds in (("a", 100.0), ("b", 400.0)):
            one = done(f"r{day}", "extract", seconds, day=day, part=part)
            durations.note(store, one, POLICY)
            durations.note(store, one, POLICY)
    durations.note(store, done("r12", "extract", 9000.0, day=12, part="a", resumed=True), POLICY)
    assert len(durations.history(store, "extract")) == 25
    run = [done("r13", "extract", 130.0, day=13, part="a"), done("r13", "extract", 400.0, day=13, part="b")]
    judged = {one.label: one for one in durations.judge_run(store, run, POLICY)}
    assert (judged["extract a"].usual, judged["extract a"].runs) == (pytest.approx(100), 12)
    assert judged["extract a"].z is not None and judged["extract a"].z > 3.5
    assert judged["extract b"].z == 0


def test_a_history_is_bounded_by_job(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for day in range(int(POLICY.durations["history"]) + 5):
        durations.note(store, done(f"r{day}", "backup", 10.0, day=day), POLICY)
    lines = durations.history(store, "backup")
    assert len(lines) == POLICY.durations["history"] and lines[0]["run_id"] == "r5"


def test_pages_name_the_bottleneck_and_show_the_history(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for day in range(10):
        for step, seconds in (("backup", 500.0), ("ingest", 100.0)):
            durations.note(store, done(f"r{day}", step, seconds, day=day), POLICY)
    run = [done("r20", "backup", 510.0, day=20), done("r20", "ingest", 800.0, day=20, resumed=True)]
    judged = durations.judge_run(store, run, POLICY)
    found = durations.bottleneck(judged, POLICY)
    page = render(run_page("trial", "r20", "succeeded", run, judged, found, POLICY))
    assert "ingest (slower than usual" in page and "Resumes" in page and "<svg" in page
    known = {step: durations.history(store, step) for step in ("backup", "ingest")}
    assert "<svg" in render(durations_page(known, durations.judge_newest(known, POLICY)))
    assert "No run has ended yet" in render(durations_page({}, []))
