"""Eligibility criteria as data: their form, read from YAML and checked key by key.

A criterion has an id, its text, where the protocol says it, and a rule: a tree of groups (``all``, ``any``, ``none``)
over facts of SDTM tables (``age``, ``subject``, ``has``, ``count``, ``value``, ``order``, ``investigator``).
docs/validation/enrolment.md describes each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest
from trialops.trial.eligibility_form import Reader
from trialops.trial.eligibility_rules import (
    ANCHORS,
    Age,
    Count,
    Criteria,
    Criterion,
    Group,
    Has,
    Investigator,
    Leaf,
    Limits,
    Node,
    Order,
    Rows,
    Subject,
    Value,
    Window,
)

GROUPS = ("all", "any", "none")
OPERATORS = ("at_least", "above", "at_most", "below")
PICKS = ("most_recent", "first", "any", "all")
ABSENCES = ("collected", "closed", "open")
AGE_UNITS = ("years", "months", "weeks", "days")
RANGE_UNITS = ("ULN", "LLN")
"""Units of a value that is measured in reference limits of its own row: 2 ULN is twice the upper limit of normal."""

FORBIDDEN = ("EX", "EC", "DA", "PC", "PP", "IS", "SE", "TA", "TE", "TX")
"""Domains that tell the treatment: no criterion of entry can be about them, and no blinded reader may see them."""

SUBJECT_COLUMNS = ("SEX", "RACE", "ETHNIC", "COUNTRY")


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
