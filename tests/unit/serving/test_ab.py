"""A/B experiments: uses, assignment, sample ratio, power, looks."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.serving.ab import Exposed, exposures, look, sample_ratio
from trialops.serving.ab_page import experiment_page
from trialops.serving.boundaries import crossing, drift_for_power, obrien_fleming, pocock, spending_boundary
from trialops.serving.call_log import EXPOSURES, CallLog, Exposures
from trialops.serving.experiment import Experiment, load_experiment
from trialops.serving.power import power_of_means, units_for_means, units_for_proportions
from trialops.serving.routing import assign, unit_of

DOCUMENT: dict[str, Any] = {
    "name": "worklist-2",
    "title": "Worklist ordered by the new model",
    "task": "withdrawal",
    "protocol": "Amendment 3, 9.6",
    "surface": "worklist_order",
    "unit": "subject",
    "arms": [
        {"name": "current", "share": 0.7, "version": "1"},
        {"name": "new", "share": 0.3, "version": "2"},
    ],
    "metric": {
        "name": "call made within 7 days",
        "kind": "proportion",
        "control": 0.5,
        "sd": 0.5,
        "minimum_effect": 0.1,
    },
    "alpha": 0.05,
    "power": 0.8,
    "looks": [0.25, 0.5, 0.75, 1.0],
    "spending": "obrien_fleming",
}


def experiment(tmp_path: Path, **change: Any) -> Experiment:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | change))
    return load_experiment(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surface": "treatment"}, "may not change treatment"),
        ({"surface": "eligibility"}, "trial of its own"),
        ({"surface": "button_colour"}, "does not allow experiments on 'button_colour'"),
        ({"task": "another"}, "does not allow"),
        ({"protocol": " "}, "no section of the protocol"),
        ({"unit": "request"}, "unit is the subject"),
        ({"arms": [DOCUMENT["arms"][0], {"name": "new", "share": 0.4, "version": "2"}]}, "do not add up"),
        ({"looks": [0.5, 0.9]}, "end at 1"),
        ({"surprise": 1}, "unknown: surprise"),
        ({"metric": DOCUMENT["metric"] | {"minimum_effect": 0.6}}, "between 0 and 1"),
        ({"alpha": "much"}, "cannot be read"),
    ],
)
def test_only_what_the_protocol_allows(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrialOpsError, match=message):
        experiment(tmp_path, **change)


def test_assignment_is_sticky_exact_in_the_limit_and_the_routers(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    subjects = [f"S{i}" for i in range(50_000)]
    arms = [made.arm_of(s) for s in subjects]
    assert arms == [made.arm_of(s) for s in subjects]
    counts = Counter(arms)
    assert not sample_ratio([counts["current"], counts["new"]], (0.7, 0.3), 0.001).mismatch
    assert all((arm == "new") == assign(unit_of(s), 30, made.name) for s, arm in zip(subjects, arms, strict=True))
    other = experiment(tmp_path, name="worklist-3")
    both = np.mean([a == "new" and other.arm_of(s) == "new" for s, a in zip(subjects, arms, strict=True)])
    assert both == pytest.approx(0.09, abs=0.005)  # another salt: independent of the first


def test_sample_ratio_equals_scipy_and_finds_what_it_should() -> None:
    found = sample_ratio([690, 310], (0.7, 0.3), 0.001)
    expected = stats.chisquare([690, 310], [700, 300])
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert not found.mismatch and sample_ratio([600, 400], (0.7, 0.3), 0.001).mismatch
    rng, n, runs = np.random.default_rng(1), 1000, 4000
    drawn = rng.binomial(n, 0.3, runs)
    alarms = np.mean([sample_ratio([n - k, k], (0.7, 0.3), 0.05).mismatch for k in drawn.tolist()])
    assert alarms == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("control", "change", "ratio"), [(0.5, 0.1, 1.0), (0.2, -0.05, 1.0), (0.3, 0.1, 0.5)])
def test_units_for_proportions_equal_statsmodels(control: float, change: float, ratio: float) -> None:
    # statsmodels counts the first group, whose proportion is prop2 + diff; the other is `ratio` times as large
    expected = samplesize_proportions_2indep_onetail(-change, control + change, 0.8, ratio=ratio, alpha=0.05)
    assert units_for_proportions(control, change, alpha=0.05, power=0.8, ratio=ratio) == pytest.approx(
        float(expected), rel=1e-6
    )


@pytest.mark.parametrize(("effect", "ratio"), [(0.5, 1.0), (0.2, 0.5), (-0.3, 2.0), (1.5, 1.0)])
def test_units_for_means_equal_statsmodels(effect: float, ratio: float) -> None:
    reference = TTestIndPower()
    expected = reference.solve_power(abs(effect), power=0.9, ratio=ratio, alpha=0.05)
    found = units_for_means(effect, alpha=0.05, power=0.9, ratio=ratio)
    assert found == pytest.approx(float(expected), rel=1e-4)
    assert power_of_means(effect, 40, alpha=0.05, ratio=ratio) == pytest.approx(
        reference.power(abs(effect), 40, 0.05, ratio=ratio), abs=1e-6
    )


def test_looking_makes_it_larger_as_published(tmp_path: Path) -> None:
    single = experiment(tmp_path, looks=[1.0])
    assert single.inflation == 1.0
    fifths = [0.2, 0.4, 0.6, 0.8, 1.0]
    # Jennison and Turnbull (2000), tables 2.2 and 2.4: five looks, 80 % power.
    once = drift_for_power([1.0], [stats.norm.isf(0.025)], 0.8)
    for boundary, published in ((pocock(5), 1.228), (obrien_fleming(5), 1.028)):
        assert (drift_for_power(fifths, boundary, 0.8) / once) ** 2 == pytest.approx(published, abs=1e-3)
    assert 1.02 < experiment(tmp_path, looks=fifths).inflation < 1.03
    assert 1.2 < experiment(tmp_path, looks=fifths, spending="pocock").inflation < 1.228
    assert experiment(tmp_path).planned[1] == pytest.approx(experiment(tmp_path).planned[0] * 3 / 7, abs=1)


def test_the_first_exposure_counts(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    unit = next(unit_of(f"S{i}") for i in range(99) if made.arm_of(f"S{i}") == "new")
    log = Exposures(tmp_path / "log")
    for arm in ("new", "new", "current"):
        log.add("worklist-2", unit, arm)
    log.add("another", "0" * 16, "new")
    log.close()
    found = exposures(tmp_path / "log", made)
    assert (found.arms, found.crossed, found.misplaced) == ({unit: "new"}, 1, 0)
    lines = [json.loads(line) for p in (tmp_path / "log").glob("*.jsonl") for line in p.read_text().splitlines()]
    assert len(lines) == 3  # the repeated exposure was not written again
    other = CallLog(tmp_path / "later", EXPOSURES)
    other.write({"at": "2", "experiment": "worklist-2", "unit": unit, "arm": "candidate"})
    other.write({"at": "1", "experiment": "worklist-2", "unit": unit, "arm": "stable"})
    other.close()
    routed = exposures(tmp_path / "later", made)  # the router's names of the arms; written out of order
    assert (routed.arms, routed.crossed, routed.misplaced) == ({unit: "current"}, 1, 1)


def drawn(made: Experiment, n: int, effect: float, seed: int) -> tuple[Exposed, dict[str, float]]:
    rng = np.random.default_rng(seed)
    units = [unit_of(f"{seed}/{i}") for i in range(n)]
    arms = {unit: made.arm_of_unit(unit) for unit in units}
    rates = {"current": 0.5, "new": 0.5 + effect}
    outcomes = {unit: float(rng.random() < rates[arm]) for unit, arm in arms.items()}
    return Exposed(arms, 0, 0), outcomes


def test_a_look_equals_the_two_sample_test_and_its_interval_holds(tmp_path: Path) -> None:
    from statsmodels.stats.proportion import proportions_ztest

    made = experiment(tmp_path)
    exposed, outcomes = drawn(made, 400, 0.05, 1)
    found = look(made, exposed, outcomes)
    groups = [[outcomes[u] for u, a in exposed.arms.items() if a == name] for name in ("new", "current")]
    z, _ = proportions_ztest([sum(g) for g in groups], [len(g) for g in groups])
    assert found.z == pytest.approx(float(z))
    assert found.boundary == pytest.approx(spending_boundary([found.information])[0])
    assert found.low < found.difference < found.high and found.decision == "continue"
    mean = experiment(tmp_path, metric=DOCUMENT["metric"] | {"kind": "mean"})
    welch = stats.ttest_ind(*groups, equal_var=False)
    assert look(mean, exposed, outcomes).z == pytest.approx(float(welch.statistic))


def test_decisions_of_a_look(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    exposed, outcomes = drawn(made, sum(made.planned) + 20, 0.3, 2)
    assert look(made, exposed, outcomes).decision == "stop: difference"
    exposed, outcomes = drawn(made, sum(made.planned) + 20, 0.0, 3)
    assert look(made, exposed, outcomes).decision == "stop: planned end"
    lopsided = {unit: arm for k, (unit, arm) in enumerate(exposed.arms.items()) if arm == "new" or k % 3}
    broken = look(made, replace(exposed, arms=lopsided), outcomes)
    assert broken.decision == "stop: sample ratio mismatch"
    with pytest.raises(TrialOpsError, match="an arm has 0 outcomes"):
        look(made, Exposed({}, 0, 0), {})
    page = render(experiment_page(made, [broken]))
    assert "sample ratio mismatch" in page and "Amendment 3" in page


def test_under_no_effect_repeated_looks_keep_the_level_and_the_planned_effect_is_found(tmp_path: Path) -> None:
    made = experiment(tmp_path)
    rng, runs = np.random.default_rng(4), 4000
    n = np.outer(made.looks, made.planned).astype(int)  # units by look and arm
    boundary = spending_boundary(made.looks, made.alpha, made.spending)

    def ever(effect: float, critical: np.ndarray) -> float:
        totals = [
            np.cumsum(rng.binomial(np.diff(n[:, arm], prepend=0), rate, (runs, len(n))), axis=1)
            for arm, rate in ((0, 0.5), (1, 0.5 + effect))
        ]
        pooled = (totals[0] + totals[1]) / n.sum(axis=1)
        error = np.sqrt(pooled * (1 - pooled) * (1 / n[:, 0] + 1 / n[:, 1]))
        z = (totals[1] / n[:, 1] - totals[0] / n[:, 0]) / error
        return float((np.abs(z) >= critical).any(axis=1).mean())

    margin = 3 * np.sqrt(0.05 * 0.95 / runs)
    assert ever(0.0, boundary) == pytest.approx(0.05, abs=margin)
    assert ever(0.0, np.full(4, 1.96)) > 0.05 + 2 * margin  # what looking without a boundary would have cost
    assert ever(made.metric.minimum_effect, boundary) == pytest.approx(0.8, abs=0.03)
    assert crossing(made.looks, boundary).sum() == pytest.approx(0.05, abs=1e-6)
