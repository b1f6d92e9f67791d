"""Early and late subjects: divided by enrolment, with a gap, and a drift over time that is seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.models.search import search
from trialops.models.task import Task
from trialops.models.temporal import temporal_split


def enrolled(days: np.ndarray, cut: int = 900) -> pl.DataFrame:
    """Subjects who enrolled on the given days of the trial, the data cut at day 900."""
    return pl.DataFrame({"cut_day": cut - days}, schema={"cut_day": pl.Int32})


def test_nobody_early_was_open_when_the_first_late_subject_was_predicted(task: Task) -> None:
    days = np.sort(np.random.default_rng(0).integers(0, 600, 300))
    split = temporal_split(enrolled(days), task, 0.25)
    assert split is not None
    assert split.late.sum() == pytest.approx(75, abs=5)
    first = days[split.late].min()
    assert days[split.early].max() + task.settled_day <= first + task.landmark_day
    assert not (split.early & split.late).any()
    assert split.gap == 300 - split.early.sum() - split.late.sum() > 0
    assert (days[~split.early & ~split.late] < first).all()


def test_what_cannot_be_divided_is_left_out(task: Task) -> None:
    assert temporal_split(pl.DataFrame({"site_id": ["a"]}), task, 0.25) is None
    assert temporal_split(enrolled(np.full(20, 5)), task, 0.25) is None
    unknown = enrolled(np.arange(400)).with_columns(
        cut_day=pl.when(pl.int_range(pl.len()) < 10).then(None).otherwise("cut_day")
    )
    split = temporal_split(unknown, task, 0.25)
    assert split is not None and "10 subjects without a data cut" in split.notes[0]
    assert not split.early[:10].any() and not split.late[:10].any()


def drifting(task: Task, shift: float, seed: int = 2) -> pl.DataFrame:
    """A trial in which what adverse events mean turns round for those enrolled late, by a share."""
    rng, n = np.random.default_rng(seed), 1200
    days = rng.integers(0, 900, n)
    columns = {name: rng.normal(size=n) for name in task.features}
    columns["sex_female"] = rng.integers(0, 2, n).astype(float)
    effect = np.where(days > 650, 1.5 - shift, 1.5)
    y = (rng.random(n) < 1 / (1 + np.exp(-effect * columns["ae_count"]))).astype(np.int8)
    return pl.DataFrame(
        {
            "subject_id": [f"P{k:04d}" for k in range(n)],
            "site_id": [f"S{k:02d}" for k in rng.integers(0, 8, n)],
            "label": y,
            **columns,
            "cut_day": (1200 - days).astype(np.int32),
        }
    )


@pytest.mark.slow
def test_a_change_over_time_is_seen_where_sites_do_not_show_it(task: Task, tmp_path: Path) -> None:
    def found(shift: float) -> tuple[float, float]:
        result = search(
            drifting(task, shift), task, trials=2, seed=1, backend="inprocess", storage=tmp_path / str(shift)
        )
        assert result.temporal is not None and result.sites.auroc is not None
        assert result.temporal.early + result.temporal.late + result.temporal.gap == 1200
        return result.temporal.auroc.value, result.sites.auroc.mean.value

    stable, changed = found(0.0), found(3.0)
    assert abs(stable[0] - stable[1]) < 0.06
    assert changed[0] < 0.4 < changed[1]
    off = replace(task, split=replace(task.split, latest_share=None))
    result = search(drifting(task, 0.0), off, trials=1, seed=1, backend="inprocess", storage=tmp_path / "off")
    assert result.temporal is None
