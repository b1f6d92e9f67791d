"""The stored reference: what is in it, and that it comes back as it was written."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from trialops.errors import TrialOpsError
from trialops.monitoring.cells import QUANTILES
from trialops.monitoring.drift import drift
from trialops.monitoring.reference import Reference, profile


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    n = 600
    x = rng.normal(size=n)
    return pl.DataFrame(
        {
            "x": np.where(rng.random(n) < 0.2, np.nan, x),
            "y": x + rng.normal(size=n),
            "count": rng.poisson(1.0, n).astype(float),
            "flat": np.ones(n),
            "word": np.array(["low", "mid", "high"])[rng.integers(0, 3, n)],
            "site_id": np.array(["S1", "S2", "S3"])[rng.integers(0, 3, n)],
        }
    ).with_columns(pl.col("x").fill_nan(None))


FEATURES = ["x", "y", "count", "flat", "word"]


def test_comes_back_from_json_as_it_was(frame: pl.DataFrame) -> None:
    made = profile(frame, FEATURES, predictions=np.linspace(0, 1, 300), by="site_id", source={"model": "m"})
    again = Reference.from_dict(json.loads(made.dumps()))
    assert again.dumps() == made.dumps() and again.digest == made.digest
    report, same = drift(made, frame, by="site_id"), drift(again, frame, by="site_id")
    assert report.as_dict() == same.as_dict() and report.verdict == "no drift"


def test_what_is_in_it(frame: pl.DataFrame) -> None:
    made = profile(frame, FEATURES, by="site_id")
    x, y, count, flat, word = made.features
    known = frame["x"].drop_nulls().to_numpy()
    assert (x.n, x.missing) == (600, frame["x"].null_count())
    assert (x.mean, x.sd) == (pytest.approx(known.mean()), pytest.approx(known.std(ddof=1)))
    for share in (0.05, 0.5, 0.9):
        assert y.quantile(share) == np.quantile(frame["y"].to_numpy(), share, method="inverted_cdf")
    assert y.kind == QUANTILES and y.counts == (60,) * 10 + (0,)
    assert count.numbers[:3] == (0.0, 1.0, 2.0) and flat.numbers == (1.0,)
    assert set(word.words) == {"low", "mid", "high"}
    assert sum(part.n for part in made.slices.values()) == 600
    for j, item in enumerate(made.features):
        assert np.sum([part.counts[j] for part in made.slices.values()], axis=0).tolist() == list(item.counts)


def test_correlations_are_spearmans(frame: pl.DataFrame) -> None:
    made = profile(frame, FEATURES).association
    assert made.features == ("x", "y", "count", "flat")
    y, count = made.features.index("y"), made.features.index("count")
    expected = stats.spearmanr(frame["y"], frame["count"]).statistic
    assert made.correlations[y][count] == pytest.approx(expected, abs=1e-9)
    assert np.isnan(made.correlations[y][made.features.index("flat")])
    assert made.rows[0][1] == frame["x"].count()


def test_every_kind_of_frame_gives_the_same(frame: pl.DataFrame) -> None:
    digests = {
        profile(source, FEATURES, by="site_id").digest
        for source in (frame, frame.to_pandas(), {c: frame[c].to_pandas() for c in frame.columns})
    }
    assert len(digests) == 1
    assert isinstance(frame.to_pandas(), pd.DataFrame)


@pytest.mark.parametrize("change", ["counts", "digest", "method", "field"])
def test_an_altered_profile_is_refused(frame: pl.DataFrame, change: str) -> None:
    document = profile(frame, FEATURES).as_dict()
    if change == "counts":
        document["features"][0]["counts"][0] += 1
    if change == "digest":
        document["digest"] = "0" * 64
    if change == "method":
        document["method"] = 0
    if change == "field":
        del document["features"][1]["grid"]
    with pytest.raises(TrialOpsError):
        Reference.from_dict(document)


def test_nothing_to_profile_and_an_absent_column(frame: pl.DataFrame) -> None:
    with pytest.raises(TrialOpsError, match="nothing to make"):
        profile(frame.head(0), FEATURES)
    with pytest.raises(TrialOpsError, match="absent"):
        profile(frame, ["not there"])
    with pytest.raises(TrialOpsError, match="absent"):
        drift(profile(frame, FEATURES), frame.drop("y"))
    with pytest.raises(TrialOpsError, match="words"):
        drift(profile(frame, ["word"]), frame.with_columns(word=pl.lit(1.0)))
