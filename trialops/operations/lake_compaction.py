"""Compaction: small files joined up to a target size, or rows put in z-order, as a further version of the table.

delta-rs's own OPTIMIZE is not used. Its removals say that no data changed, and neither it nor another delta-rs writer
checks those for conflicts: two compactions at once, or a compaction and an overwrite begun before it, leave every row
twice. Here the files are written and read back first, and one commit then takes the place of the version it was made
from, or fails because another writer was faster. Nothing that is wrong ever becomes visible.
"""

from __future__ import annotations

import io
import json
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.operations.lake_layout import ORDER_NOTE, DataFile, Layout, layout_of
from trialops.operations.lake_policy import TableRule
from trialops.operations.lake_proof import Content, Reader, added, content_of
from trialops.stores.chain_log import IntegrityError
from trialops.stores.objects import open_store
from trialops.stores.refs import TableRef

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from trialops.stores.lake import Lake

NOTE = "trialops.maintenance"


@dataclass(frozen=True)
class Compaction:
    """What became of one table.

    Attributes:
        table: Full name.
        action: compact or order.
        outcome: done; busy: other writers were always faster; left: the reason says why.
        version: The new version; None where there is none.
        of: The version it was made from.
        files: Number of files before and after.
        size: Bytes before and after.
        overlap: Share of files a look-up opens, before and after, where the table has an order.
        reason: In words.
    """

    table: str
    action: str
    outcome: str
    version: int | None
    of: int
    files: tuple[int, int]
    size: tuple[int, int]
    overlap: tuple[float | None, float | None]
    reason: str = ""


@dataclass(frozen=True)
class _Written:
    """A data file that was written and read back, and is in no version yet."""

    name: str
    size: int
    stats: str
    content: Content


def compact(lake: Lake, table: str, rule: TableRule, *, run_id: str = "", attempts: int = 5) -> Compaction:
    """Bring a table into the layout its rule asks for, if it pays.

    Args:
        lake: The lake.
        table: Full name.
        rule: Its rule.
        run_id: Kept in the commit.
        attempts: Commits tried while other writers are faster.

    Returns:
        What became of it.

    Raises:
        IntegrityError: What was written is not what was read; nothing of it is visible.
    """
    import polars as pl

    for attempt in range(attempts):
        if attempt:
            time.sleep(random.uniform(0, 0.05 * 2**attempt))
        seen = layout_of(lake, table, rule)
        if seen.action == "none":
            return _left(seen, "left", seen.reason)
        try:
            version = _replace(lake, seen, rule, run_id)
        except pl.exceptions.PolarsError as error:
            return _left(seen, "left", f"its files cannot be read as one table ({type(error).__name__})")
        if version is not None:
            now = layout_of(lake, table, rule)
            return Compaction(
                table,
                seen.action,
                "done",
                version,
                seen.version,
                (len(seen.files), len(now.files)),
                (seen.size, now.size),
                (seen.overlap, now.overlap),
                seen.reason,
            )
    return _left(seen, "busy", f"other writers were faster {attempts} times; the next run tries again")


def _left(seen: Layout, outcome: str, reason: str) -> Compaction:
    same = (len(seen.files),) * 2, (seen.size,) * 2, (seen.overlap,) * 2
    return Compaction(seen.table, seen.action, outcome, None, seen.version, *same, reason)


def _replace(lake: Lake, seen: Layout, rule: TableRule, run_id: str) -> int | None:
    """Write, read back, commit; None where another writer was faster."""
    store = open_store(lake.url)
    uris = _uris(lake, seen)
    written: list[_Written] = []
    gone: list[DataFile] = []
    parts = _ordered(seen, uris, rule) if seen.action == "order" else _joined(seen, uris, rule)
    reader = Reader(lake)
    try:
        for old, frame, name in parts:
            written.append(_write(store, seen.table, name, frame))
            gone += old
        if added(reader.content(uris[file.name]) for file in gone) != added(file.content for file in written):
            raise IntegrityError(
                "A compaction would change the rows of a table; nothing was committed", where=seen.table
            )
    except Exception:
        _discard(store, seen.table, written)
        raise
    stay = [file for file in seen.files if file.name not in {g.name for g in gone}]
    digest, rows = _whole(lake, seen, stay, written, rule)
    landed = _commit(lake, seen, gone, written, _note(seen, rule, run_id, digest, rows))
    if not landed:
        _discard(store, seen.table, written)
        return None
    version = seen.version + 1
    if digest:
        lake.read(TableRef(seen.table, version, rows, digest))
    return version


def _note(seen: Layout, rule: TableRule, run_id: str, digest: str, rows: int) -> dict[str, str]:
    note = {NOTE: seen.action, "trialops.of": str(seen.version), "run_id": run_id, "step": "compact-lake"}
    if seen.action == "order":
        note[ORDER_NOTE] = ",".join(rule.order)
    if digest:
        note |= {"trialops.digest": digest, "trialops.rows": str(rows)}
    return note


def _uris(lake: Lake, seen: Layout) -> dict[str, str]:
    """Name of a data file to the address a Parquet reader takes."""
    from urllib.parse import unquote

    from trialops.stores.lake import data_files

    return {unquote(uri).rsplit("/", 1)[-1]: uri for uri in data_files(lake.opened(seen.table, seen.version))}


def _joined(seen: Layout, uris: dict[str, str], rule: TableRule) -> Iterator[tuple[list[DataFile], pl.DataFrame, str]]:
    """Runs of small files: what they hold together, under a name that sorts where the first of them stood."""
    import polars as pl

    mark = uuid.uuid4().hex[:8]
    for group in _runs(seen.files, rule):
        frame = pl.scan_parquet([uris[file.name] for file in group], glob=False).collect()
        stem = group[0].name.removesuffix(".parquet")
        yield group, frame, f"{stem}-{mark}.parquet"


