"""ISO 8601 text of dates held as days since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Ints = npt.NDArray[np.int64]


def iso(days: Ints, known: npt.NDArray[np.bool_] | None = None, minutes: Ints | None = None) -> pl.Series:
    """Text "YYYY-MM-DD", or "YYYY-MM-DDTHH:MM" when minutes are given; "" where not known.

    Args:
        days: Days since 1970-01-01.
        known: False where the date does not exist.
        minutes: Minute of the day.
    """
    import numpy as np
    import polars as pl

    if minutes is None:
        text = pl.Series(days).cast(pl.Int32).cast(pl.Date).dt.to_string("%Y-%m-%d")
    else:
        stamp = pl.Series((np.asarray(days) * 1440 + minutes) * 60_000).cast(pl.Datetime("ms"))
        text = stamp.dt.to_string("%Y-%m-%dT%H:%M")
    return text if known is None else text.set(pl.Series(~known), "")
