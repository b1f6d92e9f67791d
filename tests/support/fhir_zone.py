"""A raw zone below a temporary folder, and deliveries of FHIR documents to it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from tests.support.vaults import MASTER, vault_in
from trialops.intake.fhir_account import FhirIntake, merge_delivery
from trialops.intake.fhir_delivery import read_documents
from trialops.intake.fhir_documents import Document, find_documents, in_memory
from trialops.intake.fhir_tables import resources_of
from trialops.intake.fhir_validation import validator_version
from trialops.intake.raw_zone import RawZone
from trialops.stores.objects import open_store


class Zone:
    """A raw zone that deliveries come to one after the other."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.zone = RawZone(vault_in(home, MASTER), open_store(str(home)))

    def deliver(self, source: Path | list[Document]) -> FhirIntake:
        """Read a folder or documents, and commit what they change."""
        documents, others = find_documents(source) if isinstance(source, Path) else (source, [])
        held = self.zone.held()
        intake = merge_delivery(read_documents(documents, held=held, zone=self.zone, others=others), held, self.zone)
        self.zone.commit(held, intake.merged, rules=validator_version(), cursors={})
        every_item_counted(intake)
        return intake

    def give(self, *resources: dict[str, Any], name: str = "bundle-1.json", **more: Any) -> FhirIntake:
        """Deliver resources as one collection."""
        return self.deliver([in_memory(name, bundle(resources), **more)])

    def tables(self) -> dict[str, pl.DataFrame]:
        """Everything held."""
        held = self.zone.held()
        return self.zone.read(held, set(held.tables))

    def current(self, kind: str) -> dict[str, dict[str, Any]]:
        """Current resources of a type by id."""
        held = self.zone.held()
        tables = self.zone.read(held, {kind})
        return {r["id"]: r for r in resources_of(tables[kind])} if kind in tables else {}

    def content(self) -> dict[str, list[tuple[str, str]]]:
        """Id and digest of everything held: two equal contents are two equal zones."""
        return {kind: list(frame.select("id", "digest").iter_rows()) for kind, frame in self.tables().items()}


def bundle(resources: Iterable[dict[str, Any]], kind: str = "collection", **more: Any) -> bytes:
    """A bundle as bytes."""
    entry = [r if "resource" in r or "request" in r else {"resource": r} for r in resources]
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entry, **more}).encode()


def patient(own: str, version: int | None = None, updated: str = "", **more: Any) -> dict[str, Any]:
    """A patient, in a version where one is given."""
    meta = ({"versionId": str(version)} if version else {}) | ({"lastUpdated": updated} if updated else {})
    return {"resourceType": "Patient", "id": own, **({"meta": meta} if meta else {}), **more}


def delete(url: str, **more: Any) -> dict[str, Any]:
    """A bundle entry that deletes."""
    return {"request": {"method": "DELETE", "url": url, **more}}


def observation(own: str, of: str, **more: Any) -> dict[str, Any]:
    """An observation of a patient."""
    made = {"resourceType": "Observation", "id": own, "status": "final", "code": {"text": "weight"}}
    return made | {"subject": {"reference": f"Patient/{of}"}} | more


def every_item_counted(intake: FhirIntake) -> None:
    """For every document: read = loaded + quarantined + ignored, and each quarantined item has its line."""
    for row in intake.dispositions.iter_rows(named=True):
        assert row["read"] == row["loaded"] + row["quarantined"] + row["ignored"], row["file"]
        lines = intake.quarantine.filter(pl.col("file") == row["file"])
        assert lines.height == row["quarantined"] == lines["row"].n_unique()
    assert intake.quarantine.height == intake.total("quarantined")
    assert int(intake.ignored["rows"].sum()) == intake.total("ignored")
    assert not intake.quarantine.select("file", "row", "reason", "message").null_count().sum_horizontal().item()
