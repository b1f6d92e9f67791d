"""Whose copy is this? Finds the recipient of a leaked table by its identifiers, or by the order of its rows.

The order says something even where the identifiers were removed: subjects stand in the order of pseudonyms that each
recipient alone has. Under another recipient's order, the number of ascents of n subjects has mean (n-1)/2 and variance
(n+1)/12 (Eulerian distribution; Carlitz et al. 1972, asymptotically normal).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.privacy.sharing_agreement import SITE, SUBJECT

if TYPE_CHECKING:
    import polars as pl

LEAST_SUBJECTS = 12
SURE = 1e-6


@dataclass(frozen=True)
class Trace:
    """How well a leaked table fits one package.

    Attributes:
        share: The package.
        identifiers: Subjects of the leaked table that have an identifier of this package.
        subjects: Subjects recognised by their content, whose order was looked at.
        ascents: Of them in this package's order: 1 is its order exactly, 0.5 is chance.
        p: Probability of so many ascents by chance.
        named: Whether the table is this recipient's copy.
    """

    share: str
    identifiers: int
    subjects: int
    ascents: float
    p: float
    named: bool


def trace(leaked: pl.DataFrame, releases: Mapping[str, pl.DataFrame]) -> list[Trace]:
    """Compare a leaked table with what each recipient got.

    Args:
        leaked: The table as found; columns may be missing, rows too.
        releases: The same table of every package, by package: made again from the data it was made of.

    Returns:
        One for each package, best first.
    """
    found = [_compare(share, leaked, release) for share, release in releases.items()]
    return sorted(found, key=lambda t: (-t.identifiers, t.p, t.share))


def _compare(share: str, leaked: pl.DataFrame, release: pl.DataFrame) -> Trace:
    import polars as pl

    known = set(release[SUBJECT].to_list())
    identifiers = 0
    for column in leaked.columns:
        if leaked[column].dtype == pl.String:
            identifiers = max(identifiers, len(known & set(leaked[column].drop_nulls().to_list())))
    subjects, ascents, p = _order(leaked, release)
    return Trace(share, identifiers, subjects, ascents, p, identifiers > 0 or p < SURE)


def _order(leaked: pl.DataFrame, release: pl.DataFrame) -> tuple[int, float, float]:
    import polars as pl

    common = [c for c in release.columns if c in leaked.columns and c not in (SUBJECT, SITE)]
    if not common:
        return 0, 0.5, 1.0
    text = [pl.col(c).cast(pl.String) for c in common]
    place = release.select(SUBJECT, *text).with_columns(pl.col(SUBJECT).rank("dense").alias("_place"))
    unique = place.filter(pl.len().over(common) == 1)
    seen = leaked.select(text).with_row_index("_row").join(unique, on=common, how="inner", nulls_equal=True)
    order = seen.sort("_row").unique("_place", keep="first", maintain_order=True)["_place"]
    n = len(order)
    if n < LEAST_SUBJECTS:
        return n, 0.5, 1.0
    up = int((order.cast(pl.Int64).diff().drop_nulls() > 0).sum())
    z = (up - 0.5 - (n - 1) / 2) / math.sqrt((n + 1) / 12)
    return n, up / (n - 1), 0.5 * math.erfc(z / math.sqrt(2))
