"""Mitigation: weights and thresholds do what their papers say, costs are told, and nothing is random but fairlearn."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.models.bundle import Bundle
from trialops.models.candidates import fit_lightgbm, fit_logistic
from trialops.models.fairness import FairnessBiasDetectorOperator, FairnessReport
from trialops.models.fairness_page import fairness_page
from trialops.models.mitigation import AS_IS, FairnessMitigationOperator, Mitigation, Variant
from trialops.models.mitigation_methods import EQUAL_OPPORTUNITY, EQUALIZED_ODDS, group_thresholds, reweighing
from trialops.models.policy import FairnessPolicy, MitigationPolicy, load_fairness_policy
from trialops.models.task import Task, load_task
from trialops.pages import render

FEATURES = ("sex_female", "ae_count", "age")


def lenient(**mitigation: Any) -> FairnessPolicy:
    policy = load_fairness_policy()
    return replace(policy, intersections=(), mitigation=replace(policy.mitigation, **mitigation))


def frame(n: int, seed: int, site: str) -> pl.DataFrame:
    """The sexes leave equally often for a reason of their own; men more often without one."""
    rng = np.random.default_rng(seed)
    female = rng.random(n) < 0.5
    signal = rng.normal(size=n)
    risk = -0.3 + 1.2 * signal - 1.6 * female
    age = rng.normal(75, 8, n).round()
    return pl.DataFrame(
        {
            "subject_id": [f"{site}{i:05d}" for i in range(n)],
            "site_id": [f"{site}{k:02d}" for k in rng.integers(0, 6, n)],
            "label": (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(np.int8),
            "sex_female": female.astype(float),
            "ae_count": signal,
            "age": age,
            "group_sex": np.where(female, "F", "M"),
            "group_age_band": np.where(age < 65, "<65", np.where(age <= 80, "65-80", ">80")),
            "group_race": ["WHITE"] * n,
        }
    )


@cache
def setting(kind: str = "logistic") -> tuple[Task, Bundle, pl.DataFrame, pl.DataFrame]:
    task, train, held = load_task(), frame(3000, 1, "T"), frame(3000, 2, "H")
    x, y = train.select(FEATURES).to_numpy(), train["label"].to_numpy()
    base = Bundle("m", kind, FEATURES, 0.3, task.as_dict(), {"digest": "d"}, "run", {})
    if kind == "lightgbm":
        params = {"learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 20}
        booster = fit_lightgbm(x, y, params, 30, 1, FEATURES)
        return task, replace(base, booster=booster, params={**params, "rounds": 30, "seed": 1}), train, held
    params = {"C": 1.0, "l1_ratio": 0.0}
    fitted = fit_logistic(x, y, params, 1)
    parts = {k: tuple(fitted[k]) for k in ("centre", "scale", "coefficients")}
    fill = dict(zip(FEATURES, fitted["fill"], strict=True))
    model = replace(base, **parts, intercept=fitted["intercept"], fill=fill, params={**params, "seed": 1})
    return task, model, train, held


@cache
def compared(kind: str = "logistic") -> tuple[Mitigation, FairnessReport]:
    task, model, train, held = setting(kind)
    policy = lenient()
    audit = FairnessBiasDetectorOperator(task, policy).run(model, held)
    found = FairnessMitigationOperator(task, policy).run(model, train, held, audit)
    assert [m.attribute for m in found] == ["sex"], "the attribute that fails"
    return found[0], audit


def variant(found: Mitigation, start: str) -> Variant:
    return next(v for v in found.variants if v.name.startswith(start))


def odds(v: Variant) -> Any:
    return v.gaps[-1].estimate


def test_weights_make_outcome_and_group_independent() -> None:
    rng = np.random.default_rng(3)
    code = rng.integers(0, 3, 4000)
    y = (rng.random(4000) < np.array([0.2, 0.5, 0.8])[code]).astype(np.int8)
    w = reweighing(y, code)
    assert w.sum() == pytest.approx(4000)
    shares = [w[(code == k) & (y == 1)].sum() / w[code == k].sum() for k in range(3)]
    assert shares == pytest.approx([y.mean()] * 3)
    assert [w[code == k].sum() for k in range(3)] == pytest.approx(np.bincount(code).tolist())
    # the worked example of Kamiran and Calders 2012: five women, two hired; five men, four hired
    sex, hired = np.array([0] * 5 + [1] * 5), np.array([1, 1, 0, 0, 0, 1, 1, 1, 1, 0], dtype=np.int8)
    weights = reweighing(hired, sex)
    assert np.round(weights[[0, 2, 5, 9]], 2).tolist() == [1.5, 0.67, 0.75, 2.0]


def test_weights_of_one_outcome_only() -> None:
    y, code = np.array([1, 1, 0, 0, 0], dtype=np.int8), np.array([0, 0, 1, 1, 1])
    assert np.isfinite(reweighing(y, code)).all()


@pytest.mark.parametrize("aim", [EQUAL_OPPORTUNITY, EQUALIZED_ODDS])
def test_thresholds_by_group_close_the_gap_a_shift_makes(aim: str) -> None:
    # group 1's scores are those of group 0, lower by 0.2: thresholds 0.2 apart make both alike, on both axes
    rng = np.random.default_rng(5)
    y = np.tile((rng.random(3000) < 0.4).astype(np.int8), 2)
    s = np.tile(np.clip(rng.normal(0.45, 0.12, 3000), 0.25, 0.75), 2) + 0.15 * y
    code = np.repeat([0, 1], 3000)
    p = s - 0.2 * code
    cuts = group_thresholds(y, p, code, np.array([True, True]), 0.4, aim)
    assert cuts[0] - cuts[1] == pytest.approx(0.2, abs=0.01)
    tpr = [(p[(code == k) & (y == 1)] >= cuts[k]).mean() for k in (0, 1)]
    assert tpr[0] == pytest.approx(tpr[1], abs=0.01) and 0.3 < tpr[0] < 0.95
    # a group too small for a threshold of its own keeps the single one
    assert group_thresholds(y, p, code, np.array([True, False]), 0.4, aim)[1] == 0.4


def test_what_it_gains_and_costs_is_told_on_the_same_subjects() -> None:
    found, audit = compared()
    as_is = found.variants[0]
    assert as_is.name == AS_IS and as_is.verdict == "fail" == audit.verdict
    part = next(p for p in audit.attributes if p.attribute == "sex")
    assert as_is.gaps == part.gaps
    for change in (as_is.gap_change, as_is.auroc_change, as_is.net_benefit_change):
        assert (change.value, change.low, change.high) == (0, 0, 0)
    cuts = variant(found, "thresholds by group, both")
    assert cuts.verdict == "pass" and odds(cuts).high < 0.20 < odds(as_is).low
    assert cuts.gap_change.high < 0 and cuts.needs_attribute
    assert cuts.auroc == as_is.auroc and cuts.digest == as_is.digest
    assert cuts.thresholds["F"] < cuts.thresholds["M"]
    without = variant(found, "without sex_female")
    assert without.gap_change.high < 0 and not without.needs_attribute
    assert without.auroc_change.high < 0, "sex foretells the outcome here; leaving it out costs discrimination"
    assert without.net_benefit_change.value < 0 and without.digest != as_is.digest
    reweighed = variant(found, "reweighed")
    assert reweighed.gap_change.high < 0 and not reweighed.needs_attribute


def test_figures_equal_a_computation_by_rows() -> None:
    task, model, _, held = setting()
    found, _ = compared()
    cuts = variant(found, "thresholds by group, true")
    y, p = held["label"].to_numpy(), model.predict(held.select(FEATURES).to_numpy())
    group = held["group_sex"].to_numpy()
    flag = p >= np.array([cuts.thresholds[g] for g in group])
    old = p >= model.threshold
    w = model.threshold / (1 - model.threshold)
    worth = ((flag & (y == 1)).sum() - w * (flag & (y == 0)).sum()) / len(y)
    before = ((old & (y == 1)).sum() - w * (old & (y == 0)).sum()) / len(y)
    assert cuts.net_benefit.value == pytest.approx(worth) and cuts.net_benefit_change.value == pytest.approx(
        worth - before
    )
    tpr = {g: flag[(group == g) & (y == 1)].mean() for g in ("F", "M")}
    assert cuts.gaps[0].estimate.value == pytest.approx(abs(tpr["F"] - tpr["M"]))
    # the paired interval of the net benefit against a bootstrap of rows
    rng = np.random.default_rng(0)
    gain = np.where(y == 1, 1.0, -w) * (flag.astype(float) - old)
    drawn = gain[rng.integers(0, len(y), (2000, len(y)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert cuts.net_benefit_change.low == pytest.approx(low, abs=0.002)
    assert cuts.net_benefit_change.high == pytest.approx(high, abs=0.002)


def test_only_fairlearns_is_random_and_ours_is_the_same_every_time() -> None:
    found, _ = compared()
    random = [v for v in found.variants if v.random]
    assert [v.name for v in random] == ["fairlearn's randomised optimiser, for comparison"]
    assert random[0].flag_changes > 0 and all(v.flag_changes == 0 for v in found.variants if not v.random)
    task, model, train, held = setting()
    audit = FairnessBiasDetectorOperator(task, lenient()).run(model, held)
    again = FairnessMitigationOperator(task, lenient()).run(model, train, held, audit)[0]
    assert again.as_dict() == found.as_dict()
    json.dumps(again.as_dict(), allow_nan=False)


def test_boosted_trees_are_refitted_too() -> None:
    found, _ = compared("lightgbm")
    assert variant(found, "reweighed").gap_change.high < 0
    assert variant(found, "without").gap_change.high < 0


def test_the_policy_rules_ways_out() -> None:
    task, model, train, held = setting()
    policy = lenient(attribute_at_prediction=(), carried_by={})
    audit = FairnessBiasDetectorOperator(task, policy).run(model, held)
    found = FairnessMitigationOperator(task, policy).run(model, train, held, audit)[0]
    assert [v.name for v in found.variants] == [AS_IS, "reweighed"]
    assert len(found.not_offered) == 2 and "policy does not let" in found.not_offered[1]
    assert isinstance(policy.mitigation, MitigationPolicy)


def test_nothing_is_done_unless_it_fails_or_is_asked_for() -> None:
    task, model, train, held = setting()
    policy = lenient()
    audit = FairnessBiasDetectorOperator(task, policy).run(model, held)
    operator = FairnessMitigationOperator(task, policy)
    assert operator.run(model, train, held, audit, when="never") == ()
    fair = replace(model, threshold=0.0)  # everybody is flagged: no difference
    passed = FairnessBiasDetectorOperator(task, policy).run(fair, held)
    assert operator.run(fair, train, held, passed) == ()
    with pytest.raises(TrialOpsError, match="one of the words"):
        operator.run(model, train, held, audit, when="sometimes")


def test_an_intersection_can_be_mitigated() -> None:
    task, model, train, held = setting()
    policy = replace(lenient(), intersections=(("sex", "age_band"),))
    audit = FairnessBiasDetectorOperator(task, policy).run(model, held)
    found = FairnessMitigationOperator(task, policy).run(model, train, held, audit)
    crossed = next(m for m in found if m.attribute == "sex x age_band")
    assert variant(crossed, "thresholds by group, both").gap_change.high < 0
    assert "F / 65-80" in variant(crossed, "thresholds by group, both").thresholds


def test_the_page_compares_and_says_that_a_person_chooses() -> None:
    found, audit = compared()
    text = render(fairness_page(audit, lenient(), (found,)))
    for words in ("as it is", "reweighed", "thresholds by group", "at random", "A person chooses", "<svg"):
        assert words in text
