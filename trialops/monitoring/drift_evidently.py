"""Evidently's report as a page to look around in: of a sample, beside our own figures, which decide."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.pages import Page, Section, Text

if TYPE_CHECKING:
    import polars as pl

MOST = 10_000
"""Most rows of either side: Evidently computes each column several times and draws it as it goes."""
METHODS = {"num_method": "psi", "cat_method": "psi"}
"""One method at any size; by default Evidently changes it with the number of rows."""


def write_report(
    reference: pl.DataFrame,
    current: pl.DataFrame,
    features: Sequence[str],
    target: Path,
    *,
    threshold: float,
    seed: int,
) -> list[str]:
    """Write Evidently's data drift report as one self-contained HTML file.

    Importing Evidently takes seconds, so nothing else in the project does it. No usage statistics are sent.

    Args:
        reference: Rows the model was developed on.
        current: Rows that came since.
        features: Columns to compare.
        target: File to write.
        threshold: PSI it draws as the limit.
        seed: Decides which rows are drawn where there are more than `MOST`.

    Returns:
        Columns in the report: those with a value on both sides, for Evidently refuses an empty one.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    held = [name for name in features if all(frame[name].count() for frame in (reference, current))]

    def sample(frame: pl.DataFrame) -> Any:
        rows = frame.select(held)
        return rows.sample(MOST, seed=seed).to_pandas() if rows.height > MOST else rows.to_pandas()

    shape = DataDefinition(numerical_columns=held)
    limits = {"num_threshold": threshold, "cat_threshold": threshold}
    report = Report([DataDriftPreset(columns=held, **METHODS, **limits)]).run(
        Dataset.from_pandas(sample(current), data_definition=shape),
        Dataset.from_pandas(sample(reference), data_definition=shape),
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    report.save_html(str(target))
    return held


def no_report(why: str) -> Page:
    """The page where no report was written."""
    return Page("Evidently", [Section("No report", [Text(why)])])
