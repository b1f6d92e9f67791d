"""Concept drift in the residuals: found where planted, rare where there is none, whatever the population does."""

from __future__ import annotations

import math

import numpy as np

from trialops.monitoring.concept import CHANGED, INSUFFICIENT, STABLE, Adwin, concept_drift

POLICY = {"delta": 0.05, "least": 60}


def stream(seed: int, n: int, shift: float = 0.0, *, population: float = 0.0) -> np.ndarray:
    """Residuals of a calibrated model; halfway the outcome's log-odds move by `shift`, everybody's by `population`."""
    rng = np.random.default_rng(seed)
    later = np.arange(n) >= n // 2
    score = rng.normal(-0.4, 1.0, n) + population * later
    p = 1 / (1 + np.exp(-score))
    true = 1 / (1 + np.exp(-(score + shift * later)))
    return (rng.uniform(size=n) < true) - p


def test_null_and_planted_change() -> None:
    runs, n = 200, 1000
    false = sum(concept_drift(stream(seed, n), **POLICY).verdict == CHANGED for seed in range(runs))
    shifted = [concept_drift(stream(1000 + seed, n, 1.0), **POLICY) for seed in range(runs)]
    found = sum(report.verdict == CHANGED for report in shifted)
    assert false <= runs * 0.05
    assert found >= runs * 0.95
    late = [report.changes[0] for report in shifted if report.changes]
    assert 500 < np.median(late) < 850
    assert all(report.mean > 0.05 for report in shifted if report.changes)


def test_a_changed_population_is_not_a_changed_concept() -> None:
    reports = [concept_drift(stream(seed, 1000, population=1.0), **POLICY) for seed in range(100)]
    assert sum(report.verdict == CHANGED for report in reports) <= 5
    mirrored = [concept_drift(stream(seed, 1000, -1.0), **POLICY) for seed in range(100)]
    assert sum(report.verdict == CHANGED for report in mirrored) >= 90
    assert all(report.mean < 0 for report in mirrored if report.changes)


def test_too_few_to_say() -> None:
    report = concept_drift(stream(1, 59), **POLICY)
    assert report.verdict == INSUFFICIENT and "59 matured predictions; 60 are needed" in report.reason
    assert concept_drift(stream(1, 60), **POLICY).verdict == STABLE


def test_window_equals_one_kept_value_by_value() -> None:
    """Against a window that keeps every value and looks at the same cuts."""
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.uniform(0.2, 0.5, 300), rng.uniform(0.6, 0.9, 200)])
    window, changes = Adwin(0.01, least=10, every=1), []
    for number, value in enumerate(values):
        if window.add(float(value)):
            changes.append(number)
        kept = values[number + 1 - window.width : number + 1]
        assert math.isclose(window.mean, float(kept.mean()), rel_tol=1e-9)
    assert changes and 300 < changes[0] < 330
    assert window.width <= 216 and all(len(level) <= 6 for level in window._levels)


def bound(values: np.ndarray, cut: int, delta: float) -> float:
    """The paper's bound for one cut, written from its theorem 3.2."""
    n0, n1 = cut, len(values) - cut
    m = 1 / (1 / n0 + 1 / n1)
    primed = delta / math.log(len(values))
    return math.sqrt(2 / m * values.var() * math.log(2 / primed)) + 2 / (3 * m) * math.log(2 / primed)


def test_it_cuts_where_the_theorem_says_and_not_before() -> None:
    rng = np.random.default_rng(8)
    for shift in (0.0, 0.05, 0.1, 0.2, 0.3):
        values = np.concatenate([rng.uniform(0.1, 0.5, 64), rng.uniform(0.1, 0.5, 64) + shift])
        window = Adwin(0.05, least=5, every=len(values))
        cut = False
        for value in values:
            cut = window.add(float(value))
        boundaries = np.cumsum([1 << k for k in range(len(window._levels) - 1, -1, -1) for _ in window._levels[k]])
        if not cut:
            for at in boundaries[(boundaries >= 5) & (boundaries <= len(values) - 5)]:
                assert abs(values[:at].mean() - values[at:].mean()) <= bound(values, int(at), 0.05) + 1e-12
        assert cut == (shift >= 0.2)
