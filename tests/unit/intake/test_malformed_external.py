"""Malformed input of every kind: no exception, every record counted, each with a reason that says what is wrong."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from tests.support import malformed
from tests.support.malformed import Case
from tests.support.vaults import vault_in
from trialops.intake import dicom_intake, hl7_intake, vcf_intake
from trialops.intake.external import find_files
from trialops.intake.lab_inbox import LabInbox
from trialops.intake.mllp import Endpoint, FrameError, LabServer, frames, read_answer
from trialops.intake.subjects import Subjects
from trialops.privacy.dicom_deidentify import Treatment
from trialops.stores.objects import open_store

HL7, DICOM, VCF = list(malformed.hl7()), list(malformed.dicom()), list(malformed.vcf())
STREAMS = list(malformed.streams())


def subjects(vault: object) -> Subjects:
    return Subjects(vault, {"01-701-1001": "F"})  # type: ignore[arg-type]


def deliver(folder: Path, case: Case, name: str) -> Path:
    (folder / "in").mkdir()
    (folder / "in" / name).write_bytes(case.data)
    return folder / "in"


def judge(case: Case, intake: object) -> None:
    counts = intake.dispositions.row(0, named=True)  # type: ignore[attr-defined]
    assert counts["read"] == counts["loaded"] + counts["quarantined"] + counts["ignored"] >= 1
    found = set(intake.quarantine["reason"])  # type: ignore[attr-defined]
    assert found <= case.reasons, (case.name, found)
    assert counts["loaded"] == case.loaded or (case.loaded and counts["quarantined"] and found), (case.name, counts)
    if not counts["loaded"]:
        assert found and all(intake.quarantine["message"])  # type: ignore[attr-defined]
    text = str(intake.quarantine.rows())  # type: ignore[attr-defined]
    assert "Quimby" not in text and "01-701-1001" not in text


def test_the_corpus_is_large_enough() -> None:
    assert len(HL7) + len(DICOM) + len(VCF) + len(STREAMS) >= 220
    for cases in (HL7, DICOM, VCF):
        assert len({c.name for c in cases}) == len(cases)


@pytest.mark.parametrize("case", HL7, ids=lambda c: c.name)
def test_hl7(case: Case, tmp_path: Path) -> None:
    folder = deliver(tmp_path, case, "x.hl7")
    who = subjects(type("V", (), {"pseudonym": staticmethod(lambda kind, value: kind + str(len(value)))}))
    judge(case, hl7_intake.ingest(find_files(folder, "hl7"), [], who, study="T"))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    home = tmp_path_factory.mktemp("home")
    return vault_in(home), open_store(str(home))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", DICOM, ids=lambda c: c.name)
def test_dicom(case: Case, tmp_path: Path, stores) -> None:  # type: ignore[no-untyped-def]
    vault, objects = stores
    folder = deliver(tmp_path, case, "x.dcm")
    judge(case, dicom_intake.ingest(find_files(folder, "dicom"), subjects(vault), vault, objects, Treatment()))


@pytest.mark.parametrize("case", VCF, ids=lambda c: c.name)
def test_vcf(case: Case, tmp_path: Path, stores) -> None:  # type: ignore[no-untyped-def]
    vault, objects = stores
    folder = deliver(tmp_path, case, "x.vcf")
    files = find_files(folder, "vcf")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judge(case, vcf_intake.ingest(files, subjects(vault), vault, objects, tmp_path, build="GRCh38"))
    # Nothing a file claims makes memory grow past the bounds: a bomb of 120 MB, a line of 70 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
    assert not list(tmp_path.glob("*.gz"))


@pytest.mark.parametrize(("name", "stream", "codes"), STREAMS, ids=[s[0] for s in STREAMS])
def test_streams(name: str, stream: bytes, codes: list[str], tmp_path: Path) -> None:
    inbox = LabInbox(vault_in(tmp_path), open_store(str(tmp_path)))

    async def run() -> list[str]:
        server = LabServer(inbox, Endpoint("127.0.0.1", 0), most=100_000, idle=5)
        await server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        found = []
        writer.write(stream)
        writer.write_eof()
        try:
            async for answer in frames(reader, idle=5):
                found.append(read_answer(answer).code)
        except FrameError:
            pass
        writer.close()
        await server.drain(5)
        return found

    assert asyncio.run(run()) == codes, name
    accepted = sum(code == "AA" for code in codes)
    assert len(inbox.keys()) == min(accepted, 1)
