"""Hold-out and folds: whole sites, both outcomes, the same every time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.models.split import site_folds, split_sites
from trialops.models.task import Task, load_task

TASK = load_task()


def frame_of(sizes: list[int], events: list[int]) -> pl.DataFrame:
    site = np.repeat([f"S{k}" for k in range(len(sizes))], sizes)
    label = np.concatenate([[1] * e + [0] * (n - e) for n, e in zip(sizes, events, strict=True)])
    return pl.DataFrame(
        {
            "subject_id": [f"P{i:04d}" for i in range(len(site))],
            "site_id": site,
            "label": label.astype(np.int8),
        }
    )


@settings(max_examples=60, deadline=None)
@given(
    sites=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 25)), min_size=2, max_size=15),
    seed=st.integers(0, 5),
)
def test_sites_stay_whole_and_both_sides_hold_both_outcomes(sites: list[tuple[int, int]], seed: int) -> None:
    frame = frame_of([n for n, _ in sites], [min(n, e) for n, e in sites])
    try:
        split = split_sites(frame, TASK, seed=seed)
    except TrialOpsError as error:
        assert "outcome" in error.what
        return
    train, held = split.parts(frame)
    assert not set(train["site_id"]) & set(held["site_id"])
    assert not set(train["subject_id"]) & set(held["subject_id"])
    assert len(train) + len(held) == len(frame)
    for part in (train, held):
        assert set(part["label"]) == {0, 1}


def test_the_share_is_met_on_seventeen_unequal_sites() -> None:
    sizes = [51, 38, 32, 29, 25, 23, 21, 19, 13, 12, 12, 9, 7, 6, 5, 3, 1]  # as enrolled in CDISC Pilot 01
    frame = frame_of(sizes, [n // 2 for n in sizes])
    for seed in range(20):
        split = split_sites(frame, TASK, seed=seed)
        assert abs(split.share - TASK.split.hold_out_share) <= TASK.split.tolerance
        assert not split.notes


def test_row_order_does_not_matter_and_the_seed_does(trial_frame: pl.DataFrame, task: Task) -> None:
    one = split_sites(trial_frame, task, seed=3)
    assert split_sites(trial_frame.sample(fraction=1.0, shuffle=True, seed=9), task, seed=3) == one
    assert len({split_sites(trial_frame, task, seed=s).held_out_sites for s in range(8)}) > 1


def test_pandas_and_polars_split_alike(trial_frame: pl.DataFrame, task: Task) -> None:
    pandas = trial_frame.to_pandas()
    split = split_sites(pandas, task)
    assert split == split_sites(trial_frame, task)
    assert split.parts(pandas)[1]["subject_id"].tolist() == split.parts(trial_frame)[1]["subject_id"].to_list()


def test_sites_held_out_before_stay_held_out(trial_frame: pl.DataFrame, task: Task) -> None:
    before = split_sites(trial_frame, task, seed=0).held_out_sites
    after = split_sites(trial_frame, task, seed=99, keep=before)
    assert set(before) <= set(after.held_out_sites)
    assert "stay held out" in after.notes[0]


def test_one_class_one_site_and_empty_are_refused() -> None:
    with pytest.raises(TrialOpsError, match="same outcome: 0 events in 20"):
        split_sites(frame_of([10, 10], [0, 0]), TASK)
    with pytest.raises(TrialOpsError, match="has 1 site"):
        split_sites(frame_of([20], [5]), TASK)
    with pytest.raises(TrialOpsError, match="no rows"):
        split_sites(frame_of([3, 3], [1, 1]).head(0), TASK)
    with pytest.raises(TrialOpsError, match="No division"):
        split_sites(frame_of([10, 10], [10, 0]), TASK)


def test_repeated_subjects_and_unknown_sites_are_refused() -> None:
    frame = frame_of([10, 10], [5, 5])
    with pytest.raises(TrialOpsError, match="1 rows repeat a subject"):
        split_sites(pl.concat([frame, frame.head(1)]), TASK)
    with pytest.raises(TrialOpsError, match="20 subjects have no site"):
        split_sites(frame.with_columns(site_id=pl.lit(None, dtype=pl.String)), TASK)


def test_a_site_with_three_subjects() -> None:
    frame = frame_of([40, 30, 3], [15, 12, 1])
    split = split_sites(frame, TASK)
    assert len(split.train_sites) + len(split.held_out_sites) == 3
    folds = site_folds(frame, TASK)
    small = frame["site_id"].to_numpy() == "S2"
    assert len(set(folds.fold[small])) == 1


def test_folds_keep_sites_whole_and_pool_small_ones(trial_frame: pl.DataFrame, task: Task) -> None:
    folds = site_folds(trial_frame, task)
    site = trial_frame["site_id"].to_numpy()
    assert folds.count == task.split.folds
    assert all(len(set(folds.fold[site == s])) == 1 for s in set(site))
    assert max(len(group) for group in folds.groups) > 1
    size = np.bincount(folds.fold)
    assert size.max() - size.min() <= np.bincount(np.unique(site, return_inverse=True)[1]).max()


def test_a_single_site_falls_back_on_subjects_and_says_so() -> None:
    folds = site_folds(frame_of([30], [10]), TASK)
    assert folds.count == TASK.split.folds
    assert "optimistic" in folds.notes[-1]


def test_too_few_outcomes_for_folds() -> None:
    with pytest.raises(TrialOpsError, match="1 events in 30 subjects"):
        site_folds(frame_of([15, 15], [1, 0]), TASK)
