"""Unlikely combinations of results: the Mahalanobis distance of whole panels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

SHRINK = 0.05
"""Part of the identity mixed into the correlation, so that it can always be inverted."""


def panel_distances(data: pl.DataFrame, *, probability: float, tests: list[str], least: int, **_: Any) -> pl.DataFrame:
    """Squared Mahalanobis distance of each complete panel.

    Centre and scale are median and scaled median absolute deviation of the log values; the correlation comes from the
    ranks (r = 2 sin(pi rho / 6)), so that no single panel draws the ellipse towards itself.

    Args:
        data: From `anomalies.measurements`; a panel is what a subject has at one time.
        probability: Chance of so large a distance under a normal distribution, below which a panel is flagged.
        tests: Codes of the panel; those that fewer than half of the panels have are left out.
        least: Fewest complete panels.

    Returns:
        subject, at, distance (squared), flagged; one line per complete panel, none where there are too few.
    """
    import numpy as np
    import polars as pl
    from scipy.stats import chi2, rankdata

    empty = pl.DataFrame(schema={"subject": pl.String, "at": pl.Float64, "distance": pl.Float64, "flagged": pl.Boolean})
    chosen = data.filter(pl.col("code").is_in(tests)).unique(["subject", "at", "code"], keep="first")
    if chosen.is_empty():
        return empty
    wide = chosen.pivot("code", index=["subject", "at"], values="log").sort("subject", "at")
    used = [t for t in tests if t in wide.columns and wide[t].count() * 2 >= wide.height]
    complete = wide.drop_nulls(used) if used else wide.clear()
    if complete.height < least or len(used) < 3:
        return empty
    values = complete.select(used).to_numpy()
    away = values - np.median(values, axis=0)
    scale = np.maximum(np.median(np.abs(away), axis=0) * 1.4826, 0.01)
    ranks = np.corrcoef(np.apply_along_axis(rankdata, 0, values), rowvar=False)
    correlation = (1 - SHRINK) * 2 * np.sin(np.pi * np.nan_to_num(ranks) / 6) + SHRINK * np.eye(len(used))
    np.fill_diagonal(correlation, 1.0)
    scaled = away / scale
    distance = np.einsum("ij,jk,ik->i", scaled, np.linalg.pinv(correlation, hermitian=True), scaled)
    limit = float(chi2.isf(probability, len(used)))
    return complete.select("subject", "at").with_columns(
        distance=pl.Series(distance), flagged=pl.Series(distance > limit)
    )
