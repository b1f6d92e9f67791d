"""A step whose table version was deleted by retention or erasure is not reused: its rows have to be made again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from kfp.dsl import Dataset

from pipelines.reuse import CurrentTask, StepCache
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store


def test_disposed_versions_are_made_again(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), open_store(str(tmp_path)))
    ref = lake.write("features/labs", pl.DataFrame({"subject_id": ["a"]}))
    path = tmp_path / "artifact"
    path.write_text("{}")
    made = Dataset(
        name="features", uri=str(path), metadata={"table": ref.table, "version": f"{ref.table}@{ref.version}"}
    )
    cache = StepCache(tmp_path / "cache", run_id="r1", code_version="c", lake=tmp_path / "lake")
    cache.current = CurrentTask("run/build-features", "build-features", pure=True)
    key = cache.compute_key("build-features", "image", ["x"], {})
    cache.put(key, {"features": made})
    assert cache.get(key) is not None
    lake.dispose(ref.table, ref.version, {"reason": "erasure"})
    assert cache.get(key) is None
