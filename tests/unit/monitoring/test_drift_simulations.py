"""What drift finds, and how often it cries wolf: seeded simulations.

False alarms are counted per report over all of its forty features (family-wise: with no feature drifted, controlling
the false discovery rate is controlling that). The reference is drawn anew, for its chance is shared by all reports made
against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from trialops.monitoring.cells import describe
from trialops.monitoring.drift import DriftReport, drift
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.monitoring.reference import Association, Reference

NAMES = tuple(f"x{i}" for i in range(40))
POLICY = load_drift_policy()
Columns = dict[str, np.ndarray]


def reference(columns: Columns) -> Reference:
    """A profile without correlations, which drift does not look at."""
    n = len(next(iter(columns.values())))
    profiles = tuple(describe(name, values) for name, values in columns.items())
    return Reference(n, profiles, None, Association((), (), ()), {})


def clinical(rng: np.random.Generator, n: int) -> Columns:
    """Forty features as a trial has them: normal, skewed, heavy-tailed, counts, flags, gaps."""
    x = rng.normal(size=(40, n))
    x[10:16] = np.exp(x[10:16])
    x[16:20] = rng.standard_t(3, size=(4, n))
    x[20:26] = rng.poisson(1.5, size=(6, n))
    x[26:30] = rng.random((4, n)) < 0.3
    x[30:34] = rng.poisson(30, size=(4, n))
    x[34:38][rng.random((4, n)) < 0.2] = np.nan
    x[38][rng.random(n) < 0.01] = np.nan
    x[39] = np.where(rng.random(n) < 0.6, 0.0, x[39])
    return dict(zip(NAMES, x, strict=True))


def simulate(
    n: int, m: int, change: Callable[[np.random.Generator, Columns], None], *, references: int, reports: int, seed: int
) -> list[DriftReport]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(references):
        made = reference(clinical(rng, n))
        for _ in range(reports):
            current = clinical(rng, m)
            change(rng, current)
            found.append(drift(made, current, POLICY))
    return found


def nothing(rng: np.random.Generator, columns: Columns) -> None:
    """No change."""


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(1000, 1000), (200, 200), (150, 2000), (2000, 60)])
def test_without_a_change_at_most_five_reports_in_a_hundred_alarm(n: int, m: int) -> None:
    """160 reports against 80 references: 5 % or fewer (Monte Carlo error 1.7 % at 5 %)."""
    reports = simulate(n, m, nothing, references=80, reports=2, seed=n + m)
    assert np.mean([report.verdict == "drift" for report in reports]) <= 0.05
    assert not any(report.alert for report in reports if n >= 1000 and m >= 1000)


@pytest.mark.slow
def test_a_shift_of_three_tenths_of_a_standard_deviation_is_found_within_a_thousand_rows() -> None:
    """In at least 95 % of 160 reports (Monte Carlo error 1.7 %), and nothing else is said to have drifted."""

    def shifted(rng: np.random.Generator, columns: Columns) -> None:
        columns["x0"] = columns["x0"] + 0.3

    reports = simulate(1000, 1000, shifted, references=40, reports=4, seed=3)
    found = np.mean(["x0" in report.drifted for report in reports])
    others = np.mean([set(report.drifted) > {"x0"} or bool(set(report.drifted) - {"x0"}) for report in reports])
    assert found >= 0.95
    assert others <= 0.05


@pytest.mark.parametrize("m", [200, 2_000, 50_000, 1_000_000])
def test_nothing_fires_when_only_the_number_of_rows_changes(m: int) -> None:
    """One reference, one population; four features with a difference too small to matter, significant at any level."""
    rng = np.random.default_rng(5)
    made = reference({name: rng.normal(size=200_000) for name in NAMES[:8]})
    now = {name: rng.normal(size=m) + (0.03 if name in NAMES[:4] else 0.0) for name in NAMES[:8]}
    report = drift(made, now, POLICY)
    assert report.verdict == "no drift" and not report.alert
    if m == 1_000_000:
        assert all(item.q < 1e-4 for item in report.features[:4])


def test_without_the_smallest_relevant_difference_the_number_of_rows_would_fire() -> None:
    """The mirrored case: significance alone calls a difference of 0.03 standard deviations drift in a million rows."""
    rng = np.random.default_rng(5)
    made = reference({"x0": rng.normal(size=200_000)})
    blind = replace(POLICY, relevant_psi=0.0, relevant_shift_sd=0.0)
    assert drift(made, {"x0": rng.normal(size=1_000_000) + 0.03}, blind).verdict == "drift"


@pytest.mark.parametrize("factor", [1, 1000])
def test_drift_that_matters_is_found_at_any_number_of_rows(factor: int) -> None:
    rng = np.random.default_rng(6)
    made = reference({"x0": rng.normal(size=1000 * factor)})
    report = drift(made, {"x0": rng.normal(size=1000 * factor) + 0.6}, POLICY)
    assert report.alert and report.features[0].psi == pytest.approx(0.36, abs=0.08)


def _gaps(rng: np.random.Generator, columns: Columns) -> None:
    columns["x1"] = np.where(rng.random(columns["x1"].size) < 0.15, np.nan, columns["x1"])


def _new_value(rng: np.random.Generator, columns: Columns) -> None:
    columns["x27"] = np.where(rng.random(columns["x27"].size) < 0.15, 2.0, columns["x27"])


def _wider(rng: np.random.Generator, columns: Columns) -> None:
    columns["x2"] = columns["x2"] * 1.7


def _units(rng: np.random.Generator, columns: Columns) -> None:
    columns["x3"] = columns["x3"] * 18.0


@pytest.mark.parametrize(
    ("change", "feature"),
    [(_gaps, "x1"), (_new_value, "x27"), (_wider, "x2"), (_units, "x3")],
    ids=["missing", "new value", "spread", "unit"],
)
def test_other_kinds_of_change_are_found(change: Callable[[np.random.Generator, Columns], None], feature: str) -> None:
    """Missing values, a value that never was, spread, a unit: 20 reports each, all of them."""
    reports = simulate(800, 400, change, references=5, reports=4, seed=7)
    assert all(report.drifted == (feature,) for report in reports)
    moved = next(item for item in reports[0].features if item.name == feature)
    if feature == "x1":
        assert moved.missing_current > 0.1 > moved.missing_reference
    if feature == "x27":
        assert moved.current_share[moved.cells.index("other")] > 0.1


def test_too_few_rows_are_no_evidence_either_way() -> None:
    rng = np.random.default_rng(8)
    made = reference(clinical(rng, 1000))
    assert drift(made, clinical(rng, 40), POLICY).verdict == "insufficient evidence"
    assert drift(made, {name: np.empty(0) for name in NAMES}, POLICY).verdict == "insufficient evidence"
    few = drift(made, clinical(rng, 60), POLICY)
    assert few.verdict == "insufficient evidence" and "PSI of 0.2" in few.reason
    assert drift(made, clinical(rng, 1000), POLICY).verdict == "no drift"
    assert drift(reference(clinical(rng, 90)), clinical(rng, 1000), POLICY).verdict == "insufficient evidence"
    # A great change is seen in sixty rows all the same.
    assert drift(made, clinical(rng, 60) | {"x0": rng.normal(size=60) + 2}, POLICY).drifted == ("x0",)


def test_sites_are_compared_with_themselves_and_small_ones_left_out() -> None:
    """Sites differ from each other and always did; one has changed, one is new, one is too small."""
    from trialops.monitoring.reference import profile

    rng = np.random.default_rng(9)

    def rows(sizes: dict[str, int], moved: str = "") -> Columns:
        sites = np.repeat(list(sizes), list(sizes.values()))
        level = {"A": 0.0, "B": 3.0, "C": -3.0, "D": 0.0, "E": 0.0}
        x = rng.normal(size=sites.size) + np.array([level[s] for s in sites]) + 1.5 * (sites == moved)
        return {"x": x, "site_id": sites}

    made = profile(rows({"A": 400, "B": 300, "C": 300}), ["x"], by="site_id")
    report = drift(made, rows({"A": 100, "B": 90, "C": 120, "D": 80, "E": 12}, moved="B"), POLICY, by="site_id")
    found = {site.site: site for site in report.sites}
    assert set(found) == {"A", "B", "C", "D"} and report.small_sites == 1
    assert found["B"].drifted == ("x",) and not found["A"].drifted and not found["C"].drifted
    assert found["D"].compared_with == "the whole reference" and found["A"].compared_with == "its own reference"
