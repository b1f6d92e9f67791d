"""Lineage from the step records alone: what was made from what, by which code.

A record names its inputs and, for each, the record of the step that made it; so the way back from a result to the
files it started from can be walked on any store, across runs whose steps were reused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from trialops.stores.objects import ObjectStore


def run_records(objects: ObjectStore, run_id: str) -> list[dict[str, Any]]:
    """Records of the steps one run executed itself, in order of start."""
    keys = [key for key in objects.list(f"runs/{run_id}/steps") if key.endswith("/record.json")]
    return _ordered(json.loads(objects.get(key)) for key in keys)


def upstream(objects: ObjectStore, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The given records and all they depend on, in order of start.

    A record that is missing is left out: the edge that names it stays visible in its reader's inputs.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        place = (record["run_id"], record["step"])
        if place in found:
            continue
        found[place] = record
        for key in {item.get("record", "") for item in record["inputs"]} - {""}:
            try:
                waiting.append(json.loads(objects.get(key)))
            except KeyError:
                continue
    return _ordered(found.values())


def edges(records: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """One row per input and output: step, direction, artifact, digest, tables with their versions."""
    rows = []
    for record in records:
        for direction in ("inputs", "outputs"):
            for item in record[direction]:
                tables = item.get("tables", {})
                named = ", ".join(f"{t['table']}@{t['version']}" for t in tables.values() if "table" in t)
                rows.append(
                    {
                        "step": record["step"],
                        "direction": direction[:-1],
                        "artifact": item["artifact"],
                        "digest": item.get("digest", ""),
                        "tables": named,
                    }
                )
    return rows


def _ordered(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: (record["started"], record["step"]))
