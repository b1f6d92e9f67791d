"""A small synthetic trial whose best possible AUROC is known."""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trialops.models.task import Task, load_task

if TYPE_CHECKING:
    import polars as pl

#: Two unit normals this far apart have AUROC Phi(d / sqrt 2); see `known_auroc`.
DISTANCE = 1.5


def known_auroc(distance: float) -> float:
    """AUROC of one unit normal against another shifted by `distance`: Phi(distance / sqrt 2)."""
    return 0.5 * (1 + erf(distance / 2))


@pytest.fixture(scope="session")
def task() -> Task:
    """The shipped task."""
    return load_task()


def trial(task: Task, n: int = 300, sites: int = 14, seed: int = 1, distance: float = DISTANCE) -> pl.DataFrame:
    """A training set: ae_count informs, the rest is noise; gaps, an empty and a constant feature."""
    import polars as pl

    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int8)
    columns: dict[str, Any] = {name: rng.normal(size=n) for name in task.features}
    columns["ae_count"] = rng.normal(size=n) + distance * y
    columns["age"] = rng.normal(75, 8, n).round()
    columns["sex_female"] = rng.integers(0, 2, n).astype(float)
    columns["pulse"] = np.where(rng.random(n) < 0.15, np.nan, columns["pulse"])
    columns["alt_uln_ratio"] = np.full(n, np.nan)
    columns["ae_ongoing"] = np.ones(n)
    weight = np.arange(1, sites + 1, dtype=float)
    site = rng.choice(sites, n, p=weight / weight.sum())
    return pl.DataFrame(
        {
            "subject_id": [f"P{i:04d}" for i in range(n)],
            "site_id": [f"S{k:02d}" for k in site],
            "label": y,
            **columns,
            "group_sex": np.where(columns["sex_female"] > 0, "F", "M"),
            "group_age_band": np.where(columns["age"] < 65, "<65", np.where(columns["age"] <= 80, "65-80", ">80")),
            "group_race": rng.choice(["WHITE", "BLACK OR AFRICAN AMERICAN"], n, p=[0.8, 0.2]),
        }
    ).with_columns(pl.col("pulse", "alt_uln_ratio").fill_nan(None))


@pytest.fixture(scope="session")
def trial_frame(task: Task) -> pl.DataFrame:
    """The synthetic trial."""
    return trial(task)


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., pl.DataFrame]:
    """Builder of synthetic trials, see `trial`."""
    return trial


@pytest.fixture(scope="session")
def separation() -> Callable[[float], float]:
    """AUROC that belongs to a distance, see `known_auroc`."""
    return known_auroc