def _runs(files: Sequence[DataFile], rule: TableRule) -> list[list[DataFile]]:
    """Neighbours among the small files, up to the target size together; a file alone is left as it is."""
    runs: list[list[DataFile]] = [[]]
    for file in files:
        size = sum(f.size for f in runs[-1])
        if file.size >= rule.small_bytes:
            runs.append([])
        elif runs[-1] and size + file.size > rule.target_bytes:
            runs.append([file])
        else:
            runs[-1].append(file)
    return [run for run in runs if len(run) > 1]


def _ordered(seen: Layout, uris: dict[str, str], rule: TableRule) -> Iterator[tuple[list[DataFile], pl.DataFrame, str]]:
    """All rows in z-order, cut into files of the target size."""
    import polars as pl

    frame = pl.scan_parquet([uris[file.name] for file in seen.files], glob=False).collect()
    frame = frame[z_order(frame, [c for c in rule.order if c in frame.columns])]
    pieces = max(1, round(seen.size / rule.target_bytes))
    height = -(-frame.height // pieces)
    mark = uuid.uuid4()
    for number in range(pieces):
        piece = frame.slice(number * height, height)
        if piece.height:
            yield (list(seen.files) if number == 0 else []), piece, f"part-{number:05d}-{mark}-c000.zstd.parquet"


def z_order(frame: pl.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Positions of a frame's rows in the order of a Z curve (Morton, 1966) over the ranks of some columns.

    Args:
        frame: Rows.
        columns: One to four columns; rows with the same ranks keep their order. Nulls come first.

    Returns:
        Row numbers, int64.
    """
    import numpy as np
    import polars as pl

    bits = 63 // max(len(columns), 1)
    bits = min(bits, 21)
    code = np.zeros(frame.height, dtype=np.uint64)
    for place, column in enumerate(columns):
        rank = frame[column].rank("dense").fill_null(0).cast(pl.Int64).to_numpy().astype(np.float64)
        scaled = (rank / max(float(rank.max(initial=0)), 1.0) * ((1 << bits) - 1)).astype(np.uint64)
        for bit in range(bits):
            code |= ((scaled >> np.uint64(bit)) & np.uint64(1)) << np.uint64(bit * len(columns) + place)
    return np.argsort(code, kind="stable")


def _write(store: Any, table: str, name: str, frame: pl.DataFrame) -> _Written:
    """Write one data file and read it back."""
    import polars as pl

    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=True)
    data = buffer.getvalue()
    store.put(f"{table}/{name}", data)
    kept = content_of(pl.read_parquet(io.BytesIO(store.get(f"{table}/{name}"))))
    if kept != content_of(frame):
        store.delete(f"{table}/{name}")
        raise IntegrityError("A data file cannot be read back as it was written", where=f"{table}/{name}")
    return _Written(name, len(data), _stats(frame), kept)


def _stats(frame: pl.DataFrame) -> str:
    """Statistics of a file as Delta keeps them, so that readers skip files: rows, least, greatest, nulls."""
    import polars as pl

    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    for column, kind in frame.schema.items():
        series = frame[column].drop_nulls()
        if kind.is_float():
            series = series.filter(series.is_finite()) if series.is_finite().all() else series.clear()
        if series.len() == 0 or not (kind.is_numeric() or kind in (pl.String, pl.Date)) or kind.is_decimal():
            continue
        least, most = series.min(), series.max()
        if isinstance(least, str) and max(len(least), len(str(most))) > 64:
            continue
        low[column], high[column] = (str(least), str(most)) if kind == pl.Date else (least, most)
    nulls = {column: int(frame[column].null_count()) for column in frame.columns}
    return json.dumps({"numRecords": frame.height, "minValues": low, "maxValues": high, "nullCount": nulls})


def _whole(
    lake: Lake, seen: Layout, stay: Sequence[DataFile], written: Sequence[_Written], rule: TableRule
) -> tuple[str, int]:
    """Digest and rows of the new version; no digest where the table is too large to be held at once."""
    import polars as pl

    if seen.size > rule.digest_max_bytes:
        return "", 0
    base = f"{lake.url}/{seen.table}"
    names = sorted([file.name for file in stay] + [file.name for file in written])
    whole = content_of(pl.scan_parquet([f"{base}/{name}" for name in names], glob=False).collect())
    return whole.digest, whole.rows


def _commit(
    lake: Lake, seen: Layout, gone: Sequence[DataFile], written: Sequence[_Written], note: dict[str, str]
) -> bool:
    """One commit in the place right behind the version seen; False where it is taken.

    No retry by delta-rs: that would commit behind a writer whose changes this one has not seen.
    """
    from deltalake import CommitProperties, PostCommitHookProperties
    from deltalake.exceptions import CommitFailedError
    from deltalake.transaction import AddAction, RemoveAction

    opened = lake.opened(seen.table, seen.version)
    now = int(time.time() * 1000)
    actions: list[Any] = [AddAction(f.name, f.size, {}, now, True, f.stats) for f in written]
    actions += [RemoveAction(f.path, True, now, f.size, {}) for f in gone]
    try:
        opened.create_write_transaction(
            actions,
            "append",
            opened.schema(),
            [],
            commit_properties=CommitProperties(custom_metadata=note, max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
    except CommitFailedError:
        # A store may have taken the commit and lost the answer.
        names = {uri.rsplit("/", 1)[-1] for uri in lake.opened(seen.table).file_uris()}
        return all(file.name in names for file in written)
    return True


def _discard(store: Any, table: str, written: Sequence[_Written]) -> None:
    for file in written:
        store.delete(f"{table}/{file.name}")
