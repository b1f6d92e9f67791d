"""Lineage from the step records alone: what was made from what, by which code.

A record names its inputs and, for each, the record of the step that made it; so the way back from a result to the
files it started from can be walked on any store, across runs whose steps were reused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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


USES = "lineage/uses"


def note_uses(objects: ObjectStore, record: dict[str, Any], key: str) -> None:
    """Let the way forward be walked too: under the digest of each input, the record of the step that used it.

    Args:
        objects: Run records.
        record: A finished step.
        key: Where the record is kept.
    """
    for digest in sorted({str(item.get("digest", "")) for item in record["inputs"]} - {""}):
        objects.put(f"{USES}/{digest}/{record['run_id']}.{record['step']}", key.encode())


def users(objects: ObjectStore, digest: str) -> list[dict[str, Any]]:
    """Records of the steps that used exactly this input, in order of start."""
    records = []
    for place in objects.list(f"{USES}/{digest}"):
        try:
            record = json.loads(objects.get(objects.get(place).decode()))
        except KeyError:
            continue
        # A step that ran again under the same name may have used something else.
        if digest in {str(item.get("digest", "")) for item in record["inputs"]}:
            records.append(record)
    return _ordered(records)


def downstream(objects: ObjectStore, digest: str) -> list[dict[str, Any]]:
    """Records of all steps whose results depend on an input, directly or through others, in order of start."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    seen: set[str] = set()
    waiting = [digest]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for record in users(objects, current):
            found[record["run_id"], record["step"]] = record
            waiting += [str(item.get("digest", "")) for item in record["outputs"] if item.get("digest")]
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


def tables_used(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every table version that steps read or wrote: table, version, rows, digest; sorted.

    Args:
        records: Step records.
    """
    found: dict[tuple[str, Any], dict[str, Any]] = {}
    for record in records:
        for item in (*record["inputs"], *record["outputs"]):
            for name, table in item.get("tables", {}).items():
                place = table.get("table") or f"sealed/{name}"
                found[place, table.get("version")] = {
                    "table": place,
                    "version": table.get("version"),
                    "rows": table["rows"],
                    "digest": table["digest"],
                }
    return [found[key] for key in sorted(found, key=str)]
