"""Many writers at once, in any order: the newest value stays."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.online_stores import SPEC, VITALS, feast_read, feast_store, rows
from trialops.stores.online import open_reader
from trialops.stores.online.writer import open_writer

SUBJECTS = [f"S{number}" for number in range(5)]


def test_shuffled_times_from_many_threads_end_with_the_newest(online_url: str) -> None:
    days = list(range(1, 41))

    def write(seed: int) -> int:
        own = days.copy()
        random.Random(seed).shuffle(own)
        changed = 0
        with open_writer(online_url, SPEC) as writer:
            for day in own:
                frame = rows(VITALS, dict.fromkeys(SUBJECTS, day)).with_columns(pulse=pl.lit(float(day)))
                changed += writer.write("vitals", frame).written
        return changed

    with ThreadPoolExecutor(8) as pool:
        changed = sum(pool.map(write, range(8)))
    with open_writer(online_url, SPEC), open_reader(online_url, SPEC) as reader:
        found = reader.read(SUBJECTS)
    assert found.values[:, 3].tolist() == [40.0] * 5
    # Most were refused: after the 40th day has been written by one, the others' earlier days change nothing.
    assert 5 * 8 <= changed < 5 * 8 * 40


def test_values_and_time_of_a_row_stay_together(online_url: str) -> None:
    """A reader in between sees rows of one write, never a mixture."""
    torn: list[list[float]] = []

    def write(seed: int) -> None:
        own = list(range(1, 31))
        random.Random(seed).shuffle(own)
        with open_writer(online_url, SPEC) as writer:
            for day in own:
                frame = rows(SPEC.view("labs"), {"a": day}).with_columns(
                    alt=pl.lit(float(day)), ast=pl.lit(float(day)), labs_last_day=pl.lit(float(day + 1))
                )
                writer.write("labs", frame)

    with open_writer(online_url, SPEC) as writer:
        writer.write("labs", rows(SPEC.view("labs"), {"b": 1}))
    with ThreadPoolExecutor(5) as pool, open_reader(online_url, SPEC, seconds=60.0) as reader:
        done = [pool.submit(write, seed) for seed in range(4)]
        last = 0.0
        while not all(future.done() for future in done):
            values = reader.read(["a"]).values[0, :3]
            if np.isnan(values).all():
                continue
            if not (values[0] == values[1] == values[2] - 1) or values[0] < last:
                torn.append(values.tolist())
            last = values[0]
        for future in done:
            future.result()
    assert torn == [] and last > 0


@pytest.mark.slow
def test_shuffled_times_from_many_processes_end_with_the_newest(tmp_path: Path) -> None:
    """SQLite's locks are between processes; the servers do not tell threads' connections from those of processes."""
    online_url = f"sqlite:///{tmp_path}/online.db"
    script = """
import random, sys
import polars as pl
from tests.support.online_stores import SPEC, VITALS, rows
from trialops.stores.online.writer import open_writer
own = list(range(1, 31))
random.Random(int(sys.argv[2])).shuffle(own)
with open_writer(sys.argv[1], SPEC) as writer:
    for day in own:
        frame = rows(VITALS, {f"S{n}": day for n in range(5)}).with_columns(pulse=pl.lit(float(day)))
        writer.write("vitals", frame)
"""
    root = Path(__file__).resolve().parents[3]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, online_url, str(seed)],
            cwd=root,
            env=os.environ | {"POLARS_MAX_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for seed in range(3)
    ]
    assert [(w.communicate(timeout=120)[1][-300:], w.returncode) for w in writers] == [(b"", 0)] * 3
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(SUBJECTS).values[:, 3].tolist() == [30.0] * 5


def test_what_feast_does_with_an_older_push_is_why_this_exists(online_url: str, tmp_path: Path) -> None:
    """Feast lets an older push win on SQLite and PostgreSQL; if that changes, this says so."""
    frames = {"labs": rows(SPEC.view("labs"), {"a": 9}, 100.0), "vitals": rows(VITALS, {"a": 9}, 100.0)}
    store = feast_store(online_url, SPEC, frames, tmp_path / "feast")
    with open_writer(online_url, SPEC) as writer:
        writer.write("vitals", frames["vitals"])
        older = rows(VITALS, {"a": 3}, 1.0)
        assert writer.write("vitals", older).kept == 1
    assert feast_read(store, SPEC, ["a"])[0, 3] == 100.0
    store.write_to_online_store("vitals", older.to_pandas())
    assert feast_read(store, SPEC, ["a"])[0, 3] == (100.0 if online_url.startswith("redis") else 1.0)
