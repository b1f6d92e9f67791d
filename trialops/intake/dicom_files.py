"""Read DICOM files that others wrote: what is wrong with one is said, and nothing a file claims can exhaust memory."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileMetaDataset

MAX_OBJECT = 1024**3
"""Bytes of one object, packed or not."""
MAX_RATIO = 200
"""Bytes that one deflated byte may become, above a floor; image data rarely passes 20."""
RATIO_FLOOR = 16 * 1024**2
MAX_DEPTH = 32
MAX_ELEMENTS = 1_000_000
MAX_VALUE = 4 * 1024**2
"""Bytes of a value that is not bulk data."""
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010, 0x00287FE0)
"""Float, double and integer pixel data, and the address of a provider of them."""
BULK = {"OB", "OD", "OF", "OL", "OV", "OW", "UN", "UT"}
DEFLATED = "1.2.840.10008.1.2.1.99"
DIRECTORY = "1.2.840.10008.1.3.10"
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_VRS = _LONG | {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip


class DicomError(Exception):
    """A file that cannot be used: code of the reason, words without content, and the tag where there is one."""

    def __init__(self, reason: str, message: str, tag: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.tag = tag


@dataclass(frozen=True)
class DicomObject:
    """One object as read.

    Attributes:
        meta: File meta information (group 0002).
        dataset: The data set.
        implicit: Whether its value representations are implicit.
        little: Whether it is little endian.
        notes: What was tolerated.
    """

    meta: FileMetaDataset
    dataset: Dataset
    implicit: bool
    little: bool
    notes: tuple[str, ...] = ()


class _Watched(io.BytesIO):
    """Bytes that remember whether a read came to their end half-way."""

    short = False

    def read(self, size: int | None = -1) -> bytes:
        """As BytesIO."""
        data = super().read(size)
        if size is not None and 0 < len(data) < size:
            self.short = True
        return data


def read_object(data: bytes) -> DicomObject:
    """Read one DICOM file.

    Raises:
        DicomError: It is not DICOM, cut, corrupt, a directory, or larger or deeper than anything genuine.
    """
    if len(data) > MAX_OBJECT:
        raise DicomError("TOO_LARGE", f"the object is larger than {MAX_OBJECT >> 20} MB")
    if len(data) < 132 or data[128:132] != b"DICM":
        raise DicomError("NO_PREAMBLE", "there is no preamble with DICM at byte 128")
    start = _meta_end(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _read(data, start)
        except DicomError:
            raise
        except RecursionError:
            raise DicomError("TOO_DEEP", f"sequences are nested deeper than {MAX_DEPTH} levels") from None
        except EOFError:
            raise DicomError("TRUNCATED", "the file ends inside an element") from None
        except MemoryError:
            raise DicomError("TOO_LARGE", "an element claims more than there is memory") from None
        except Exception as error:  # the reader raises many types, and what they say may quote a value
            raise DicomError("CORRUPT", f"the reader refuses it ({type(error).__name__})") from None


def _meta_end(data: bytes) -> int:
    """Where the data set begins: behind the last element of group 0002, which is explicit VR little endian."""
    at, size = 132, len(data)
    while at + 8 <= size:
        group, _, vr, length = struct.unpack_from("<HH2sH", data, at)
        if group != 2:
            return at
        if vr not in _VRS:
            raise DicomError("CORRUPT", "the file meta information is not explicit VR little endian")
        at += 8
        if vr in _LONG:
            if at + 4 > size:
                break
            (length,) = struct.unpack_from("<L", data, at)
            at += 4
        at += length
    if at > size:
        raise DicomError("TRUNCATED", "the file ends inside its meta information")
    return at


def _read(data: bytes, start: int) -> DicomObject:
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    meta = dcmread(io.BytesIO(data[:start])).file_meta
    notes = []
    syntax = meta.get("TransferSyntaxUID")
    body: bytes = data[start:]
    if not syntax:
        notes.append("no transfer syntax stated")
    if meta.get("MediaStorageSOPClassUID") == DIRECTORY:
        raise DicomError("DIRECTORY", "a DICOMDIR, which lists files and holds no image")
    if syntax == DEFLATED:
        body = inflate(body)
        notes.append("deflated")
    implicit, little = _encoding(syntax, body)
    stream = _Watched(body)
    dataset = read_dataset(stream, implicit, little)
    if body and not len(dataset):
        raise DicomError("TRUNCATED", "the file ends inside its first element, or its encoding is another than stated")
    check(dataset)
    if stream.short:
        raise DicomError("TRUNCATED", "the file ends inside an element")
    if not len(dataset):
        raise DicomError("EMPTY", "the object has no elements")
    if not dataset.get("SOPInstanceUID") or not dataset.get("SOPClassUID"):
        raise DicomError("NO_IDENTITY", "SOP class or instance UID is missing", "00080018")
    # A file that is cut between two elements looks whole; an image without pixels does not.
    described = "BitsAllocated" in dataset or "Image Storage" in dataset.SOPClassUID.name
    if described and not any(tag in dataset for tag in PIXELS):
        raise DicomError("NO_PIXELS", "an image without pixels: the file was cut, or they were taken out", "7fe00010")
    return DicomObject(meta, dataset, dataset.original_encoding[0] or implicit, little, tuple(notes))


def _encoding(syntax: Any, body: bytes) -> tuple[bool, bool]:
    """(implicit VR, little endian) of a transfer syntax; by looking where none is stated."""
    if not syntax:
        return body[4:6] not in _VRS, True
    try:
        return bool(syntax.is_implicit_VR), bool(syntax.is_little_endian)
    except ValueError:
        # A private one: those in use are explicit little endian with their own way of packing pixels.
        return False, True


def inflate(packed: bytes, *, most: int = MAX_OBJECT, ratio: int = MAX_RATIO) -> bytes:
    """Raw deflate (RFC 1951) up to a bound.

    Raises:
        DicomError: It becomes too large, is corrupt, or is cut.
    """
    limit = min(most, max(RATIO_FLOOR, ratio * len(packed)))
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = machine.decompress(packed, limit + 1)
    except zlib.error:
        raise DicomError("CORRUPT", "the deflated data set cannot be inflated") from None
    if len(data) > limit:
        raise DicomError("BOMB", "the deflated data set inflates beyond any genuine size")
    if not machine.eof:
        raise DicomError("TRUNCATED", "the deflated data set has no end")
    return data


def check(dataset: Dataset) -> None:
    """Walk every element: lengths, depth and number.

    Raises:
        DicomError: A value is shorter than its length says, or there is more of something than is genuine.
    """
    from pydicom.dataelem import RawDataElement

    waiting, seen = [(dataset, 1)], 0
    while waiting:
        current, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise DicomError("TOO_DEEP", f"sequences are nested deeper than {MAX_DEPTH} levels")
        for tag in list(current.keys()):
            seen += 1
            if seen > MAX_ELEMENTS:
                raise DicomError("TOO_MANY", f"there are more than {MAX_ELEMENTS:,} elements")
            element = current.get_item(tag)
            if isinstance(element, RawDataElement):
                have = len(element.value or b"")
                if element.length != 0xFFFFFFFF and have < element.length:
                    raise DicomError("TRUNCATED", "a value is shorter than its length says", f"{int(tag):08x}")
                if have > MAX_VALUE and element.VR is not None and element.VR not in BULK and element.VR != "SQ":
                    raise DicomError("TOO_LARGE", "a value that is no bulk data is too large", f"{int(tag):08x}")
            if _is_sequence(element):
                if isinstance(element, RawDataElement) and element.length != 0xFFFFFFFF:
                    _items_fit(element.value or b"", "<" if element.is_little_endian else ">", f"{int(tag):08x}")
                value = current[tag].value
                waiting += [(item, depth + 1) for item in (value or [])] if current[tag].VR == "SQ" else []


def _items_fit(value: bytes, order: str, tag: str) -> None:
    """Whether a sequence of defined length consists of items that fit into it; the reader does not look.

    Raises:
        DicomError: It does not.
    """
    at = 0
    while at < len(value):
        if at + 8 > len(value):
            raise DicomError("CORRUPT", "a sequence ends inside the head of an item", tag)
        group, number, length = struct.unpack_from(f"{order}HHL", value, at)
        if (group, number) != (0xFFFE, 0xE000):
            raise DicomError("CORRUPT", "a sequence holds something that is no item", tag)
        if length == 0xFFFFFFFF:
            return  # its end is marked: the reader finds it, or says that it is missing
        at += 8 + length
    if at > len(value):
        raise DicomError("TRUNCATED", "an item is longer than its sequence", tag)


def _is_sequence(element: Any) -> bool:
    from pydicom.datadict import dictionary_VR

    if element.VR is not None and element.VR != "UN":
        return bool(element.VR == "SQ")
    try:
        return dictionary_VR(element.tag) == "SQ"
    except KeyError:
        return False
