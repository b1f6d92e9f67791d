"""The way back from a result, over records of several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trialops.governance.lineage import edges, run_records, upstream
from trialops.stores.objects import ObjectStore, open_store


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def put(objects: ObjectStore, run_id: str, step: str, started: int, inputs: list[str] = (), **more: Any) -> str:
    key = f"runs/{run_id}/steps/{step}/record.json"
    used = [{"artifact": "a", "record": name, "digest": "d"} for name in inputs]
    body = {"step": step, "run_id": run_id, "started": f"2024-01-01T00:00:{started:02}", "inputs": used, "outputs": []}
    objects.put(key, json.dumps({**body, **more}).encode())
    return key


def names(records: list[dict[str, Any]]) -> list[str]:
    return [f"{record['run_id']}/{record['step']}" for record in records]


def test_records_of_one_run_in_order_of_start(objects: ObjectStore) -> None:
    put(objects, "r1", "late", 9)
    put(objects, "r1", "early", 1)
    put(objects, "r1", "also-early", 1)
    put(objects, "r10", "other-run", 0)
    objects.put("runs/r1/steps/late/page.html", b"not a record")
    assert names(run_records(objects, "r1")) == ["r1/also-early", "r1/early", "r1/late"]
    assert run_records(objects, "r2") == []


def test_upstream_crosses_runs_and_takes_each_record_once(objects: ObjectStore) -> None:
    raw = put(objects, "r1", "ingest", 1)
    clean = put(objects, "r1", "clean", 2, [raw])
    put(objects, "r1", "not-used", 3, [clean])
    left = put(objects, "r2", "features", 4, [clean])
    right = put(objects, "r2", "label", 5, [clean, raw])
    put(objects, "r3", "train", 6, [left, right])
    found = upstream(objects, run_records(objects, "r3"))
    assert names(found) == ["r1/ingest", "r1/clean", "r2/features", "r2/label", "r3/train"]


def test_missing_record_leaves_the_edge_visible_and_a_circle_ends(objects: ObjectStore) -> None:
    a, b = "runs/r1/steps/a/record.json", "runs/r1/steps/b/record.json"
    put(objects, "r1", "a", 1, [b, "runs/gone/steps/x/record.json", ""])
    put(objects, "r1", "b", 2, [a])
    found = upstream(objects, run_records(objects, "r1"))
    assert names(found) == ["r1/a", "r1/b"]
    assert [edge["step"] for edge in edges(found)] == ["a", "a", "a", "b"]


def test_edges_name_tables_with_their_versions() -> None:
    table = {"table": "clean/lb", "version": 3, "rows": 10, "digest": "x"}
    sealed = {"key": "raw/tables/x", "rows": 10, "digest": "x"}
    record = {
        "step": "gate",
        "inputs": [{"artifact": "raw", "digest": "s", "tables": {"LB": sealed}}],
        "outputs": [
            {"artifact": "validated", "digest": "v", "tables": {"LB": table, "DM": {**table, "table": "clean/dm"}}},
            {"artifact": "document"},
        ],
    }
    assert edges([record]) == [
        {"step": "gate", "direction": "input", "artifact": "raw", "digest": "s", "tables": ""},
        {
            "step": "gate",
            "direction": "output",
            "artifact": "validated",
            "digest": "v",
            "tables": "clean/lb@3, clean/dm@3",
        },
        {"step": "gate", "direction": "output", "artifact": "document", "digest": "", "tables": ""},
    ]
