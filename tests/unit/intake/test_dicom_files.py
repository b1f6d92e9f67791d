"""Images: reading, de-identification, subjects, and what lands."""

from __future__ import annotations

import io
import zlib
from copy import deepcopy
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.support.dicom_maker import encode, image
from tests.support.vaults import vault_in
from trialops.errors import TrialOpsError
from trialops.intake.dicom_files import DicomError, inflate, read_object
from trialops.intake.dicom_intake import DicomIntake, ingest
from trialops.intake.dicom_page import dicom_page
from trialops.intake.external import find_files
from trialops.intake.subjects import Subjects
from trialops.pages import render
from trialops.privacy.dicom_deidentify import DicomDeidentifier, Treatment, UidMap, refuse_pixels
from trialops.privacy.dicom_values import capped_age, cleaned, shift_date
from trialops.stores.objects import open_store

SUBJECT = "01-701-1001"


class Keyed:
    """Pseudonyms of a fixed key."""

    def pseudonym(self, kind: str, value: str) -> str:
        import hashlib

        return hashlib.sha256(f"key/{kind}/{value}".encode()).hexdigest()[:16]


def clean(data: Dataset, mode: str = "strict", offset: int = 0, **how: object) -> Dataset:
    found = deepcopy(data)
    DicomDeidentifier(Keyed(), Treatment(mode, **how)).apply(found, subject="pseudo", offset=offset)  # type: ignore[arg-type]
    return found


def test_strict_leaves_no_date_and_no_name() -> None:
    found = clean(image(SUBJECT))
    text = str(found).lower()
    for trace in ("quimby", "1948", "20260302", "acc778899", "4711", "house", SUBJECT, "1.2.826.0"):
        assert trace not in text, trace
    assert (
        (found.PatientName, found.PatientID) == ("pseudo", "pseudo") and found.StudyDate is None or not found.StudyDate
    )
    assert found.PatientIdentityRemoved == "YES" and found.LongitudinalTemporalInformationModified == "REMOVED"
    assert [c.CodeValue for c in found.DeidentificationMethodCodeSequence] == ["113100"]
    assert found.PixelData == image(SUBJECT).PixelData and found.Modality == "CT" and found.Rows == 8
    assert found.ReferencedImageSequence[0].PatientName == "pseudo"


def test_limited_keeps_intervals_and_times() -> None:
    data = image(SUBJECT)
    data.AcquisitionDateTime, data.SeriesDate = "20260305120000.5+0100", "20260301"
    found = clean(data, "limited", offset=-60)
    assert (found.StudyDate, found.SeriesDate, found.StudyTime) == ("20260101", "20251231", "101500")
    assert (
        found.AcquisitionDateTime == "20260104120000.5+0100"
        and found.LongitudinalTemporalInformationModified == "MODIFIED"
    )
    assert {c.CodeValue for c in found.DeidentificationMethodCodeSequence} == {"113100", "113107"}
    assert not found.PatientBirthDate  # Z in the profile; no option for dates speaks of it


def test_options() -> None:
    data = image(SUBJECT)
    data.PatientAge = "093Y"
    found = clean(data, options=frozenset({"patient_characteristics", "clean_descriptors"}))
    assert (found.PatientAge, found.PatientSex) == ("090Y", "F")
    assert found.StudyDescription == "Chest for" and found.SeriesDescription == "AX T1 5mm"
    assert "InstitutionName" not in found or found.InstitutionName == "REMOVED"
    kept = clean(data, "limited", options=frozenset({"device_identity", "institution_identity"}))
    assert (kept.DeviceSerialNumber, kept.StationName) == ("SN-4711", "CT01")
    # The institution is called after the subject's family: what names the subject does not stay.
    assert not kept.InstitutionName
    for wrong in ("device_identity", "institution_identity", "modified_dates", "everything"):
        with pytest.raises(TrialOpsError):
            Treatment("strict", frozenset({wrong}))


def test_private_attributes_stay_only_when_listed() -> None:
    data = image("S")
    data.PatientName = "A"
    data[0x00091001].value = "useful"
    safe = frozenset({("ACME", 1)})
    assert 0x00091001 not in clean(data) and 0x00091001 not in clean(data, safe_private=safe)
    found = clean(data, options=frozenset({"safe_private"}), safe_private=safe)
    assert found[0x00091001].value == "useful" and found[0x00090010].value == "ACME"
    other = frozenset({("OTHER", 1)})
    assert 0x00091001 not in clean(data, options=frozenset({"safe_private"}), safe_private=other)


def test_beyond_the_table() -> None:
    data = image(SUBJECT)
    data.add_new(0x00189999, "LO", "unknown attribute")
    data.add_new(0x00080301, "UI", "1.2.3.4.5")  # Private Group Reference: a wrong representation, not listed
    data.ImageType = ["ORIGINAL", "Quimby"]
    data.LossyImageCompression = "00"
    found = clean(data)
    assert 0x00189999 not in found and not found.ImageType and found.LossyImageCompression == "00"
    assert found[0x00080301].value.startswith("2.25.")


