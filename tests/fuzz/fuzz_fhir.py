"""Coverage-guided fuzzing of the FHIR parsers: python tests/fuzz/fuzz_fhir.py -atheris_runs=100000 [-seed=1] [CORPUS].

Whatever the bytes are, the parsers may only refuse them by their own faults; what they accept must mean what Python's
own JSON reader takes it to mean; the two ways to read a text must agree; and every item that is counted is handed out.
"""

from __future__ import annotations

import io
import json
import random
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["trialops.intake"]):
    from trialops.intake import fhir_json
    from trialops.intake.fhir_bulk import read_manifest
    from trialops.intake.fhir_documents import DocumentFault, Inflated, in_memory
    from trialops.intake.fhir_items import identifier_keys, items, outline, target_of
    from trialops.intake.fhir_json import JsonFault, JsonStream, parse_strict
    from trialops.intake.fhir_references import Resolver
    from trialops.intake.fhir_tables import canonical, parse, subject_of
    from trialops.intake.fhir_validation import Fault, check

import contextlib

from trialops.errors import TrialOpsError

SEEDS = (
    b'{"resourceType":"Bundle","type":"transaction","entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient",'
    b'"id":"a","active":true,"birthDate":"1950-01-01"},"request":{"method":"PUT","url":"Patient/a"}}]}',
    b'{"resourceType":"Observation","id":"o","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10},'
    b'"subject":{"reference":"Patient?identifier=s|1"}}\n{"resourceType":"Patient","id":"b"}\n',
    b'{"transactionTime":"2026-01-01T00:00:00Z","output":[{"type":"Patient","url":"http://x/a.ndjson","count":1}]}',
    b'{"resourceType":"Bundle","type":"history","entry":[{"request":{"method":"DELETE","url":"Patient/a/_history/2"}}]}',
    b'[1,-2.5e+3,"\\ud835\\udcb3\\u0041",null,true,false,{"a":{"b":[[]]}}]',
    b"\xef\xbb\xbf{}",
)


def parsers(data: bytes) -> None:
    """One input through every parser."""
    accepted = _text(data)
    for name in ("bundle-1.json", "export.ndjson"):
        _document(name, data)
    with contextlib.suppress(TrialOpsError):
        read_manifest(in_memory("manifest.json", data))
    with contextlib.suppress(DocumentFault):
        io.BufferedReader(Inflated(io.BytesIO(data), limit=1_000_000)).read()
    if isinstance(accepted, dict):
        _resource(accepted)


def _text(data: bytes) -> Any:
    """Read whole and in pieces: the same value, or faults both times."""
    try:
        whole = parse_strict(data)
    except JsonFault:
        whole = None
        refused = True
    else:
        refused = False
        assert json.loads(data.decode("utf-8-sig"), parse_float=Decimal) == whole
    fhir_json.CHUNK = 1 + len(data) % 13
    try:
        reader = JsonStream(io.BytesIO(data))
        pieces = reader.value()
        reader.end()
    except JsonFault:
        assert refused, "the stream refuses what the text reader takes"
    else:
        assert not refused and pieces == whole, "the stream takes what the text reader refuses"
    return whole


def _document(name: str, data: bytes) -> None:
    document = in_memory(name, data)
    found = outline(document)
    if found.fault:
        return
    handed = list(items(document))
    assert len(handed) == found.items
    assert [item.row for _, item in handed] == list(range(1, len(handed) + 1))
    resolver = Resolver({}, lambda _: None)
    for bundle, item in handed:
        assert bool(item.reason) or item.resource is not None or item.method in ("DELETE", "GET", "HEAD")
        target_of(item)
        if item.resource is not None:
            identifier_keys(item.resource)
            resolver.resolve(item.resource, found.scopes[bundle])


def _resource(value: dict[str, Any]) -> None:
    subject_of(value)
    again = parse(canonical(value))
    assert canonical(again) == canonical(value)
    fault = check(value)
    assert fault is None or (isinstance(fault, Fault) and fault.reason)


def spliced(data: bytes, size: int, seed: int) -> bytes:
    """A mutation that keeps more of the form than random bytes do: pieces of the seeds are put in."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return bytes(atheris.Mutate(data, size))
    other = chance.choice(SEEDS)
    start = chance.randrange(len(other))
    piece = other[start : start + chance.randrange(1, 80)]
    at = chance.randrange(len(data) + 1)
    return (data[:at] + piece + data[at + chance.randrange(0, 20) :])[:size]


def main(arguments: list[str]) -> None:
    """Fuzz until the runs are used up; a finding ends the process with an error and leaves its input in a file."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            parsers(seed)
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        if not any(not argument.startswith("-") for argument in arguments):
            arguments = [*arguments, corpus]
        atheris.Setup([sys.argv[0], *arguments], parsers, custom_mutator=spliced)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
