"""Fill a text template once per table row, in columns instead of in a Python loop."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

MARK = re.compile(r"<(\w+)>")


def fill(frame: pl.DataFrame, template: str) -> pl.Series:
    """Replace each `<COLUMN>` of the template by the column's text.

    Args:
        frame: Rows; null becomes the empty string.
        template: Text with `<COLUMN>` marks.

    Returns:
        One string per row.
    """
    import polars as pl

    parts = MARK.split(template)
    columns = [pl.col(part).cast(pl.String).fill_null("") if i % 2 else pl.lit(part) for i, part in enumerate(parts)]
    return frame.select(pl.concat_str(columns).alias("text")).to_series()
