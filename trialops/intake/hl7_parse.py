"""Read HL7 version 2 text: delimiters, character sets, escapes, repetitions, and batch files.

Nothing here knows what a message means; see :mod:`hl7_labs`. Every byte ends up in a message, in an envelope
segment (FHS, BHS, BTS, FTS) or in a stray block that is reported. Source of the rules: HL7 v2.5.1, chapter 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; an ORU with embedded reports stays well below."""
MAX_FIELD = 1024 * 1024
"""Characters of one field."""

# HL7 table 0211 -> Python codec. Multi-byte sets that switch by escape are not read.
CHARSETS = {
    "": "ascii",
    "ASCII": "ascii",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
    "UTF-8": "utf-8",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "ISO IR100": "iso8859-1",
    "ISO IR192": "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
    "KS X 1001": "euc_kr",
}
ENVELOPE = ("FHS", "BHS", "BTS", "FTS")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}\Z")
_LINE_END = re.compile(rb"\r\n|\r|\n(?=[A-Z][A-Z0-9]{2}[^\w\s]|\Z|\n)")


class Hl7Error(Exception):
    """A message that cannot be used.

    Attributes:
        reason: Code of the reason.
        message: In words, without content of the message.
        segment: 1-based segment of the message; 0 where it is the message as a whole.
        location: Segment name, its number among those of that name, and field, as ERR-2 wants it.
        code: HL7 table 0357 error code.
    """

    def __init__(self, reason: str, message: str, *, segment: int = 0, location: str = "", code: str = "207") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.segment = segment
        self.location = location
        self.code = code


