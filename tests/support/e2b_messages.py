"""Valid reports as values of elements, for the rules to find nothing in, and changes to them."""

from __future__ import annotations

import random
from collections.abc import Mapping

from trialops.safety.e2b.elements import elements
from trialops.safety.e2b.mapping import case_of
from trialops.safety.e2b.reader import parse
from trialops.safety.e2b.rule_language import groups_of
from trialops.safety.e2b.values import Repeat, Value, Values, read_values
from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch

Change = tuple[str, ...]
"""("set", number, value), ("null", number, flavour), ("drop", number, ...): what to do to every place of an element."""

_SPECIAL = {
    "N.1.1": "1",
    "N.1.2": "BATCH-1",
    "N.1.3": "SENDER",
    "N.1.4": "ZZFDA_PREMKT",
    "N.2.r.1": "MESSAGE-1",
    "N.2.r.2": "SENDER",
    "N.2.r.3": "CDER_IND",
    "C.1.1": "US-SPONSOR-1",
    "C.1.3": "2",
    "C.1.7": "true",
    "FDA.C.1.7.1": "1",
    "FDA.C.1.12": "false",
    "C.5.4": "1",
    "FDA.C.5.5a": "123456",
    "FDA.C.5.6.r": "222222",
    "C.3.1": "1",
    "D.1": "AB",
    "D.2.2b": "a",
    "D.2.2.1b": "wk",
    "D.10.2.2b": "a",
    "E.i.6b": "d",
    "G.k.1": "1",
    "G.k.2.2": "TRX-101",
    "G.k.9.i.1": "154eb889-958b-45f2-a02f-42d4d6f4555f",
    "G.k.9.i.2.r.2": "FDA",
    "G.k.9.i.2.r.3": "Suspected",
    "FDA.G.k.12.r.3.r": "2993",
    "C.1.6.1.r.2": "cmVwb3J0",
}
# A drug has an MPID or a PhPID, a result is a number or a text; what is for other kinds of report is added there.
_WITHOUT = (
    "FDA.C.5.5b", "C.1.10.r", "FDA.G.k.1.a", "FDA.G.k.10a", "FDA.G.k.12.r.7", "F.r.3.1", "F.r.3.4",
    "D.8.r.3a", "D.8.r.3b", "D.10.8.r.3a", "D.10.8.r.3b", "G.k.2.1.2a", "G.k.2.1.2b",
)  # fmt: skip
_PAIRS = (
    ("D.2.2a", "D.2.2b"),
    ("D.2.2.1a", "D.2.2.1b"),
    ("D.8.r.6a", "D.8.r.6b"),
    ("D.8.r.7a", "D.8.r.7b"),
    ("D.9.2.r.1a", "D.9.2.r.1b"),
    ("D.9.4.r.1a", "D.9.4.r.1b"),
    ("D.10.2.2a", "D.10.2.2b"),
    ("D.10.8.r.6a", "D.10.8.r.6b"),
    ("D.10.8.r.7a", "D.10.8.r.7b"),
    ("E.i.1.1a", "E.i.1.1b"),
    ("E.i.6a", "E.i.6b"),
    ("F.r.2.2a", "F.r.2.2b"),
    ("F.r.3.2", "F.r.3.3"),
    ("G.k.2.3.r.3a", "G.k.2.3.r.3b"),
    ("G.k.3.1", "G.k.3.2"),
    ("G.k.4.r.1a", "G.k.4.r.1b"),
    ("G.k.4.r.2", "G.k.4.r.3"),
    ("G.k.4.r.6a", "G.k.4.r.6b"),
    ("G.k.5a", "G.k.5b"),
    ("G.k.6a", "G.k.6b"),
    ("G.k.7.r.2a", "G.k.7.r.2b"),
    ("G.k.9.i.3.1a", "G.k.9.i.3.1b"),
    ("G.k.9.i.3.2a", "G.k.9.i.3.2b"),
    ("H.3.r.1a", "H.3.r.1b"),
    ("H.5.r.1a", "H.5.r.1b"),
    ("C.1.11.1", "C.1.11.2"),
)
_GROUPS = (
    "C.1.6.1.r", "C.4.r", "C.5.1.r", "D.7.1.r", "D.8.r", "D.9.2.r", "D.9.4.r", "D.10.7.1.r", "D.10.8.r", "F.r",
    "G.k.2.3.r", "G.k.4.r", "G.k.7.r", "G.k.10.r", "H.3.r", "H.5.r",
)  # fmt: skip
_SINGLE = (
    "C.2.r.1.1", "C.2.r.2.7", "C.3.3.4", "C.5.2", "C.5.3", "D.1.1.1", "D.2.1", "D.2.3", "D.3", "D.4", "D.5", "D.6",
    "D.7.3", "D.8.r.4", "D.8.r.5", "E.i.1.2", "E.i.3.1", "E.i.4", "E.i.5", "E.i.8", "E.i.9", "F.r.4", "F.r.5", "F.r.6",
    "F.r.7", "G.k.2.4", "G.k.2.5", "G.k.3.3", "G.k.4.r.7", "G.k.4.r.8", "G.k.8", "G.k.9.i.4", "G.k.11", "H.2", "H.4",
)  # fmt: skip


def full(**changes: str) -> Values:
    """An IND report in which every element that may stand together is filled."""
    found = {
        number: {(1,) * len(groups_of(number)): Value(_SPECIAL.get(number) or _value(number))}
        for number in elements()
        if number not in _WITHOUT and not number.startswith("FDA.G.k.12")
    }
    found["C.1.6.1.r.2#representation"] = {(1,): Value("B64")}
    found["FDA.E.i.3.2h"] = {(1,): Value(None, "NI")}
    return _changed(found, changes)


