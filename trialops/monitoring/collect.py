"""From the servers' prediction logs to one table of the lake, each answer once, however often it is collected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

#: Together they name one answer: a request may be about several subjects.
KEY = ("request_id", "row")


def log_folder(home: Path, model: str) -> Path:
    """Where the model's servers write their prediction log."""
    return home / "predictions" / model


def predictions_table(model: str) -> str:
    """Full name of the lake table of a model's predictions."""
    return f"predictions/{model}"


def collect(run: Step, model: str) -> pl.DataFrame:
    """Add what the servers have logged to what was collected before.

    Segments may have been removed since they were collected, and the newest may still grow; both are as good as read
    whole, for an answer that is in the table stays and one that is not is added.

    Args:
        run: The step.
        model: Registered model.

    Returns:
        All predictions collected so far, in the order they were made, with `row`, the place within the request.
    """
    import polars as pl

    from trialops.serving.prediction_log import read_segments

    fresh = read_segments(log_folder(run.settings.home, model))
    fresh = fresh.with_columns(
        pl.col("at").dt.cast_time_unit("us"),  # what the lake keeps
        row=pl.int_range(pl.len(), dtype=pl.Int64).over("request_id"),
    )
    known = run.read_latest(predictions_table(model))
    together = fresh if known is None else pl.concat([known.select(fresh.columns), fresh], how="vertical_relaxed")
    return together.unique(list(KEY), keep="first", maintain_order=True).sort("at", *KEY, maintain_order=True)
