"""DICOM objects for tests."""

from __future__ import annotations

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


def image(subject: str, *, series: int = 1, number: int = 1, sex: str = "F", burned: str | None = "NO") -> Dataset:
    """A small CT image of a subject, full of what must not stay."""
    root = f"1.2.826.0.1.3680043.99.{sum(subject.encode())}"
    data = Dataset()
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = f"{root}.{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = root, f"{root}.{series}"
    data.FrameOfReferenceUID = f"{root}.9"
    data.PatientName, data.PatientID, data.PatientSex = "Quimby^Ada", subject, sex
    data.PatientBirthDate, data.PatientAge = "19480229", "078Y"
    data.StudyDate = data.SeriesDate = data.ContentDate = "20260302"
    data.StudyTime = data.ContentTime = "101500"
    data.AccessionNumber, data.ReferringPhysicianName = "ACC778899", "House^Gregory"
    data.InstitutionName, data.StationName, data.DeviceSerialNumber = "Quimby Memorial", "CT01", "SN-4711"
    data.StudyDescription, data.SeriesDescription = "Chest for Quimby", "AX T1 5mm Quimby"
    data.ImageComments = "seen by Dr. House"
    data.Modality, data.SeriesNumber, data.InstanceNumber = "CT", series, number
    data.StudyID = "4711"
    if burned is not None:
        data.BurnedInAnnotation = burned
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = np.arange(64, dtype=np.uint16).tobytes()
    data.add_new(0x00091001, "LO", "Quimby private")
    data.add_new(0x00090010, "LO", "ACME")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, f"{root}.{series}.{number + 1}"
    item.PatientName = "Quimby^Ada"
    data.ReferencedImageSequence = [item]
    return data


def encode(data: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """The object as a file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    buffer = io.BytesIO()
    file = FileDataset(None, data, preamble=b"Quimby".ljust(128, b"\0"), file_meta=meta)  # type: ignore[arg-type]
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()
