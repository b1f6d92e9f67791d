"""Tables as a streaming writer leaves them: many small appends; and versions made to look old."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import numpy as np
import polars as pl


def readings(seed: int, rows: int = 200) -> pl.DataFrame:
    """Rows of a home monitor."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "subject_id": [f"s{n:03d}" for n in draw.integers(0, 60, rows)],
            "study_day": draw.integers(0, 300, rows),
            "pulse": draw.normal(70, 9, rows).round(1),
            "note": [None if n % 5 == 0 else f"n{n}" for n in draw.integers(0, 40, rows)],
        }
    )


def append(lake: str, table: str, frame: pl.DataFrame) -> None:
    """Append as another engine does: no digest, no settings of the lake's."""
    from deltalake import write_deltalake

    write_deltalake(f"{lake}/{table}", frame.to_arrow(), mode="append")


def small_table(lake: str, table: str, files: int, rows: int = 200) -> None:
    """A table of so many files, one version each."""
    for number in range(files):
        append(lake, table, readings(number, rows))


def backdate(lake: str, table: str, versions: range, day: dt.date) -> None:
    """Let commits seem to be of a day, as their records say and as the store does."""
    at = dt.datetime.combine(day, dt.time(12), dt.UTC).timestamp()
    for version in versions:
        path = Path(lake) / table / "_delta_log" / f"{version:020d}.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int(at * 1000)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        os.utime(path, (at, at))


def age(path: Path, days: float) -> None:
    """Let a file seem to have been written so many days ago."""
    at = dt.datetime.now(dt.UTC).timestamp() - days * 86_400
    os.utime(path, (at, at))
