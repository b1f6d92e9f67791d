"""Eligibility criteria as data: their form, read from YAML and checked key by key.

A criterion has an id, its text, where the protocol says it, and a rule: a tree of groups (``all``, ``any``, ``none``)
over facts of SDTM tables (``age``, ``subject``, ``has``, ``count``, ``value``, ``order``, ``investigator``).
docs/validation/enrolment.md describes each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest
from trialops.trial.eligibility_form import Reader

GROUPS = ("all", "any", "none")
ANCHORS = ("screening", "consent", "randomisation", "first_dose")
OPERATORS = ("at_least", "above", "at_most", "below")
PICKS = ("most_recent", "first", "any", "all")
ABSENCES = ("collected", "closed", "open")
AGE_UNITS = ("years", "months", "weeks", "days")
RANGE_UNITS = ("ULN", "LLN")
"""Units of a value that is measured in reference limits of its own row: 2 ULN is twice the upper limit of normal."""

FORBIDDEN = ("EX", "EC", "DA", "PC", "PP", "IS", "SE", "TA", "TE", "TX")
"""Domains that tell the treatment: no criterion of entry can be about them, and no blinded reader may see them."""

SUBJECT_COLUMNS = ("SEX", "RACE", "ETHNIC", "COUNTRY")


@dataclass(frozen=True)
class Limits:
    """What a number is compared with: all of the given bounds; the names are the operators of the YAML."""

    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Window:
    """Days around an anchor, both ends inclusive; ``start`` None is any time before.

    Attributes:
        anchor: One of ANCHORS.
        start, end: Days from the anchor, negative before it.
        overlaps: Whether a row counts that is going on in the window, or one that begins in it.
    """

    anchor: str
    start: int | None
    end: int
    overlaps: bool = False

    def __str__(self) -> str:
        """In words, for what is missing."""
        anchor = self.anchor.replace("_", " ")
        if self.start is None:
            return f"up to {anchor}" if self.end == 0 else f"up to {_days(self.end)} {anchor}"
        if self.start < 0 and self.end == 0:
            return f"within {-self.start} days before {anchor}"
        return f"from {_days(self.start)} to {_days(self.end)} {anchor}"


def _days(days: int) -> str:
    return f"{abs(days)} days {'before' if days < 0 else 'after'}"


@dataclass(frozen=True)
class Rows:
    """Rows of a domain.

    Attributes:
        domain: SDTM domain.
        where: Column to the values it may have, compared without case; all columns must fit.
        like: Column to patterns (% any text, _ one character); all columns must fit, one pattern each.
        window: When; None is any time up to randomisation.
        absence: What no row means: "collected" (no, if the subject has any row of the domain), "closed" (no) or
            "open" (not known).
    """

    domain: str
    where: tuple[tuple[str, tuple[str, ...]], ...]
    like: tuple[tuple[str, tuple[str, ...]], ...] = ()
    window: Window | None = None
    absence: str = "collected"


@dataclass(frozen=True)
class Group:
    """Parts joined by "all", "any" or "none" (not any)."""

    op: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Age:
    """Age at screening as DM has it (AGE, AGEU)."""

    limits: Limits
    unit: str


@dataclass(frozen=True)
class Subject:
    """A column of DM has one of the values, compared without case; a missing or unknown one leaves it open."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Has:
    """There is such a row."""

    rows: Rows


@dataclass(frozen=True)
class Count:
    """The number of such rows."""

    rows: Rows
    limits: Limits


@dataclass(frozen=True)
class Value:
    """A measured value: the one picked, any, or all of those in the window.

    Attributes:
        rows: Domain, test code (in ``where``), further conditions, window.
        test: --TESTCD.
        unit: Unit of the limits, as in data or UCUM; ULN or LLN; "1" for numbers without unit.
        limits: What it is compared with.
        pick: One of PICKS.
    """

    rows: Rows
    test: str
    unit: str
    limits: Limits
    pick: str


@dataclass(frozen=True)
class Order:
    """A row of ``first`` is followed by a row of ``then`` after ``gap`` days (both ends inclusive)."""

    first: Rows
    then: Rows
    least: int
    most: int | None


@dataclass(frozen=True)
class Investigator:
    """Nothing in the tables can tell; the investigator judges, and says so in IE where it is not fulfilled."""


