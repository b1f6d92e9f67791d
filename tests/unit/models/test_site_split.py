"""Hold-out and folds: whole sites, both outcomes, the same every time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.models.split import HELD_OUT, TRAIN, SiteSplit, site_folds, split_sites
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


def roles_of(split: SiteSplit) -> dict[str, str]:
    return dict.fromkeys(split.train_sites, TRAIN) | dict.fromkeys(split.held_out_sites, HELD_OUT)


def test_sites_keep_their_role_whatever_the_seed(trial_frame: pl.DataFrame, task: Task) -> None:
    before = split_sites(trial_frame, task, seed=0)
    after = split_sites(trial_frame, task, seed=99, roles=roles_of(before))
    assert roles_of(after) == roles_of(before)
    assert f"{len(before.held_out_sites)} sites stay held out" in after.notes[-1]


def test_a_share_that_roles_have_moved_is_said_and_not_mended() -> None:
    frame = frame_of([10] * 10, [5] * 10)
    roles = {f"S{k}": HELD_OUT if k < 6 else TRAIN for k in range(10)}
    split = split_sites(frame, TASK, roles=roles)
    assert split.share == 0.6 and roles_of(split) == roles
    assert "0.600 is outside 0.30 ± 0.05: sites keep their role" in split.notes[0]
    more = split_sites(frame_of([10] * 16, [5] * 16), TASK, roles=roles)
    assert set(more.held_out_sites) == {f"S{k}" for k in range(6)}, "new sites bring the share back: all to training"


def test_roles_that_leave_one_outcome_on_a_side_are_refused_with_the_reason() -> None:
    with pytest.raises(TrialOpsError, match="2 of them have a role"):
        split_sites(frame_of([10, 10], [10, 5]), TASK, roles={"S0": HELD_OUT, "S1": TRAIN})


def divisible(frame: pl.DataFrame, roles: dict[str, str]) -> bool:
    """Whether some assignment of the sites without a role leaves both outcomes on both sides; tries every one."""
    counts = (
        frame.group_by("site_id")
        .agg(pl.len().alias("n"), pl.col("label").cast(pl.Int64).sum().alias("e"))
        .sort("site_id")
    )
    free = [s not in roles for s in counts["site_id"]]
    n, e = counts["n"].to_numpy(), counts["e"].to_numpy()
    held = np.array([roles.get(s) == HELD_OUT for s in counts["site_id"]])
    index = np.flatnonzero(free)
    for choice in range(2 ** len(index)):
        side = held.copy()
        side[index[[bool(choice >> k & 1) for k in range(len(index))]]] = True
        if all(0 < e[part].sum() < n[part].sum() for part in (side, ~side)):
            return True
    return False


def test_no_site_changes_its_role_while_a_trial_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trialops.models.split.ATTEMPTS", 25)  # few orders, so that the exact search is needed too
    refused = drifted = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        sites, roles = int(rng.integers(2, 12)), {}
        rate = rng.uniform(0.05, 0.6)
        size, event = rng.integers(1, 20, sites), np.zeros(sites, dtype=int)
        event = rng.binomial(size, rate)
        for _ in range(4):
            frame = frame_of(size.tolist(), event.tolist())
            frame = frame.with_columns(site_id=pl.lit(f"T{trial}-") + pl.col("site_id"))
            try:
                split = split_sites(frame, TASK, seed=int(rng.integers(0, 5)), roles=roles)
            except TrialOpsError:
                refused += 1
                assert not divisible(frame, roles)
            else:
                now = roles_of(split)
                assert all(now[site] == role for site, role in roles.items())
                for part in split.parts(frame):
                    assert set(part["label"]) == {0, 1}
                off = abs(split.share - TASK.split.hold_out_share) > TASK.split.tolerance
                drifted += off
                assert off == any("outside" in note for note in split.notes)
                roles = now
            new = int(rng.integers(0, 3))
            more = np.concatenate([rng.integers(0, 10, len(size)), rng.integers(1, 20, new)])
            size = np.concatenate([size, np.zeros(new, dtype=int)]) + more
            event = np.concatenate([event, np.zeros(new, dtype=int)]) + rng.binomial(more, rate)
    assert refused > 0 and drifted > 0  # the hard cases do occur


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
