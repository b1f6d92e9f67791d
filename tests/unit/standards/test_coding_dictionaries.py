"""Dictionaries that the user supplies: read, searched, malformed ones refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.coding_dictionaries import DRUGS, write_dictionaries, write_meddra
from trialops.errors import TrialOpsError
from trialops.standards.dictionaries import load_dictionaries, read_meddra, read_terms


def test_meddra(tmp_path: Path) -> None:
    meddra = read_meddra(write_meddra(tmp_path))
    assert len(meddra.terms) == 7
    head = meddra.by_code["90000002"]
    assert (head.name, head.preferred_name, head.current) == ("Head pain", "Headache", True)
    assert head.path == ("High level", "Group", "Class")
    assert not meddra.by_code["90000003"].current
    assert meddra.release == read_meddra(tmp_path).release


@pytest.mark.parametrize(
    ("verbatim", "code", "doubt"),
    [
        ("HEADACHE", "90000001", ""),
        ("pain, head", "90000002", ""),
        ("headeche", "90000001", "other words"),
        ("Cephalgia old", "90000003", "no longer current"),
        ("redness skin", "90000006", "several terms"),
        ("broken arm", "", "no candidate"),
    ],
)
def test_encoding(tmp_path: Path, verbatim: str, code: str, doubt: str) -> None:
    ranked = read_meddra(write_meddra(tmp_path)).match(verbatim)
    assert (ranked.candidates[0].code if ranked.candidates else "") == code
    assert doubt in ranked.doubt and bool(doubt) == bool(ranked.doubt)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("llt.asc", "", "empty"),
        ("llt.asc", "90000001$Headache$80000001\n", "Line 1"),
        ("llt.asc", "x$Headache$80000001$$$$$$$Y$$\n", "Line 1"),
        ("llt.asc", "90000001$Headache$89999999$$$$$$$Y$$\n", "pt.asc lacks"),
        ("pt.asc", "nonsense\n", "Line 1"),
        ("mdhier.asc", "80000001$6$5\n", "Line 1"),
    ],
)
def test_malformed_meddra(tmp_path: Path, name: str, content: str, what: str) -> None:
    (write_meddra(tmp_path) / name).write_text(content)
    with pytest.raises(TrialOpsError, match=what):
        read_meddra(tmp_path)


def test_missing_meddra_file(tmp_path: Path) -> None:
    (write_meddra(tmp_path) / "pt.asc").unlink()
    with pytest.raises(TrialOpsError, match="missing"):
        read_meddra(tmp_path)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "columns"), (b"code,name\n", "rows"), (b"a,b\n1,2\n", "columns"), (b"code,name\n,x\n", "no code")]
    + [(b"code,name\n1,\xff\xfe\n", "cannot be read")],
)
def test_malformed_term_list(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "whodrug.csv"
    path.write_bytes(content)
    with pytest.raises(TrialOpsError, match=what):
        read_terms(path, "WHODrug")


def test_folder(tmp_path: Path) -> None:
    found = load_dictionaries(write_dictionaries(tmp_path))
    assert found.meddra is not None and found.whodrug is not None
    assert found.whodrug.match("ASPIRIN").candidates[0].code == "D1"
    assert "Acetylsalicylic acid" in " ".join(found.whodrug.match("aspirin").candidates[0].reasons)
    assert found.loinc.release == "LOINC core table"
    assert (tmp_path / "whodrug.csv").read_text() == DRUGS
    with pytest.raises(TrialOpsError, match="does not exist"):
        load_dictionaries(tmp_path / "nowhere")


def test_describe_and_search(tmp_path: Path) -> None:
    found = load_dictionaries(write_dictionaries(tmp_path))
    assert [c.code for c in found.search("MedDRA", "nausea")][0] == "90000004"
    assert found.describe("MedDRA", "90000003") is None  # not current
    assert found.describe("ICD-10-CM", "e119").code == "E11.9"  # type: ignore[union-attr]
    assert found.describe("ICD-10-CM", "E11") is None
    assert [c.code for c in found.search("LOINC", "718-7")] == ["718-7"]
    assert found.search("LOINC", "hemoglobin")[0].code == "718-7"
    assert load_dictionaries().search("MedDRA", "nausea") == []
