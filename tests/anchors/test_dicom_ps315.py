"""The DICOM profile against the PS3.15 table, over every test file that pydicom ships and can read."""

from __future__ import annotations

import io
import json
import warnings
from copy import deepcopy
from pathlib import Path

import pydicom
import pytest

from tests.support.dicom_checker import Checker, row_of, table
from trialops.intake.dicom_files import DicomError, DicomObject
from trialops.privacy.dicom_deidentify import DicomDeidentifier, Treatment
from trialops.privacy.dicom_profile import OPTIONS, profile

COLUMNS = {
    "basic": "basicProfile", "private": "rtnSafePrivOpt", "uids": "rtnUIDsOpt", "device": "rtnDevIdOpt",
    "institution": "rtnInstIdOpt", "patient": "rtnPatCharsOpt", "full_dates": "rtnLongFullDatesOpt",
    "modified_dates": "rtnLongModifDatesOpt", "descriptors": "cleanDescOpt", "content": "cleanStructContOpt",
    "graphics": "cleanGraphOpt", "standard": "stdCompIOD",
}  # fmt: skip
SUBJECT = "abcdefgh23456722"


class Keyed:
    """Pseudonyms of a fixed key."""

    def pseudonym(self, kind: str, value: str) -> str:
        import hashlib

        return hashlib.sha256(f"key/{kind}/{value}".encode()).hexdigest()[:16]


@pytest.fixture
def reference(anchors: Path) -> Path:
    return anchors / "dicom-ps3.15" / "confidentiality_profile_attributes.json"


def test_the_shipped_table_is_the_reference(reference: Path) -> None:
    rows = json.loads(reference.read_text())
    shipped = dict(profile().rows)
    assert len(rows) == len(shipped) == 621
    for row in rows:
        key = "private" if row["id"].startswith("gggg") else row["id"]
        assert {ours: shipped[key][ours] for ours in COLUMNS} == {
            ours: row.get(theirs) or "" for ours, theirs in COLUMNS.items()
        }


def readable() -> list[tuple[str, pydicom.FileDataset]]:
    folder = Path(pydicom.__file__).parent / "data"
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".py"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append((path.name, pydicom.dcmread(path)))
        except Exception:  # not DICOM
            continue
    return found


@pytest.mark.parametrize(
    ("mode", "options"),
    [("strict", frozenset()), ("limited", frozenset()), ("limited", frozenset(OPTIONS))],
    ids=["strict", "limited", "all options"],
)
@pytest.mark.filterwarnings("ignore")
def test_no_attribute_against_its_action(reference: Path, mode: str, options: frozenset[str]) -> None:
    rows = table(reference)
    used = options | ({"modified_dates"} if mode == "limited" else frozenset())
    columns = [COLUMNS[OPTIONS[name].column] for name in used]
    # What an option speaks of is judged by the option, in the next test; here by the basic profile.
    rows = {k: r for k, r in rows.items() if not any(r.get(c) for c in columns)} | {
        k: r for k, r in rows.items() if k.startswith(("gggg", "50xx"))
    }
    checker = Checker(rows, SUBJECT)
    worker = DicomDeidentifier(Keyed(), Treatment(mode, options))
    files = readable()
    written = 0
    for name, original in files:
        changed = deepcopy(original)
        worker.apply(changed, subject=SUBJECT, offset=-40)
        checker.compare(original, changed, name)
        assert changed.PatientIdentityRemoved == "YES"
        meta = getattr(original, "file_meta", pydicom.dataset.FileMetaDataset())
        try:
            body = worker.write(DicomObject(meta, changed, *original.original_encoding[:2]))
        except (DicomError, AttributeError):
            continue  # no SOP class or instance: not an object that could land
        again = pydicom.dcmread(io.BytesIO(body))
        assert body[:128] == b"\0" * 128 and again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
        checker.compare(original, again, f"{name} written")
        written += 1
    assert checker.wrong == []
    print(mode, len(files), "files,", written, "written,", sum(checker.checked.values()), dict(checker.checked))
    assert len(files) >= 150 and written >= 120 and sum(checker.checked.values()) > 5000


