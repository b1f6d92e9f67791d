"""Checkpoints in a folder, in memory, and in a bucket over HTTP: one claim, no lost update."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from tests.support.s3_server import s3
from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore, _Obstore, open_store
from trialops.transfer.checkpoints import Checkpoints, Superseded, checked_run

__all__ = ["s3"]
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(params=["folder", "memory", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "bucket":
        return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")
    if request.param == "memory":
        return _Obstore(MemoryStore(), "memory://")
    return open_store(str(tmp_path))


def test_one_of_many_claims_wins(objects: ObjectStore) -> None:
    with ThreadPoolExecutor(6) as pool:
        claims = list(
            pool.map(lambda n: Checkpoints(objects, f"p{n}").claim("run-1", "extract", "f1", "appflow", NOW), range(6))
        )
    assert [made for _, made in claims].count(True) == 1
    assert len({checkpoint.owner for checkpoint, _ in claims}) == 1


def test_no_update_is_lost(objects: ObjectStore) -> None:
    Checkpoints(objects, "first").claim("run-1", "backup", "", "backup", NOW)

    def work(number: int) -> int:
        own, done = Checkpoints(objects, f"p{number}"), 0
        while done < 3:
            held = own.read("run-1", "backup")
            assert held is not None
            try:
                own.advance(held, f"{number}-{done}", NOW)
                done += 1
            except Superseded:
                continue
        return done

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 12
    held = Checkpoints(objects, "last").read("run-1", "backup")
    assert held is not None and held.sequence == 13
    assert len({event["event"] for event in held.events}) == 13


def test_a_stale_hand_moves_nothing(objects: ObjectStore) -> None:
    one, other = Checkpoints(objects, "one"), Checkpoints(objects, "other")
    claimed, _ = one.claim("run-1", "report", "", "functions", NOW)
    after = other.advance(claimed, "taken up", NOW)
    with pytest.raises(Superseded):
        one.advance(claimed, "starting", NOW, state="starting")
    assert one.read("run-1", "report") == after


def test_runs_are_read_whole_and_apart(objects: ObjectStore) -> None:
    own = Checkpoints(objects, "one")
    for run, step, part in (
        ("r1", "extract", "f1"),
        ("r1", "extract", "f2"),
        ("r1", "backup", ""),
        ("r10", "plan", ""),
    ):
        own.claim(run, step, part, "", NOW)
    objects.put("transfer/runs/r1/page.html", b"page")
    assert [c.label for c in own.of_run("r1")] == ["backup", "extract f1", "extract f2"]


def test_an_object_is_replaced_only_while_it_is_what_was_read(objects: ObjectStore) -> None:
    assert not objects.replace("a/b.json", b"1", "no-tag")
    objects.put("a/b.json", b"1")
    data, tag = objects.get_tagged("a/b.json")
    assert data == b"1" and objects.replace("a/b.json", b"2", tag)
    assert not objects.replace("a/b.json", b"3", tag)
    assert objects.get("a/b.json") == b"2"
    with pytest.raises(KeyError):
        objects.get_tagged("a/none")


@pytest.mark.parametrize("run_id", ["", "{{workflow.scheduledTime}}", "a/b", "../x", "a" * 101, "ä"])
def test_run_ids_that_cannot_be_used(run_id: str) -> None:
    with pytest.raises(TrialOpsError):
        checked_run(run_id)


def test_the_id_a_schedule_gives_can_be_used() -> None:
    assert checked_run("2026-11-27T02:00:00Z") == "2026-11-27T02:00:00Z"


def test_a_damaged_checkpoint_is_reported(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("transfer/runs/r1/plan/_.json", b"{}")
    with pytest.raises(TrialOpsError, match="cannot be read"):
        Checkpoints(store, "one").read("r1", "plan")
