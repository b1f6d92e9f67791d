"""Drift on the CDISC pilot: two halves of it at random are alike; a planted change in one of them is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from tests.anchors.test_pilot_features import clean
from trialops.features.contracts import check, load_contracts
from trialops.features.definition_file import load
from trialops.features.labels import label
from trialops.features.training_set import build
from trialops.features.validation import latest_rows
from trialops.features.views import FeatureViews, feature_views
from trialops.models.task import load_task
from trialops.monitoring.cells import QUANTILES
from trialops.monitoring.drift import drift
from trialops.monitoring.drift_policy import load_drift_policy
from trialops.monitoring.reference import profile
from trialops.monitoring.shift import domain_classifier
from trialops.monitoring.stability import correlation_change

pytestmark = pytest.mark.slow
POLICY, TASK = load_drift_policy(), load_task()
HALVES = 60


@pytest.fixture(scope="module")
def tables(anchors: Path) -> dict[str, pl.DataFrame]:
    return clean(anchors / "cdiscpilot01" / "sdtm")


@pytest.fixture(scope="module")
def views(tables: dict[str, pl.DataFrame]) -> FeatureViews:
    return feature_views(tables)


@pytest.fixture(scope="module")
def training(
    tables: dict[str, pl.DataFrame], views: FeatureViews, tmp_path_factory: pytest.TempPathFactory
) -> pl.DataFrame:
    """Features of the 218 subjects at the landmark."""
    frame = build(views, label(tables, TASK), TASK, tmp_path_factory.mktemp("views"))
    assert frame.height == 218
    return frame


def halves(frame: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    order = np.random.default_rng(seed).permutation(frame.height)
    return frame[np.sort(order[:109])], frame[np.sort(order[109:])]


def test_the_pilots_values_lie_in_the_contracts_ranges(tables: dict[str, pl.DataFrame], views: FeatureViews) -> None:
    """Of the subjects treated; of the others many features are missing."""
    latest = latest_rows(views, load(), day=28).filter(pl.col("subject_id").is_in(tables["EX"]["USUBJID"].implode()))
    assert latest.height == 254
    breached = {
        item.feature: item.breaches for item in check(latest, load(), load_contracts(), TASK.features) if item.breaches
    }
    assert not breached


def test_two_halves_at_random_are_alike(training: pl.DataFrame) -> None:
    """Sixty divisions: at most 5 % of them alarm, in features; in classifier and correlations none of ten."""
    alarms = []
    for seed in range(HALVES):
        first, second = halves(training, seed)
        alarms.append(drift(profile(first, TASK.features), second, POLICY).verdict == "drift")
        if seed < 10:
            assert domain_classifier(first, second, TASK.features, POLICY).state == "no drift"
        if seed < 3:
            assert correlation_change(first, second, TASK.features, POLICY).state == "no drift"
    assert np.mean(alarms) <= 0.05


def test_a_planted_change_in_one_half_is_found(training: pl.DataFrame) -> None:
    """Systolic pressure one standard deviation higher, and ALT in other units: in 95 % of 20 divisions."""
    found = []
    for seed in range(20):
        first, second = halves(training, seed)
        sd = float(np.std(first["systolic_bp"].drop_nulls().to_numpy(), ddof=1))
        changed = second.with_columns(pl.col("systolic_bp") + sd, pl.col("alt_uln_ratio") * 16.7)
        report = drift(profile(first, TASK.features), changed, POLICY)
        found.append({"systolic_bp", "alt_uln_ratio"} <= set(report.drifted) and report.alert)
    assert np.mean(found) >= 0.95


def test_figures_equal_scipys_on_real_columns(training: pl.DataFrame) -> None:
    """KS with every stored value on the grid; PSI over the deciles by another way of counting."""
    first, second = halves(training, 1)
    report, compared = drift(profile(first, TASK.features), second, POLICY), 0
    for item, made in zip(report.features, profile(first, TASK.features).features, strict=True):
        a, b = (part[item.name].drop_nulls().to_numpy() for part in (first, second))
        assert item.ks == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-9), item.name
        if item.kind == QUANTILES:
            compared += 1
            cut = [pd.cut(x, [-np.inf, *made.edges, np.inf], right=True) for x in (a, b)]
            r, c = (np.r_[part.value_counts().to_numpy(), 109 - len(part)] / 109 for part in cut)
            r, c = np.maximum(r, 1e-4), np.maximum(c, 1e-4)
            assert item.psi == pytest.approx(float(np.sum((c - r) * np.log(c / r))), abs=1e-9), item.name
    assert compared >= 8