@dataclass(frozen=True)
class Delimiters:
    """The separators a message declares for itself; an empty one was not declared."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding(self) -> str:
        """MSH-2."""
        return self.component + self.repetition + self.escape + self.subcomponent


@dataclass(frozen=True)
class Segment:
    """A segment; `fields` are numbered as the standard numbers them, so that of MSH field 1 is the separator."""

    name: str
    position: int
    fields: tuple[str, ...]

    def get(self, number: int) -> str:
        """Field by number, as sent; empty when it is absent."""
        return self.fields[number] if number < len(self.fields) else ""


@dataclass(frozen=True)
class Message:
    """A message split to segments and fields; components are split and unescaped on demand."""

    delimiters: Delimiters
    segments: tuple[Segment, ...]
    charset: str
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    def text(self, value: str) -> str:
        """A leaf value without escapes."""
        return unescape(value, self.delimiters)

    def repetitions(self, value: str) -> list[str]:
        """Repetitions of a field, as sent."""
        return value.split(self.delimiters.repetition) if self.delimiters.repetition else [value]

    def components(self, value: str, most: int = 0) -> list[str]:
        """Components of one repetition, unescaped; padded with empty ones to `most`."""
        parts = [self.text(part) for part in value.split(self.delimiters.component)]
        return parts + [""] * (most - len(parts))

    def part(self, value: str, component: int = 1, subcomponent: int = 1) -> str:
        """One component (1-based) of the first repetition, its first subcomponent by default."""
        if not value:
            return ""
        parts = self.repetitions(value)[0].split(self.delimiters.component)
        if component > len(parts):
            return ""
        part = parts[component - 1]
        if self.delimiters.subcomponent:
            subs = part.split(self.delimiters.subcomponent)
            part = subs[subcomponent - 1] if subcomponent <= len(subs) else ""
        return self.text(part)


@dataclass(frozen=True)
class Framed:
    """The bytes of one message inside a file.

    Attributes:
        number: 1-based number among the file's messages.
        lines: Its segments, without terminators.
        complete: Whether the last segment was terminated.
    """

    number: int
    lines: tuple[bytes, ...]
    complete: bool = True

    @property
    def results(self) -> int:
        """OBX segments in it."""
        return sum(line[:3] == b"OBX" for line in self.lines)


@dataclass
class Batch:
    """A file split to messages.

    Attributes:
        messages: In file order.
        stray: Number of segments in each block that belongs to no message.
        notes: What was tolerated (line ends, byte order mark).
        problems: Counts or trailers that do not agree: (reason, words).
    """

    messages: list[Framed] = field(default_factory=list)
    stray: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def delimiters_of(line: str) -> Delimiters:
    """Separators from MSH, FHS or BHS.

    Raises:
        Hl7Error: They are missing, repeated, or letters.
    """
    if len(line) < 6 or line[3].isalnum() or line[3].isspace() or not line[3].isprintable():
        raise Hl7Error("WRONG_DELIMITERS", "MSH declares no separators", segment=1, location="MSH^1^1", code="102")
    separator = line[3]
    declared = line[4:].split(separator, 1)[0]
    all_of_them = separator + declared
    if not 1 <= len(declared) <= 5 or len(set(all_of_them)) != len(all_of_them):
        raise Hl7Error(
            "WRONG_DELIMITERS", "MSH-2 must hold up to five different characters", segment=1, location="MSH^1^2",
            code="102",
        )  # fmt: skip
    if any(c.isalnum() or not c.isprintable() or c in ' "' for c in declared):
        raise Hl7Error(
            "WRONG_DELIMITERS",
            "MSH-2 holds a letter, digit, quote, blank or control character",
            segment=1,
            location="MSH^1^2",
            code="102",
        )
    padded = declared + "\0" * 4
    return Delimiters(separator, *(c if c != "\0" else "" for c in padded[:4]))


def unescape(value: str, d: Delimiters) -> str:
    r"""Resolve escapes in one pass, so that a resolved character is never read as the start of another.

    ``\F\ \S\ \T\ \R\ \E\`` are the separators, ``\Xhh..\`` bytes (read as Latin-1), ``\.br\`` a line break;
    highlighting and other formatting is dropped, an escape that is not closed or not known stays as it is.
    """
    mark = d.escape
    if not mark or mark not in value:
        return value
    plain = {"F": d.field, "S": d.component, "T": d.subcomponent, "R": d.repetition, "E": mark}
    out, start = [], 0
    while True:
        opened = value.find(mark, start)
        closed = value.find(mark, opened + 1) if opened >= 0 else -1
        if closed < 0:
            out.append(value[start:])
            return "".join(out)
        code = value[opened + 1 : closed]
        out.append(value[start:opened])
        start = closed + 1
        if code in plain:
            out.append(plain[code])
        elif re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            out.append(bytes.fromhex(code[1:]).decode("latin-1"))
        elif code in ("H", "N") or re.fullmatch(r"\.(?:in|ti|sk|sp|fi|nf|ce)[+-]?\d*", code):
            out.append("\n" if code.startswith(".sp") or code == ".ce" else "")
        elif code == ".br":
            out.append("\n")
        else:
            # Keep the opening mark only: the closing one may open the next escape.
            out.append(mark + code)
            start = closed


def split_file(data: bytes) -> Batch:
    """Split the bytes of a file to messages and check the counts in its trailers."""
    batch = Batch()
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        batch.notes.append("byte order mark dropped")
    if b"\x0b" in data or b"\x1c" in data:
        data = re.sub(rb"\x0b|\x1c\r?", b"", data)
        batch.notes.append("MLLP framing inside the file dropped")
    if b"\r\n" in data:
        batch.notes.append("segments end in CR LF")
    elif b"\n" in data and b"\r" not in data:
        batch.notes.append("segments end in LF")
    lines = (data.split(b"\n") if b"\r" not in data else _LINE_END.split(data)) if data else []
    complete = not lines or not lines[-1].strip()
    _collect(batch, [line for line in lines if line.strip(b" \t\n\0")], complete)
    return batch


def _collect(batch: Batch, lines: list[bytes], complete: bool) -> None:
    """Give every line its place; `complete` says whether the last one was terminated."""
    current: list[bytes] = []
    stray = 0
    in_batch = [0, 0]  # messages since BHS, batches since FHS
    opened = {"FHS": False, "BHS": False}

    def close(done: bool = True) -> None:
        if current:
            batch.messages.append(Framed(len(batch.messages) + 1, tuple(current), done))
            in_batch[0] += 1
            current.clear()

    for line in lines:
        line = line.lstrip(b"\n")
        name = line[:3].decode("latin-1")
        if name == "MSH" or name in ENVELOPE:
            close()
            if stray:
                batch.stray.append(stray)
                stray = 0
        if name == "MSH":
            current.append(line)
        elif name in ("FHS", "BHS"):
            if opened[name]:
                batch.problems.append(("TRAILER_MISSING", f"{name} opens before the last one was closed"))
            opened[name] = True
            in_batch[name == "FHS"] = 0
        elif name == "BTS":
            _check(batch, "BTS-1", "messages", line, in_batch[0], opened["BHS"])
            opened["BHS"], in_batch[0], in_batch[1] = False, 0, in_batch[1] + 1
        elif name == "FTS":
            # A file of one batch often leaves BHS and BTS out.
            _check(batch, "FTS-1", "batches", line, in_batch[1], opened["FHS"])
            opened["FHS"], in_batch[1] = False, 0
        elif current:
            current.append(line)
        else:
            stray += 1
    # A batch that was opened and not closed was cut: its last message may have lost its end.
    close(complete and not any(opened.values()))
    if stray:
        batch.stray.append(stray)
    for name, missing in opened.items():
        if missing:
            trailer = name.replace("HS", "TS")
            batch.problems.append(("TRAILER_MISSING", f"{name} without {trailer}: the file may have been cut"))


def _check(batch: Batch, place: str, what: str, line: bytes, found: int, opened: bool) -> None:
    if not opened:
        batch.problems.append(("HEADER_MISSING", f"{place[:3]} without a header before it"))
    # A trailer may declare other separators than "|" only by way of its header; take the character after the name.
    stated = line[4:].split(line[3:4] or b"|")[0].strip() if len(line) > 4 else b""
    if stated and (not stated.isdigit() or len(stated) > 9 or int(stated) != found):
        shown = int(stated) if stated.isdigit() and len(stated) <= 9 else "something that is no number"
        batch.problems.append(("COUNT_DISAGREES", f"{place} promises {shown} {what}, {found} are there"))


def parse(lines: tuple[bytes, ...] | list[bytes]) -> Message:
    """A message from its segments.

    Raises:
        Hl7Error: It is not HL7, too large, or in a character set that is not stated or not known.
    """
    if sum(map(len, lines)) > MAX_MESSAGE:
        raise Hl7Error("TOO_LARGE", f"the message is larger than {MAX_MESSAGE >> 20} MB")
    if not lines or lines[0][:3] != b"MSH":
        raise Hl7Error("NO_HEADER", "the first segment is not MSH", segment=1, code="100")
    head = lines[0].decode("latin-1")
    delimiters = delimiters_of(head)
    fields = head.split(delimiters.field)
    stated = fields[17].split(delimiters.repetition or "\0")[0].strip().upper() if len(fields) > 17 else ""
    codec = CHARSETS.get(stated)
    if codec is None:
        raise Hl7Error(
            "CHARSET_UNKNOWN", "MSH-18 names a character set that is not read here", segment=1, location="MSH^1^18",
            code="103",
        )  # fmt: skip
    notes: list[str] = []
    whole = b"\r".join(lines)
    try:
        text = whole.decode(codec)
    except UnicodeDecodeError as error:
        text = _without_charset(whole, stated, error, notes)
        codec = "utf-8"
    if "\0" in text:
        raise Hl7Error("BINARY", "the message holds NUL characters", code="102")
    segments = []
    for position, line in enumerate(text.split("\r"), start=1):
        segments.append(_segment(line, position, delimiters))
    return Message(delimiters, tuple(segments), codec, tuple(notes))


def _without_charset(whole: bytes, stated: str, error: UnicodeDecodeError, notes: list[str]) -> str:
    """UTF-8 that forgot to say so is accepted with a note; anything else is refused."""
    at = whole[: error.start].count(b"\r") + 1
    if stated in ("", "ASCII"):
        try:
            text = whole.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            notes.append("character set not stated, read as UTF-8")
            return text
    raise Hl7Error(
        "CHARSET_WRONG", "bytes do not belong to the character set of MSH-18", segment=at, location="MSH^1^18",
        code="102",
    )  # fmt: skip


def _segment(line: str, position: int, d: Delimiters) -> Segment:
    fields = line.split(d.field)
    name = fields[0]
    if not _NAME.match(name):
        raise Hl7Error("SEGMENT_NAME", "a segment has no three-letter name", segment=position, code="100")
    if len(line) > MAX_FIELD and max(map(len, fields)) > MAX_FIELD:
        raise Hl7Error("FIELD_TOO_LARGE", f"a field has more than {MAX_FIELD:,} characters", segment=position)
    if name == "MSH":
        if position > 1:
            raise Hl7Error("SEGMENT_ORDER", "a second MSH inside the message", segment=position, code="100")
        # Field 1 of MSH is the separator itself; what splits off first is field 2.
        fields = [name, d.field, *fields[1:]]
    return Segment(name, position, tuple(fields))