Leaf = Age | Subject | Has | Count | Value | Order | Investigator
Node = Group | Leaf


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        id: Unique in the file.
        inclusion: Must be met to enter; otherwise must not be.
        text: As in the protocol.
        reference: Where the protocol says it.
        code: IETESTCD of TI and IE.
        rule: The tree.
    """

    id: str
    inclusion: bool
    text: str
    reference: str
    code: str
    rule: Node


@dataclass(frozen=True)
class Criteria:
    """The criteria of a protocol.

    Attributes:
        protocol: Protocol number.
        version: Version of the criteria.
        criteria: In the order of the file.
        digest: SHA-256 of the content.
        where: Name of the file, for messages.
    """

    protocol: str
    version: str
    criteria: tuple[Criterion, ...]
    digest: str
    where: str


def load_criteria(path: Path) -> Criteria:
    """Read a file of criteria.

    Raises:
        TrialOpsError: It cannot be read, or a key or value is wrong; criterion and key are named.
    """
    import yaml

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TrialOpsError(
            f"The eligibility criteria cannot be read ({type(error).__name__})",
            where=path.name,
            fix="Name a YAML file in eligibility.criteria of the study file; trialops/trial/eligibility.yaml is one.",
        ) from None
    return parse_criteria(document, where=path.name)


def parse_criteria(document: Any, *, where: str = "criteria") -> Criteria:
    """Check the content of a file of criteria.

    Raises:
        TrialOpsError: As :func:`load_criteria`.
    """
    top = Reader(document, where)
    items = top.take("criteria", list)
    protocol, version = str(top.take("protocol", str)), str(top.take("version", (str, int)))
    top.done()
    found: list[Criterion] = []
    for number, item in enumerate(items, start=1):
        name = str(item.get("id", f"number {number}")) if isinstance(item, Mapping) else f"number {number}"
        found.append(_criterion(Reader(item, f"{where}: criterion {name}")))
    names = [criterion.id for criterion in found]
    for label, values in (("id", names), ("code", [criterion.code for criterion in found])):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise TrialOpsError(f"Two criteria have the {label} {twice[0]}", where=where, fix="Name each differently.")
    if not found:
        raise TrialOpsError("The file holds no criteria", where=where, fix="List them under the key criteria.")
    return Criteria(protocol, version, tuple(found), document_digest(document), where)


def leaves(node: Node) -> tuple[Leaf, ...]:
    """The facts of a rule, left to right."""
    if isinstance(node, Group):
        return tuple(leaf for part in node.parts for leaf in leaves(part))
    return (node,)


def _criterion(reader: Reader) -> Criterion:
    name = reader.take("id", str)
    kind = reader.choice("kind", ("inclusion", "exclusion"))
    text, reference = reader.take("text", str), reader.take("reference", str)
    code = reader.take("code", str, name)
    rule = _node(reader.inside("rule"))
    reader.done()
    return Criterion(name, kind == "inclusion", text, reference, code, rule)


def _node(reader: Reader) -> Node:
    name = reader.only((*GROUPS, *_LEAVES))
    if name in GROUPS:
        parts = reader.take(name, list)
        if not parts:
            raise reader.error(name, "is empty", "List the parts.")
        return Group(name, tuple(_node(Reader(p, f"{reader.where}.{name}[{i}]")) for i, p in enumerate(parts, 1)))
    return _LEAVES[name](reader.inside(name))


def _age(reader: Reader) -> Age:
    unit = reader.choice("unit", AGE_UNITS, "years")
    found = Age(_limits(reader), unit)
    reader.done()
    return found


def _subject(reader: Reader) -> Subject:
    column = reader.only(SUBJECT_COLUMNS)
    return Subject(column, reader.texts(column))


def _has(reader: Reader) -> Has:
    found = Has(_rows(reader))
    reader.done()
    return found


def _count(reader: Reader) -> Count:
    found = Count(_rows(reader), _limits(reader))
    reader.done()
    return found


def _value(reader: Reader) -> Value:
    from trialops.standards.units import ucum_code

    domain = reader.domain("domain", FORBIDDEN, "LB")
    test = reader.take("test", str).upper()
    unit = reader.take("unit", str)
    if unit not in (*RANGE_UNITS, "1") and not ucum_code(unit, test):
        raise reader.error("unit", f"{unit!r} is no unit that is known", "Use a UCUM code, ULN or LLN; 1 for none.")
    pick = reader.choice("pick", PICKS, "most_recent")
    where = ((f"{domain}TESTCD", (test,)), *_conditions(reader, "where"))
    rows = Rows(domain, where, _conditions(reader, "like"), _window(reader))
    found = Value(rows, test, unit, _limits(reader), pick)
    reader.done()
    return found


def _order(reader: Reader) -> Order:
    first, then = (_whole_rows(reader.inside(name)) for name in ("first", "then"))
    least, most = reader.take("least_days", int, 0), reader.take("most_days", int, None)
    if most is not None and most < least:
        raise reader.error("most_days", "is less than least_days", "Exchange them.")
    reader.done()
    return Order(first, then, least, most)


def _investigator(reader: Reader) -> Investigator:
    reader.done()
    return Investigator()


_LEAVES: dict[str, Callable[[Reader], Leaf]] = {
    "age": _age,
    "subject": _subject,
    "has": _has,
    "count": _count,
    "value": _value,
    "order": _order,
    "investigator": _investigator,
}


def _whole_rows(reader: Reader) -> Rows:
    found = _rows(reader)
    reader.done()
    return found


def _rows(reader: Reader) -> Rows:
    domain = reader.domain("domain", FORBIDDEN)
    where, like = _conditions(reader, "where"), _conditions(reader, "like")
    if not where and not like:
        raise reader.error("where", "is missing: every row would count", "Say which rows: where, or like.")
    return Rows(domain, where, like, _window(reader), reader.choice("absence", ABSENCES, "collected"))


def _conditions(reader: Reader, key: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not reader.has(key):
        return ()
    inner = reader.inside(key)
    return tuple((column, inner.texts(column)) for column in inner.columns())


def _window(reader: Reader) -> Window | None:
    if not reader.has("window"):
        return None
    inner = reader.inside("window")
    anchor = inner.choice("of", ANCHORS)
    start, end = inner.take("from", int, None), inner.take("to", int, 0)
    overlaps = inner.take("overlaps", bool, False)
    inner.done()
    if start is not None and start > end:
        raise inner.error("from", "is after to", "Days before the anchor are negative.")
    return Window(anchor, start, end, overlaps)


def _limits(reader: Reader) -> Limits:
    bounds = tuple((name, float(reader.take(name, (int, float)))) for name in OPERATORS if reader.has(name))
    if not bounds:
        reader.known(OPERATORS)
        raise reader.error("", "compares with nothing", f"Give one of {', '.join(OPERATORS)}.")
    return Limits(bounds)
