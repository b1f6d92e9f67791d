"""FHIR bundles and NDJSON files as resource tables, for tests of what comes after intake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from trialops.intake.fhir_tables import to_tables


def resources_in(path: Path) -> Iterator[dict[str, Any]]:
    """Resources of a bundle, of bundles one a line, or of bulk NDJSON; references by fullUrl become Type/id."""
    lines = path.read_text().splitlines() if path.suffix == ".ndjson" else [path.read_text()]
    for line in lines:
        document = json.loads(line)
        if document["resourceType"] != "Bundle":
            yield document
            continue
        entries = document["entry"]
        names = {e["fullUrl"]: f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in entries}
        for entry in entries:
            yield _named(entry["resource"], names)


def _named(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        made = {key: _named(value, names) for key, value in node.items()}
        if isinstance(made.get("reference"), str):
            made["reference"] = names.get(made["reference"], made["reference"])
        return made
    return [_named(item, names) for item in node] if isinstance(node, list) else node


def tables_of(paths: Iterable[Path]) -> dict[str, pl.DataFrame]:
    """Resource tables with the current version of each resource."""
    made = to_tables(resource for path in paths for resource in resources_in(path))
    return {kind: frame.unique("id", keep="last", maintain_order=True) for kind, frame in made.items()}
