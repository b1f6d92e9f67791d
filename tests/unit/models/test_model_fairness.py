"""The fairness audit: it finds bias, clears fairness with enough data, and says when it cannot tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.fairness import (
    FairnessBiasDetectorOperator,
    FairnessReport,
    audit_predictions,
)
from trialops.models.fairness_intervals import differences
from trialops.models.policy import POLICIES, FairnessPolicy, load_fairness_policy
from trialops.models.task import Task

POLICY = load_fairness_policy()


def cells(counts: dict[str, tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and groups with given hits, misses, false alarms and right rejections."""
    y, p, group = [], [], []
    for level, numbers in counts.items():
        for count, (label, score) in zip(numbers, ((1, 0.9), (1, 0.1), (0, 0.9), (0, 0.1)), strict=True):
            y += [label] * count
            p += [score] * count
            group += [level] * count
    return np.array(y, dtype=np.int8), np.array(p), np.array(group, dtype=object)


def audit(counts: dict[str, tuple[int, int, int, int]], **more: Any) -> FairnessReport:
    y, p, group = cells(counts)
    return audit_predictions(y, p, {"sex": group}, threshold=0.5, policy=POLICY, **more)


def test_seeded_bias_fails() -> None:
    report = audit({"F": (150, 50, 60, 240), "M": (60, 140, 60, 240)})
    gaps = {gap.metric: gap for gap in report.attributes[0].gaps}
    assert report.verdict == "fail"
    assert gaps["true_positive_rate"].verdict == "fail"
    assert gaps["true_positive_rate"].estimate.value == pytest.approx(0.45)
    assert gaps["true_positive_rate"].estimate.low > POLICY.limits["true_positive_rate"]
    assert gaps["false_positive_rate"].verdict == "pass"
    assert gaps["equalized_odds"].estimate.value == pytest.approx(0.45)
    assert "true_positive_rate gap 0.450" in report.sentence()


def test_no_bias_passes_with_enough_subjects_and_not_with_few() -> None:
    assert audit({"F": (150, 50, 60, 240), "M": (148, 52, 62, 238)}).verdict == "pass"
    few = audit({"F": (15, 5, 6, 24), "M": (15, 5, 6, 24)})
    assert few.verdict == "insufficient evidence"
    assert few.attributes[0].gaps[0].estimate.value == 0.0


def test_perfect_small_groups_do_not_pass_for_want_of_variance() -> None:
    report = audit({"F": (10, 0, 0, 20), "M": (10, 0, 0, 20)})
    assert report.attributes[0].gaps[0].estimate.high > POLICY.limits["true_positive_rate"]
    assert report.verdict == "insufficient evidence"


def test_a_group_without_positives_raises_no_false_alarm() -> None:
    # fairlearn reports a true-positive rate of 0 for C and an equalized-odds difference of 0.75
    counts = {"A": (150, 50, 60, 240), "B": (150, 50, 60, 240), "C": (0, 0, 2, 8)}
    y, p, group = cells(counts)
    from fairlearn.metrics import equalized_odds_difference

    assert equalized_odds_difference(y, p >= 0.5, sensitive_features=group) == pytest.approx(0.75)
    report = audit(counts)
    row = report.attributes[0].groups[2]
    assert (row.level, row.assessable) == ("C", False)
    assert "0 positives (at least 10)" in row.why_not
    assert np.isnan(row.true_positive_rate.value)
    assert [gap.verdict for gap in report.attributes[0].gaps] == ["pass"] * 3
    assert report.verdict == "insufficient evidence"
    assert "1 of 3 groups not assessable" in report.sentence()


def test_a_group_without_positives_hides_no_bias() -> None:
    # mirrored: A misses every positive, C has none; fairlearn's difference is 0, a false pass
    counts = {"A": (0, 200, 60, 240), "C": (0, 0, 60, 240)}
    y, p, group = cells(counts)
    from fairlearn.metrics import equalized_odds_difference

    assert equalized_odds_difference(y, p >= 0.5, sensitive_features=group) == 0.0
    assert audit(counts).verdict == "insufficient evidence"
    assert audit({**counts, "B": (150, 50, 60, 240)}).verdict == "fail"


def test_an_absent_declared_group_is_listed_and_blocks_by_policy_only(tmp_path: Path) -> None:
    counts, declared = {"F": (150, 50, 60, 240), "M": (150, 50, 60, 240)}, {"sex": ["F", "M", "U"]}
    report = audit(counts, declared=declared)
    row = report.attributes[0].groups[2]
    assert (row.level, row.n, row.absent, row.assessable) == ("U", 0, True, False)
    assert row.why_not == "no held-out subjects" and np.isnan(row.prevalence.value)
    assert report.verdict == "pass" and "no subjects in U" in report.sentence()
    json.dumps(report.as_dict(), allow_nan=False)

    path = tmp_path / "fairness.yaml"
    path.write_text(
        (POLICIES / "fairness.yaml").read_text().replace("absent_groups: list", "absent_groups: insufficient")
    )
    y, p, group = cells(counts)
    strict = load_fairness_policy(path)
    report = audit_predictions(y, p, {"sex": group}, threshold=0.5, policy=strict, declared=declared)
    assert report.verdict == "insufficient evidence" and "no subjects in U" in report.sentence()


