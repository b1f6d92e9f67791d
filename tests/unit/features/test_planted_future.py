"""A value planted in the future never reaches a training set, along the whole way from clean tables to the lake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from components.features import build_features, build_training_set
from tests.support.clean_trial import make_trial
from tests.support.homes import artifact, leave, live_in
from trialops.features.labels import label
from trialops.features.training_set import build
from trialops.features.views import feature_views
from trialops.models.task import load_task
from trialops.stores import step

PLANTED = 987_654.0
LANDMARK = load_task().landmark_day
EVERYTHING = replace(load_task(), features=(), baseline_features=())


def planted(trial: dict[str, pl.DataFrame], *, day: int, known: int) -> dict[str, pl.DataFrame]:
    """The trial with an absurd ALT of a day for everybody, as a correction of their first ALT and as a new result."""
    first = trial["LB"].filter(pl.col("LBTESTCD") == "ALT").sort("KNOWNDY", "LBDY").unique("USUBJID", keep="first")
    days = {"LBSTRESN": pl.lit(PLANTED), "LBDY": pl.lit(day, pl.Int32), "KNOWNDY": pl.lit(known, pl.Int32)}
    correction = first.with_columns(LBSTRESN=days["LBSTRESN"], KNOWNDY=days["KNOWNDY"])
    new = first.with_columns(**days, LBSEQ=pl.col("LBSEQ") + 100_000)
    return {**trial, "LB": pl.concat([trial["LB"], correction, new])}


def seen(frame: pl.DataFrame) -> int:
    """Cells that a planted value has reached, as itself or in a mean, a change or a ratio."""
    numbers = frame.select(pl.col(pl.Float64).abs() > PLANTED / 1000)
    return int(numbers.select(pl.sum_horizontal(pl.all().sum())).item())


@pytest.mark.parametrize(("day", "known"), [(LANDMARK - 8, LANDMARK + 1), (LANDMARK + 1, LANDMARK + 1)])
def test_a_value_known_later_never_reaches_the_training_set(tmp_path: Path, day: int, known: int) -> None:
    trial, task = make_trial(40, seed=7), EVERYTHING
    labels = label(trial, task)
    views = feature_views(planted(trial, day=day, known=known))
    assert seen(views["labs"]) > 40  # it is in the features, from the day it became known
    got = build(views, labels, task, tmp_path / "planted")
    assert seen(got) == 0
    assert got.equals(build(feature_views(trial), labels, task, tmp_path / "clean"))


def test_the_same_value_known_in_time_does(tmp_path: Path) -> None:
    """The mirrored case: what hides the future is its time, nothing else."""
    trial, task = make_trial(40, seed=7), EVERYTHING
    views = feature_views(planted(trial, day=LANDMARK - 8, known=LANDMARK))
    got = build(views, label(trial, task), task, tmp_path)
    assert seen(got) > got.height


@pytest.mark.slow
def test_through_the_steps_of_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = live_in(tmp_path, monkeypatch)
    try:
        validated, features, training, page = (artifact(home, n) for n in ("validated", "features", "training", "page"))
        tables = planted(make_trial(60, seed=7), day=LANDMARK - 8, known=LANDMARK + 1)
        with step("take-in") as run:
            run.write(validated, tables, zone="clean")
        build_features.python_func(validated, features, page)
        subjects = build_training_set.python_func(validated, features, training, page, "withdrawal", 1)
        with step("look") as run:
            assert seen(run.read(features)["labs"]) > 60
            rows = run.read_table(training)
        assert rows.height == subjects > 30 and seen(rows) == 0
    finally:
        leave()
