"""Figures of a group against independent computations; intersections; draws of counts against resampled rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.models.fairness import FairnessReport, audit_predictions
from trialops.models.fairness_groups import net_benefit
from trialops.models.fairness_intervals import (
    confusion_counts,
    false_positive_rate,
    net_benefit_at,
    percentile_intervals,
    predictive_value,
    resample,
    selection_rate,
    true_positive_rate,
)
from trialops.models.policy import POLICIES, load_fairness_policy
from trialops.models.record import restore

POLICY = load_fairness_policy()
CUT = 0.4


def people(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.36).astype(np.int8)
    p = np.clip(rng.normal(0.33, 0.15, n) + 0.1 * y, 0.02, 0.98)
    sex = rng.choice(np.array(["F", "M"], dtype=object), n)
    age = rng.choice(np.array(["<65", "65-80", ">80"], dtype=object), n, p=[0.15, 0.6, 0.25])
    return y, p, {"sex": sex, "age_band": age}


def report(**more: object) -> FairnessReport:
    y, p, groups = people()
    return audit_predictions(y, p, groups, threshold=CUT, policy=POLICY, **more)  # type: ignore[arg-type]


def test_every_rate_equals_fairlearns_and_sklearns() -> None:
    from fairlearn import metrics
    from sklearn.metrics import precision_score

    y, p, groups = people()
    names = ("true_positive_rate", "false_positive_rate", "selection_rate")
    told = metrics.MetricFrame(
        metrics={**{n: getattr(metrics, n) for n in names}, "ppv": precision_score, "n": metrics.count},
        y_true=y,
        y_pred=(p >= CUT).astype(int),
        sensitive_features=np.array([f"{a} / {b}" for a, b in zip(groups["sex"], groups["age_band"], strict=True)]),
    ).by_group
    crossed = report().attributes[2]
    assert crossed.attribute == "sex x age_band" and len(crossed.groups) == 6
    for row in crossed.groups:
        for name in (*names, "ppv"):
            assert getattr(row, name).value == pytest.approx(told.loc[row.level, name], abs=1e-12)
        assert row.n == told.loc[row.level, "n"]


def test_net_benefit_and_its_interval() -> None:
    from trialops.models.net_benefit import net_benefit as curve

    y, p, groups = people()
    for row in report().attributes[0].groups:
        part = groups["sex"] == row.level
        assert row.net_benefit.value == pytest.approx(curve(y[part], p[part], np.array([CUT]))[0], abs=1e-12)
        everybody = curve(y[part], np.ones(part.sum()), np.array([CUT]))[0]
        assert row.net_benefit_all == pytest.approx(everybody, abs=1e-12)
    # the normal interval against draws of the same counts
    counts = np.array([[150, 80, 120, 290]])
    drawn = net_benefit_at(CUT)(resample(counts, 20_000, 1))[:, 0]
    found = net_benefit(150, 120, 640, CUT, 0.95)
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.002)
    assert np.isnan(net_benefit(0, 0, 0, CUT, 0.95).value) and np.isnan(net_benefit(1, 1, 9, 1.0, 0.95).value)


def test_calibration_slope_equals_sklearns_and_needs_events() -> None:
    from sklearn.linear_model import LogisticRegression

    y, p, groups = people()
    rows = report().attributes[0].groups
    for row in rows:
        part = groups["sex"] == row.level
        logit = np.log(p[part] / (1 - p[part]))[:, None]
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, y[part])
        assert row.calibration_slope.value == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
        assert row.calibration_slope.low < row.calibration_slope.value < row.calibration_slope.high
    y, p, few = np.repeat([1, 0], [19, 60]).astype(np.int8), np.linspace(0.1, 0.9, 79), np.array(["A"] * 79)
    row = audit_predictions(y, p, {"g": few}, threshold=CUT, policy=POLICY).attributes[0].groups[0]
    assert np.isnan(row.calibration_slope.value) and row.calibration_slope.method == "too few events or non-events"


@pytest.mark.parametrize("stratified", [True, False])
def test_draws_of_counts_have_the_law_of_resampled_rows(stratified: bool) -> None:
    rng = np.random.default_rng(4)
    n, runs = 240, 4000
    code = np.repeat([0, 1], [60, 180])
    y = (rng.random(n) < 0.4).astype(np.int8)
    flag = rng.random(n) < 0.3 + 0.4 * y
    metrics = (true_positive_rate, false_positive_rate, selection_rate, predictive_value)
    if stratified:
        first, second = rng.integers(0, 60, (runs, 60)), rng.integers(60, 240, (runs, 180))
        rows = np.concatenate([first, second], axis=1)
    else:
        rows = rng.integers(0, n, (runs, n))
    counts = np.stack([confusion_counts(y[r], flag[r], code[r], 2) for r in rows])
    found = percentile_intervals(
        confusion_counts(y, flag, code, 2), metrics, replicates=40_000, seed=0, stratified=stratified
    )
    for metric, interval in zip(metrics, found, strict=True):
        values = metric(counts)
        assert interval.by_group == pytest.approx(np.nanquantile(values, [0.025, 0.975], axis=0).T, abs=0.02)
        spread = np.ptp(values, axis=1)
        assert interval.difference == pytest.approx(np.quantile(spread, [0.025, 0.975]), abs=0.02)


def test_counting_equals_a_count_by_hand_and_empty_groups_are_zero() -> None:
    y, p, groups = people(500)
    code = (groups["sex"] == "M").astype(int) * 2
    counts = confusion_counts(y, p >= CUT, code, 3)
    assert counts[1].tolist() == [0, 0, 0, 0] and counts.sum() == 500
    women, flag = groups["sex"] == "F", p >= CUT
    assert counts[0].tolist() == [
        int((women & flag & (y == 1)).sum()),
        int((women & ~flag & (y == 1)).sum()),
        int((women & flag & (y == 0)).sum()),
        int((women & ~flag & (y == 0)).sum()),
    ]
    assert np.isnan(true_positive_rate(counts)[1])
    drawn = resample(counts, 50, 0, stratified=True)
    assert (drawn.sum(axis=2) == counts.sum(axis=1)).all()
    assert (resample(counts, 50, 0, stratified=False).sum(axis=(1, 2)) == 500).all()


def test_bias_hidden_in_an_intersection_is_found() -> None:
    """Neither sex nor age shows it: the model misses events of young women and of old men (Kearns et al. 2018)."""
    rng, n = np.random.default_rng(9), 8000
    y = (rng.random(n) < 0.4).astype(np.int8)
    sex = rng.choice(np.array(["F", "M"], dtype=object), n)
    age = rng.choice(np.array(["65-80", ">80"], dtype=object), n)
    missed = (sex == "F") == (age == "65-80")
    p = np.where(rng.random(n) < np.where(y == 1, np.where(missed, 0.35, 0.85), 0.3), 0.8, 0.1)
    found = audit_predictions(y, p, {"sex": sex, "age_band": age}, threshold=CUT, policy=POLICY)
    verdicts = {part.attribute: part.verdict for part in found.attributes}
    assert verdicts == {"sex": "pass", "age_band": "pass", "sex x age_band": "fail"} and found.verdict == "fail"
    gap = found.attributes[2].gaps[0]
    assert gap.found and {gap.lower_in} <= {"F / 65-80", "M / >80"} and {gap.higher_in} <= {"M / 65-80", "F / >80"}


def test_intersections_cross_what_is_not_recorded_and_list_declared_cells() -> None:
    y, p, groups = people(600)
    groups["sex"][:50] = None
    declared = {"sex": ("F", "M"), "age_band": ("<65", "65-80", ">80", "90+")}
    found = audit_predictions(y, p, groups, threshold=CUT, policy=POLICY, declared=declared).attributes[2]
    levels = [row.level for row in found.groups]
    assert "NOT RECORDED / 65-80" in levels and "F / 90+" in levels
    assert sum(row.n for row in found.groups) == 600 and "no subjects in F / 90+" in found.reason
    # an intersection whose attribute is not audited is left out
    alone = audit_predictions(y, p, {"sex": groups["sex"]}, threshold=CUT, policy=POLICY)
    assert [part.attribute for part in alone.attributes] == ["sex"]


def test_attributes_share_the_error_and_the_report_says_so() -> None:
    shared = report()
    assert shared.compared == 3 and "by Bonferroni, 3 attributes and intersections" in shared.method
    y, p, groups = people()
    policy = replace(POLICY, across_attributes="none")
    whole = audit_predictions(y, p, groups, threshold=CUT, policy=policy)
    for one, other in zip(shared.attributes, whole.attributes, strict=True):
        assert one.gaps[0].estimate.value == other.gaps[0].estimate.value
        assert one.gaps[0].estimate.high > other.gaps[0].estimate.high
        assert one.gaps[0].estimate.level == pytest.approx(1 - 0.05 / 3) and other.gaps[0].estimate.level == 0.95


def test_a_report_survives_being_written_down() -> None:
    found = report()
    assert (
        restore(FairnessReport, json.loads(json.dumps(found.as_dict(), allow_nan=False))).as_dict() == found.as_dict()
    )


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("  - [sex, age_band]", "  - [sex]", "intersections"),
        ("  - [sex, age_band]", "  - [sex, sex]", "intersections"),
        ("across_attributes: bonferroni", "across_attributes: holm", "across_attributes"),
        ("min_events_for_slope: 20", "min_events_for_slope: 1", "min_events_for_slope"),
        ("    sex: [sex_female]", "    sex: sex_female", "mitigation.carried_by.sex"),
        ("  attribute_at_prediction: [sex, age_band]", "  at_prediction: []", "mitigation.attribute_at_prediction"),
    ],
)
def test_a_bad_new_key_is_refused(tmp_path: Path, old: str, new: str, key: str) -> None:
    path, text = tmp_path / "fairness.yaml", (POLICIES / "fairness.yaml").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(TrialOpsError) as error:
        load_fairness_policy(path)
    assert error.value.where == f"{path}, key {key}"
