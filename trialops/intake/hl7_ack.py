"""Acknowledgements of HL7 v2 messages: what is answered, with MSA and ERR.

Original mode: AA accepted, AE content that cannot be used, AR a kind of message that is not read here. A sender that
fills MSH-15 asks for the enhanced mode and gets CA, CE or CR when it wants one. Source: HL7 v2.5.1, 2.9 and 2.15.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from trialops.intake.hl7_parse import Delimiters, Hl7Error, delimiters_of

ERRORS = {
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "207": "Application internal error",
}
"""HL7 table 0357."""
REJECTED = ("200", "201", "202", "203")
"""Errors for which the standard has AR: the kind of message, not its content, is at fault."""


@dataclass(frozen=True)
class Header:
    """What an answer needs to know of the message it answers; empty where the message did not say."""

    delimiters: Delimiters = Delimiters()
    fields: tuple[str, ...] = ()

    def get(self, number: int) -> str:
        """MSH field by number, as sent."""
        return self.fields[number] if number < len(self.fields) else ""


def header_of(line: bytes) -> Header:
    """The header of a message that may be unusable otherwise."""
    text = line.decode("latin-1")
    try:
        d = delimiters_of(text)
    except Hl7Error:
        return Header()
    name, *rest = text.split(d.field)
    return Header(d, (name, d.field, *rest)) if name == "MSH" else Header(d)


def acknowledge(to: Header, errors: Sequence[Hl7Error] = (), *, at: str = "") -> bytes | None:
    """The answer to a message.

    Args:
        to: Header of the message.
        errors: Empty for an acceptance; the first one decides between AE and AR.
        at: Time of the answer for MSH-7, as YYYYMMDDHHMMSS.

    Returns:
        The message, each segment ended by a carriage return; None where the sender wants no answer of this kind.
    """
    d = to.delimiters
    level = "R" if errors and errors[0].code in REJECTED else "E" if errors else "A"
    wanted = to.get(15).strip().upper()
    if wanted == "NE" or (wanted == "ER" and not errors) or (wanted == "SU" and errors):
        return None
    code = ("C" if wanted else "A") + level
    control = _safe(to.get(10), d)[:199]
    own = hashlib.sha256(f"{control}/{code}/{at}".encode()).hexdigest()[:20].upper()
    component = d.component
    event = to.get(9).split(component)
    version = to.get(12).split(component)[0] or "2.5.1"
    # Version 2.3 has no message structure in MSH-9.
    parts = (
        ("ACK", event[1], "ACK")[: 2 if version == "2.3" else 3] if len(event) > 1 and event[1].isalnum() else ("ACK",)
    )
    kind = component.join(parts)
    processing = to.get(11).split(component)[0] or "P"
    msh = (
        f"MSH{d.field}{d.encoding}", _safe(to.get(5), d), _safe(to.get(6), d), _safe(to.get(3), d), _safe(to.get(4), d),
        at, "", kind, own, _safe(processing, d), _safe(version, d),
    )  # fmt: skip
    segments = [d.field.join(msh), d.field.join(("MSA", code, control))]
    segments += [_err(error, version, d) for error in errors]
    return ("\r".join(segments) + "\r").encode("latin-1", "replace")


def _err(error: Hl7Error, version: str, d: Delimiters) -> str:
    text = ERRORS.get(error.code, ERRORS["207"])
    located = error.location.replace("^", d.component) if "^" in error.location else ""
    if version in ("2.3", "2.3.1", "2.4"):
        # Before 2.5 one field holds place and code: segment, sequence, field, error.
        parts = (located.split(d.component) + ["", "", ""])[:3]
        where = d.component.join([*parts, (d.subcomponent or " ").join((error.code, text, "HL70357"))])
        return d.field.join(("ERR", where))
    coded = d.component.join((error.code, text, "HL70357"))
    own = d.component.join((error.reason, "", "L"))
    return d.field.join(("ERR", "", located, coded, "E", own, "", "", escape(error.message, d)))


def _safe(value: str, d: Delimiters) -> str:
    """A field repeated from the message, without what would end a segment."""
    return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")


def escape(value: str, d: Delimiters) -> str:
    """A text as a leaf value: separators escaped."""
    mark = d.escape
    codes = {mark: "E", d.field: "F", d.component: "S", d.repetition: "R", d.subcomponent: "T"}
    codes.pop("", None)
    if not mark:
        return "".join(" " if c in codes or c in "\r\n" else c for c in value)
    return "".join(f"{mark}{codes[c]}{mark}" if c in codes else " " if c in "\r\n" else c for c in value)
