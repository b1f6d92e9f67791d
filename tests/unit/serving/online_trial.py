"""Six subjects in an online store, a model that takes their features, and a server over both."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trialops.features.study_time import timestamp_of
from trialops.models.bundle import Bundle
from trialops.models.interval import make_interval_table
from trialops.serving.process import ServerProcess
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
from trialops.stores.online.writer import write_view

SPEC = FeatureServiceSpec(
    "risk_v1",
    "trial",
    1,
    (
        ViewSpec("demographics", ("age",)),
        ViewSpec("vitals", ("weight_slope", "pulse", "vitals_last_day"), ttl_days=400),
        ViewSpec("events", ("ae_count",)),
    ),
    {"days_since_vitals": "vitals.vitals_last_day"},
)
FEATURES = ("days_since_vitals", "age", "weight_slope", "ae_count")
GOOD = ("01-701-1001", "01-701-1002", "01-701-1003")
OLD = "01-702-1004"
"""Vitals on day 10, an adverse event on day 200: stale on day 200."""
EMPTY = "01-702-1005"
"""Nothing but an age."""
EXPIRED = "01-702-1006"
"""Vitals on day 1, an adverse event on day 500: older than the view's time to live."""


def frames() -> dict[str, pl.DataFrame]:
    def at(days: list[int]) -> list[datetime]:
        return [timestamp_of(day) for day in days]

    moment = pl.Datetime("us", "UTC")
    everybody = [*GOOD, OLD, EMPTY, EXPIRED]
    seen = [*GOOD, OLD, EXPIRED]
    return {
        "demographics": pl.DataFrame(
            {
                "subject_id": everybody,
                "event_timestamp": pl.Series(at([-7] * 6), dtype=moment),
                "age": [61.0, 72.5, 80.0, 66.0, 70.0, 59.0],
            }
        ),
        "vitals": pl.DataFrame(
            {
                "subject_id": seen,
                "event_timestamp": pl.Series(at([28, 30, 14, 10, 1]), dtype=moment),
                "weight_slope": [-0.25, 0.5, None, 1.0, 2.0],
                "pulse": [61.0, 62.0, 63.0, 64.0, 65.0],
                "vitals_last_day": [28.0, 30.0, -3.0, 10.0, 1.0],
            }
        ),
        "events": pl.DataFrame(
            {
                "subject_id": seen,
                "event_timestamp": pl.Series(at([20, 31, 14, 200, 500]), dtype=moment),
                "ae_count": [1.0, 0.0, 3.0, 2.0, 1.0],
            }
        ),
    }


def write(url: str) -> None:
    for view, frame in frames().items():
        write_view(url, SPEC, view, frame)


def model() -> Bundle:
    """A logistic model on four features, one of them an age, with an interval table."""
    rng = np.random.default_rng(5)
    scores = rng.random(300)
    return Bundle(
        name="withdrawal",
        kind="logistic",
        features=FEATURES,
        threshold=0.4,
        task={"name": "withdrawal"},
        training={},
        created_by="run-1",
        params={},
        fill={"days_since_vitals": 5.0, "age": 70.0, "weight_slope": 0.0, "ae_count": 1.0},
        centre=(5.0, 70.0, 0.0, 1.0),
        scale=(10.0, 8.0, 1.0, 2.0),
        coefficients=(0.4, -0.6, 0.3, 0.8),
        intercept=-0.3,
        interval=make_interval_table(scores, (rng.random(300) < scores).astype(int)),
    )


def expected(days: dict[str, int]) -> np.ndarray:
    """Inputs by hand, in the model's order: for subjects and the days they are asked for."""
    by_view = {name: {row["subject_id"]: row for row in frame.to_dicts()} for name, frame in frames().items()}
    rows = []
    for subject, day in days.items():
        vitals = by_view["vitals"].get(subject, {})
        last = vitals.get("vitals_last_day")
        ordinal = day - 1 if day > 0 else day
        age_of_vitals = None if last is None else ordinal - (last - 1 if last > 0 else last)
        events = by_view["events"].get(subject, {})
        age = by_view["demographics"][subject]["age"]
        rows.append([age_of_vitals, age, vitals.get("weight_slope"), events.get("ae_count")])
    return np.array(rows, dtype=np.float64)


@contextlib.contextmanager
def served(folder: Path, url: str, bundle: Bundle | None = None, **options: Any) -> Iterator[ServerProcess]:
    """A server over an online store; options are those of its command line."""
    made = (bundle or model()).save(folder / "bundle")
    (made / "service.json").write_text(SPEC.to_json())
    server = ServerProcess(made, "withdrawal", "3", folder / "work")
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # another server started meanwhile must not inherit it
            for name, value in {"online": url, **options}.items():
                patch.setenv(f"TRIALOPS_SERVE_{name.upper()}", str(value))
            stack.enter_context(server)
        yield server


def ask(subjects: list[str], days: list[int] | None = None, **more: Any) -> bytes:
    inputs: list[dict[str, Any]] = [
        {"name": "subject_id", "datatype": "BYTES", "shape": [len(subjects)], "data": subjects}
    ]
    if days is not None:
        inputs.append({"name": "study_day", "datatype": "INT64", "shape": [len(days)], "data": days})
    return json.dumps({"inputs": inputs, **more}).encode()


def with_coefficients(scale: float) -> Bundle:
    return replace(model(), scale=(scale,) * 4)
