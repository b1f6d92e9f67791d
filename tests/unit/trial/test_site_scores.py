"""Scores of sites: the formulas by hand, exact tests against scipy, what is flagged and what is not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from trialops.errors import TrialOpsError
from trialops.trial.kri import control_limits, holm, score_sites, score_table
from trialops.trial.kri_policy import SHIPPED, parse_policy, site_policy

N, D = [3.0, 9.0, 1.0, 4.0], [20.0, 25.0, 15.0, 40.0]


def test_a_binary_score_is_the_formula_by_hand() -> None:
    mu = 17 / 100
    z = [(n / d - mu) / math.sqrt(mu * (1 - mu) / d) for n, d in zip(N, D, strict=True)]
    phi = sum(v * v for v in z) / 4
    found = score_sites(np.array(N), np.array(D), "binary")
    assert (found.mu, found.phi) == (pytest.approx(mu, abs=1e-15), pytest.approx(phi, abs=1e-12))
    expected = [(n / d - mu) / math.sqrt(phi * mu * (1 - mu) / d) for n, d in zip(N, D, strict=True)]
    assert found.score.tolist() == pytest.approx(expected, abs=1e-12)
    assert found.z.tolist() == pytest.approx(z, abs=1e-12)


def test_a_rate_score_is_the_formula_by_hand() -> None:
    mu = 17 / 100
    z = [(n / d - mu) / math.sqrt(mu / d) for n, d in zip(N, D, strict=True)]
    phi = sum(v * v for v in z) / 4
    found = score_sites(np.array(N), np.array(D), "rate")
    expected = [(n / d - mu) / math.sqrt(phi * mu / d) for n, d in zip(N, D, strict=True)]
    assert found.score.tolist() == pytest.approx(expected, abs=1e-12)


def test_exact_p_values_are_those_of_fisher_and_of_the_conditional_binomial() -> None:
    from scipy.stats import binomtest, fisher_exact

    binary, rate = (score_sites(np.array(N), np.array(D), kind) for kind in ("binary", "rate"))
    for i, (n, d) in enumerate(zip(N, D, strict=True)):
        square = [[n, d - n], [sum(N) - n, sum(D) - d - (sum(N) - n)]]
        sides = [fisher_exact(square, alternative=side).pvalue for side in ("less", "greater")]
        assert binary.p[i] == pytest.approx(min(1.0, 2 * min(sides)), abs=1e-12)
        sides = [binomtest(int(n), int(sum(N)), d / sum(D), alternative=side).pvalue for side in ("less", "greater")]
        assert rate.p[i] == pytest.approx(min(1.0, 2 * min(sides)), abs=1e-12)


def test_holm_is_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(3).random(40) ** 3
    assert holm(p).tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist(), abs=1e-15)
    assert holm([]).tolist() == []


def test_no_score_exceeds_the_root_of_the_number_of_sites() -> None:
    numerator, denominator = np.array([500.0, *[1.0] * 8]), np.full(9, 1000.0)
    found = score_sites(numerator, denominator, "binary")
    assert found.score[0] < 3.0 <= math.sqrt(9) and found.z[0] > 20
    pulled = score_sites(numerator, denominator, "binary", winsorise=0.12)
    assert pulled.score[0] > 5, "an outlier no longer hides itself"


@pytest.mark.parametrize("kind", ["binary", "rate"])
def test_where_nothing_differs_or_nothing_happened_the_score_is_zero(kind: str) -> None:
    for numerator in (np.zeros(3), np.array([2.0, 4.0, 6.0])):
        found = score_sites(numerator, np.array([10.0, 20.0, 30.0]), kind)  # type: ignore[arg-type]
        assert found.score.tolist() == [0.0, 0.0, 0.0]
    if kind == "binary":
        assert score_sites(np.full(2, 5.0), np.full(2, 5.0), "binary").score.tolist() == [0.0, 0.0]


def test_limits_of_the_funnel_are_where_the_score_is_the_limit() -> None:
    found = score_sites(np.array(N), np.array(D), "rate")
    for limit in (2.0, 3.0):
        low, high = control_limits(found, np.array(D), "rate", limit)
        at = (high - found.mu) / np.sqrt(found.phi * found.mu / np.array(D))
        assert at.tolist() == pytest.approx([limit] * 4, abs=1e-12)
        assert bool(np.all(low >= 0))


@pytest.mark.parametrize(
    ("numerator", "denominator", "kind"),
    [([1.0], [0.0], "rate"), ([-1.0], [2.0], "rate"), ([3.0], [2.0], "binary")],
    ids=["no denominator", "negative", "more than all"],
)
def test_figures_that_do_not_fit_are_refused(numerator: list[float], denominator: list[float], kind: str) -> None:
    with pytest.raises(TrialOpsError, match="fit together"):
        score_sites(np.array(numerator), np.array(denominator), kind)  # type: ignore[arg-type]


def _measures(late: list[float], dated: list[float]) -> pl.DataFrame:
    sites = [f"S{i:02}" for i in range(len(late))]
    return pl.DataFrame({"SITEID": sites, "late_events": late, "dated_events": dated})


def test_flags_follow_limits_minimum_and_direction() -> None:
    late = [70.0, 0.0, 9.0, *[20.0] * 22]
    table, scored = score_table(_measures(late, [100.0, 100.0, 9.0, *[100.0] * 22]), site_policy())
    flags = dict(table.select("site", "flag").iter_rows())
    score = dict(table.select("site", "score").iter_rows())
    assert list(scored) == ["ae_late"]
    assert flags["S00"] == "red" and score["S00"] >= 3
    assert flags["S01"] == "green", "only more than the others is asked about"
    assert flags["S02"] == "not judged" and score["S02"] >= 2, "nine events are too few, however late"
    assert flags["S05"] == "green"
    assert table["p_adjusted"].to_list() == pytest.approx(holm(table["p"].to_numpy()).tolist())


def test_exact_indicators_are_flagged_by_their_p_value() -> None:
    events = [9.0, *[1.0] * 14]
    measures = pl.DataFrame(
        {"SITEID": [f"S{i:02}" for i in range(15)], "serious_events": events, "days_on_study": [1000.0] * 15}
    )
    table, _ = score_table(measures, site_policy())
    first = table.filter(pl.col("site") == "S00").row(0, named=True)
    assert first["flag"] == "red" and first["p"] <= math.erfc(3 / math.sqrt(2))
    assert set(table.filter(pl.col("site") != "S00")["flag"]) == {"green"}


def test_what_the_delivery_cannot_tell_is_not_scored() -> None:
    measures = pl.DataFrame({"SITEID": ["1"], "deviations": [None], "days_on_study": [500.0]}, strict=False)
    table, scored = score_table(measures, site_policy())
    assert table.is_empty() and scored == {} and table.columns[0] == "indicator"


def test_a_policy_is_checked(tmp_path: Path) -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())
    assert parse_policy(shipped).digest == site_policy().digest
    for change, told in (
        ({"limits": {"amber": 3, "red": 2}}, "amber must be"),
        ({"winsorise": 0.5}, "winsorise"),
        ({"indicators": [shipped["indicators"][0]] * 2}, "one name"),
        ({"indicators": [{**shipped["indicators"][0], "kind": "mean"}]}, "unknown"),
        ({"indicators": [{"name": "x"}]}, "not complete"),
        ({"lags": None, "limits": None}, "not complete"),
    ):
        with pytest.raises(TrialOpsError, match=told):
            parse_policy({**shipped, **change})
    with pytest.raises(TrialOpsError, match="cannot be read"):
        site_policy(str(tmp_path / "none.yaml"))
    other = parse_policy({**shipped, "winsorise": 0.1})
    assert other.digest != site_policy().digest
