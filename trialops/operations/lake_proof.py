"""What every version of the lake holds, so that it can be shown that upkeep has changed nothing.

A data file is never changed once it is written, so a version is what its files hold, in the order in which they are
read. Each file is read once in a pass, by the lake's own way of reading, whatever number of versions names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import IntegrityError
from trialops.stores.digest import table_digest
from trialops.stores.lake import data_files

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.lake import Lake

SEEDS = (0x7472_6961, 0x6C6F_7073)
"""Two independent 64-bit hashes of a row: 128 bits in all."""


@dataclass(frozen=True)
class Content:
    """What rows hold.

    Attributes:
        rows: How many.
        digest: SHA-256 of their content in their order.
        bag: Two sums of row hashes modulo 2^64: equal for the same rows in any order, and added up over parts.
    """

    rows: int
    digest: str
    bag: tuple[int, int]


@dataclass(frozen=True)
class Version:
    """What one version of a table holds; `problem` says why it cannot be read, where that is so."""

    table: str
    version: int
    rows: int
    digest: str
    bag: tuple[int, int]
    files: tuple[str, ...]
    problem: str = ""

    @property
    def name(self) -> str:
        """``zone/name@version``."""
        return f"{self.table}@{self.version}"


def content_of(frame: pl.DataFrame) -> Content:
    """Rows, digest and bag of a frame."""
    if frame.height == 0:
        return Content(0, table_digest(_arrow(frame)), (0, 0))
    # numpy's unsigned sum wraps around, which is what is wanted.
    first, second = (int(frame.hash_rows(seed=seed).to_numpy().sum(dtype="uint64")) for seed in SEEDS)
    return Content(frame.height, table_digest(_arrow(frame)), (first, second))


def _arrow(frame: pl.DataFrame):  # type: ignore[no-untyped-def]
    import polars as pl

    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def added(parts: Iterable[Content]) -> tuple[int, tuple[int, int]]:
    """Rows and bag of parts taken together."""
    rows, first, second = 0, 0, 0
    for part in parts:
        rows += part.rows
        first, second = (first + part.bag[0]) % (1 << 64), (second + part.bag[1]) % (1 << 64)
    return rows, (first, second)


@dataclass
class Reader:
    """Reads versions, each file once.

    Args:
        lake: The lake.
    """

    lake: Lake
    _files: dict[str, Content] = field(default_factory=dict)

    def version(self, table: str, version: int, noted: str = "", rows: int | None = None) -> Version:
        """What a version holds.

        Args:
            table: Full name.
            version: Its number.
            noted: Digest its commit names, which is checked; empty where there is none.
            rows: Rows its commit names, likewise.
        """
        try:
            uris = data_files(self.lake.opened(table, version))
            parts = [self.content(uri) for uri in uris]
        except (IntegrityError, OSError) as error:
            what = error.what if isinstance(error, TrialOpsError) else type(error).__name__
            return Version(table, version, 0, "", (0, 0), (), what)
        total, bag = added(parts)
        names = tuple(uri.rsplit("/", 1)[-1] for uri in uris)
        lines = "\n".join(f"{part.rows} {part.digest}" for part in parts)
        found = Version(table, version, total, hashlib.sha256(lines.encode()).hexdigest(), bag, names)
        problem = self._against(found, noted, rows, parts)
        return Version(table, version, total, found.digest, bag, names, problem) if problem else found

    def _against(self, found: Version, noted: str, rows: int | None, parts: list[Content]) -> str:
        """What is wrong with a version whose commit says what it should hold."""
        from trialops.stores.refs import TableRef

        if not noted:
            return ""
        if rows is not None and rows != found.rows:
            return f"holds {found.rows} rows, its commit says {rows}"
        if len(parts) == 1 and parts[0].digest == noted:
            return ""
        try:  # several files, or none: the digest is of the whole
            self.lake.read(TableRef(found.table, found.version, found.rows, noted))
        except IntegrityError as error:
            return error.what
        return ""

    def content(self, uri: str) -> Content:
        """What a data file holds, by the address a Parquet reader takes.

        Raises:
            IntegrityError: It cannot be read.
        """
        import polars as pl

        if uri not in self._files:
            try:
                frame = pl.scan_parquet([uri], glob=False).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                raise IntegrityError(f"A data file cannot be read ({type(error).__name__})", where=uri) from None
            self._files[uri] = content_of(frame)
        return self._files[uri]


def contents(
    lake: Lake,
    tables: Iterable[str],
    *,
    only: Callable[[str, int], bool] = lambda table, version: True,
    progress: Callable[[str, float | None], None] | None = None,
) -> dict[str, Version]:
    """What every version of some tables holds whose rows were not disposed of, by ``zone/name@version``.

    Args:
        lake: The lake.
        tables: Full names.
        only: Which versions.
        progress: Called with a message and the fraction done.
    """
    reader, found = Reader(lake), {}
    names = sorted(tables)
    for place, table in enumerate(names):
        if progress is not None:
            progress(f"reading every version of {table}", place / max(len(names), 1))
        for commit in lake.versions(table):
            number = int(commit["version"])
            if only(table, number) and not lake.disposed(table, number):
                version = reader.version(table, number, commit["digest"], commit["rows"])
                found[version.name] = version
    return found


def differences(before: Mapping[str, Version], after: Mapping[str, Version], stay: Iterable[str]) -> list[str]:
    """What is no longer as it was, one sentence each; empty where all is identical.

    Args:
        before: Every version before.
        after: Every version after.
        stay: Names of the versions that must stay readable.
    """
    found = []
    for name in sorted(stay):
        was, now = before[name], after.get(name)
        if now is None:
            found.append(f"{name} is gone")
        elif now.problem and not was.problem:
            found.append(f"{name} cannot be read any more: {now.problem}")
        elif (was.rows, was.digest, was.bag, was.files) != (now.rows, now.digest, now.bag, now.files):
            found.append(f"{name} held {was.rows} rows and holds {now.rows}, or other values")
    return found
