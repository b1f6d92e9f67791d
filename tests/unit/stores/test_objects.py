"""The same behaviour on a folder and on an S3 server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore, open_store


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server in a process of its own: Delta's client holds the interpreter lock while it waits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    names = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        try:
            _create_bucket(url)
            yield "s3://trial/home"
        finally:
            server.terminate()
            server.wait(10)


def _create_bucket(url: str) -> None:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    client = boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    for _ in range(240):
        try:
            client.create_bucket(Bucket="trial")
            return
        except EndpointConnectionError:
            time.sleep(0.25)
    raise TimeoutError("the S3 server did not start")


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


def test_lake_on_s3(s3: str) -> None:
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
