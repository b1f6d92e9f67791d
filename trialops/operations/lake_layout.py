"""How the tables of the lake lie in files, and whether another layout would help."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from trialops.operations.lake_policy import TableRule
from trialops.stores.chain_log import IntegrityError

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from trialops.stores.lake import Lake

Action = Literal["none", "compact", "order"]
ORDER_NOTE = "trialops.order"


@dataclass(frozen=True)
class DataFile:
    """One file of a version: path below the table, name, bytes, rows."""

    path: str
    name: str
    size: int
    rows: int


@dataclass(frozen=True)
class Layout:
    """The newest version of a table, and what is to be done with it.

    Attributes:
        table: Full name.
        version: Newest version.
        files: Its files, in the order in which they are read.
        small: How many of them are small.
        overlap: Share of the files that a look-up by the columns of the order opens on average; None where unknown.
        action: none, compact (join small files) or order (z-order, which joins them too).
        reason: Why, or why not.
    """

    table: str
    version: int
    files: tuple[DataFile, ...]
    small: int
    overlap: float | None
    action: Action
    reason: str

    @property
    def size(self) -> int:
        """Bytes of the version."""
        return sum(file.size for file in self.files)

    @property
    def rows(self) -> int:
        """Rows of the version, as its log says."""
        return sum(file.rows for file in self.files)


def layout_of(lake: Lake, table: str, rule: TableRule) -> Layout:
    """Look at a table's newest version.

    Raises:
        IntegrityError: The table cannot be opened.
    """
    opened = lake.opened(table)
    files = files_of(opened)
    small = sum(file.size < rule.small_bytes for file in files)
    overlap = _overlap(opened, rule.order) if rule.order else None
    action, reason = _judge(lake, opened, table, files, small, overlap, rule)
    return Layout(table, opened.version(), files, small, overlap, action, reason)


def files_of(opened: DeltaTable) -> tuple[DataFile, ...]:
    """The files of an open version, in the order in which the lake reads them."""
    from urllib.parse import unquote

    actions = opened.get_add_actions(flatten=True)
    columns = [actions.column(name).to_pylist() for name in ("path", "size_bytes", "num_records")]
    found = [
        DataFile(str(path), unquote(str(path)).rsplit("/", 1)[-1], int(size), int(rows or 0))
        for path, size, rows in zip(*columns, strict=True)
    ]
    return tuple(sorted(found, key=lambda file: file.name))


def _judge(
    lake: Lake,
    opened: DeltaTable,
    table: str,
    files: Sequence[DataFile],
    small: int,
    overlap: float | None,
    rule: TableRule,
) -> tuple[Action, str]:
    foreign = _foreign(opened)
    if foreign:
        return "none", foreign
    if len(files) < 2:
        return "none", "one file"
    filled = sum(file.size for file in files) / rule.target_bytes
    if overlap is not None and filled >= rule.order_min_files and overlap > rule.order_above:
        commit = next(iter(lake.versions(table)), {})
        if commit.get("digest") and not _is_ours(opened):
            reason = "the order of its rows is part of its content"
        elif filled * rule.target_bytes > rule.digest_max_bytes:
            reason = f"too large to be ordered in one piece (limit {rule.digest_max_bytes >> 20} MB)"
        elif _last_order(opened) == ",".join(rule.order) and small < rule.min_small_files:
            reason = "ordered already"
        else:
            return "order", f"a look-up by {', '.join(rule.order)} opens {overlap:.0%} of {len(files)} files"
        if small < rule.min_small_files:
            return "none", reason
    if small >= rule.min_small_files:
        return "compact", f"{small} of {len(files)} files are small"
    return "none", f"{small} small files, fewer than {rule.min_small_files}"


def _foreign(opened: DeltaTable) -> str:
    """Why a table written by others cannot be rewritten here; empty where it can."""
    protocol = opened.protocol()
    if opened.metadata().partition_columns:
        return "partitioned: compact it with the engine that writes it"
    if protocol.min_reader_version > 1 or protocol.reader_features:
        return "uses reader features (deletion vectors, column mapping): compact it with the engine that writes it"
    return ""


def _last_commit(opened: DeltaTable) -> dict[str, Any]:
    return next(iter(opened.history(1)), {})


def _is_ours(opened: DeltaTable) -> bool:
    return "trialops.maintenance" in _last_commit(opened)


def _last_order(opened: DeltaTable) -> str:
    return str(_last_commit(opened).get(ORDER_NOTE, ""))


def _overlap(opened: DeltaTable, order: Sequence[str]) -> float | None:
    """Over the first files' smallest values: how many files' ranges hold such a value, as a share of the files."""
    actions = opened.get_add_actions(flatten=True)
    names = set(actions.schema.names)
    shares = []
    for column in order:
        if f"min.{column}" not in names or f"max.{column}" not in names:
            continue
        low, high = actions.column(f"min.{column}").to_pylist(), actions.column(f"max.{column}").to_pylist()
        ranges = [(a, b) for a, b in zip(low, high, strict=True) if a is not None and b is not None]
        if not ranges:
            continue
        sought = sorted(a for a, _ in ranges)[:: max(1, len(ranges) // 64)]
        hit = [sum(a <= value <= b for a, b in ranges) / len(ranges) for value in sought]
        shares.append(sum(hit) / len(hit))
    return sum(shares) / len(shares) if shares else None


def layouts(lake: Lake, rules: dict[str, TableRule]) -> tuple[list[Layout], dict[str, str]]:
    """The layout of every table, and what those that cannot be opened say."""
    found, damaged = [], {}
    for table, rule in sorted(rules.items()):
        try:
            found.append(layout_of(lake, table, rule))
        except IntegrityError as error:
            damaged[table] = error.what
    return found, damaged
