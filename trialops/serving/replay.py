"""The traffic of a canary: held-out subjects, as the model would be asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialops.features.assembly import HELD_OUT
from trialops.models.bundle import Bundle
from trialops.models.design_matrix import inputs
from trialops.serving.canary import Replay

if TYPE_CHECKING:
    import polars as pl

KEYS = ("subject_id", "site_id", "event_timestamp", "label", "split")


def replay(training: pl.DataFrame, candidate: Path) -> Replay:
    """Feature rows and outcomes of the held-out subjects.

    Args:
        training: Training set with its split.
        candidate: Bundle folder; its features come first, then any other the stable model may want.
    """
    import polars as pl

    rows = training.filter(pl.col("split") == HELD_OUT).sort("subject_id")
    wanted = list(Bundle.load(candidate).features)
    others = [c for c in rows.columns if c not in wanted and c not in KEYS and not c.startswith("group_")]
    features = [*wanted, *others]
    return Replay(
        x=inputs(rows, features),
        features=features,
        ids=rows["subject_id"].to_list(),
        labels=rows["label"].cast(pl.Float64).to_numpy(),
    )
