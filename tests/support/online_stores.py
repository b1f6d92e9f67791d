"""An empty online store of each kind, and Feast on the same one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from trialops.stores.features import service_name
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec

if TYPE_CHECKING:
    from feast import FeatureStore

DAY_ONE = datetime(2000, 1, 1, tzinfo=UTC)
LABS = ViewSpec("labs", ("alt", "ast", "labs_last_day"), 30)
VITALS = ViewSpec("vitals", ("pulse",))
SPEC = FeatureServiceSpec(
    service_name("withdrawal"), "trialops", 1, (LABS, VITALS), {"days_since_labs": "labs.labs_last_day"}
)


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def online_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty online store of each kind."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    return f"sqlite:///{tmp_path}/online.db"


def rows(view: ViewSpec, days: Mapping[str, int], value: float = 0.0) -> pl.DataFrame:
    """One row per subject at its ordinal day; values are `value` plus 0, 1, 2, ... over subjects and columns."""
    moments = [DAY_ONE + timedelta(days=day) for day in days.values()]
    n, p = len(days), len(view.columns)
    values = value + np.arange(n * p, dtype=float).reshape(n, p)
    return pl.DataFrame(
        {
            "subject_id": pl.Series(list(days), dtype=pl.String),
            "event_timestamp": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            "created": pl.Series(moments, dtype=pl.Datetime("us", "UTC")),
            **{name: values[:, number] for number, name in enumerate(view.columns)},
        }
    )


def feast_store(url: str, spec: FeatureServiceSpec, frames: Mapping[str, pl.DataFrame], folder: Path) -> FeatureStore:
    """Feast over these frames and the online store at the URL."""
    from trialops.features.online_config import feast_online_store
    from trialops.features.training_set import write_views
    from trialops.stores.features import open_store

    return open_store(
        folder,
        write_views(frames, folder / "views"),
        columns={view.name: view.columns for view in spec.views},
        online=feast_online_store(url),
    )


def feast_read(store: FeatureStore, spec: FeatureServiceSpec, subjects: list[str]) -> np.ndarray:
    """What Feast's SDK reads, float64 [n, p] over the columns of the specification."""
    answer: dict[str, Any] = store.get_online_features(
        features=store.get_feature_service(spec.name),
        entity_rows=[{"subject_id": subject} for subject in subjects],
    ).to_dict()
    cells = [[np.nan if cell is None else float(cell) for cell in answer[name]] for name in spec.columns]
    return np.array(cells).T