@pytest.mark.filterwarnings("ignore")
def test_the_checker_can_fail(reference: Path) -> None:
    checker = Checker(table(reference), SUBJECT)
    for name, original in readable():
        checker.compare(original, original, name)
    assert len(checker.wrong) > 1000


@pytest.mark.filterwarnings("ignore")
def test_options_keep_what_they_name(reference: Path) -> None:
    rows = table(reference)
    worker = DicomDeidentifier(Keyed(), Treatment("limited", frozenset({"device_identity", "patient_characteristics"})))
    kept = shifted = 0
    for _, original in readable():
        changed = deepcopy(original)
        worker.apply(changed, subject=SUBJECT, offset=10)
        for tag in list(original.keys()):
            row = row_of(rows, int(tag))
            if row is None or original[tag].VR == "SQ" or original[tag].is_empty:
                continue
            dates = row.get("rtnLongModifDatesOpt")
            if "K" in (row.get("rtnDevIdOpt"), row.get("rtnPatCharsOpt")) and not dates:
                kept += 1
                assert tag in changed, tag
            elif dates and original[tag].VR == "DA" and len(str(original[tag].value)) == 8:
                shifted += 1
                assert (pydicom.valuerep.DA(changed[tag].value) - pydicom.valuerep.DA(original[tag].value)).days == 10
    assert kept > 100 and shifted > 100


def every_attribute(rows: dict[str, dict[str, str]]) -> pydicom.Dataset:
    """A data set with each attribute of the table, filled with a value that names somebody."""
    from pydicom.datadict import dictionary_VR

    values = {
        "DA": "19480229", "DT": "19480229081530.123456+0100", "TM": "081530", "PN": "Quimby^Ada", "AS": "093Y",
        "UI": "1.2.840.99999.77.5", "IS": "4711", "DS": "47.11", "US": 4711, "SS": 4711, "UL": 4711, "SL": 4711,
        "FD": 47.11, "FL": 47.5, "SV": 4711, "UV": 4711, "AT": 0x00100010, "UR": "http://quimby.example/ada",
        "OB": b"quimby", "OW": b"quimby", "UN": b"quimby", "OF": b"quim", "OD": b"quimbyad", "OL": b"quim",
    }  # fmt: skip
    data = pydicom.Dataset()
    for key in sorted(rows):
        tag = {"50xxxxxx": 0x50003000, "60xx4000": 0x60024000, "60xx3000": 0x60023000}.get(key)
        if key.startswith(("0000", "0002")):
            continue  # command and file meta elements: not part of a data set
        if key.startswith("gggg"):
            data.add_new(0x00990010, "LO", "QUIMBY PRIVATE")
            data.add_new(0x00991001, "LO", "Quimby Ada")
            continue
        tag = tag or int(key, 16)
        vr = dictionary_VR(tag).split(" ")[0]
        if vr == "SQ":
            item = pydicom.Dataset()
            item.add_new(0x00080104, "LO", "Quimby meaning")
            item.add_new(0x00081155, "UI", "1.2.840.99999.77.6")
            data.add_new(tag, vr, [item])
        else:
            data.add_new(tag, vr, values.get(vr, "QUIMBY"))
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    return data


@pytest.mark.filterwarnings("ignore")
def test_every_listed_attribute_at_any_depth(reference: Path) -> None:
    rows = table(reference)
    top = every_attribute(rows)
    deeper = top
    for _ in range(5):
        # (0008,1199) is not in the table, so what lies below it must be treated attribute by attribute.
        inner = every_attribute(rows)
        deeper.add_new(0x00081199, "SQ", [inner])
        deeper = inner
    checker = Checker(rows, SUBJECT)
    worker = DicomDeidentifier(Keyed(), Treatment())
    changed = deepcopy(top)
    worker.apply(changed, subject=SUBJECT, offset=3)
    checker.compare(top, changed, "made")
    assert checker.wrong == [] and sum(checker.checked.values()) >= 6 * 610
    body = worker.write(DicomObject(pydicom.dataset.FileMetaDataset(), changed, False, True))
    again = pydicom.dcmread(io.BytesIO(body))
    checker.compare(top, again, "written")
    assert checker.wrong == []
    for trace in (b"quimby", b"1948", b"4711", b"99999"):
        assert trace not in body.lower(), trace
