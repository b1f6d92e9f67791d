"""The same behaviour on a folder and on an S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.s3_server import s3  # noqa: F401
from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore, open_store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "objects"))
    return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_round_trip(store: ObjectStore) -> None:
    assert store.put("a/b.json", b"1") and store.get("a/b.json") == b"1"
    assert store.put("a/b.json", b"2") and store.get("a/b.json") == b"2"


def test_only_the_first_creates(store: ObjectStore) -> None:
    assert store.put("a", b"1", if_absent=True)
    assert not store.put("a", b"2", if_absent=True)
    assert store.get("a") == b"1"


def test_missing(store: ObjectStore) -> None:
    assert not store.exists("none")
    with pytest.raises(KeyError):
        store.get("none")
    store.delete("none")


def test_list_is_sorted_and_below_the_prefix(store: ObjectStore) -> None:
    for key in ("x/2", "x/1", "x/y/3", "xz/4"):
        store.put(key, b"")
    assert list(store.list("x")) == ["x/1", "x/2", "x/y/3"]
    assert list(store.list("none")) == []


def test_delete(store: ObjectStore) -> None:
    store.put("a", b"1")
    store.delete("a")
    assert not store.exists("a")


def test_lake_on_s3(s3: str) -> None:  # noqa: F811
    import polars as pl

    from trialops.stores.lake import Lake
    from trialops.stores.refs import Snapshot

    lake = Lake(f"{s3}/lake", open_store(s3))
    frame = pl.DataFrame({"n": [1, 2], "s": ["a", None]})
    ref = lake.write("clean/lb", frame)
    lake.mark_validated("clean", Snapshot({"LB": ref}), {"score": 99.0})
    lake.write("clean/lb", frame.reverse())
    found = lake.last_validated("clean")
    assert found is not None and lake.read(found.snapshot.tables["LB"]).equals(frame)


def test_unknown_scheme() -> None:
    with pytest.raises(TrialOpsError, match="not supported"):
        open_store("ftp://host/path")
