"""A lake may lie in any folder a person would make."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trialops.stores.lake import Lake
from trialops.stores.objects import open_store


@pytest.mark.parametrize("name", ["plain", "with a blank", "Söhne & Co", "O'Hara (2024)", "+=,;@~$!"])
def test_written_is_read_back(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    home.mkdir()
    lake = Lake(str(home / "lake"), open_store(str(home)))
    one = lake.write("clean/lb", pl.DataFrame({"n": [1, 2]}))
    two = lake.write("clean/lb", pl.DataFrame({"n": [3]}))
    assert lake.read(one)["n"].to_list() == [1, 2] and lake.read(two, columns=["n"])["n"].to_list() == [3]
    assert lake.write("clean/lb", pl.DataFrame({"n": [1, 2]})) == one
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing lands in another folder"
