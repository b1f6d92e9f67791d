"""A delivery in which one site does badly: events not reported, visits missing, reports late."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from trialops.intake.sdtm import read_folder
from trialops.intake.xport import XportWriter
from trialops.intake.xport_read import read_transport
from trialops.regulatory.cut import make_cut
from trialops.trial.tables import TrialTables

KEPT = 3
"""One in so many events of the bad site is reported."""
MISSED = 4
"""One in so many of its later visits is missing."""
LATE_DAYS = 60


def delivered(folder: Path) -> TrialTables:
    """The tables of a delivery as a step sees them."""
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.xpt"))}
    tables = make_cut(read_folder(folder).tables, files).tables
    return TrialTables(str(tables["DM"]["STUDYID"][0]), tables, "source")


def largest_site(folder: Path) -> str:
    """The site with the most subjects."""
    dm = read_transport((folder / "dm.xpt").read_bytes()).frame
    return str(dm["SITEID"].value_counts().sort("count", "SITEID", descending=True)["SITEID"][0])


def spoil(folder: Path, site: str) -> None:
    """Change a delivery in place: the site reports a third of its events, late, and skips a quarter of its visits."""
    dm = read_transport((folder / "dm.xpt").read_bytes()).frame
    its = pl.col("USUBJID").is_in(dm.filter(pl.col("SITEID") == site)["USUBJID"].to_list())
    number = pl.int_range(pl.len()).over(its)
    _rewrite(folder, "ae.xpt", lambda f: f.filter(~its | (number % KEPT == 0)).with_columns(_late(its)))
    planned = its & (pl.col("VISITNUM") > 3)
    order = pl.int_range(pl.len()).over(planned)
    _rewrite(folder, "sv.xpt", lambda f: f.filter(~planned | (order % MISSED != 0)))


def _late(its: pl.Expr) -> pl.Expr:
    def later(text: str) -> str:
        return (date.fromisoformat(text[:10]) + timedelta(days=LATE_DAYS)).isoformat()

    moved = pl.col("AEDTC").map_elements(later, return_dtype=pl.String)
    return pl.when(its & (pl.col("AEDTC").str.len_chars() >= 10)).then(moved).otherwise("AEDTC").alias("AEDTC")


def _rewrite(folder: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    read = read_transport((folder / name).read_bytes())
    changed = change(read.frame)
    with XportWriter(folder / name, read.name, read.label, read.columns) as writer:
        writer.write(changed)
