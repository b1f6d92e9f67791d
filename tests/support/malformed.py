"""Malformed laboratory files, streams, images and genomes: what is wrong, and the reasons that may be given."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support import dicom_maker, vcf_maker
from trialops.intake.bgzf import BgzfWriter


@dataclass(frozen=True)
class Case:
    """A malformed input.

    Attributes:
        name: What is wrong.
        data: The bytes.
        reasons: Reasons that say so. Where it is empty the input is odd and still usable.
        loaded: Records that must be used all the same.
    """

    name: str
    data: bytes
    reasons: frozenset[str]
    loaded: int = 0


def case(name: str, data: bytes, *reasons: str, loaded: int = 0) -> Case:
    return Case(name, data, frozenset(reasons), loaded)


# -- HL7 ------------------------------------------------------------------------------------------------------------

HEAD = rb"MSH|^~\&|LIS|LAB|T|1|20260302||ORU^R01^ORU_R01|M1|P|2.5.1"
PID = b"PID|1||01-701-1001^^^TRIAL||Quimby^Ada||19480229|F"
OBR = b"OBR|1|P1|A1|PANEL|||20260301"
OBX = b"OBX|1|NM|1742-6^ALT^LN||5|U/L|||||F|||20260301"
GOOD = b"\r".join((HEAD, PID, OBR, OBX, b""))


def without(part: bytes) -> bytes:
    return GOOD.replace(part + b"\r", b"")


def swap(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def hl7() -> Iterator[Case]:
    yield case("empty", b"", "EMPTY")
    yield case("blanks", b" \r\n \r\n", "EMPTY")
    yield case("NUL bytes alone", b"\0" * 1000, "EMPTY")
    yield case("text", b"hello world\r", "OUTSIDE_MESSAGE")
    yield case("random bytes", bytes(range(256)) * 20, "OUTSIDE_MESSAGE")
    yield case("HTML", b"<html><body>error 500</body></html>", "OUTSIDE_MESSAGE")
    yield case("JSON", b'{"resourceType":"Bundle"}', "OUTSIDE_MESSAGE")
    yield case("an image", dicom_maker.encode(dicom_maker.image("x"))[:4000], "OUTSIDE_MESSAGE", "EMPTY")
    yield case("gzip", gzip.compress(GOOD), "OUTSIDE_MESSAGE")
    yield case("UTF-16", GOOD.decode().encode("utf-16"), "OUTSIDE_MESSAGE")
    yield case("UTF-16 without mark", GOOD.decode().encode("utf-16-le"), "OUTSIDE_MESSAGE")
    yield case("UTF-8 with mark", b"\xef\xbb\xbf" + GOOD, loaded=1)
    yield case("CR LF", GOOD.replace(b"\r", b"\r\n"), loaded=1)
    yield case("LF", GOOD.replace(b"\r", b"\n"), loaded=1)
    yield case("CR and LF mixed", HEAD + b"\r" + PID + b"\n" + OBR + b"\r\n" + OBX + b"\r", loaded=1)
    yield case("blank lines between segments", GOOD.replace(b"\r", b"\r\r\r"), loaded=1)
    yield case("framed", b"\x0b" + GOOD + b"\x1c\r", loaded=1)
    yield case("frame opens twice", b"\x0b\x0b" + GOOD + b"\x1c\r", loaded=1)
    for size in (5, 30, len(HEAD) + 3, len(GOOD) - 5, len(GOOD) - 30, len(GOOD) - 1):
        yield case(f"cut after {size} bytes", GOOD[:size], "TRUNCATED", "NO_HEADER", "OUTSIDE_MESSAGE")
    yield case("cut batch", b"FHS|^~\\&|L\rBHS|^~\\&|L\r" + GOOD * 2, "TRUNCATED", "MESSAGE_ID_REUSED", loaded=1)
    yield case("trailer counts more", b"BHS|^~\\&|L\r" + GOOD + b"BTS|7\r", loaded=1)
    yield case("trailer counts nonsense", b"BHS|^~\\&|L\r" + GOOD + b"BTS|" + b"9" * 5000 + b"\r", loaded=1)
    yield case("trailer without header", GOOD + b"BTS|1\rFTS|1\r", loaded=1)
    yield case("headers nested", b"FHS|^~\\&\rFHS|^~\\&\rBHS|^~\\&\rBHS|^~\\&\r" + GOOD + b"BTS|1\rFTS|1\r", loaded=1)
    yield case("segments before the header", b"PID|1\rOBX|1\r" + GOOD, "OUTSIDE_MESSAGE", loaded=1)
    yield case("no MSH", without(HEAD), "OUTSIDE_MESSAGE")
    yield case("no PID", without(PID), "NO_PATIENT")
    yield case("no OBR", without(OBR), "SEGMENT_ORDER")
    yield case("no OBX", without(OBX), "NO_RESULTS")
    yield case("OBX before OBR", b"\r".join((HEAD, PID, OBX, OBR, b"")), "SEGMENT_ORDER")
    yield case("PID after OBR", b"\r".join((HEAD, OBR, PID, OBX, b"")), "SEGMENT_ORDER")
    yield case("separators missing", swap(rb"MSH|^~\&|", b"MSH||"), "WRONG_DELIMITERS")
    yield case("separators repeated", swap(rb"^~\&", rb"^^\&"), "WRONG_DELIMITERS")
    yield case("separators are letters", swap(rb"^~\&", rb"abcd"), "WRONG_DELIMITERS")
    yield case("separator is NUL", b"MSH|\0]\n", "WRONG_DELIMITERS")
    yield case("separator is a control character", swap(rb"^~\&", b"\x01~\\&"), "WRONG_DELIMITERS")
    yield case("too many separators", swap(rb"^~\&", rb"^~\&#$"), "WRONG_DELIMITERS")
    yield case("field separator is a blank", swap(b"MSH|", b"MSH "), "WRONG_DELIMITERS")
    yield case("field separator is a letter", swap(b"MSH|", b"MSHx"), "WRONG_DELIMITERS")
    yield case("two separators only", swap(rb"^~\&", rb"^~"), loaded=1)
    yield case("other separators", GOOD.replace(b"|", b"#").replace(b"^", b"*"), loaded=1)
    yield case("segment name in lower case", swap(b"OBX|", b"obx|"), "SEGMENT_NAME")
    yield case("segment name too long", swap(b"OBX|", b"OBXX|"), "SEGMENT_NAME", "NO_RESULTS")
    yield case("segment without a name", swap(b"OBX|", b"|"), "SEGMENT_NAME", "NO_RESULTS")
    yield case("NUL in a field", swap(b"Ada", b"A\0a"), "BINARY")
    yield case("unknown character set", swap(b"2.5.1", b"2.5.1||||||EBCDIC"), "CHARSET_UNKNOWN")
    yield case(
        "UTF-8 said, Latin-1 sent",
        swap(b"2.5.1", b"2.5.1||||||UNICODE UTF-8").replace(b"Ada", b"\xc4da"),
        "CHARSET_WRONG",
    )
    yield case("nothing said, Latin-1 sent", swap(b"Ada", b"\xc4da"), "CHARSET_WRONG")
    yield case("nothing said, UTF-8 sent", swap(b"Ada", "Äda".encode()), loaded=1)
    yield case("ASCII said, UTF-8 sent", swap(b"2.5.1", b"2.5.1||||||ASCII").replace(b"Ada", "Äda".encode()), loaded=1)
    yield case("overlong UTF-8", swap(b"Ada", b"\xc0\xaf"), "CHARSET_WRONG")
    yield case("huge field", swap(b"Ada", b"A" * 1_100_000), "FIELD_TOO_LARGE")
    yield case("huge message", swap(b"Ada", b"A|" * 9_000_000), "TOO_LARGE")
    yield case("many fields", swap(b"Ada", b"A" + b"|" * 200_000), loaded=1)
    yield case("many components", swap(b"ALT^LN", b"ALT^LN" + b"^" * 200_000), loaded=1)
    yield case("many repetitions", swap(b"||5|", b"||" + b"5~" * 50_000 + b"|"), "REPEATED_VALUE")
    yield case("nested escapes", swap(b"Ada", rb"\E\F\E\X41\E\\E\E" * 2000), loaded=1)
    yield case("escapes without an end", swap(b"Ada", b"\\" * 50_001), loaded=1)
    yield case("escape holds a separator", swap(b"Ada", rb"\X7C5E0D\ "), loaded=1)
    yield case("another message type", swap(b"ORU^R01^ORU_R01", b"ADT^A01"), "NOT_A_RESULT")
    yield case("another event", swap(b"ORU^R01", b"ORU^R30"), "WRONG_EVENT")
    yield case("no message type", swap(b"ORU^R01^ORU_R01", b""), "NOT_A_RESULT")
    yield case("version 3", swap(b"2.5.1", b"3.0"), "WRONG_VERSION")
    yield case("no version", swap(b"|2.5.1", b"|"), "WRONG_VERSION")
    yield case("training", swap(b"|P|", b"|T|"), "NOT_PRODUCTION")
    yield case("no control id", swap(b"|M1|", b"||"), "NO_CONTROL_ID")
    yield case("sent on 30 February", swap(b"20260302", b"20260230"), "BAD_TIME")
    yield case("number is text", swap(b"||5|", b"||five|"), "NOT_A_NUMBER")
    yield case("number with comma", swap(b"||5|", b"||5,1|"), "NOT_A_NUMBER")
    yield case("number is NaN", swap(b"||5|", b"||nan|"), "NOT_A_NUMBER")
    yield case("digits of another script", swap(b"||5|", "||٥|".encode()), "NOT_A_NUMBER")
    yield case("number of 100,000 digits", swap(b"||5|", b"||" + b"5" * 100_000 + b"|"), loaded=1)
    yield case("no value", swap(b"||5|", b"|||"), "NO_VALUE")
    yield case("value type missing", swap(b"|NM|", b"||"), "NO_VALUE_TYPE")
    yield case("value is a document", swap(b"|NM|", b"|ED|"), "VALUE_TYPE")
    yield case("status missing", swap(b"|F|||", b"||||"), "STATUS_UNKNOWN")
    yield case("status unknown", swap(b"|F|||", b"|Q|||"), "STATUS_UNKNOWN")
    yield case("test missing", swap(b"1742-6^ALT^LN", b""), "NO_TEST")
    yield case("LOINC check digit", swap(b"1742-6", b"1742-9"), "INVALID_LOINC")
    yield case("collected in month 13", swap(b"F|||20260301", b"F|||20261301"), "BAD_TIME")
    yield case("collected in the future", swap(b"F|||20260301", b"F|||20990101"), "COLLECTED_AFTER_SENT")
    yield case("no time", swap(b"F|||20260301", b"F|||").replace(b"|||20260301", b"|||"), "NO_TIME")
    yield case("no order", swap(b"P1|A1", b"|"), "NO_ORDER")
    yield case("nobody", swap(b"01-701-1001^^^TRIAL", b""), "NO_IDENTIFIER")
    yield case("a stranger", swap(b"01-701-1001", b"99"), "SUBJECT_UNKNOWN")
    yield case("a second MSH glued on", GOOD.replace(b"\rOBX", b"OBX"), "NO_RESULTS")
    yield case("10,000 messages without content", (HEAD + b"\r") * 10_000, "NO_PATIENT")
    yield case("10,000 stray segments", b"ZZZ|1\r" * 10_000 + GOOD, "OUTSIDE_MESSAGE", loaded=1)


# -- MLLP -----------------------------------------------------------------------------------------------------------


def streams() -> Iterator[tuple[str, bytes, list[str]]]:
    """Name, bytes, and the codes of the acknowledgements that must come back."""
    good = b"\x0b" + GOOD + b"\x1c\r"
    yield "nothing", b"", []
    yield "only a start", b"\x0b", ["AE"]
    yield "only an end", b"\x1c\r", ["AE"]
    yield "empty frame", b"\x0b\x1c\r", ["AE"]
    yield "frame of blanks", b"\x0b   \x1c\r", ["AE"]
    yield "no frame", GOOD, ["AE"]
    yield "HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ["AE"]
    yield "TLS hello", bytes.fromhex("16030100c8010000c40303") + b"\0" * 200, ["AE"]
    yield "SSH", b"SSH-2.0-OpenSSH_9.6\r\n", ["AE"]
    yield "cut in the header", good[:20], ["AE"]
    yield "cut before the end", good[:-2], ["AE"]
    yield "cut inside the end", good[:-1], ["AE"]
    yield "end without CR", good[:-1] + b"\n", ["AE"]
    yield "start inside a frame", b"\x0b" + GOOD + good, ["AE"]
    yield "end twice", good + b"\x1c\r", ["AA", "AE"]
    yield "blank lines between frames", b"\r\n" + good + b"\r\n\r\n" + good, ["AA", "AA"]
    yield "rubbish after a good one", good + b"rubbish", ["AA", "AE"]
    yield "too large", b"\x0b" + b"A" * 200_000, ["AE"]
    yield "two messages in a frame", b"\x0b" + GOOD + GOOD + b"\x1c\r", ["AE"]
    yield "binary in a frame", b"\x0b" + bytes(range(14, 256)) + b"\x1c\r", ["AE"]
    yield "an answer instead of a message", b"\x0bMSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.5.1\rMSA|AA|1\r\x1c\r", ["AR"]
    yield "cut message in a whole frame", b"\x0b" + GOOD[:-30] + b"\x1c\r", ["AA"]
    yield "200 empty frames", b"\x0b\x1c\r" * 200, ["AE"] * 200


# -- DICOM ----------------------------------------------------------------------------------------------------------


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little-endian element; its length may lie."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    size = len(value) if length is None else length
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def dicom_file(body: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    meta = element(0x00020001, b"OB", b"\0\1") + element(0x00020002, b"UI", b"1.2.840.10008.5.1.4.1.1.481.5\0")
    meta += element(0x00020003, b"UI", b"1.2.3.4\0") + element(0x00020010, b"UI", syntax)
    return b"\0" * 128 + b"DICM" + element(0x00020000, b"UL", struct.pack("<L", len(meta))) + meta + body


IDENTITY = (
    element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.481.5\0")
    + element(0x00080018, b"UI", b"1.2.3.4\0")
    + element(0x00100020, b"LO", b"01-701-1001 ")
)


def nested(depth: int, *, defined: bool) -> bytes:
    """A sequence in a sequence in ..., of undefined or defined lengths."""
    inner = element(0x00100010, b"PN", b"Quimby")
    for _ in range(depth):
        if defined:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
            inner = element(0x00081199, b"SQ", item)
        else:
            head = struct.pack("<HH2sHL", 0x0008, 0x1199, b"SQ", 0, 0xFFFFFFFF)
            item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            inner = head + item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return inner


@functools.cache
def _image() -> bytes:
    return dicom_maker.encode(dicom_maker.image("01-701-1001"))


def dicom() -> Iterator[Case]:
    good = _image()
    broken = (
        "CORRUPT",
        "TRUNCATED",
        "TOO_DEEP",
        "NO_IDENTITY",
        "EMPTY",
        "TOO_LARGE",
        "CANNOT_WRITE",
        "BURNED_IN",
        "NO_IDENTIFIER",
        "SUBJECT_UNKNOWN",
        "NO_PIXELS",
    )
    yield case("empty", b"", "NO_PREAMBLE")
    yield case("text", b"hello" * 100, "NO_PREAMBLE")
    yield case("zeros", b"\0" * 5000, "NO_PREAMBLE")
    yield case("no preamble", good[132:], "NO_PREAMBLE")
    yield case("preamble without DICM", good[:128] + b"XXXX" + good[132:], "NO_PREAMBLE")
    yield case("preamble alone", good[:132], *broken)
    yield case("a JPEG", b"\xff\xd8\xff\xe0" + b"\0" * 500, "NO_PREAMBLE")
    yield case("a zip", b"PK\3\4" + b"\0" * 500, "NO_PREAMBLE")
    for part in (
        133,
        140,
        150,
        200,
        300,
        400,
        500,
        700,
        len(good) - 200,
        len(good) - 129,
        len(good) - 50,
        len(good) - 1,
    ):
        yield case(f"cut after {part} bytes", good[:part], *broken)
    for depth in (40, 200, 2000):
        yield case(
            f"{depth} sequences of undefined length", dicom_file(IDENTITY + nested(depth, defined=False)), "TOO_DEEP"
        )
    for depth in (40, 200, 1500):
        yield case(
            f"{depth} sequences of defined length", dicom_file(IDENTITY + nested(depth, defined=True)), "TOO_DEEP"
        )
    yield case("30 sequences", dicom_file(IDENTITY + nested(30, defined=False)), loaded=1)
    open_ended = struct.pack("<HH2sHL", 8, 0x1199, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    yield case("sequence without an end", dicom_file(IDENTITY + open_ended), *broken)
    yield case(
        "item length beyond the file",
        dicom_file(IDENTITY + element(0x00081199, b"SQ", struct.pack("<HHL", 0xFFFE, 0xE000, 999_999))),
        *broken,
    )
    yield case("item tag wrong", dicom_file(IDENTITY + element(0x00081199, b"SQ", b"\1\2\3\4\5\6\7\0")), *broken)
    yield case("length of 4 GB", dicom_file(IDENTITY + element(0x7FE00010, b"OW", b"\0" * 8, 0xFFFFFFFE)), "TRUNCATED")
    yield case("length of 60 kB", dicom_file(IDENTITY + element(0x00104000, b"LT", b"x", 60_000)), "TRUNCATED")
    yield case("huge text", dicom_file(IDENTITY + element(0x00104000, b"UC", b"x" * 5_000_000)), "TOO_LARGE")
    yield case("half an element header", dicom_file(IDENTITY + b"\x10\0\x10"), "TRUNCATED")
    yield case(
        "unknown value representation", dicom_file(IDENTITY + element(0x00104000, b"ZZ", b"text")), *broken, loaded=1
    )
    yield case(
        "value representation of control characters",
        dicom_file(IDENTITY + element(0x00104000, b"\1\2", b"text")),
        *broken,
        loaded=1,
    )
    for vr, value in (
        (b"DS", b"a lot "),
        (b"IS", b"1.5e "),
        (b"DA", b"31.12.2026"),
        (b"UI", b"not a uid "),
        (b"AT", b"\1\2\3"),
        (b"FD", b"\1\2\3"),
        (b"US", b"\1"),
        (b"PN", b"\xff\xfe\xfd "),
    ):
        for tag in (0x00101030, 0x00189999, 0x0008002A):
            body = IDENTITY[: IDENTITY.index(b"\x10\0\x20\0")] + element(tag, vr, value)
            rest = element(0x00100020, b"LO", b"01-701-1001 ")
            yield case(f"{vr.decode()} of {value!r} in {tag:08x}", dicom_file(body + rest), *broken, loaded=1)
    yield case("patient id is a float", dicom_file(IDENTITY[:-20] + element(0x00100020, b"FD", b"\0" * 8)), *broken)
    yield case("no SOP instance", dicom_file(element(0x00100020, b"LO", b"01-701-1001 ")), "NO_IDENTITY")
    yield case("no elements", dicom_file(b""), "EMPTY")
    yield case(
        "unknown character set", dicom_file(element(0x00080005, b"CS", b"KLINGON ") + IDENTITY), *broken, loaded=1
    )
    deflated = b"1.2.840.10008.1.2.1.99"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = packer.compress(IDENTITY + element(0x7FE00010, b"OW", b"\0" * 8)) + packer.compress(b"\0" * 300_000_000)
    yield case("deflate bomb", dicom_file(bomb + packer.flush(), deflated), "BOMB")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    sound = packer.compress(IDENTITY) + packer.flush()
    yield case("deflated", dicom_file(sound, deflated), loaded=1)
    yield case("deflated and cut", dicom_file(sound[:-10], deflated), "TRUNCATED", "CORRUPT")
    yield case("said to be deflated", dicom_file(IDENTITY, deflated), "CORRUPT", "TRUNCATED")
    yield case("unknown transfer syntax", dicom_file(IDENTITY, b"1.2.3.4.5.6.7\0"), *broken, loaded=1)
    yield case("big endian said, little sent", dicom_file(IDENTITY, b"1.2.840.10008.1.2.2\0"), *broken)
    yield case("implicit said, explicit sent", dicom_file(IDENTITY, b"1.2.840.10008.1.2\0"), *broken, loaded=1)
    yield case("meta length lies", good.replace(good[140:144], b"\xff\xff\0\0", 1), *broken, loaded=1)
    yield case(
        "burned-in text not excluded", dicom_maker.encode(dicom_maker.image("01-701-1001", burned=None)), "BURNED_IN"
    )
    yield case("burned-in text", dicom_maker.encode(dicom_maker.image("01-701-1001", burned="YES")), "BURNED_IN")
    yield case("a stranger", dicom_maker.encode(dicom_maker.image("99")), "SUBJECT_UNKNOWN")


# -- VCF ------------------------------------------------------------------------------------------------------------


MANY_ALLELES = "\t" + ",".join("A" * i for i in range(2, 2002)) + "\t"


def bgzip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with BgzfWriter(buffer) as writer:
        writer.write(data)
    return buffer.getvalue()


def vcf() -> Iterator[Case]:
    sample = ["01-701-1001"]
    head = vcf_maker.header(sample)
    row = "chr1\t100\t.\tA\tC\t.\tPASS\tDP=1\tGT\t0/1\n"
    good = (head + row).encode()
    packed = bgzip(good)
    yield case("empty", b"", "NO_HEADER", "NO_COLUMNS")
    yield case("text", b"hello\nworld\n", "NO_HEADER")
    yield case("binary", bytes(range(256)) * 50, "BINARY")
    yield case("an image", _image(), "BINARY", "NO_HEADER")
    yield case("UTF-16", good.decode().encode("utf-16"), "BINARY", "ENCODING", "NO_HEADER")
    yield case("Latin-1", good.replace(b"DP=1", b"N=\xe9"), "ENCODING")
    yield case("BCF", b"BCF\2\2" + b"\0" * 100, "BINARY", "NO_HEADER")
    yield case("CR LF", good.replace(b"\n", b"\r\n"), loaded=1)
    yield case("no end of line", good[:-1], loaded=1)
    yield case("blank lines", good + b"\n\n", loaded=1)
    yield case("no version", good.split(b"\n", 1)[1], "NO_HEADER")
    for version in (b"3.3", b"4.0", b"5.0", b"", b"4.2.1"):
        yield case(f"version {version.decode()}", good.replace(b"VCFv4.2", b"VCFv" + version), "WRONG_VERSION")
    for version in (b"4.1", b"4.3", b"4.4"):
        yield case(f"version {version.decode()} is read", good.replace(b"VCFv4.2", b"VCFv" + version), loaded=1)
    yield case(
        "no column line", b"\n".join(line for line in good.split(b"\n") if not line.startswith(b"#CHROM")), "NO_COLUMNS"
    )
    yield case("columns renamed", good.replace(b"\tREF\t", b"\tREFERENCE\t"), "BAD_COLUMNS")
    yield case("columns by blanks", good.replace(b"#CHROM\t", b"#CHROM "), "BAD_COLUMNS")
    yield case("FORMAT without samples", good.replace(b"\tFORMAT\t01-701-1001", b"\tFORMAT"), "BAD_COLUMNS")
    yield case("sample twice", good.replace(b"01-701-1001", b"01-701-1001\t01-701-1001"), "SAMPLE_NAMES")
    yield case("sample without a name", good.replace(b"01-701-1001", b""), "SAMPLE_NAMES")
    yield case("no samples", (vcf_maker.header([]) + "chr1\t100\t.\tA\tC\t.\t.\t.\n").encode(), "NO_SAMPLES")
    yield case("a stranger", good.replace(b"01-701-1001", b"NA12878"), "SUBJECT_UNKNOWN")
    yield case("header line without =", good.replace(b"##FILTER", b"##quoted text\n##FILTER"), "BAD_HEADER")
    yield case("INFO without ID", good.replace(b"INFO=<ID=AC,", b"INFO=<"), "BAD_HEADER")
    yield case("INFO not closed", good.replace(b'"Allele count">', b'"Allele count'), "BAD_HEADER")
    yield case("contig of no length", good.replace(b"length=248956422", b"length=long"), "BAD_CONTIG")
    yield case(
        "contig twice",
        good.replace(b"##contig=<ID=chr2,", b"##contig=<ID=chr1,length=5>\n##contig=<ID=chr2,"),
        "BAD_CONTIG",
    )
    yield case("wrong build", (vcf_maker.header(sample, build="GRCh37") + row).encode(), "WRONG_BUILD")
    yield case("build contradicts", good.replace(b"##FILTER", b"##reference=hg19\n##FILTER"), "BUILD_CONTRADICTS")
    yield case("unknown lengths", good.replace(b"length=248956422", b"length=248956423"), "WRONG_BUILD")
    yield case("no build", b"\n".join(line for line in good.split(b"\n") if b"contig" not in line), "BUILD_UNKNOWN")
    yield case(
        "header without an end", b"##fileformat=VCFv4.2\n" + b"##x=1\n" * 210_000, "HEADER_TOO_LONG", "NO_COLUMNS"
    )
    yield case("header cut", good[:500], "NO_COLUMNS", "BAD_HEADER")
    for name, old, new, reason in (
        ("column missing", "\tGT\t0/1", "", "COLUMN_COUNT"),
        ("sample missing", "\t0/1", "", "SAMPLE_COUNT"),
        ("sample too many", "0/1", "0/1\t0/1", "SAMPLE_COUNT"),
        ("contig unknown", "chr1", "chr77", "UNKNOWN_CONTIG"),
        ("position text", "100", "1e2", "BAD_POS"),
        ("position negative", "100", "-5", "BAD_POS"),
        ("position zero", "100", "0", "BAD_POS"),
        ("position beyond", "100", "948956422", "BEYOND_CONTIG"),
        ("position of 300 digits", "100", "9" * 300, "BAD_POS"),
        ("REF empty", "\tA\t", "\t\t", "BAD_REF"),
        ("REF a gap", "\tA\t", "\t-\t", "BAD_REF"),
        ("REF a number", "\tA\t", "\t4\t", "BAD_REF"),
        ("ALT a gap", "\tC\t", "\t-\t", "BAD_ALT"),
        ("ALT empty", "\tC\t", "\t\t", "BAD_ALT"),
        ("ALT not closed", "\tC\t", "\t<DEL\t", "BAD_ALT"),
        ("ALT twice", "\tC\t", "\tC,c\t", "BAD_ALT"),
        ("ALT is REF", "\tC\t", "\tA\t", "BAD_ALT"),
        ("2,000 alleles", "\tC\t", MANY_ALLELES, "BAD_ALT"),
        ("QUAL text", "\t.\tPASS", "\thigh\tPASS", "BAD_QUAL"),
        ("FILTER empty", "PASS", "", "BAD_FIELD"),
        ("FILTER with blank", "PASS", "LOW QUAL", "BAD_FIELD"),
        ("GT beyond", "0/1", "0/7", "GT_INDEX"),
        ("GT text", "0/1", "het", "BAD_GT"),
        ("GT empty", "0/1", "", "BAD_SAMPLE"),
        ("GT of 10 digits", "0/1", "0/1111111111", "BAD_GT"),
        ("more values than FORMAT", "0/1", "0/1:1:2", "BAD_SAMPLE"),
        ("GT not first", "\tGT\t0/1", "\tDP:GT\t1:0/1", "BAD_FORMAT"),
        ("FORMAT twice", "\tGT\t0/1", "\tGT:DP:DP\t0/1:1:1", "BAD_FORMAT"),
    ):
        other = row.replace("100", "200")
        yield case(name, (head + row.replace(old, new, 1) + other).encode(), reason, loaded=1)
    yield case("not sorted", (head + row.replace("100", "300") + row).encode(), "NOT_SORTED", loaded=1)
    yield case("row twice", (head + row + row).encode(), "DUPLICATE", loaded=1)
    yield case("a line of 70 MB", (head + row.replace("DP=1", "X=" + "A" * 70_000_000)).encode(), "LINE_TOO_LONG")
    yield case("bgzip", packed, loaded=1)
    yield case("gzip", gzip.compress(good), loaded=1)
    yield case("gzip of two members", gzip.compress(good[:900]) + gzip.compress(good[900:]), loaded=1)
    yield case("bgzip cut at a block", packed[:-28], "TRUNCATED")
    yield case("bgzip cut in a block", packed[: len(packed) // 2], "TRUNCATED")
    yield case("gzip cut", gzip.compress(good)[:-9], "TRUNCATED")
    yield case("gzip with a flipped byte", _flipped(gzip.compress(good)), "CORRUPT", "NO_HEADER", "ENCODING", "BINARY")
    yield case("gzip head alone", b"\x1f\x8b", "TRUNCATED", "CORRUPT")
    yield case("gzip with a tail", gzip.compress(good) + b"tail", "CORRUPT")
    yield case("gzip bomb of lines", gzip.compress(good + b"\n" * 120_000_000, 9), "BOMB")
    yield case("gzip bomb in a line", gzip.compress(good + b"A" * 120_000_000, 9), "BOMB", "LINE_TOO_LONG")
    yield case("gzip in gzip", gzip.compress(gzip.compress(good)), "BINARY", "NO_HEADER", "ENCODING")


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