def marketed(**changes: str) -> Values:
    """A spontaneous report after approval, on a combination product whose device malfunctioned."""
    base = dict(full().found)
    for number in ("FDA.C.5.5a", "FDA.C.5.6.r", "C.5.4"):
        del base[number]
    base |= {
        number: {(1,) * len(groups_of(number)): Value(_SPECIAL.get(number) or _value(number))}
        for number in elements()
        if number.startswith("FDA.G.k.12") and number != "FDA.G.k.12.r.7"
    }
    base |= _top(
        {"N.1.4": "ZZFDA", "N.2.r.3": "CDER", "C.1.3": "1", "FDA.C.1.12": "true", "FDA.C.1.7.1": "4"},
    )
    return _changed(base, changes)


def bioequivalence(**changes: str) -> Values:
    """A report from an IND-exempt study of bioequivalence."""
    base = dict(full().found)
    for number in ("FDA.C.5.5a", "FDA.C.5.6.r"):
        del base[number]
    base |= _top({"N.2.r.3": "CDER_IND_EXEMPT_BA_BE", "FDA.C.5.5b": "234567"})
    base["FDA.G.k.10a"] = {(1,): Value("1")}
    return _changed(base, changes)


def aggregate(**changes: str) -> Values:
    """An IND report on an aggregate analysis."""
    base = dict(full().found)
    base |= _top({"D.1": "AGGREGATE"})
    base["C.1.10.r"] = {(1,): Value("US-SPONSOR-2")}
    base["FDA.D.11.r.1"] = {(1,): Value(None, "NA")}
    base["FDA.D.12"] = {(): Value(None, "NA")}
    return _changed(base, changes)


def _top(values: Mapping[str, str]) -> dict[str, dict[Repeat, Value]]:
    return {number: {(): Value(value)} for number, value in values.items()}


def _changed(found: Mapping[str, Mapping[Repeat, Value]], changes: Mapping[str, str]) -> Values:
    return Values({**found, **_top(changes)})


def change(values: Values, *changes: Change) -> Values:
    """A copy with changes at every place of an element; one that is not there gets its first place."""
    found = {number: dict(places) for number, places in values.found.items()}
    for what, number, *more in changes:
        places = found.get(number) or {(1,) * len(groups_of(number)): Value("")}
        if what == "drop":
            for each in (number, *more):
                found.pop(each, None)
        else:
            new = Value(more[0]) if what == "set" else Value(None, more[0])
            found[number] = dict.fromkeys(places, new)
    return Values(found)


def drawn(seed: int) -> Values:
    """A random valid report: parts left out, repeated, and null flavours in the place of values."""
    draw = random.Random(seed)
    base = draw.choice((full, marketed, bioequivalence, aggregate))()
    found = {number: dict(places) for number, places in base.found.items()}
    for pair in _PAIRS:
        if draw.random() < 0.3:
            for number in pair:
                found.pop(number, None)
            if pair[0] == "F.r.3.2":  # a test has a result, of one form or another
                found |= {"F.r.3.1": {(1,): Value("2")}} if draw.random() < 0.5 else {"F.r.3.4": {(1,): Value("text")}}
    for number in _SINGLE:
        if draw.random() < 0.3:
            found.pop(number, None)
        elif draw.random() < 0.3 and number in found and elements()[number].null_flavors:
            flavour = draw.choice(elements()[number].null_flavors)
            found[number] = dict.fromkeys(found[number], Value(None, flavour))
    for group in _GROUPS:
        members = [number for number in found if group in groups_of(number)]
        if draw.random() < 0.3 and group != "C.1.6.1.r":  # the report says that there are documents
            for number in members:
                del found[number]
        elif draw.random() < 0.5:
            depth = groups_of(members[0]).index(group) if members else 0
            for number in members:
                found[number] |= {(*p[:depth], 2, *p[depth + 1 :]): v for p, v in found[number].items()}
    for prefix in ("G.k", "E.i"):  # a second product, a second reaction, the same as the first
        if draw.random() < 0.5:
            for number in [each for each in found if each.removeprefix("FDA.").startswith(prefix)]:
                found[number] |= {(2, *p[1:]): v for p, v in found[number].items() if p[0] == 1}
    return Values(found)


def xml(values: Values, message_id: str = "MESSAGE-1") -> bytes:
    """The message of values: a case is made of them and written."""
    case = case_of(values)
    sender, receiver, batch = (values.first(number) or "" for number in ("N.1.3", "N.2.r.3", "N.1.4"))
    return write_batch(
        BatchHeader(message_id, sender, batch, "2024-01-15T10:30:00+00:00"),
        [(MessageHeader(message_id, sender, receiver, case.report.created), case)],
    )


def written(values: Values) -> Values:
    """Values as they come back from the message they were written to."""
    return read_values(parse(xml(values)))


def _value(number: str) -> str:
    element = elements()[number]
    if element.allowed:
        return element.allowed[-1] if element.data_type == "bool" else element.allowed[0]
    if element.data_type == "date":
        return "20240115103000+0000" if number in ("N.1.5", "N.2.r.4", "C.1.2") else "20240110"
    if "MedDRA Version" in element.name:
        return "27.0"
    if element.data_type == "N":
        return "10027940" if element.max_length == 8 and "MedDRA" in element.name else "1"
    if element.data_type == "A" or "Country" in element.name:
        return "US" if element.max_length == 2 else "eng"
    if "(unit)" in element.name:
        return "mg" if number.startswith("G.k.") and "6b" not in number and ".9." not in number else "d"
    return "text"[: element.max_length or 4]
