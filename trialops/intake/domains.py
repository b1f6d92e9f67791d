"""What TrialOps knows about each SDTM domain: required columns, row key, dates; from domains.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

SOURCE = "_SOURCE"
ROW = "_ROW"
RECEIVED = "_RECEIVED"
_CORRECTION = re.compile(r"corrections/([^/]+)/")


@dataclass(frozen=True)
class DomainSpec:
    """One SDTM domain.

    Attributes:
        code: Two-letter domain code.
        label: Name of the domain in words.
        columns: Columns without which the domain cannot be used.
        key: Columns that identify a row across deliveries.
        optional: Columns it may lack that later steps read.
        collected: Collection date column, or None.
        own: The row's own (onset or assessment) date column, or None.
        onset: Whether `own` can lie before the trial.
        known: Where the day comes from on which the row was known: names in order, see domains.yaml.
        start_end: Pairs of start and end date columns.
    """

    code: str
    label: str
    columns: tuple[str, ...]
    optional: tuple[str, ...]
    key: tuple[str, ...]
    collected: str | None
    own: str | None
    onset: bool
    known: tuple[str, ...]
    start_end: tuple[tuple[str, str], ...]

    @property
    def sequence(self) -> str | None:
        """The domain's --SEQ column, if rows are keyed by one."""
        name = f"{self.code}SEQ"
        return name if name in self.key else None

    @property
    def contacts(self) -> tuple[str, ...]:
        """Date columns that each show the subject in the trial on that day."""
        own = () if self.onset else (self.own,)
        return tuple(c for c in (self.collected, *own) if c)

    def may_lack(self, column: str) -> bool:
        """Whether a column of the clean table is an optional one (AEENDY stands for AEENDTC)."""
        return column in self.optional or column in {day_column(c) for c in self.optional if c.endswith("DTC")}


@dataclass(frozen=True)
class Catalog:
    """All domains, with the rules that hold for every one of them."""

    domains: dict[str, DomainSpec]
    required: tuple[str, ...]
    numeric: tuple[str, ...]
    ignored: dict[str, str]

    def is_numeric(self, domain: str, column: str) -> bool:
        """Whether SDTM defines the column as a number."""
        return generic(domain, column) in self.numeric

    def ignore_reason(self, name: str) -> str:
        """Why a data set that is not loaded is left out."""
        for prefix, reason in self.ignored.items():
            if name == prefix or (prefix in ("SUPP", "SQ") and name.startswith(prefix)):
                return reason
        return "not a domain this platform loads"


def day_column(column: str) -> str:
    """Name of the study-day column of a date column: LBDTC -> LBDY."""
    return column[:-3] + "DY"


def deliveries(files: Iterable[str]) -> dict[str, int]:
    """File name -> number of its delivery: 1, and one more for every day on which corrections came, in their order.

    The number stands for the day outside the sealed raw data: the day on which a correction came, beside the
    study day on which it became known, would give day 1 of a subject away.
    """
    days = {file: _CORRECTION.match(file) for file in files}
    order = sorted({day[1] for day in days.values() if day})
    return {file: 2 + order.index(day[1]) if day else 1 for file, day in sorted(days.items())}


def delivery_label(number: int, domain: str) -> str:
    """What `_SOURCE` says in a clean table: which delivery, and nothing of the file's name."""
    return f"delivery {number}/{domain}"


def file_labels(files: Iterable[str]) -> dict[str, str]:
    """File name -> what people are shown: a correction by the number of its delivery instead of its day."""
    return {file: file if n == 1 else f"delivery {n}/{file.split('/')[-1]}" for file, n in deliveries(files).items()}


def generic(domain: str, column: str) -> str:
    """Replace a leading domain code by "--", the way the SDTM standard writes variable names."""
    if column.startswith(domain) and len(column) > len(domain):
        return "--" + column[len(domain) :]
    return column


@cache
def catalog() -> Catalog:
    """The domain catalogue, read once from domains.yaml."""
    import yaml

    data = yaml.safe_load(Path(__file__).with_name("domains.yaml").read_text("utf-8"))
    domains = {
        code: DomainSpec(
            code=code,
            label=item["label"],
            columns=tuple(item["columns"]),
            optional=tuple(item.get("optional", [])),
            key=tuple(item["key"]),
            collected=item.get("collected"),
            own=item.get("own"),
            onset=bool(item.get("onset", False)),
            known=tuple(item["known"]),
            start_end=tuple((start, end) for start, end in item.get("start_end", [])),
        )
        for code, item in data["domains"].items()
    }
    return Catalog(domains, tuple(data["required_domains"]), tuple(data["numeric"]), dict(data["ignored"]))


def current_rows(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the newest version of every row; works on raw and on de-identified tables.

    A version is newer when it came in a later delivery: `_SOURCE` tells its correction folder, or its number. In a
    table without `_SOURCE` it is newer when it became known later (`KNOWNDY`).
    Rows that repeat a key inside one delivery all stay, so that a uniqueness check can still see them.

    Args:
        domain: Domain code.
        frame: Rows of the domain, any number of versions.

    Returns:
        The same columns, one delivery per key, in the order of the input.
    """
    import polars as pl

    spec = catalog().domains.get(domain)
    if spec is None or not set(spec.key) <= set(frame.columns):
        return frame
    if SOURCE not in frame.columns:
        known = pl.col("KNOWNDY").cast(pl.Int64).fill_null(-(10**9))
        return frame.filter(known == known.max().over(spec.key)) if "KNOWNDY" in frame.columns else frame
    folder = pl.col(SOURCE).str.extract(r"^corrections/([^/]+)/")
    number = pl.col(SOURCE).str.extract(r"^delivery (\d+)/").str.zfill(9)
    delivery = pl.coalesce(number, folder, pl.lit(""))
    return frame.filter(delivery == delivery.max().over(spec.key))
