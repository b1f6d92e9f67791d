"""What later pipelines start from: features are taken only where they were built from the newest validated tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from components.features import current_data
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.features.current import current_features, current_validated, remember_features
from trialops.stores import step
from trialops.stores.context import Step
from trialops.stores.refs import Snapshot


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def tables(run: Step, value: int) -> Snapshot:
    ref = run.lake.write("clean/dm", pl.DataFrame({"USUBJID": ["p1"], "AGE": [value]}), run_id=run.run_id)
    snapshot = Snapshot({"DM": ref})
    run.lake.mark_validated("clean", snapshot, {"score": 100.0})
    return snapshot


def built(run: Step, value: float) -> Snapshot:
    return Snapshot({"demographics": run.lake.write("features/demographics", pl.DataFrame({"age": [value]}))})


def test_features_of_older_tables_are_not_taken() -> None:
    with step("test") as run:
        with pytest.raises(TrialOpsError, match="No data have been validated"):
            current_features(run)
        first = tables(run, 61)
        with pytest.raises(TrialOpsError, match="No features have been built"):
            current_features(run)
        old = built(run, 61.0)
        remember_features(run, first, old)
        assert (current_validated(run), current_features(run)) == (first, old)
        second = tables(run, 62)
        assert current_validated(run) == second
        with pytest.raises(TrialOpsError, match="No features have been built from the newest"):
            current_features(run)
        new = built(run, 62.0)
        remember_features(run, second, new)
        assert current_features(run) == new


def test_component_names_both(home: Path) -> None:
    with step("test") as run:
        validated = tables(run, 61)
        remember_features(run, validated, built(run, 61.0))
    data, features = artifact(home, "validated"), artifact(home, "features")
    assert current_data.python_func(validated=data, features=features) == 1
    assert Snapshot.from_dict(json.loads(Path(data.path).read_text())) == validated
