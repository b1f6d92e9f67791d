"""What refers to a version keeps it: by lineage, manifest, model, document, hold, mention; and what is unclear."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.homes import leave, live_in
from trialops.operations.lake_policy import default_lake_policy
from trialops.operations.lake_references import (
    ModelUse,
    References,
    collect,
    mentioned,
    mentioned_by_objects,
    named_by_holds,
    named_by_manifests,
    named_by_models,
    snapshots_of,
    walk,
)
from trialops.operations.lake_retention import fates
from trialops.privacy.holds import Hold, place
from trialops.privacy.retention import Record
from trialops.settings import settings as platform
from trialops.stores.context import Step
from trialops.stores.lake import Lake
from trialops.stores.refs import Snapshot, TableRef

POLICY = default_lake_policy()
DAY = dt.date(2030, 1, 1)


class Memory:
    """An object store in a dictionary."""

    url = "memory"

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes:
        return self.kept[key]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if if_absent and key in self.kept:
            return False
        self.kept[key] = data
        return True

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(k for k in self.kept if not prefix or k.startswith(f"{prefix}/")))

    def listing(self, prefix: str) -> Iterator[tuple[str, int, dt.datetime]]:
        return ((key, len(self.kept[key]), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) for key in self.list(prefix))

    def exists(self, key: str) -> bool:
        return key in self.kept

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    def written(self, key: str) -> dt.datetime | None:
        return dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if key in self.kept else None


def digest(table: str, version: int) -> str:
    import hashlib

    return hashlib.sha256(f"{table}@{version}".encode()).hexdigest()


def snapshot(*members: tuple[str, int]) -> Snapshot:
    return Snapshot({f"{t}-{v}": TableRef(t, v, 1, digest(t, v)) for t, v in members})


def record(store: Memory, run: str, step: str, reads: list[Any], writes: list[Any]) -> str:
    """A step's record; `reads` holds (members, key of the record that made them)."""
    key = f"runs/{run}/steps/{step}/record.json"
    inputs = [{"artifact": "in", "record": made, **snapshot(*members).as_dict()} for members, made in reads]
    outputs = [{"artifact": "out", **snapshot(*members).as_dict()} for members in writes]
    body = {"run_id": run, "step": step, "started": "2020-01-01T00:00:00", "inputs": inputs, "outputs": outputs}
    store.put(key, json.dumps(body).encode())
    return key


TABLES = ("features/labs", "training/withdrawal", "landing/monitor")
versions = st.tuples(st.sampled_from(TABLES), st.integers(0, 5))


