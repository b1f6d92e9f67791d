"""Rows in any order on disk, so that each file holds whole reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trialops.safety.signals.coding import Block

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_FILE = 1_000_000
MOST_FILES = 256
_SEED = 20_011


def spill(blocks: Iterator[Block], folder: Path, rows: int) -> Iterator[Block]:
    """Spread rows over files by a hash of their report, then give one block per file.

    Args:
        blocks: Rows in any order.
        folder: An empty folder.
        rows: About how many there are; decides the number of files.
    """
    import pyarrow as pa

    files = int(np.clip(-(-rows // ROWS_PER_FILE), 1, MOST_FILES))
    schema: pa.Schema | None = None
    sinks: list[pa.RecordBatchFileWriter] = []
    paths = [folder / f"{number:03d}.arrow" for number in range(files)]
    try:
        for block in blocks:
            batch = pa.RecordBatch.from_arrays(
                [block.report, *(pa.array(c.astype(np.int32)) for c in (block.product, block.event, block.stratum))],
                names=["report", "product", "event", "stratum"],
            )
            if schema is None:
                schema = batch.schema
                sinks = [pa.ipc.new_file(str(path), schema) for path in paths]
            place = _place(block.report, files)
            order = np.argsort(place, kind="stable")
            sorted_batch = batch.take(pa.array(order))
            ends = np.cumsum(np.bincount(place, minlength=files))
            for sink, start, end in zip(sinks, np.r_[0, ends[:-1]], ends, strict=True):
                if end > start:
                    sink.write_batch(sorted_batch.slice(int(start), int(end - start)))
    finally:
        for sink in sinks:
            sink.close()
    for path in paths if schema is not None else []:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all().combine_chunks()
            if table.num_rows:
                codes = [table.column(i).to_numpy().astype(np.int64) for i in (1, 2, 3)]
                yield Block(pa.concat_arrays(table.column(0).chunks), *codes)
        path.unlink()


def _place(report: pa.Array, files: int) -> np.ndarray:
    import polars as pl

    hashed = pl.Series(report).hash(_SEED).to_numpy()
    return (hashed % np.uint64(files)).astype(np.uint16)
