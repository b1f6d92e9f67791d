"""What an ORU^R01 message says: one statement per OBX, with who said what about whom and when.

A statement is kept as sent; which one counts is decided later over all of them (:mod:`hl7_results`), so that late,
repeated and reordered deliveries come to the same. Versions 2.3 to 2.5.1 are read. Source: HL7 v2.5.1, chapter 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.intake.external import FileCount, Finding
from trialops.intake.hl7_parse import Framed, Hl7Error, Message, Segment, parse, split_file
from trialops.intake.hl7_values import FLAGS, NUMBER, instant, is_loinc, iso_time, limits, structured_number

if TYPE_CHECKING:
    import polars as pl

VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1")
PENDING = {
    "I": "the specimen is in the laboratory, the result is pending",
    "N": "the observation was not asked for",
    "O": "order detail without a result",
}
"""OBX-11 that say there is no result yet (HL7 table 0085)."""
PRELIMINARY = ("P", "R", "S")
STATUSES = ("C", "D", "F", "U", "W", "X", *PRELIMINARY, *PENDING)
WITHOUT_VALUE = ("D", "W", "X", "U", *PENDING)
"""Statuses that need no OBX-5."""
CODED = ("CE", "CWE", "CNE", "CF")
TEXT = ("ST", "TX", "FT", "DT", "TM", "TS", "DTM", "ID", "IS")

# Column -> what it holds. All text; the two counters are Int64.
COLUMNS = (
    "FILE_SHA", "RECORD", "MESSAGE_NO", "SEGMENT_NO", "SENDER", "MESSAGE_ID", "MESSAGE_TYPE", "SENT", "CONTENT",
    "IDENTIFIERS", "SEX", "PLACER", "ACCESSION", "PANEL", "LBLOINC", "LOCAL_CODE", "LBTEST", "SUBID", "LBDTC", "STATUS",
    "REPORTED", "VALUE_TYPE", "LBORRES", "LBORRES_CODE", "LBORRESU", "LBORNRLO", "LBORNRHI", "LBORNR", "LBNRIND",
    "LBSPEC", "LBNAM", "LBMETHOD",
)  # fmt: skip
COUNTERS = ("RECORD", "MESSAGE_NO", "SEGMENT_NO")


@dataclass
class FileResult:
    """What came out of one file.

    Attributes:
        count: Its records; a record is an OBX, or a message or stray block that has none. What is neither
            quarantined nor ignored here is a statement; later steps dispose of those.
        statements: Rows in the order of COLUMNS.
        findings: Records set aside and ignored, with their reasons.
        ignored: Those of `findings` that were ignored.
    """

    count: FileCount
    statements: list[tuple[object, ...]]
    findings: list[Finding]
    ignored: set[int]


def schema() -> dict[str, pl.DataType]:
    """Polars schema of statements."""
    import polars as pl

    return {name: pl.Int64() if name in COUNTERS else pl.String() for name in COLUMNS}


def read_file(data: bytes, label: str, sha256: str) -> FileResult:
    """All statements of a file of laboratory messages.

    Args:
        data: The file.
        label: What it is called outside the sealed zone.
        sha256: Of the content; part of every statement's identity.
    """
    batch = split_file(data)
    result = FileResult(FileCount(label, sha256, notes=list(batch.notes)), [], [], set())
    record = 0
    for framed in batch.messages:
        size = max(1, framed.results)
        try:
            if not framed.complete:
                raise Hl7Error("TRUNCATED", "the file ends inside this message, or lost what followed it")
            message = parse(framed.lines)
            check_header(message)
            _read_message(message, framed, sha256, record, size, result)
        except Hl7Error as error:
            place = f"message {framed.number}" + (f", segment {error.segment}" if error.segment else "")
            result.findings += [
                Finding(record + i + 1, place, error.reason, error.message) for i in range(size)
            ]  # fmt: skip
        record += size
    for size in batch.stray:
        record += 1
        words = f"{size} segment{'s' if size > 1 else ''} outside any message"
        result.findings.append(Finding(record, "outside messages", "OUTSIDE_MESSAGE", words))
    if not batch.messages and not batch.stray:
        record += 1
        result.findings.append(Finding(record, "file", "EMPTY", "the file holds no message"))
    result.count.read = record
    result.count.reason = "; ".join(words for _, words in batch.problems)
    return result


def check_header(message: Message) -> None:
    """Whether a message is one that is read here.

    Raises:
        Hl7Error: Wrong type, event, version or processing id, or an identity is missing; with the code of HL7
            table 0357 that the acknowledgement gives.
    """
    msh = message.header
    kind, event = message.part(msh.get(9)), message.part(msh.get(9), 2)
    if not message.part(msh.get(10)):
        raise Hl7Error("NO_CONTROL_ID", "MSH-10 is empty", segment=1, location="MSH^1^10", code="101")
    if kind != "ORU":
        raise Hl7Error("NOT_A_RESULT", "MSH-9 is not ORU", segment=1, location="MSH^1^9", code="200")
    if event != "R01":
        raise Hl7Error(
            "WRONG_EVENT", "MSH-9 is ORU of another event than R01", segment=1, location="MSH^1^9", code="201"
        )
    if message.part(msh.get(12)) not in VERSIONS:
        raise Hl7Error("WRONG_VERSION", "MSH-12 is not 2.3 to 2.5.1", segment=1, location="MSH^1^12", code="203")
    if message.part(msh.get(11)) != "P":
        raise Hl7Error(
            "NOT_PRODUCTION", "MSH-11 is not P: a training or debugging message", segment=1, location="MSH^1^11",
            code="202",
        )  # fmt: skip
    if iso_time(message.part(msh.get(7))) is None:
        raise Hl7Error("BAD_TIME", "MSH-7 is no time", segment=1, location="MSH^1^7", code="102")
    names = [s.name for s in message.segments]
    if "PID" not in names:
        raise Hl7Error("NO_PATIENT", "the message has no PID", location="PID^1", code="100")
    if "OBX" not in names:
        raise Hl7Error("NO_RESULTS", "the message has no OBX", location="OBX^1", code="100")
    if "OBR" not in names or names.index("OBR") > names.index("OBX"):
        raise Hl7Error("SEGMENT_ORDER", "an OBX has no OBR before it", location="OBR^1", code="100")
    if names.index("PID") > names.index("OBR"):
        raise Hl7Error("SEGMENT_ORDER", "PID comes after OBR", location="PID^1", code="100")


def content_digest(framed: Framed) -> str:
    """SHA-256 over the message without MSH-7: a message sent again is the same message."""
    total = hashlib.sha256()
    head = framed.lines[0].split(framed.lines[0][3:4])
    total.update(b"|".join(head[:6] + head[7:]))
    for line in framed.lines[1:]:
        total.update(b"\r" + line)
    return total.hexdigest()


@dataclass
class _Context:
    """What OBX segments inherit from the segments before them."""

    identifiers: str = ""
    sex: str = ""
    placer: str = ""
    accession: str = ""
    panel: str = ""
    taken: str | None = ""
    reported: str | None = ""
    specimen: str = ""


def _read_message(
    message: Message, framed: Framed, sha: str, before: int, size: int, result: FileResult
) -> None:  # fmt: skip
    msh = message.header
    sender = "^".join((message.part(msh.get(3)), message.part(msh.get(4))))
    sent = iso_time(message.part(msh.get(7))) or ""
    fixed = (sender, message.part(msh.get(10)), message.part(msh.get(9)), sent, content_digest(framed))
    lab = message.part(msh.get(4))
    result.count.notes += [n for n in message.notes if n not in result.count.notes]
    here, number = _Context(), 0
    order = ("", "")  # ORC-2 and ORC-3, used where OBR leaves them out
    for segment in message.segments:
        if segment.name == "PID":
            here = _Context(_identifiers(message, segment), message.part(segment.get(8)).upper())
            order = ("", "")
        elif segment.name == "ORC":
            order = (message.part(segment.get(2)), message.part(segment.get(3)))
        elif segment.name == "OBR":
            here = _order(message, segment, here, order)
            order = ("", "")
        elif segment.name == "SPM":
            here.specimen = message.part(segment.get(4), 2) or message.part(segment.get(4)) or here.specimen
            here.taken = here.taken or iso_time(message.part(segment.get(17)))
        elif segment.name == "OBX":
            number += 1
            record = before + number
            try:
                row = _statement(message, segment, here, sent, lab)
            except _Ignored as ignored:
                result.ignored.add(record)
                result.findings.append(_finding(record, framed, segment, ignored.args[0], PENDING[ignored.args[1]]))
                continue
            except Hl7Error as error:
                place = error.location or segment.name
                result.findings.append(_finding(record, framed, segment, error.reason, error.message, place))
                continue
            result.statements.append((sha, record, framed.number, segment.position, *fixed, *row))
    assert number == size


def _finding(
    record: int, framed: Framed, segment: Segment, reason: str, words: str, place: str = "OBX"
) -> Finding:  # fmt: skip
    return Finding(record, f"message {framed.number}, segment {segment.position}, {place}", reason, words)


class _Ignored(Exception):
    """An OBX that says there is no result yet."""


def _identifiers(message: Message, pid: Segment) -> str:
    """PID-3 (and PID-2, which 2.3 still used) as lines of value, authority and type, tab-separated."""
    found = []
    for value in [*message.repetitions(pid.get(3)), *message.repetitions(pid.get(2))]:
        parts = message.components(value, 5)
        authority = parts[3].split(message.delimiters.subcomponent or "\0")[0]
        if parts[0].strip():
            found.append(
                "\t".join(p.replace("\t", " ").replace("\n", " ").strip() for p in (parts[0], authority, parts[4]))
            )
    return "\n".join(dict.fromkeys(found))


def _order(message: Message, obr: Segment, here: _Context, order: tuple[str, str]) -> _Context:
    panel = message.components(message.repetitions(obr.get(4))[0], 2)
    return _Context(
        identifiers=here.identifiers,
        sex=here.sex,
        placer=message.part(obr.get(2)) or order[0],
        accession=message.part(obr.get(3)) or order[1],
        panel=panel[1] or panel[0],
        taken=iso_time(message.part(obr.get(7))),
        reported=iso_time(message.part(obr.get(22))),
        specimen=message.part(obr.get(15)),
    )


def _statement(message: Message, obx: Segment, here: _Context, sent: str, lab: str) -> tuple[object, ...]:
    status = message.part(obx.get(11)).upper()
    if status not in STATUSES:
        raise Hl7Error("STATUS_UNKNOWN", "OBX-11 is empty or not in table 0085", location="OBX-11", code="103")
    if status in PENDING:
        raise _Ignored("PENDING", status)
    if not here.placer and not here.accession:
        raise Hl7Error("NO_ORDER", "neither OBR-2 nor OBR-3 names the order", location="OBR-3", code="101")
    loinc, local, name = _test(message, obx)
    when = iso_time(message.part(obx.get(14)))
    taken = when if when or when is None else here.taken
    if taken is None:
        place = "OBX-14" if when is None else "OBR-7"
        raise Hl7Error("BAD_TIME", f"{place} is no time", location=place, code="102")
    if not taken:
        raise Hl7Error("NO_TIME", "neither OBX-14 nor OBR-7 says when it was collected", location="OBX-14", code="101")
    if sent and len(taken) >= 10 and taken[:10] > sent[:10] and instant(taken)[:10] > instant(sent)[:10]:
        raise Hl7Error("COLLECTED_AFTER_SENT", "collected after the message was sent", location="OBX-14", code="102")
    if here.reported is None:
        raise Hl7Error("BAD_TIME", "OBR-22 is no time", location="OBR-22", code="102")
    value, code = _value(message, obx, status)
    unit = message.part(obx.get(6))
    low, high = limits(message.part(obx.get(7)))
    flags = [message.part(f) for f in message.repetitions(obx.get(8))]
    indicator = next((FLAGS[f] for f in flags if f in FLAGS), "")
    method = message.part(obx.get(17), 2) or message.part(obx.get(17))
    return (
        here.identifiers, here.sex, here.placer, here.accession, here.panel, loinc, local, name,
        message.text(obx.get(4)).strip(), taken, status, instant(here.reported or sent),
        message.part(obx.get(2)).upper(), value, code, unit, low, high,
        message.part(obx.get(7)), indicator, here.specimen, lab, method,
    )  # fmt: skip


def _test(message: Message, obx: Segment) -> tuple[str, str, str]:
    """LOINC code, local code ("code^system") and name of OBX-3."""
    parts = message.components(message.repetitions(obx.get(3))[0], 6)
    loinc, local, name = "", "", ""
    for code, text, system in (parts[:3], parts[3:6]):
        code, system = code.strip(), system.strip().upper()
        name = name or text.strip()
        if not code:
            continue
        if system in ("LN", "LOINC"):
            if not is_loinc(code):
                raise Hl7Error("INVALID_LOINC", "OBX-3 names a LOINC code with a wrong check digit", location="OBX-3")
            loinc = loinc or code
        else:
            local = local or f"{code}^{system}"
    if not loinc and not local:
        raise Hl7Error("NO_TEST", "OBX-3 names no test", location="OBX-3", code="101")
    return loinc, local, name


def _value(message: Message, obx: Segment, status: str) -> tuple[str, str]:
    """OBX-5 as text, and its code where it is coded ("code^system")."""
    kind, sent = message.part(obx.get(2)).upper(), obx.get(5)
    empty = not sent.strip() or sent.strip() == '""'
    if empty:
        if status in WITHOUT_VALUE:
            return "", ""
        raise Hl7Error("NO_VALUE", "OBX-5 is empty and OBX-11 does not say why", location="OBX-5", code="101")
    if status in ("D", "W", "X"):
        # What is deleted, withdrawn or could not be obtained is no result, whatever is repeated in OBX-5.
        return "", ""
    repeated = [r for r in message.repetitions(sent) if r.strip()]
    if kind == "NM":
        values = [message.text(r).strip() for r in repeated]
        if len(values) != 1:
            raise Hl7Error("REPEATED_VALUE", "OBX-5 holds several numbers", location="OBX-5", code="102")
        if not NUMBER.match(values[0]):
            raise Hl7Error("NOT_A_NUMBER", "OBX-2 is NM and OBX-5 is no number", location="OBX-5", code="102")
        return values[0], ""
    if kind == "SN":
        number = structured_number(message.components(repeated[0])) if len(repeated) == 1 else None
        if number is None:
            raise Hl7Error(
                "NOT_A_NUMBER", "OBX-2 is SN and OBX-5 is no structured number", location="OBX-5", code="102"
            )
        return number, ""
    if kind in CODED:
        texts, codes = [], []
        for item in repeated:
            code, text, system = message.components(item, 3)[:3]
            # CWE-9 is the text as the laboratory wrote it, where nothing was coded.
            texts.append(text or code or (message.components(item, 9)[8]))
            codes.append(f"{code}^{system}" if code else "")
        return "; ".join(texts), "; ".join(c for c in codes if c)
    if kind in TEXT:
        joined = ("\n" if kind in ("TX", "FT") else "; ").join(message.text(r) for r in repeated)
        return joined.strip(), ""
    if not kind:
        raise Hl7Error("NO_VALUE_TYPE", "OBX-5 is filled and OBX-2 is empty", location="OBX-2", code="101")
    raise Hl7Error("VALUE_TYPE", "OBX-2 is a type that holds no laboratory value", location="OBX-2", code="103")


def statements_frame(results: Iterator[FileResult] | list[FileResult]) -> pl.DataFrame:
    """All statements of several files, in a settled order."""
    import polars as pl

    rows = [row for result in results for row in result.statements]
    return pl.DataFrame(rows, schema=schema(), orient="row").sort(
        "REPORTED", "SENDER", "MESSAGE_ID", "FILE_SHA", "RECORD"
    )
