"""Venn-Abers tables and contributions, against scikit-learn and LightGBM themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trialops.errors import TrialOpsError
from trialops.models.booster import TextBooster
from trialops.models.bundle import INTERVAL, Bundle
from trialops.models.interval import IntervalTable, make_interval_table


def logistic(**more: object) -> Bundle:
    base = Bundle(
        name="m",
        kind="logistic",
        features=("a", "b"),
        threshold=0.5,
        task={"name": "m"},
        training={},
        created_by="",
        params={},
        fill={"a": 1.0, "b": -2.0},
        centre=(0.5, 1.0),
        scale=(2.0, 0.25),
        coefficients=(0.7, -0.3),
        intercept=0.2,
    )
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("digits", [1, 2, 9])
@pytest.mark.parametrize("informative", [True, False])
def test_both_bounds_equal_an_isotonic_regression_with_the_subject_added(digits: int, informative: bool) -> None:
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(digits)
    s = rng.random(70).round(digits)
    y = (rng.random(70) < (s if informative else 0.5)).astype(int)
    table = make_interval_table(s, y)
    assert table is not None
    asked = np.r_[s[:12], rng.random(12), -0.1, 0.0, 1.0, 1.1]
    low, high = table.bounds(asked)
    for at, p0, p1 in zip(asked, low, high, strict=True):
        for label, found in ((0, p0), (1, p1)):
            fitted = IsotonicRegression().fit(np.r_[s, at], np.r_[y, label])
            assert found == pytest.approx(fitted.predict([at])[0], abs=1e-12)


def test_one_of_the_bounds_is_calibrated_on_new_subjects_and_a_miscalibrated_score_is_not() -> None:
    """Choosing p1 for subjects with the event and p0 for the others must give a calibrated forecast.

    400 calibration and 100 new subjects, 200 times; the score is the true risk distorted. In each fifth of the
    selected bound, the event rate equals the mean bound. Monte Carlo standard error per fifth: below 0.008.
    """
    rng = np.random.default_rng(11)
    chosen, scores, outcome = [], [], []
    for _ in range(200):
        risk = rng.beta(1.5, 3.0, 500)
        y = (rng.random(500) < risk).astype(int)
        s = risk**3
        table = make_interval_table(s[:400], y[:400])
        assert table is not None
        low, high = table.bounds(s[400:])
        assert (low <= high).all()
        chosen.append(np.where(y[400:] == 1, high, low))
        scores.append(s[400:])
        outcome.append(y[400:])
    forecast, raw, y = np.concatenate(chosen), np.concatenate(scores), np.concatenate(outcome)

    def worst(p: np.ndarray) -> float:
        parts = np.array_split(np.argsort(p, kind="stable"), 5)
        return max(abs(float(p[k].mean() - y[k].mean())) for k in parts)

    assert worst(forecast) < 0.03
    assert worst(raw) > 0.1


def test_more_calibration_subjects_make_it_narrower() -> None:
    rng = np.random.default_rng(3)
    width = []
    for n in (100, 3000):
        s = rng.random(n)
        table = make_interval_table(s, (rng.random(n) < s).astype(int))
        assert table is not None
        low, high = table.bounds(np.linspace(0.05, 0.95, 50))
        width.append(float((high - low).mean()))
    assert width[1] < width[0] / 3


def test_too_few_events_make_no_table_and_bad_input_is_refused() -> None:
    assert make_interval_table(np.linspace(0, 1, 50), np.r_[np.ones(9), np.zeros(41)]) is None
    for scores, labels in (([0.1], [0, 1]), ([np.nan], [1]), ([0.1], [2])):
        with pytest.raises(TrialOpsError):
            make_interval_table(np.array(scores), np.array(labels))


def table() -> IntervalTable:
    s = np.linspace(0.01, 0.99, 60)
    made = make_interval_table(s, (np.arange(60) % 5 < s * 5).astype(int))
    assert made is not None
    return made


def test_a_bundle_without_a_table_keeps_its_digest_and_one_with_a_table_comes_back(tmp_path: Path) -> None:
    plain = logistic()
    assert "interval" not in json.dumps(plain.as_dict())
    sure = logistic(interval=table())
    assert sure.digest != plain.digest
    loaded = Bundle.load(sure.save(tmp_path / "b"))
    assert (loaded.interval, loaded.digest) == (sure.interval, sure.digest)
    plain.save(tmp_path / "b")
    assert not (tmp_path / "b" / INTERVAL).exists()
    assert Bundle.load(tmp_path / "b").interval is None


def test_an_altered_table_is_refused(tmp_path: Path) -> None:
    folder = logistic(interval=table()).save(tmp_path / "b")
    text = (folder / INTERVAL).read_text()
    (folder / INTERVAL).write_text(text.replace('"n": 60', '"n": 61'))
    with pytest.raises(TrialOpsError, match="altered"):
        Bundle.load(folder)
    for wrong in ({}, {**table().as_dict(), "low": [2, 1]}, {**table().as_dict(), "method": "x"}):
        with pytest.raises(TrialOpsError, match="cannot be read"):
            IntervalTable.from_dict(wrong)


def test_contributions_of_a_logistic_model_sum_to_its_log_odds_and_are_the_terms_of_the_sum() -> None:
    x = np.array([[3.0, 1.5], [np.nan, 0.25], [1e3, np.inf]])
    parts = logistic().contributions(x)
    assert parts[0].tolist() == pytest.approx([0.7 * (3 - 0.5) / 2, -0.3 * (1.5 - 1) / 0.25, 0.2])
    filled = np.where(np.isfinite(x), x, [1.0, -2.0])
    odds = 0.2 + (filled[:, 0] - 0.5) / 2 * 0.7 + (filled[:, 1] - 1) / 0.25 * -0.3
    assert np.abs(parts.sum(axis=1) - odds).max() < 1e-9


def test_contributions_and_single_rows_of_trees_are_lightgbms_own() -> None:
    import lightgbm

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6))
    x[rng.random(x.shape) < 0.1] = np.nan
    y = (rng.random(400) < 1 / (1 + np.exp(-np.nan_to_num(x[:, 0] - x[:, 1])))).astype(int)
    fitted = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 60)
    names = tuple("abcdef")
    bundle = replace(logistic(), kind="lightgbm", features=names, booster=fitted.model_to_string())
    parts = bundle.contributions(x)
    np.testing.assert_array_equal(parts, fitted.predict(x, pred_contrib=True))
    p = fitted.predict(x)
    assert np.abs(parts.sum(axis=1) - np.log(p / (1 - p))).max() < 1e-9
    single = np.concatenate([bundle.predict(row[None]) for row in x])
    np.testing.assert_array_equal(single, bundle.predict(x))
    with pytest.raises(TrialOpsError):
        TextBooster(bundle.booster).predict(x[:1, :3])
