"""Disposal of one version of a table: its rows are gone, others stay, and the history can still be told."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trialops.stores.lake import IntegrityError, Lake
from trialops.stores.objects import open_store


def test_a_version_is_deleted_and_the_others_stay(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), open_store(str(tmp_path)))
    first = lake.write("features/labs", pl.DataFrame({"subject_id": ["a", "b"], "x": [1.0, 2.0]}))
    second = lake.write("features/labs", pl.DataFrame({"subject_id": ["b"], "x": [2.0]}))
    assert lake.dispose("features/labs", first.version, {"reason": "erasure"}) == 1
    assert lake.disposed("features/labs", first.version) and not lake.disposed("features/labs", second.version)
    assert lake.read(second).height == 1
    with pytest.raises(IntegrityError):
        lake.read(first)
    assert lake.tables() == ["features/labs"]
    assert [v["version"] for v in lake.versions("features/labs")] == [second.version, first.version]
    assert not [f for f in (tmp_path / "lake").rglob("*.parquet") if "a" in pl.read_parquet(f)["subject_id"].to_list()]
    assert lake.dispose("features/labs", first.version, {"reason": "again"}) == 0
    # The same content written again is a new version, not the one that cannot be read.
    again = lake.write("features/labs", pl.DataFrame({"subject_id": ["a", "b"], "x": [1.0, 2.0]}))
    assert again.version > second.version and lake.read(again).height == 2
