"""What TrialOps knows about each SDTM domain: required columns, row key, dates; from domains.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

SOURCE = "_SOURCE"
ROW = "_ROW"
RECEIVED = "_RECEIVED"


@dataclass(frozen=True)
class DomainSpec:
    """One SDTM domain.

    Attributes:
        code: Two-letter domain code.
        label: Name of the domain in words.
        columns: Columns without which the domain cannot be used.
        key: Columns that identify a row across deliveries.
        collected: Collection date column, or None.
        own: The row's own (onset or assessment) date column, or None.
        start_end: Pairs of start and end date columns.
    """

    code: str
    label: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    collected: str | None
    own: str | None
    start_end: tuple[tuple[str, str], ...]

    @property
    def sequence(self) -> str | None:
        """The domain's --SEQ column, if rows are keyed by one."""
        name = f"{self.code}SEQ"
        return name if name in self.key else None


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
            key=tuple(item["key"]),
            collected=item["known"].get("collected"),
            own=item["known"].get("own"),
            start_end=tuple((start, end) for start, end in item.get("start_end", [])),
        )
        for code, item in data["domains"].items()
    }
    return Catalog(domains, tuple(data["required_domains"]), tuple(data["numeric"]), dict(data["ignored"]))


def current_rows(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Keep the newest version of every row; works on raw and on de-identified tables.

    A version is newer when it came in a later correction delivery, which the folder in `_SOURCE` tells.
    Rows that repeat a key inside one delivery all stay, so that a uniqueness check can still see them.

    Args:
        domain: Domain code.
        frame: Rows of the domain, any number of versions.

    Returns:
        The same columns, one delivery per key, in the order of the input.
    """
    import polars as pl

    spec = catalog().domains.get(domain)
    if spec is None or SOURCE not in frame.columns or not set(spec.key) <= set(frame.columns):
        return frame
    delivery = pl.col(SOURCE).str.extract(r"corrections/([^/]+)/").fill_null("")
    return frame.filter(delivery == delivery.max().over(spec.key))
