"""FHIR bundles as raw tables, for tests that start behind the intake: references by fullUrl made to point to Type/id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from trialops.intake.fhir_tables import to_tables


def resolved(bundle: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The resources of a bundle, references to its own fullUrls replaced."""
    urls = {e["fullUrl"]: f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle["entry"]}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if isinstance(node, dict):
            return {k: urls.get(v, v) if k == "reference" and isinstance(v, str) else walk(v) for k, v in node.items()}
        return node

    for entry in bundle["entry"]:
        yield walk(entry["resource"])


def bundle_tables(paths: Iterable[Path]) -> dict[str, pl.DataFrame]:
    """Raw tables of bundle files (.json) and files of bundles (.ndjson), the first of equal ids kept."""
    parts: dict[str, list[pl.DataFrame]] = {}
    for path in paths:
        texts = path.read_text("utf-8").splitlines() if path.suffix == ".ndjson" else [path.read_text("utf-8")]
        resources = [r for text in texts if text for r in resolved(json.loads(text))]
        for kind, frame in to_tables(resources, source=path.name).items():
            parts.setdefault(kind, []).append(frame)
    return {kind: pl.concat(frames).unique("id", keep="first", maintain_order=True) for kind, frames in parts.items()}


def bulk_tables(folder: Path) -> dict[str, pl.DataFrame]:
    """Raw tables of bulk-data NDJSON files."""
    made: dict[str, pl.DataFrame] = {}
    for path in sorted(folder.glob("*.ndjson")):
        made |= to_tables((json.loads(line) for line in path.read_text("utf-8").splitlines()), source=path.name)
    return made
