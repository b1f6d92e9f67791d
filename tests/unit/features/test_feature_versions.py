"""Feature set versions, the difference of two builds, and the backfill that resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.support.homes import leave, live_in
from tests.support.temporal_trial import temporal_trial
from trialops.errors import TrialOpsError
from trialops.features.backfill import backfill, plan
from trialops.features.current import feature_set_of, remember_features
from trialops.features.definition_file import load
from trialops.features.definitions import ENTITIES
from trialops.features.difference import ADDED, CHANGED, REMOVED, SAME, difference
from trialops.features.versions import feature_set, kept, remember
from trialops.features.views import feature_views
from trialops.stores import step
from trialops.stores.digest import table_digest
from trialops.stores.refs import Snapshot

ROOT = Path(__file__).resolve().parents[3]
KILLED = """
import os
from tests.support.temporal_trial import temporal_trial
from trialops.features.backfill import backfill
from trialops.stores import step
with step("backfill-features") as run:
    backfill(temporal_trial(12, 3), run, "data", window_days=28, block_subjects=3)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


@pytest.fixture(scope="module")
def trial() -> dict[str, pl.DataFrame]:
    return temporal_trial(12, 3)


def whole(trial: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return dict(feature_views(trial, entities=tuple(ENTITIES)))


@pytest.mark.parametrize(("window_days", "block_subjects"), [(28, 5), (1000, 3)])
def test_blocks_and_windows_equal_one_pass(
    trial: dict[str, pl.DataFrame], window_days: int, block_subjects: int
) -> None:
    with step("backfill") as run:
        done = backfill(trial, run, "data", window_days=window_days, block_subjects=block_subjects)
        want = whole(trial)
        assert list(done.views) == list(want)
        for name, frame in want.items():
            assert run.lake.read(done.snapshot.tables[name]).equals(frame), name
            assert done.snapshot.tables[name].digest == table_digest(
                frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            )
            assert done.snapshot.tables[name].table == f"features/{feature_set().name}/{name}"
        assert not list(run.objects.list("backfills/"))
        again = backfill(trial, run, "data", window_days=window_days, block_subjects=block_subjects)
        assert again.snapshot == done.snapshot  # the same version of every table


def test_kill_keeps_the_windows_that_are_done(trial: dict[str, pl.DataFrame], home: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRIALOPS_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-c", KILLED], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    folder = home / "backfills"
    while process.poll() is None and len(list(folder.rglob("done/*.json"))) < 12:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    marks = len(list(folder.rglob("done/*.json")))
    with step("backfill-features") as run:
        todo = plan(trial, feature_set(), "data", window_days=28, block_subjects=3)
        done = backfill(trial, run, "data", window_days=28, block_subjects=3)
        assert done.found == marks >= 12
        assert done.done == len(todo.blocks) * len(todo.windows) - marks
        assert all(done.views[name].equals(frame) for name, frame in whole(trial).items())


def test_other_data_or_logic_is_another_backfill(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    now = feature_set()
    content = yaml.safe_load(load().path.read_text())
    content["views"]["labs_trends"]["tests"]["alt"]["windows"] = {28: ["mean"]}
    changed = tmp_path / "definitions.yaml"
    changed.write_text(yaml.safe_dump(content))
    then = feature_set(load(changed))
    assert now.digest != then.digest and now.name != then.name and now.name.startswith("v2_")
    keys = {
        plan(trial, version, data, window_days=days, block_subjects=5).key
        for version in (now, then)
        for data in ("a", "b")
        for days in (28, 84)
    }
    assert len(keys) == 8
    with pytest.raises(TrialOpsError, match="at least one day"):
        plan(trial, now, "a", window_days=0, block_subjects=5)


def test_a_version_is_kept_as_it_was() -> None:
    with step("test") as run:
        key = remember(run.objects, feature_set())
        assert remember(run.objects, feature_set()) == key
        assert [v["name"] for v in kept(run.objects)] == [feature_set().name]
        run.objects.put(key, b"{}")
        with pytest.raises(TrialOpsError, match="Another feature set"):
            remember(run.objects, feature_set())


def test_a_build_names_its_version() -> None:
    with step("test") as run:
        data = Snapshot({"DM": run.lake.write("clean/dm", pl.DataFrame({"a": [1]}))})
        built = Snapshot({"labs": run.lake.write("features/labs", pl.DataFrame({"b": [1.0]}))})
        assert feature_set_of(run, built) == ""
        remember_features(run, data, built)
        assert feature_set_of(run, built) == feature_set().name


def test_the_difference_names_features_and_counts_subjects(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    before = whole(trial)
    content = yaml.safe_load(load().path.read_text())
    content["views"]["labs_trends"]["tests"]["alt"]["windows"] = {56: ["mean", "min"], 84: ["slope"]}
    content["views"]["events"]["features"]["ae_moderate_severe_count"]["where"] = {"AESEV": ["SEVERE"]}
    changed = tmp_path / "definitions.yaml"
    changed.write_text(yaml.safe_dump(content))
    definitions = load(changed)
    after = dict(feature_views(trial, definitions, entities=tuple(ENTITIES)))
    keys = {name: view.join_keys for name, view in definitions.all_views.items()}
    found = {d.feature: d for d in difference(before, after, keys)}
    kinds = {name: d.what for name, d in found.items() if d.what != SAME}
    assert kinds == {
        "alt_min_56d": ADDED,
        "alt_max_56d": REMOVED,
        "alt_count_56d": REMOVED,
        "ae_moderate_severe_count": CHANGED,
    }
    both = before["events"].join(after["events"], on=["subject_id", "event_timestamp"], suffix="_after")
    apart = both.filter(pl.col("ae_moderate_severe_count") != pl.col("ae_moderate_severe_count_after"))
    one = found["ae_moderate_severe_count"]
    assert (one.rows, one.subjects) == (apart.height, apart["subject_id"].n_unique())
    assert one.subjects > 2
    assert not [d for d in difference(before, before, keys) if d.what != SAME]