@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Runs that read what others wrote, and things that refer to some of them."""
    reads = st.lists(versions, max_size=3, unique=True)
    writes = st.lists(versions, min_size=1, max_size=2, unique=True)
    runs = draw(st.lists(st.tuples(reads, writes, st.lists(st.integers(0, 20), max_size=2)), max_size=7))
    forms = st.sampled_from(["name", "digest", "snapshot", "nested"])
    some = st.lists(st.integers(0, 6), max_size=2, unique=True)
    return {
        "runs": runs,
        "models": draw(some),
        "documents": draw(some),
        "manifests": draw(st.lists(writes, max_size=2)),
        "mentioned": draw(st.lists(st.tuples(versions, forms), max_size=2)),
        "held": draw(st.sampled_from(["", "", "", "features/labs", "landing/*", "subject/p1"])),
        "strange": draw(st.sampled_from([False] * 9 + [True])),
        "lost": draw(st.sampled_from([False] * 9 + [True])),
    }


@settings(max_examples=250, deadline=None)
@given(histories())
def test_nothing_that_is_referred_to_is_ever_removed(history: dict[str, Any]) -> None:
    store, found = Memory(), References()
    keys: list[str] = []
    needs: list[set[tuple[str, int]]] = []  # what a run depends on, told without the code under test
    for number, (reads, writes, earlier) in enumerate(history["runs"]):
        before = [e % number for e in earlier] if number else []
        inputs: list[Any] = [(reads, "")] if reads else []
        inputs += [(history["runs"][b][1], keys[b]) for b in before]
        keys.append(record(store, f"r{number}", "s", inputs, [writes]))
        needs.append({*reads, *writes}.union(*(needs[b] for b in before)))
    there = range(len(keys))
    models = [ModelUse(f"m/{n}", f"r{n}") for n in history["models"] if n in there]
    documents = {f"r{n}": f"document d/{n}" for n in history["documents"] if n in there}
    expected: set[tuple[str, int]] = set()
    for model in models:
        expected |= needs[int(model.run_id[1:])]
    for run_id in documents:
        expected |= needs[int(run_id[1:])]
    lake = Lake("", store)
    for number, members in enumerate(history["manifests"]):
        lake.mark_validated(f"set{number}", snapshot(*members), {}, run_id="")
        expected |= set(members)
    for number, ((table, version), how) in enumerate(history["mentioned"]):
        texts = {
            "name": json.dumps({"of": f"{table}@{version}"}),
            "digest": f"made from {digest(table, version)}",
            "snapshot": json.dumps({"data": snapshot((table, version)).digest}),
            "nested": json.dumps({"a": [{"table": table, "version": float(version)}]}),
        }
        store.put(f"dossiers/{number}.json", texts[how].encode())
        known = {snapshot(*m).digest for r in history["runs"] for m in (r[0], r[1]) if m}
        if how != "snapshot" or snapshot((table, version)).digest in known:
            expected.add((table, version))
    if history["strange"]:
        store.put("unheard-of/thing", b"\xff")
    if history["lost"] and keys and (models or documents):
        root = models[0].run_id if models else next(iter(documents))
        store.delete(f"runs/{root}/steps/s/record.json")
    holds = [Hold("h", "", "derived data", history["held"], "a", "b")] if history["held"] else []
    classes = {"derived data": ("features/*", "training/*", "landing/*")}

    roots = {model.run_id: f"model {model.name}" for model in models} | documents
    roots |= named_by_manifests(found, store)
    named_by_holds(found, holds, classes)
    named_by_models(found, models)
    snapshots_of(found, store)
    walk(found, store, roots)
    mentioned_by_objects(found, store, POLICY)
    found.settle()

    every = [(t, v) for t in TABLES for v in range(7)]  # version 6 is the newest
    commits = {t: [{"version": v, "digest": digest(t, v)} for v in range(6, -1, -1)] for t in TABLES}
    records = [Record("derived data", t, v, DAY, DAY, "due") for t, v in every]
    judged = {(f.table, f.version): f.state for f in fates(records, commits, found)}
    removable = {name for name, state in judged.items() if state == "removable"}

    assert not removable & expected
    assert not any(version == 6 for _, version in removable)
    if history["held"]:
        held = {"features/labs": {"features/labs"}, "landing/*": {"landing/monitor"}}.get(history["held"], set(TABLES))
        assert not {table for table, _ in removable} & held
    if history["strange"] or (history["lost"] and keys and (models or documents)):
        assert not removable
    # Neither is everything kept for no reason: what nothing names can go.
    if not (history["held"] or history["strange"] or history["lost"]):
        assert removable == {name for name in every if name not in expected and name[1] != 6}


def test_a_text_names_versions_and_digests_in_every_form() -> None:
    found = References()
    digests = "a" * 64
    mentioned(found, f'see clean/lb@12 and {digests}; {{"table"', "x")
    mentioned(found, json.dumps({"deep": [{"table": "clean/ae", "version": 3.0}], "version": 1}), "y")
    assert found.why("clean/lb", 12) == ["x"] and found.why("clean/lb", 1) == [] and found.why("clean/ae", 3) == ["y"]
    assert found.why("any/table", 0, digests) == ["x"] and found.why("any/table", 0) == []


def test_a_hold_on_a_subject_keeps_every_table_of_its_class() -> None:
    found = References()
    classes = {"derived data": ("features/*",), "trial master file": ("clean/*",)}
    named_by_holds(found, [Hold("1", "", "derived data", "subject/p1", "a", "b")], classes)
    assert found.why("features/labs", 3) and not found.why("clean/lb", 3)
    named_by_holds(found, [Hold("2", "", "*", "clean/lb", "a", "b")], classes)
    assert found.why("clean/lb", 0) and not found.why("clean/ae", 0)
    named_by_holds(found, [Hold("3", "", "a class nobody knows", "*", "a", "b")], classes)
    assert found.why("clean/ae", 0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch, "run-7")
    yield Step("clean-lake", {}, platform())
    leave()


def test_the_stores_of_a_real_home_are_searched_sealed_objects_too(run: Step) -> None:
    frames = [pl.DataFrame({"x": [n]}) for n in range(4)]
    refs = [run.lake.write("features/labs", frame) for frame in frames]
    run.lake.mark_validated("features", Snapshot({"rows": refs[0]}), {}, run_id="")
    key = "corrections/register/000001.json"
    run.objects.put(key, run.vault.encrypt("corrections", b'{"of": "features/labs@1"}', context=key))
    place(run.engine, record_class="derived data", object="training/*", actor="counsel", reason="litigation")
    run.objects.put("cohorts/definitions/x/000001.json", json.dumps({"from": refs[2].digest}).encode())
    found = collect(run, POLICY, progress=False)
    assert found.unclear == []
    assert found.why("features/labs", 0) == ["manifest features/1", "object validated/features/000001.json"]
    assert found.why("features/labs", 1) == [f"object {key}"]
    assert found.why("features/labs", 2, refs[2].digest) == ["object cohorts/definitions/x/000001.json"]
    assert found.why("features/labs", 3, refs[3].digest) == []
    # A snapshot named by its digest alone: what is in it, the record of the step that wrote it tells.
    other = run.lake.write("features/vitals", frames[0])
    written = Snapshot({"vitals": other, "labs": refs[3]})
    step = {"run_id": "r", "step": "s", "started": "2020", "inputs": [], "outputs": [written.as_dict()]}
    run.objects.put("runs/r/steps/s/record.json", json.dumps(step).encode())
    run.objects.put("signatures/one.json", json.dumps({"signed": written.digest}).encode())
    assert collect(run, POLICY, progress=False).why("features/labs", 3) == ["object signatures/one.json"]
    run.objects.delete("signatures/one.json")
    assert "legal hold" in found.why("training/withdrawal", 9)[0]
    # Sealed by a key that is gone: nobody can say what it names.
    run.objects.put("dossiers/x.json", b"\xff\xfe")
    assert collect(run, POLICY, progress=False).why("features/labs", 3) == ["an object cannot be read: dossiers/x.json"]


def test_a_model_whose_origin_nobody_can_tell_keeps_everything(run: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    from trialops.operations import lake_references

    run.lake.write("features/labs", pl.DataFrame({"x": [1]}))
    monkeypatch.setattr(lake_references, "models_of", lambda *_: [ModelUse("withdrawal/1", "run-gone")])
    found = collect(run, POLICY, progress=False)
    assert found.why("features/labs", 0) == ["no record says what run run-gone was made from (model withdrawal/1)"]
    used = ModelUse("withdrawal/1", "run-gone", (("features/labs", 0, "d" * 64),))
    monkeypatch.setattr(lake_references, "models_of", lambda *_: [used])
    found = collect(run, POLICY, progress=False)
    assert found.why("features/labs", 0) == ["model withdrawal/1"] and found.why("features/labs", 1) == []


def test_a_registry_that_cannot_be_asked_keeps_everything(run: Step, tmp_path: Path) -> None:
    from trialops.operations.lake_references import models_of
    from trialops.stores.registry import ModelRegistry

    found = References()
    (tmp_path / "bad.db").write_bytes(b"no database at all" * 100)
    uri = f"sqlite:///{tmp_path / 'bad.db'}"
    assert models_of(ModelRegistry(uri, str(tmp_path)), uri, found) == []
    assert found.why("any/table", 0)[0].startswith("the model registry cannot be asked")
