"""When training is due, and what is selected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from trialops.models.discrimination import Estimate
from trialops.models.record import plain
from trialops.models.selection import load_selection_policy, loss_difference, select
from trialops.models.training_page import selection_page, trigger_page
from trialops.models.training_trigger import (
    SKIP,
    TRAIN,
    TriggerPolicy,
    check_trigger,
    load_trigger_policy,
    task_digest,
)
from trialops.pages import render

POLICY = TriggerPolicy("p", 20, 5, 3, 1, True, "d")


def labelled(events: Sequence[int], start: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {"subject_id": [f"P{start + k:03d}" for k in range(len(events))], "label": list(events)},
        schema={"subject_id": pl.String, "label": pl.Int8},
    )


BEFORE = labelled([0, 1] * 50)


@pytest.mark.parametrize(
    ("added", "action"),
    [
        ([0] * 19 + [1] * 5, TRAIN),
        ([1] * 19, SKIP),  # events enough, subjects not
        ([0] * 40 + [1] * 4, SKIP),  # subjects enough, events not
        ([0] * 15 + [1] * 5, TRAIN),  # exactly the limits
        ([], SKIP),
    ],
)
def test_enough_new_subjects_and_events(added: list[int], action: str) -> None:
    found = check_trigger(pl.concat([BEFORE, labelled(added, 100)]), BEFORE, POLICY, last_version="3")
    assert (found.action, found.new_subjects, found.new_events) == (action, len(added), sum(added))
    assert (found.subjects, found.changed, found.gone) == (100 + len(added), 0, 0)


def test_corrected_outcomes_and_erased_subjects_count() -> None:
    flipped = BEFORE.with_columns(
        label=pl.when(pl.int_range(pl.len()) < 3).then(1 - pl.col("label")).otherwise("label")
    )
    found = check_trigger(flipped, BEFORE, POLICY, last_version="3")
    assert (found.action, found.changed) == (TRAIN, 3)
    two = BEFORE.with_columns(label=pl.when(pl.int_range(pl.len()) < 2).then(1 - pl.col("label")).otherwise("label"))
    assert check_trigger(two, BEFORE, POLICY, last_version="3").action == SKIP
    erased = check_trigger(BEFORE.slice(1), BEFORE, POLICY, last_version="3")
    assert (erased.action, erased.gone, erased.reasons) == (TRAIN, 1, ("<11 subjects gone (at least 1)",))


def test_the_first_training_needs_as_many_and_force_needs_none() -> None:
    assert check_trigger(BEFORE, None, POLICY).action == TRAIN
    few = check_trigger(labelled([0, 1]), None, POLICY)
    assert few.action == SKIP and "too little is new" in few.reasons[0]
    assert check_trigger(labelled([]), None, POLICY).action == SKIP
    forced = check_trigger(BEFORE, BEFORE, POLICY, last_version="3", force=True)
    assert forced.action == TRAIN and forced.reasons == ("asked for by parameter",)
    assert check_trigger(BEFORE, BEFORE, POLICY, last_version="3", changed_task=True).action == TRAIN


def test_the_shipped_policies_load_and_a_task_has_a_digest(task: object) -> None:
    assert load_trigger_policy().min_new_subjects > 0 and len(load_trigger_policy().digest) == 64
    assert load_selection_policy().against_baseline == "not_worse"
    assert len(task_digest(task)) == 64  # type: ignore[arg-type]


def test_the_page_does_not_count_a_handful() -> None:
    found = check_trigger(pl.concat([BEFORE, labelled([1] * 7, 100)]), BEFORE, POLICY, last_version="3")
    text = render(trigger_page(found))
    assert "&lt;11" in text and "7 new subjects" not in text


def searched(gain: Estimate) -> dict[str, object]:
    trials = [
        {"number": 0, "kind": "lightgbm", "log_loss": 0.6, "stopped": 0},
        {"number": 1, "kind": "logistic", "log_loss": 0.55, "stopped": 0},
        {"number": 2, "kind": "lightgbm", "log_loss": 0.5, "stopped": 40},
    ]
    return {"gain": plain(gain), "trials": trials}


def test_selection_rests_on_the_interval_against_the_prespecified_model() -> None:
    policy = load_selection_policy()
    for low, high, action in ((0.01, 0.03, "register"), (-0.02, 0.01, "register"), (-0.03, -0.01, "keep")):
        found = select(searched(Estimate((low + high) / 2, low, high, "paired")), policy)
        assert found.action == action
        assert (found.number, found.kind) == (1, "logistic"), "a fit that was given up is no winner"
        assert "log loss saved" in render(selection_page(found))
    strict = type(policy)("s", "better", "d")
    assert select(searched(Estimate(0.0, -0.02, 0.02, "paired")), strict).action == "keep"
    one_site = loss_difference(np.array([0, 1]), np.full(2, 0.5), np.array([0.2, 0.8]), np.array(["a", "a"]))
    assert select(searched(one_site), policy).action == "register"
    assert render(selection_page(select(searched(one_site), policy)))
