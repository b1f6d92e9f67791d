from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.leakage import disturbed
from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.definitions import ENTITIES
from trialops.features.labels import label
from trialops.features.training_set import GROUPS, build, point_in_time
from trialops.features.views import feature_views
from trialops.models.task import Task

MOMENT = pl.Datetime("us", "UTC")


def brute_force(view: pl.DataFrame, subject: str, moment) -> dict[str, float | None]:
    """The row with the latest event, then the latest creation, among those that had happened and were recorded."""
    best = None
    for row in view.filter(pl.col("subject_id") == subject).to_dicts():
        if row["event_timestamp"] <= moment and row["created"] <= moment:
            order = (row["event_timestamp"], row["created"])
            if best is None or order > best[0]:
                best = (order, row)
    return best[1] if best else {}


def random_view(rng: np.random.Generator, subjects: int, name: str) -> pl.DataFrame:
    """Rows of a history with late arrivals and corrections: one event, several creations."""
    n = subjects * 6
    event = rng.integers(-10, 40, n)
    created = event + rng.integers(0, 30, n) * (rng.random(n) < 0.5)
    value = np.where(rng.random(n) < 0.15, np.nan, rng.normal(size=n))
    frame = pl.DataFrame(
        {
            "subject_id": [f"s{i}" for i in rng.integers(0, subjects, n)],
            "e": event,
            "c": created,
            f"{name}_p": value,
            f"{name}_q": rng.normal(size=n),
        }
    )
    return frame.unique(["subject_id", "e", "c"], keep="first", maintain_order=True).select(
        "subject_id",
        study_time.timestamp(pl.col("e")).alias("event_timestamp"),
        study_time.timestamp(pl.col("c")).alias("created"),
        pl.col(f"{name}_p", f"{name}_q").fill_nan(None),
    )


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 100_000))
def test_feast_equals_brute_force(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    views = {name: random_view(rng, 25, name) for name in ("one", "two")}
    asked = pl.DataFrame(
        {"subject_id": [f"s{i}" for i in range(30)] * 3, "o": rng.integers(-15, 60, 90)}
    )  # five unknown
    asked = asked.unique(maintain_order=True).select(
        "subject_id", study_time.timestamp(pl.col("o")).alias("event_timestamp")
    )
    got = point_in_time(views, asked, tmp_path_factory.mktemp("store"))
    assert got.select(asked.columns).equals(asked.sort(asked.columns))
    filled = late = 0
    for row in got.to_dicts():
        for view in views.values():
            want = brute_force(view, row["subject_id"], row["event_timestamp"])
            for column in view.columns[3:]:
                assert row[column] == want.get(column), (row["subject_id"], column)
                filled += row[column] is not None
            known = view.filter(
                (pl.col("subject_id") == row["subject_id"]) & (pl.col("event_timestamp") <= row["event_timestamp"])
            )
            late += known.filter(pl.col("created") > row["event_timestamp"]).height
    assert filled > 50 and late > 10  # the cases that a join on the event alone would get wrong do occur


def made(trial: dict[str, pl.DataFrame], task: Task, folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    labels = label(trial, task)
    return build(feature_views(trial), labels, task, folder), labels


def test_training_set_has_the_contract(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    task = replace(task, features=("alt", "age", "days_since_labs", "ae_count"))
    frame, labels = made(trial, task, tmp_path)
    chosen = labels.filter(pl.col("excluded").is_null())
    assert frame.columns == ["subject_id", "site_id", "event_timestamp", "label", *task.features, *GROUPS]
    assert frame["subject_id"].to_list() == chosen["subject_id"].to_list() == sorted(chosen["subject_id"])
    assert frame["label"].to_list() == chosen["label"].to_list() and frame.schema["label"] == pl.Int8
    assert frame.schema["event_timestamp"] == MOMENT
    assert all(frame.schema[f] == pl.Float64 for f in task.features)
    assert 0 < frame["label"].sum() < frame.height
    assert frame["ae_count"].null_count() == 0


def test_values_are_those_of_the_latest_row(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    frame, _ = made(trial, task, tmp_path)
    views = feature_views(trial)
    held = [c for name, v in views.items() if name != "follow_up" for c in v.columns[3:]]
    assert frame.width == 4 + 3 + len(held)  # an age stands for each day; how long one was followed is no feature
    for row in frame.to_dicts():
        want = brute_force(views["labs"], row["subject_id"], row["event_timestamp"])
        assert row["alt"] == want.get("alt")
        last = want.get("labs_last_day")
        assert row["days_since_labs"] == (None if last is None else 28 - last if last > 0 else 27 - last)


@pytest.mark.parametrize("seed", [5, 6])
def test_the_future_does_not_reach_the_training_set(
    trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path, seed: int
) -> None:
    labels = label(trial, task)
    before = build(feature_views(trial), labels, task, tmp_path / "before")
    after = build(feature_views(disturbed(trial, 28, seed)), labels, task, tmp_path / "after")
    assert before.height > 15 and before.equals(after)


def test_subjects_without_any_feature_stay(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    labels = label(trial, task)
    first = labels.filter(pl.col("excluded").is_null())["subject_id"][0]
    views = {name: v.filter(pl.col("subject_id") != first) for name, v in feature_views(trial).items()}
    frame = build(views, labels, task, tmp_path)
    assert frame["subject_id"][0] == first
    assert set(frame.row(0)[4:-3]) == {None}


def test_bad_requests_are_refused(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    labels, views = label(trial, task), feature_views(trial)
    with pytest.raises(TrialOpsError, match="labelled twice"):
        build(views, pl.concat([labels, labels]), task, tmp_path)
    with pytest.raises(TrialOpsError, match="glucoze is not in"):
        build(views, labels, replace(task, features=("alt", "glucoze")), tmp_path)
    wrong = {"labs": views["labs"].with_columns(pl.col("alt").cast(pl.Float32))}
    with pytest.raises(TrialOpsError, match="alt is missing or not Float64"):
        point_in_time(wrong, labels, tmp_path)


def test_dropped_rows_are_an_error(
    trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trialops.stores.features import load_feast

    store = load_feast().FeatureStore
    whole = store.get_historical_features

    class Short:
        def __init__(self, job) -> None:
            self.job = job

        def to_arrow(self):
            return self.job.to_arrow().slice(1)

    monkeypatch.setattr(store, "get_historical_features", lambda *a, **k: Short(whole(*a, **k)))
    with pytest.raises(TrialOpsError, match="rows for"):
        made(trial, task, tmp_path)


def test_written_views_are_in_microseconds(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    made(trial, task, tmp_path)
    schema = pl.read_parquet_schema(tmp_path / "labs.parquet")
    assert schema["event_timestamp"] == schema["created"] == MOMENT
    assert (study_time.timestamp_of(28) - study_time.DAY_ONE) == timedelta(days=27)


def test_views_of_visits_and_sites_take_no_part(trial: dict[str, pl.DataFrame], task: Task, tmp_path: Path) -> None:
    """After feature_engineering the current features hold them too."""
    labels = label(trial, task)
    every = feature_views(trial, entities=tuple(ENTITIES))
    assert len(every) > len(feature_views(trial))
    assert build(every, labels, task, tmp_path / "all").equals(
        build(feature_views(trial), labels, task, tmp_path / "subjects")
    )
