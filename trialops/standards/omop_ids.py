"""Integer keys of OMOP rows from the ids of their sources.

A key is the first 63 bits of the BLAKE2b digest of kind and source id: the same in every run and on every machine, in
a full load and in an incremental one, without a table of numbers to keep. Two sources get the same key with a chance
of about n² / 2⁶⁴ (one in two thousand for a hundred million rows); a load in which it happens is refused.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl


def key(kind: str, source: str) -> int:
    """The key of one source."""
    return int.from_bytes(blake2b(f"{kind}/{source}".encode(), digest_size=8).digest(), "big") >> 1


def keys(sources: pl.Series) -> pl.Series:
    """Keys (Int64) of texts "kind/id"; null for null."""
    import numpy as np
    import polars as pl

    texts = sources.cast(pl.Binary).to_list()
    digests = b"".join([blake2b(text or b"", digest_size=8).digest() for text in texts])
    made = pl.Series(sources.name, (np.frombuffer(digests, dtype=">u8") >> np.uint64(1)).astype(np.int64))
    return made if not sources.null_count() else made.set(sources.is_null(), None)


def keys_of(kind: str, sources: pl.Series) -> pl.Series:
    """Keys of source ids of one kind; each distinct id is hashed once."""
    import polars as pl

    distinct = sources.drop_nulls().unique()
    if distinct.len() == 0:
        return pl.Series(sources.name, [None], dtype=pl.Int64).new_from_index(0, sources.len())
    made = keys(pl.select(pl.lit(f"{kind}/") + pl.lit(distinct)).to_series())
    return sources.replace_strict(distinct, made, default=None, return_dtype=pl.Int64)


def refuse_collisions(name: str, column: pl.Series) -> None:
    """Stop when two rows have one key.

    Raises:
        TrialOpsError: With the number of rows concerned.
    """
    twice = column.len() - column.n_unique()
    if twice:
        raise TrialOpsError(
            f"{twice:,} rows share the key of another",
            where=name,
            fix="Two sources have the same 63-bit key, or a source was read twice: look for duplicates of type and id.",
        )
