"""The future of a trial, disturbed: what features at a landmark must not notice."""

from __future__ import annotations

import numpy as np
import polars as pl

EVENT = {"VS": "VSDY", "LB": "LBDY", "AE": "AESTDY", "EX": "EXSTDY", "SV": "SVSTDY"}
KEPT = {"USUBJID", "KNOWNDY", "DOMAIN", "STUDYID", "_SOURCE", "_ROW"}


def disturbed(tables: dict[str, pl.DataFrame], landmark: int, seed: int) -> dict[str, pl.DataFrame]:
    """Shuffle the values of rows after the landmark among themselves, drop some, add others.

    A row is after the landmark when its event day or its KNOWNDY is. Days after the landmark in the end columns of
    earlier rows are replaced too: they had not happened yet.
    """
    rng = np.random.default_rng(seed)
    out = {}
    for name, frame in tables.items():
        event = EVENT.get(name, "KNOWNDY")
        after = ((pl.col(event) > landmark) | (pl.col("KNOWNDY") > landmark)).fill_null(False)
        past, future = frame.filter(~after), frame.filter(after)
        for end in ("AEENDY", "EXENDY"):
            if end in past.columns:
                moved = pl.Series(rng.integers(landmark + 1, 400, past.height), dtype=past[end].dtype)
                past = past.with_columns(pl.when(pl.col(end) > landmark).then(moved).otherwise(end).alias(end))
        if future.height and name != "DM":
            keys = KEPT | {event, f"{name}SEQ", "VISITNUM"}
            future = future.with_columns(
                future[c].gather(pl.Series(rng.permutation(future.height))) for c in future.columns if c not in keys
            )
            future = future.filter(pl.Series(rng.random(future.height) > 0.3))
            extra = past.sample(fraction=0.3, with_replacement=True, seed=seed).with_columns(
                KNOWNDY=pl.lit(landmark + 1, pl.Int32)
            )
            future = pl.concat([future, extra], how="vertical_relaxed")
        out[name] = pl.concat([past, future], how="vertical_relaxed")
    return out
