"""The future of a trial, disturbed: what features at a landmark must not notice."""

from __future__ import annotations

import numpy as np
import polars as pl

EVENT = {"VS": "VSDY", "LB": "LBDY", "AE": "AESTDY", "EX": "EXSTDY", "SV": "SVSTDY"}
KEPT = {"USUBJID", "KNOWNDY", "DOMAIN", "STUDYID", "_SOURCE", "_ROW"}
#: What the last version of a row says of an adverse event, and may not have said while it lasted.
FINAL = {
    "AESEV": ("MILD", "MODERATE", "SEVERE"),
    "AEREL": ("NONE", "PROBABLE", "DEFINITE"),
    "AEOUT": ("RECOVERED/RESOLVED", "NOT RECOVERED/NOT RESOLVED", "FATAL"),
}


def disturbed(tables: dict[str, pl.DataFrame], landmark: int, seed: int) -> dict[str, pl.DataFrame]:
    """Shuffle the values of rows after the landmark among themselves, drop some, add others.

    A row is after the landmark when its event day or its KNOWNDY is. In earlier rows, what was only settled after the
    landmark changes too: end days from the landmark on become other such days or go; and an adverse event that no
    visit up to the landmark can have closed gets another end, severity, relatedness and outcome.
    """
    rng = np.random.default_rng(seed)
    out = {}
    for name, frame in tables.items():
        event = EVENT.get(name, "KNOWNDY")
        after = ((pl.col(event) > landmark) | (pl.col("KNOWNDY") > landmark)).fill_null(False)
        past, future = frame.filter(~after), frame.filter(after)
        for end in ("EXENDY", "CMENDY"):
            if end in past.columns:
                lasts = pl.col(end).is_null() | (pl.col(end) >= landmark)
                later = _later(rng, past, end, landmark)
                past = past.with_columns(pl.when(lasts).then(later).otherwise(end).alias(end))
        if name == "AE":
            past = _unsettled(past, tables["SV"], landmark, rng)
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


def _later(rng: np.random.Generator, frame: pl.DataFrame, end: str, landmark: int) -> pl.Series:
    """Days after the landmark; a third of them empty, which is what they were at the time."""
    days = pl.Series(end, rng.integers(landmark + 1, 400, frame.height), dtype=frame[end].dtype)
    return days.set(pl.Series(rng.random(frame.height) < 0.33), None)


def _unsettled(past: pl.DataFrame, visits: pl.DataFrame, landmark: int, rng: np.random.Generator) -> pl.DataFrame:
    """Give other final values to the adverse events that the sponsor could not know to be over."""
    seen = visits.filter((pl.col("SVSTDY") <= landmark) & (pl.col("KNOWNDY") <= landmark))
    last = seen.group_by("USUBJID").agg(pl.col("SVSTDY").max().alias("_visit"))
    frame = past.join(last, on="USUBJID", how="left", maintain_order="left")
    known = pl.max_horizontal("AESTDY", "KNOWNDY")
    with_row = (pl.col("AEENDY") < known).fill_null(False)
    by_visit = (pl.col("_visit") > known) & (pl.col("_visit") >= pl.col("AEENDY")) & (pl.col("AEENDY") < landmark)
    unsettled = frame.select(~(with_row | by_visit.fill_null(False))).to_series()
    assert unsettled.any()
    changed = {c: pl.Series(c, rng.choice(words, past.height)) for c, words in FINAL.items() if c in past.columns}
    changed["AEENDY"] = _later(rng, past, "AEENDY", landmark)
    return past.with_columns(
        pl.when(unsettled).then(values).otherwise(pl.col(c)).alias(c) for c, values in changed.items()
    )