def test_uids_are_consistent_and_keyed(tmp_path: Path) -> None:
    one, two = UidMap(vault_in(tmp_path / "a")), UidMap(vault_in(tmp_path / "b"))
    uid = "1.2.826.0.1.3680043.99.1"
    assert one(uid) == UidMap(vault_in(tmp_path / "a"))(uid) != two(uid)
    assert one(uid).startswith("2.25.") and len(one(uid)) <= 64 and one(uid)[5:].isdigit() and one(uid)[5] != "0"
    assert one("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2" and one("") == ""
    assert len({one(f"1.2.{i}") for i in range(500)}) == 500


@pytest.mark.parametrize(
    ("burned", "reason"),
    [("NO", ""), ("YES", "BURNED_IN"), (None, "BURNED_IN"), ("", "BURNED_IN"), ("MAYBE", "BURNED_IN")],
)
def test_burned_in_text_is_refused(burned: str | None, reason: str) -> None:
    data = image(SUBJECT, burned=burned)
    if not reason:
        refuse_pixels(data)
        data.RecognizableVisualFeatures = "YES"
        reason = "RECOGNIZABLE"
    with pytest.raises(DicomError) as caught:
        refuse_pixels(data)
    assert caught.value.reason == reason
    del data.PixelData
    refuse_pixels(data)


def test_values() -> None:
    assert shift_date("20240228", 2) == "20240301" and shift_date("2024.02.28", 1) == "20240229"
    assert shift_date("202402", 1) is None and shift_date("20240231", 1) is None and shift_date("99991231", 1) is None
    assert [capped_age(a) for a in ("089Y", "090Y", "999Y", "012M", "x", "5Y")] == [
        "089Y",
        "090Y",
        "090Y",
        "012M",
        "",
        "005Y",
    ]
    assert cleaned("MRI Brain of Mr. Smith 12345 T2 FLAIR 3mm 2026") == "MRI Brain of T2 FLAIR 3mm"


def test_a_bomb_is_stopped_early() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(b"\0" * 50_000_000) + packer.flush()
    with pytest.raises(DicomError) as caught:
        inflate(bomb)
    assert caught.value.reason == "BOMB"
    small = zlib.compressobj(9, zlib.DEFLATED, -15)
    assert inflate(small.compress(b"abc") + small.flush()) == b"abc"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_transfer_syntaxes(syntax: str) -> None:
    worker = DicomDeidentifier(Keyed(), Treatment())
    data = image(SUBJECT)
    read = read_object(encode(data, syntax))
    worker.apply(read.dataset, subject="pseudo")
    again = pydicom.dcmread(io.BytesIO(worker.write(read)))
    kept = ImplicitVRLittleEndian if syntax == ImplicitVRLittleEndian else syntax
    wanted = "1.2.840.10008.1.2.1" if syntax == DeflatedExplicitVRLittleEndian else kept
    assert again.file_meta.TransferSyntaxUID == wanted and again.preamble == b"\0" * 128
    assert again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID != data.SOPInstanceUID
    assert again.pixel_array.tolist() == pydicom.dcmread(io.BytesIO(encode(data, syntax))).pixel_array.tolist()


def take(tmp_path: Path, files: dict[str, bytes], before: object = None, mode: str = "strict") -> DicomIntake:
    folder = tmp_path / f"d{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    vault = vault_in(tmp_path / "home")
    known = Subjects(vault, {vault.pseudonym("subject", SUBJECT): "F"})
    found = find_files(folder, "dicom")
    return ingest(found, known, vault, open_store(str(tmp_path / "home")), Treatment(mode), before=before)  # type: ignore[arg-type]


def test_what_lands(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    one, two = encode(image(SUBJECT)), encode(image(SUBJECT, number=2))
    other = image(SUBJECT)
    other.SeriesDescription = "another"
    trial = image("hospital number 7")
    trial.ClinicalTrialSubjectID = SUBJECT
    trial.SOPInstanceUID = "1.2.3.4.5"
    man = encode(image(SUBJECT, number=3, sex="M"))
    files = {"1": one, "2": two, "again": one, "same": encode(other), "man": man, "id": encode(trial), "dir": b"x"}
    intake = take(tmp_path, files)
    counts = intake.dispositions.sum()
    assert [counts[c][0] for c in ("read", "loaded", "quarantined", "ignored")] == [7, 3, 3, 1]
    assert sorted(intake.quarantine["reason"]) == ["NO_PREAMBLE", "SEX_DISAGREES", "SOP_UID_REUSED"]
    assert intake.instances["SUBJECT"].n_unique() == 1 and intake.instances["SOP_UID"].n_unique() == 3
    store, vault = open_store(str(tmp_path / "home")), vault_in(tmp_path / "home")
    for row in intake.instances.iter_rows(named=True):
        assert b"1.2.840.10008" not in store.get(row["KEY"])
        body = pydicom.dcmread(io.BytesIO(vault.decrypt(store.get(row["KEY"]), row["KEY"])))
        assert body.SOPInstanceUID == row["SOP_UID"] and body.PatientID == row["SUBJECT"]
    again = take(tmp_path, files, before=intake.instances)
    assert again.instances.equals(intake.instances)
    # Another object under a known UID, delivered later.
    third = image(SUBJECT)
    third.Modality = "PT"
    later = take(tmp_path, {"x": encode(third)}, before=intake.instances)
    assert later.quarantine["reason"].to_list() == ["SOP_UID_REUSED"] and later.instances.equals(intake.instances)
    limited = take(tmp_path, {"1": one}, before=intake.instances, mode="limited")
    assert limited.instances.height == 3 and limited.landed["TREATMENT"][0] != intake.instances["TREATMENT"][0]
    page = render(dicom_page(intake, Treatment()))
    assert "113100" in page and "Quimby" not in page and SUBJECT not in page
