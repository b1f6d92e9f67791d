"""Safety by arm: incidence, intervals, double false discovery rates, boundaries, against independent computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.safety.arm_comparison import compare_arms
from trialops.safety.boundary import Boundary, calibrated, more_frequent
from trialops.safety.double_fdr import double_fdr
from trialops.safety.incidence import exact_proportion, exact_rate, incidence
from trialops.safety.monitoring_boundaries import watch, watch_page, watched_events
from trialops.safety.risk_difference import fisher_p, risk_difference, risk_ratio

# -- one proportion, one rate --------------------------------------------------------------------------------------


def test_exact_intervals_equal_other_computations() -> None:
    x, n = np.array([0, 1, 7, 20, 20]), np.array([20, 20, 20, 20, 21])
    low, high = exact_proportion(x, n)
    for k in range(len(x)):
        assert (low[k], high[k]) == pytest.approx(proportion_confint(x[k], n[k], method="beta"), abs=1e-12)
    low, high = exact_rate(np.array([0, 3, 40]), np.array([2.0, 2.0, 10.0]))
    for events, time, a, b in zip((0, 3, 40), (2.0, 2.0, 10.0), low, high, strict=True):
        if events:
            assert stats.poisson.sf(events - 1, a * time) == pytest.approx(0.025, abs=1e-10)
        assert stats.poisson.cdf(events, b * time) == pytest.approx(0.025, abs=1e-10)
    assert exact_proportion(0, 0)[1] == 1.0 and np.isinf(exact_rate(0, 0.0)[1])


def brute_incidence(
    events: list[dict[str, object]], subjects: list[dict[str, object]]
) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for term in {str(e["AEDECOD"]) for e in events}:
        for group in {str(s["group"]) for s in subjects}:
            members = [s for s in subjects if s["group"] == group]
            having, rows, days = 0, 0, 0.0
            for s in members:
                length = max(float(s["days"] or 1), 1.0)  # type: ignore[arg-type]
                onsets = [
                    float(e["day"] if e["day"] is not None else 1)  # type: ignore[arg-type]
                    for e in events
                    if e["USUBJID"] == s["USUBJID"] and e["AEDECOD"] == term
                ]
                having, rows = having + bool(onsets), rows + len(onsets)
                days += min(max(min(onsets), 1.0), length) if onsets else length
            found[term, group] = [len(members), having, rows, days / 365.25]
    return found


def test_incidence_equals_brute_force() -> None:
    rng = np.random.default_rng(20260101)
    subjects = [
        {"USUBJID": f"S{k}", "group": "ABC"[k % 3], "days": None if k == 5 else int(rng.integers(0, 200))}
        for k in range(60)
    ]
    events = [
        {
            "USUBJID": f"S{rng.integers(0, 70)}",
            "AEBODSYS": "sys",
            "AEDECOD": f"T{rng.integers(0, 5)}",
            "day": None if rng.random() < 0.1 else int(rng.integers(-20, 260)),
        }
        for _ in range(150)
    ]
    known = {s["USUBJID"] for s in subjects}
    expected = brute_incidence([e for e in events if e["USUBJID"] in known], subjects)
    table = incidence(pl.DataFrame(events), pl.DataFrame(subjects))
    assert table.height == len(expected)
    for row in table.iter_rows(named=True):
        n, having, rows, years = expected[row["AEDECOD"], row["group"]]
        assert (row["n"], row["subjects"], row["events"]) == (n, having, rows)
        assert row["years"] == pytest.approx(years, abs=1e-12)
        assert row["proportion"] == having / n and row["rate"] == pytest.approx(100 * having / years)
        assert row["low"] <= row["proportion"] <= row["high"] and row["rate_low"] <= row["rate"] <= row["rate_high"]
    with pytest.raises(TrialOpsError, match="two groups"):
        incidence(pl.DataFrame(events), pl.DataFrame([subjects[0], subjects[0]]))


# -- two arms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Stat Med 1998; 17: 873-890, table II, method 4 of Miettinen and Nurminen.
        ((56, 70, 48, 80), 0.0528, 0.3382),
        ((9, 10, 3, 10), 0.1700, 0.8406),
        ((6, 7, 2, 7), 0.0342, 0.8534),
        ((5, 56, 0, 29), -0.0326, 0.1933),
        ((0, 10, 0, 20), -0.1658, 0.2844),
        ((0, 10, 0, 10), -0.2879, 0.2879),
        ((10, 10, 0, 20), 0.7156, 1.0),
        ((10, 10, 0, 10), 0.6636, 1.0),
    ],
)
def test_risk_differences_are_the_published_ones(table: tuple[int, int, int, int], low: float, high: float) -> None:
    found = risk_difference(*table)
    assert (round(float(found.low), 4), round(float(found.high), 4)) == (low, high)


def numeric_score(delta: float, x1: int, n1: int, x0: int, n0: int) -> float:
    """The same statistic with the restricted likelihood maximised by search instead of by the cubic."""

    def unlikely(p: float) -> float:
        terms = ((x1, p + delta), (n1 - x1, 1 - p - delta), (x0, p), (n0 - x0, 1 - p))
        return -sum(k * math.log(max(v, 1e-300)) for k, v in terms if k)

    p0 = optimize.minimize_scalar(
        unlikely, bounds=(max(0.0, -delta), min(1.0, 1 - delta)), method="bounded", options={"xatol": 1e-13}
    ).x
    p1, n = p0 + delta, n1 + n0
    variance = (p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0) * n / (n - 1)
    return float((x1 / n1 - x0 / n0 - delta) ** 2 / variance)


def test_interval_ends_are_where_the_score_test_rejects() -> None:
    rng, critical = np.random.default_rng(7), stats.chi2.ppf(0.95, 1)
    for _ in range(60):
        n1, n0 = (int(v) for v in rng.integers(2, 150, 2))
        x1, x0 = int(rng.integers(0, n1 + 1)), int(rng.integers(0, n0 + 1))
        found = risk_difference(x1, n1, x0, n0)
        for end in (float(found.low), float(found.high)):
            if abs(end) < 1 - 1e-9:
                assert numeric_score(end, x1, n1, x0, n0) == pytest.approx(critical, rel=1e-4)


def test_ratios_and_exact_tests_equal_other_computations() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 12, (40, 2))
    p = fisher_p(counts[:, 0], 12, counts[:, 1], 15)
    for (a, b), one in zip(counts, p, strict=True):
        assert one == pytest.approx(stats.fisher_exact([[a, 12 - a], [b, 15 - b]]).pvalue, abs=1e-9)
    ratio = risk_ratio(8, 50, 4, 60)
    assert float(ratio.value) == pytest.approx((8 / 50) / (4 / 60))
    error = math.sqrt(1 / 8 - 1 / 50 + 1 / 4 - 1 / 60)
    assert float(ratio.high) == pytest.approx(2.4 * math.exp(stats.norm.ppf(0.975) * error))
    assert np.isnan(risk_ratio(0, 5, 0, 5).value) and np.isfinite(risk_ratio(0, 5, 2, 5).value)


def test_double_fdr_by_hand_and_its_rate_under_no_effect() -> None:
    terms = pl.DataFrame(
        {
            "system": ["A", "A", "A", "B", "B", "C"],
            "term": ["a1", "a2", "a3", "b1", "b2", "c1"],
            "p": [0.001, 0.02, 0.9, 0.04, 0.5, 0.3],
        }
    )
    found = double_fdr(terms, system_level=0.1, term_level=0.05)
    # A: min(3*.001, ...) = .003; B: 2*.04 = .08; C: .3. Systems: .009, .12, .3: A alone is looked into.
    assert dict(zip(found.systems["system"], found.systems["adjusted"].round(6), strict=True)) == {
        "A": 0.009, "B": 0.12, "C": 0.3,
    }  # fmt: skip
    inner = multipletests([0.001, 0.02, 0.9], method="fdr_bh")[1]
    assert found.terms["adjusted"].drop_nulls().to_list() == pytest.approx(sorted(inner))
    assert found.terms.filter("flagged")["term"].to_list() == ["a1", "a2"]
    older = double_fdr(terms, method="mehrotra_heyse", system_level=0.1, term_level=0.05)
    assert older.systems["representative"].to_list() == [0.001, 0.04, 0.3]
    # B is looked into here (min p .04, adjusted .06) but its term's own adjusted p is .08.
    assert older.terms.filter("flagged")["term"].to_list() == ["a1", "a2"]
    with pytest.raises(TrialOpsError, match="between 0 and 1"):
        double_fdr(terms.with_columns(p=pl.lit(1.5)))
    rng, false = np.random.default_rng(11), 0
    frame = (
        terms.select("system", "term")
        .join(pl.DataFrame({"k": range(8)}), how="cross")
        .with_columns(term=pl.concat_str("term", "k"))
    )
    for _ in range(400):
        # Terms of one system move together: a shared part of the statistic.
        z = rng.normal(size=frame.height) * 0.8 + 0.6 * np.repeat(rng.normal(size=6), 8)
        false += (
            double_fdr(frame.with_columns(p=pl.Series(2 * stats.norm.sf(abs(z)))), term_level=0.05)
            .terms["flagged"]
            .any()
        )
    assert false / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_arms_are_compared_term_by_term() -> None:
    rng = np.random.default_rng(5)
    subjects = pl.DataFrame({"USUBJID": [f"S{k}" for k in range(400)]}).with_columns(
        group=pl.Series(["placebo", "active"] * 200), days=pl.lit(100)
    )
    rows = []
    for (k, group), term in itertools.product(enumerate(subjects["group"]), range(40)):
        risk = 0.30 if (term == 0 and group == "active") else 0.05
        if rng.random() < risk:
            rows.append((f"S{k}", f"system {term // 8}", f"term {term}", int(rng.integers(1, 100))))
    events = pl.DataFrame(rows, schema=["USUBJID", "AEBODSYS", "AEDECOD", "day"], orient="row")
    (found,) = compare_arms(incidence(events, subjects), "placebo")
    top = found.terms.row(0, named=True)
    assert (found.arm, top["AEDECOD"], top["flagged"]) == ("active", "term 0", True) and top["more"] > 0.999
    assert found.terms["flagged"].sum() == 1
    assert top["difference"] == pytest.approx(top["x1"] / top["n1"] - top["x0"] / top["n0"])
    with pytest.raises(TrialOpsError, match="no arm 'Placebo'"):
        compare_arms(incidence(events, subjects), "Placebo")


# -- boundaries ----------------------------------------------------------------------------------------------------


def test_how_often_a_boundary_is_reached_is_exact() -> None:
    rule = Boundary.around(0.1, certainty=0.9, first=4)
    limits = rule.limits(12)
    for risk in (0.1, 0.3):
        chance = 0.0
        for path in itertools.product((0, 1), repeat=12):
            totals = np.cumsum(path)
            if (totals >= limits).any():
                chance += risk ** totals[-1] * (1 - risk) ** (12 - totals[-1])
        assert rule.reaching(risk, 12)[-1] == pytest.approx(chance, abs=1e-12)
    for n, limit in enumerate(limits, 1):
        assert [rule.reached(x, n) for x in range(n + 1)] == [x >= limit for x in range(n + 1)]


def test_a_calibrated_boundary_keeps_its_level_and_sees_a_doubled_risk() -> None:
    rule = calibrated(0.05, 300, alpha=0.05)
    assert 0.03 < rule.reaching(0.05, 300)[-1] <= 0.05 and rule.reaching(0.15, 300)[-1] > 0.99
    looser = calibrated(0.05, 300, alpha=0.2)
    assert looser.certainty < rule.certainty
    with pytest.raises(TrialOpsError, match="No boundary"):
        Boundary(1.2)


def test_more_frequent_equals_integration() -> None:
    def inside(p: float) -> float:
        return float(stats.beta.pdf(p, 5.5, 95.5) * stats.beta.sf(p, 10.5, 90.5))

    from scipy.integrate import quad

    assert more_frequent(10, 100, 5, 100) == pytest.approx(quad(inside, 0, 1, limit=400)[0], abs=1e-6)
    assert more_frequent(5, 50, 5, 50) == pytest.approx(0.5, abs=1e-6)


def test_watched_events_are_counted_with_the_arms_together() -> None:
    treated = pl.Series("USUBJID", [f"S{k}" for k in range(60)])
    events = pl.DataFrame(
        {
            "USUBJID": [*(f"S{k}" for k in range(14)), "S1", "X9"],
            "AEDECOD": ["Syncope"] * 14 + ["NAUSEA", "SYNCOPE"],
            "AEBODSYS": "NERV",
            "SERIOUS": ["serious"] * 2 + ["to confirm"] + ["not serious"] * 13,
            "AESDTH": ["Y"] + ["N"] * 15,
            "AEOUT": "",
        }
    )
    stated = watched_events(
        [
            {"name": "syncope", "terms": ["SYNCOPE"], "accepted": 0.05},
            {"name": "serious", "serious": True, "accepted": 0.2},
            {"name": "fatal", "fatal": True, "accepted": 0.02},
        ]
    )
    found = {one.watched.name: one for one in watch(events, treated, stated, planned=200)}
    assert {name: one.events for name, one in found.items()} == {"syncope": 14, "serious": 3, "fatal": 1}
    assert found["syncope"].reached and not found["serious"].reached and not found["fatal"].reached
    page = render(watch_page(list(found.values())))
    assert "1 of 3 boundaries reached" in page and "&lt;11" in page and "S1" not in page
    with pytest.raises(TrialOpsError, match="stated twice"):
        watched_events([{"name": "a", "accepted": 0.1}, {"name": "a", "accepted": 0.1}])
