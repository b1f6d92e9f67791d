"""The malformed corpus: no crash, no loss, each with a reason, and never a value in what is said."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.support.fhir_zone import Zone, patient
from tests.support.malformed_fhir import SECRET, Case, all_cases, large_cases
from trialops.intake import fhir_documents, fhir_items, fhir_json

CORPUS = all_cases()


def told(intake: object, attribute: str) -> str:
    frame: pl.DataFrame = getattr(intake, attribute)
    return frame.write_csv()


def check(case: Case, folder: Path) -> None:
    """Deliver a case beside a sound file: that one is loaded whatever happens to the other."""
    source = folder / "delivery"
    source.mkdir()
    (source / "Patient-0.ndjson").write_text(json.dumps(patient("beside")) + "\n")
    case.write(source)
    zone = Zone(folder / "home")
    intake = zone.deliver(source)  # checks that read = loaded + quarantined + ignored for every file
    assert "beside" in zone.current("Patient")
    aside = dict(intake.quarantine.group_by("reason").len().iter_rows())
    left_out = dict(intake.ignored.group_by("reason").agg(pl.col("rows").sum()).iter_rows())
    assert (aside | left_out).get(case.reason) == case.items, (aside, left_out)
    assert intake.total("loaded") == 1 + case.sound
    duplicates = left_out.get("DUPLICATE", 0)
    assert intake.total("read") == 1 + case.sound + case.items + duplicates
    for attribute in ("quarantine", "dispositions", "ignored"):
        assert SECRET not in told(intake, attribute)


@pytest.mark.parametrize("case", CORPUS, ids=[case.name for case in CORPUS])
def test_malformed(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.reason == "BOMB":
        monkeypatch.setattr(fhir_documents, "FREE_BYTES", 1_000_000)
    check(case, tmp_path)


@pytest.mark.parametrize("case", list(large_cases()), ids=[case.name for case in large_cases()])
def test_too_large(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fhir_json, fhir_items):
        monkeypatch.setattr(module, "MAX_RESOURCE_CHARS", 50_000)
    monkeypatch.setattr(fhir_json, "CHUNK", 10_000)
    check(case, tmp_path)


def test_the_corpus_is_large_and_its_cases_differ() -> None:
    names = [case.name for case in (*CORPUS, *large_cases())]
    assert len(names) == len(set(names)) >= 150


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    """15 MB of blanks in 15 kB: no more than the free bytes and one piece are ever inflated."""
    case = next(case for case in CORPUS if case.name == "gzip: a bomb of one line")
    case.write(tmp_path)
    stream = fhir_documents.Inflated((tmp_path / "Patient-1.ndjson.gz").open("rb"), limit=1_000_000)
    size = 0
    with pytest.raises(fhir_documents.DocumentFault) as caught:
        while piece := stream.read(65536):
            size += len(piece)
    assert caught.value.reason == "BOMB" and size <= 1_000_000
    stream.close()
