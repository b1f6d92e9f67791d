"""What differs between two builds of the feature views: which features, for how many subjects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

MOMENT = ("event_timestamp", "created")
ADDED, REMOVED, CHANGED, SAME = "added", "removed", "changed", "same"


@dataclass(frozen=True)
class Difference:
    """One feature in two builds.

    Attributes:
        view: Its view.
        feature: Its name.
        what: added, removed, changed or same.
        rows: Rows with another value, or rows in one build alone with a value.
        subjects: Subjects (visits count for their subject; of a view of sites, sites) with such a row.
        of: Subjects in either build.
    """

    view: str
    feature: str
    what: str
    rows: int
    subjects: int
    of: int


def difference(
    before: Mapping[str, pl.DataFrame], after: Mapping[str, pl.DataFrame], keys: Mapping[str, tuple[str, ...]]
) -> list[Difference]:
    """Compare two builds, row by row at each moment; a value is the same to the last bit or it is another one.

    Args:
        before: View -> frame of the build before; views may be absent from either.
        after: View -> frame of the build after.
        keys: View -> its join keys.

    Returns:
        One entry per feature of either build, in the order of the views and columns of `after`, then `before`.
    """
    import polars as pl

    found: list[Difference] = []
    for view in dict.fromkeys([*after, *before]):
        join = [*keys.get(view, ("subject_id",)), *MOMENT]
        old, new = before.get(view), after.get(view)
        columns = dict.fromkeys(c for frame in (new, old) if frame is not None for c in frame.columns if c not in join)
        if old is None or new is None:
            frame, what = (new, ADDED) if old is None else (old, REMOVED)
            assert frame is not None
            everybody = frame[join[0]].n_unique()
            found += [_one(view, c, what, frame.filter(pl.col(c).is_not_null()), join[0], everybody) for c in columns]
            continue
        both = old.join(new, on=join, how="full", suffix="_after", coalesce=True)
        everybody = both[join[0]].n_unique()
        for column in columns:
            if column not in old.columns or column not in new.columns:
                what = ADDED if column in new.columns else REMOVED
                rows = both.filter(pl.col(column).is_not_null())
            else:
                rows = both.filter(pl.col(column).ne_missing(pl.col(f"{column}_after")))
                what = CHANGED if rows.height else SAME
            found.append(_one(view, column, what, rows, join[0], everybody))
    return found


def _one(view: str, feature: str, what: str, rows: pl.DataFrame, key: str, of: int) -> Difference:
    return Difference(view, feature, what, rows.height, rows[key].n_unique() if rows.height else 0, of)
