"""Samples of rows for methods that need rows, of a fixed greatest size whatever there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def matrix(frame: Any, features: Sequence[str], *, most: int, seed: int) -> np.ndarray:
    """Numeric features of at most `most` rows, drawn without replacement and kept in order.

    Args:
        frame: polars or pandas frame, or mapping of arrays.
        features: Numeric columns.
        most: Most rows.
        seed: Decides which.

    Returns:
        float64 of shape (n, p), NaN where missing or infinite.

    Raises:
        TrialOpsError: A column is absent.
    """
    import numpy as np

    from trialops.monitoring.cells import column

    columns = [column(frame, name) for name in features]
    n = len(columns[0]) if columns else 0
    rows = np.arange(n)
    if n > most:
        rows = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    found = np.column_stack([values[rows] for values in columns]) if columns else np.empty((0, 0))
    return np.where(np.isfinite(found), found, np.nan)
