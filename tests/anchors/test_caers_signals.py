"""FDA CAERS reports against the published analysis of them: prior, number of signals, the leading pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trialops.safety.signals.counting import count_reports
from trialops.safety.signals.ebgm import posterior
from trialops.safety.signals.policy import load_signal_policy
from trialops.safety.signals.prior import fit_prior
from trialops.safety.signals.readers import Columns, ReportRows
from trialops.safety.signals.screening import Screening, measured
from trialops.safety.signals.squashing import squash

THETA = (3.25092, 0.39972, 2.02580, 1.90805, 0.06539)
NLL = 4162.496


@pytest.fixture(scope="module")
def caers(anchors: Path) -> Screening:
    rows = ReportRows(anchors / "faers-caers" / "caers.csv", Columns("id", "var1", "var2"))
    return measured(count_reports(rows), load_signal_policy())


def test_counts(caers: Screening) -> None:
    counts = caers.counts
    assert (counts.reports, len(counts.products), len(counts.events)) == (3356, 2874, 1328)
    assert caers.pairs.height == 17_189
    assert not counts.aside


def test_prior(caers: Screening) -> None:
    assert caers.prior is not None
    np.testing.assert_allclose(caers.prior.theta, THETA, atol=1e-3, rtol=0)
    assert caers.prior.nll == pytest.approx(NLL, abs=1e-3)
    assert caers.prior.pairs == 17_189
    assert caers.prior.agreeing >= 2
    for optimum in caers.prior.optima[:2]:
        np.testing.assert_allclose(optimum.theta, caers.prior.theta, rtol=1e-3)


def test_signals_and_the_leading_pair(caers: Screening) -> None:
    assert int((caers.pairs["eb05"] > 2).sum()) == 131
    assert caers.signals["ebgm"] == 131, "no EB05 is 2 exactly"
    top = caers.pairs.sort("eb05", descending=True).row(0, named=True)
    assert (top["product"], top["event"], top["a"]) == ("REUMOFAN PLUS", "WEIGHT INCREASED", 16)
    assert (top["ebgm"], top["eb05"], top["eb95"]) == pytest.approx((23.26, 15.69, 33.48), abs=0.01)


def test_what_the_choices_of_the_method_change(caers: Screening) -> None:
    """Squashing changes the prior in the fourth figure; the consistent posterior share calls 85 pairs signals."""
    counts, policy = caers.counts, load_signal_policy()
    whole = fit_prior(squash(counts.a, counts.expected(), None), policy.prior)
    assert whole.points == 17_189
    assert whole.theta == pytest.approx(caers.theta, rel=5e-3)
    assert int((posterior(whole.theta, counts.a, counts.expected()).eb05 > 2).sum()) == 131
    consistent = posterior(caers.theta or (), counts.a, counts.expected(), truncated=True)
    assert int((consistent.eb05 > 2).sum()) == 85


def test_stratified_by_sex(caers: Screening, anchors: Path) -> None:
    columns = Columns("id", "var1", "var2", ("strat1",))
    counts = count_reports(ReportRows(anchors / "faers-caers" / "caers.csv", columns))
    assert dict(zip(counts.strata, counts.by_stratum.tolist(), strict=True)) == {
        "(conflicting)": 0,
        "Female": 2120,
        "Male": 1013,
        "Not Available": 223,
    }
    assert counts.a.tolist() == caers.counts.a.tolist()
    assert not np.allclose(counts.expected(), caers.counts.expected())
