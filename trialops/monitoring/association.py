"""Rank correlations of many features at once, with missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def rank_columns(matrix: np.ndarray) -> np.ndarray:
    """Midranks of the known values of each column, centred and scaled to (-1, 1); NaN stays NaN.

    Args:
        matrix: Shape (n, p), NaN or infinite where missing.

    Returns:
        Shape (n, p).
    """
    import numpy as np

    from trialops.models.discrimination import midranks

    ranked = np.full(matrix.shape, np.nan)
    for j in range(matrix.shape[1]):
        known = np.isfinite(matrix[:, j])
        size = int(known.sum())
        if size > 1:
            ranked[known, j] = (2 * midranks(matrix[known, j]) - size - 1) / (size - 1)
    return ranked


def correlations(ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of every two columns over the rows in which both are known.

    Of ranks made by :func:`rank_columns` this is Spearman's, with ranks taken over all known values of a column.

    Args:
        ranked: Shape (n, p), NaN where missing.

    Returns:
        Correlations of shape (p, p), NaN where a column does not vary, 1 on the diagonal; and rows of each pair.
    """
    import numpy as np
    from threadpoolctl import threadpool_limits

    known = (~np.isnan(ranked)).astype(np.float64)
    with threadpool_limits(1, "blas"):  # products this small take longer on threads that wait for each other
        return from_sums(sums(np.nan_to_num(ranked), known))


def sums(filled: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The four matrix products pairwise correlations are made of, shape (4, p, p); they add over parts of the rows.

    Args:
        filled: Shape (n, p), 0 where missing.
        known: Shape (n, p), 1.0 where known.
    """
    import numpy as np

    return np.stack([filled.T @ filled, filled.T @ known, (filled * filled).T @ known, known.T @ known])


def from_sums(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairwise correlations and rows from :func:`sums`."""
    import numpy as np

    products, first, squares, rows = parts
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = products - first * first.T / rows
        spread = squares - first * first / rows
        spread = np.where(spread > 1e-9 * np.maximum(rows, 1), spread, np.nan)
        found = np.clip(covariance / np.sqrt(spread * spread.T), -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found, rows