def test_a_handful_is_not_absent_and_one_group_alone_is_not_compared() -> None:
    few = audit({"F": (150, 50, 60, 240), "M": (150, 50, 60, 240), "U": (0, 0, 0, 1)})
    assert few.verdict == "insufficient evidence" and not few.attributes[0].groups[2].absent
    alone = audit({"F": (150, 50, 60, 240)}, declared={"sex": ["F", "M", "U"]})
    assert alone.verdict == "insufficient evidence" and "no subjects in M, U" in alone.sentence()


def test_a_policy_may_only_list_unassessable_groups(tmp_path: Path) -> None:
    path = tmp_path / "fairness.yaml"
    path.write_text((POLICIES / "fairness.yaml").read_text().replace("groups: insufficient", "groups: list"))
    y, p, group = cells({"F": (150, 50, 60, 240), "M": (150, 50, 60, 240), "U": (1, 0, 0, 1)})
    lenient = load_fairness_policy(path)
    report = audit_predictions(y, p, {"sex": group}, threshold=0.5, policy=lenient)
    assert report.verdict == "pass"
    assert "1 of 3 groups not assessable" in report.sentence()
    assert lenient.digest != POLICY.digest


def test_unrecorded_groups_are_a_group() -> None:
    y, p, group = cells({"F": (150, 50, 60, 240), "M": (150, 50, 60, 240)})
    group[:40] = None
    report = audit_predictions(y, p, {"sex": group}, threshold=0.5, policy=POLICY)
    rows = {row.level: row for row in report.attributes[0].groups}
    assert rows["NOT RECORDED"].n == 40
    assert sum(row.n for row in rows.values()) == len(y)


def test_rates_equal_the_counts() -> None:
    rng = np.random.default_rng(0)
    y, p = (rng.random(400) < 0.4).astype(np.int8), rng.random(400)
    group = rng.choice(np.array(["A", "B"], dtype=object), 400)
    report = audit_predictions(y, p, {"g": group}, threshold=0.6, policy=POLICY)
    for row in report.attributes[0].groups:
        part, flag = group == row.level, p >= 0.6
        assert row.true_positive_rate.value == pytest.approx(flag[part & (y == 1)].mean())
        assert row.false_positive_rate.value == pytest.approx(flag[part & (y == 0)].mean())
        assert row.selection_rate.value == pytest.approx(flag[part].mean())
        assert row.ppv.value == pytest.approx(y[part & flag].mean())
        assert row.calibration_in_the_large.value == pytest.approx((y - p)[part].mean())
        for estimate in (row.true_positive_rate, row.false_positive_rate, row.ppv, row.selection_rate):
            assert estimate.low < estimate.value < estimate.high


def test_gap_intervals_hold_their_level_for_all_pairs() -> None:
    # three groups, true gaps 0.2 in one rate and 0 in the other: the interval must hold all of them at once
    rng, covered, runs = np.random.default_rng(11), 0, 200
    for _ in range(runs):
        counts = {}
        for level, tpr in (("A", 0.8), ("B", 0.6), ("C", 0.7)):
            hit, alarm = rng.binomial(80, tpr), rng.binomial(100, 0.3)
            counts[level] = (int(hit), int(80 - hit), int(alarm), int(100 - alarm))
        found = differences(np.array(list(counts.values())), replicates=2000, seed=0, level=0.95)
        covered += bool(found.low.max() <= 0.2 <= found.high.max())
    assert covered / runs >= 0.93


def test_same_seed_same_report_and_one_group_is_insufficient() -> None:
    counts = {"F": (30, 10, 12, 48), "M": (20, 20, 12, 48)}
    assert audit(counts).as_dict() == audit(counts).as_dict()
    assert audit({"F": (150, 50, 60, 240)}).verdict == "insufficient evidence"
    assert audit_predictions(np.array([1, 0]), np.array([0.2, 0.4]), {}, threshold=0.5, policy=POLICY).verdict == (
        "insufficient evidence"
    )


def test_the_operator_reads_the_tasks_groups(trial_frame: pl.DataFrame, task: Task) -> None:
    bundle = Bundle("m", "logistic", ("ae_count",), 0.5, {}, {}, "", {}, {"ae_count": 0.0}, (0.0,), (1.0,), (1.0,))
    report = FairnessBiasDetectorOperator(task, POLICY).run(bundle, trial_frame)
    assert [a.attribute for a in report.attributes] == ["sex", "age_band", "race", "sex x age_band"]
    race = {row.level: row for row in report.attributes[2].groups}
    assert race["ASIAN"].n == 0
    assert sum(row.n for row in race.values()) == len(trial_frame)
    with pytest.raises(TrialOpsError, match="column the model needs is absent") as error:
        FairnessBiasDetectorOperator(task, POLICY).run(bundle, trial_frame.drop("group_race"))
    assert "group_race" in error.value.where


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("equalized_odds: 0.20", "equalised_odds: 0.20", "limits.equalized_odds"),
        ("replicates: 2000", "replicates: 5", "replicates"),
        ("min_subjects: 30", "min_subjects: 30\nmin_site: 2", "min_site"),
    ],
)
def test_a_bad_policy_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    path = tmp_path / "fairness.yaml"
    path.write_text((POLICIES / "fairness.yaml").read_text().replace(old, new))
    with pytest.raises(TrialOpsError) as error:
        load_fairness_policy(path)
    assert error.value.where == f"{path}, key {key}"


def test_a_comment_is_not_a_change_of_policy(tmp_path: Path) -> None:
    path = tmp_path / "fairness.yaml"
    path.write_text("# reviewed\n" + (POLICIES / "fairness.yaml").read_text())
    policy: FairnessPolicy = load_fairness_policy(path)
    assert policy.digest == POLICY.digest
