"""The pieces of the readable case form: lines, blocks, and values in words."""

from __future__ import annotations

from dataclasses import dataclass

from trialops.safety.case import Null, Quantity, Term

COLUMNS = ("Field", "Value", "E2B(R3)", "3500A", "CIOMS I")
WITHHELD = "withheld (blinded)"
_UNITS = {
    "10.a": "decades",
    "a": "years",
    "mo": "months",
    "wk": "weeks",
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "{DF}": "dosage forms",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the form: what it is, what the case says, and where E2B(R3), 3500A (section) and CIOMS I have it."""

    label: str
    value: str
    element: str
    section: str = ""
    box: str = ""

    def row(self) -> tuple[str, str, str, str, str]:
        """As a row of a table."""
        return self.label, self.value, self.element, self.section, self.box


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together, under a caption."""

    caption: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A headed part of the form."""

    title: str
    blocks: tuple[Block, ...]


def shown(value: object) -> str:
    """A value in words; "" for nothing, the reason for a value that is not given."""
    if value is None or value == ():
        return ""
    if isinstance(value, Null):
        return f"not given ({value.reason})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Quantity):
        return f"{value.value} {unit(value.unit)}"
    if isinstance(value, Term):
        return f"{value.code} (version {value.version})" if value.version else value.code
    return str(value)


def unit(code: str) -> str:
    """A UCUM unit of time or dosage form in words; any other as it is."""
    return _UNITS.get(code, code)


def joined(*values: object, by: str = ", ") -> str:
    """Values in words, those that are there."""
    return by.join(text for text in map(shown, values) if text)


def lines(*given: tuple[str, object, str, str, str]) -> tuple[Line, ...]:
    """Lines of label, value, E2B(R3) element, 3500A section and CIOMS I box; those without a value are left out."""
    made = (Line(label, shown(value), element, section, box) for label, value, element, section, box in given)
    return tuple(line for line in made if line.value)


def span(start: object, end: object) -> str:
    """From when to when."""
    first, last = shown(start), shown(end)
    return f"{first or '?'} to {last}" if last else (f"from {first}" if first else "")
