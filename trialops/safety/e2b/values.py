"""What a message says, element by element: one walk over its tree, driven by the table of elements.

The paths of all elements are merged into one tree of steps, so that what they share is looked at once. A value is
found by its number and by where it stands among the repeating parts: ("G.k.9.i.2.r.3", (1, 2, 1)) is the first
opinion on drug 1 and reaction 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.e2b.elements import corrections, elements
from trialops.safety.e2b.paths import predicates, split

HL7 = "{urn:hl7-org:v3}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_MESSAGE = f"{HL7}PORR_IN049016UV"
_BATCH = f"{HL7}MCCI_IN200100UV01"

Repeat = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """What stands at one place: a value, or a null flavour (NI, MSK, ...), never both."""

    value: str | None
    null: str | None = None


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one message (with the elements N.1 of its batch), by number and place.

    Attributes:
        found: number -> place among the repeating parts, counted from 1 -> value.
    """

    found: Mapping[str, Mapping[Repeat, Value]]

    def all(self, number: str) -> Mapping[Repeat, Value]:
        """Every value of an element by its place; empty when there is none."""
        return self.found.get(number, {})

    def get(self, number: str, repeat: Repeat = ()) -> Value | None:
        """The value at a place, or None."""
        return self.all(number).get(repeat)

    def first(self, number: str) -> str | None:
        """The first value of an element that is a value, or None."""
        return next((each.value for _, each in sorted(self.all(number).items()) if each.value is not None), None)

    def texts(self, number: str) -> list[str]:
        """The values of an element in the order of their places, null flavours left out."""
        return [each.value for _, each in sorted(self.all(number).items()) if each.value is not None]

    def nulls(self, number: str) -> list[str]:
        """The null flavours of an element in the order of their places."""
        return [each.null for _, each in sorted(self.all(number).items()) if each.null is not None]

    def __contains__(self, number: object) -> bool:
        return number in self.found

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)


def read_values(tree: Any) -> Values:
    """The values of the one message of a batch.

    Args:
        tree: An lxml tree or its root element MCCI_IN200100UV01.

    Raises:
        TrialOpsError: If it is not a batch of exactly one message.
    """
    batch = read_batch(tree)
    if len(batch) != 1:
        raise TrialOpsError(
            f"a batch of {len(batch)} messages where one was expected", where="MCCI_IN200100UV01", fix="use read_batch"
        )
    return batch[0]


def read_batch(tree: Any) -> tuple[Values, ...]:
    """The values of every message of a batch, in their order.

    Raises:
        TrialOpsError: If the tree is no batch of E2B(R3) messages.
    """
    root = tree.getroot() if hasattr(tree, "getroot") else tree
    if root.tag != _BATCH:
        raise TrialOpsError(
            "the document is no batch of E2B(R3) messages",
            where=str(root.tag).rpartition("}")[2],
            fix="give a document whose root is MCCI_IN200100UV01 in the namespace urn:hl7-org:v3",
        )
    top, inside = _steps()
    header = _Reading()
    header.walk(top, root, ())
    messages = []
    for message in root.iterchildren(_MESSAGE):
        reading = _Reading()
        reading.walk(inside, message, ())
        messages.append(Values({**header.resolved(), **reading.resolved()}))
    return tuple(messages)


class _Step:
    """A step of one or more paths: the tests a child must pass, what is read there, and the steps below it."""

    __slots__ = ("children", "joins", "leaves", "position", "repeats", "tests")

    def __init__(self) -> None:
        self.tests: list[Callable[[Any], bool]] = []
        self.position = 0
        self.repeats = False
        self.joins: list[tuple[str, Callable[[Any], str | None]]] = []
        self.leaves: list[tuple[str, Callable[[Any], str | None], bool]] = []
        self.children: dict[str, dict[str, _Step]] = {}

    def passes(self, element: Any) -> bool:
        """Whether every test holds."""
        for test in self.tests:  # noqa: SIM110 (a loop is faster than all())
            if not test(element):
                return False
        return True


Steps = dict[str, dict[str, _Step]]


class _Reading:
    """One walk. Ids become numbers at its end, when every drug and reaction has been seen."""

    __slots__ = ("_joined", "found")

    def __init__(self) -> None:
        self.found: dict[str, dict[tuple[Any, ...], Value]] = {}
        self._joined: dict[tuple[int, tuple[Any, ...]], int] = {}

    def walk(self, steps: Steps, element: Any, repeat: tuple[Any, ...]) -> None:
        counts: dict[int, int] = {}
        for child in element.iterchildren():
            candidates = steps.get(child.tag)
            if candidates is None:
                continue
            for step in candidates.values():
                if step.tests and not step.passes(child):
                    continue
                place = repeat
                if step.joins:
                    place = (*repeat, *((letter, find(child)) for letter, find in step.joins))
                    if step.repeats:
                        number = self._joined[id(step), place] = self._joined.get((id(step), place), 0) + 1
                        place = (*place, number)
                elif step.position or step.repeats:
                    number = counts[id(step)] = counts.get(id(step), 0) + 1
                    if step.position not in (0, number):
                        continue
                    if step.repeats:
                        place = (*repeat, number)
                for name, read, is_null in step.leaves:
                    text = read(child)
                    if text is not None:
                        self._keep(name, place, text, is_null)
                if step.children:
                    self.walk(step.children, child, place)

    def _keep(self, number: str, place: tuple[Any, ...], text: str, is_null: bool) -> None:
        places = self.found.setdefault(number, {})
        known = places.get(place)
        if known is None:
            places[place] = Value(None, text) if is_null else Value(text)
        elif known.value is None and not is_null:
            places[place] = Value(text)

    def resolved(self) -> dict[str, dict[Repeat, Value]]:
        """What was found, with ids replaced by the numbers of drugs and reactions (0: an id that nothing has)."""
        numbers = {
            letter: {each.value: place[0] for place, each in self.found.get(ids, {}).items()}
            for letter, ids in (("k", "G#id"), ("i", "E#id"))
        }

        def place_of(place: tuple[Any, ...]) -> Repeat:
            return tuple(numbers[each[0]].get(each[1], 0) if isinstance(each, tuple) else each for each in place)

        return {
            number: {place_of(place): each for place, each in found.items()} for number, found in self.found.items()
        }


@cache
def _steps() -> tuple[Steps, Steps]:
    """The merged steps of every path: those of the batch, and those inside a message."""
    top: Steps = {}
    inside: Steps = {}
    for number, element in elements().items():
        for path in element.paths:
            _add(top, inside, number, path, is_null=False, tidy=element.data_type == "B64")
        for path in element.null_paths:
            _add(top, inside, number, path, is_null=True)
    for number, fix in corrections().items():
        if "#" in number:
            _add(top, inside, number, fix["path"], is_null=False)
    return top, inside


def _add(top: Steps, inside: Steps, number: str, path: str, *, is_null: bool, tidy: bool = False) -> None:
    _, root, *names = split(path)
    if root != "MCCI_IN200100UV01":
        raise TrialOpsError("a path does not start at the batch", where=f"element {number}", fix="correct its path")
    *names, leaf = names
    steps = top
    if names and names[0].startswith("PORR_IN049016UV"):
        steps, names = inside, names[1:]
    step = None
    for name in names:
        tag = HL7 + predicates(name)[0]
        known = steps.setdefault(tag, {})
        step = known.get(name) or known.setdefault(name, _step(name))
        steps = step.children
    if step is None:
        raise TrialOpsError("a path has no steps", where=f"element {number}", fix="correct its path")
    step.leaves.append((number, _leaf(names[-1], leaf, tidy), is_null))


def _step(text: str) -> _Step:
    step = _Step()
    for predicate in predicates(text)[1]:
        joined = re.fullmatch(r"([ki])=(.+)", predicate)
        if predicate.isdigit():
            step.position = int(predicate)
        elif predicate in {"r", "i", "k"}:
            step.repeats = True
        elif joined:
            step.joins.append((joined.group(1), _finder(joined.group(2))))
        else:
            step.tests.append(_test(predicate))
    return step


def _leaf(step: str, leaf: str, tidy: bool) -> Callable[[Any], str | None]:
    """Reads an attribute or the text of an element; the text of a document without the blanks around it."""
    if leaf == "text()":

        def text_of(element: Any) -> str | None:
            text = (element.text or "") + "".join(child.tail or "" for child in element)
            stripped = text.strip()
            return (stripped if tidy else text) if stripped else None

        return text_of
    name = _attribute(leaf)
    if step.startswith("telecom") and leaf == "@value":

        def address_of(element: Any) -> str | None:
            return element.get(name, "").partition(":")[2] or None

        return address_of

    def attribute_of(element: Any) -> str | None:
        return element.get(name) or None

    return attribute_of


def _attribute(name: str) -> str:
    name = name.removeprefix("@")
    return XSI + name.removeprefix("xsi:") if name.startswith("xsi:") else name


def _test(predicate: str) -> Callable[[Any], bool]:
    """A predicate as a function: an attribute's value, the start of a value, or a path that must lead somewhere."""
    starts = re.fullmatch(r"starts-with\((@[\w:]+),'([^']*)'\)", predicate)
    if starts:
        name, start = _attribute(starts.group(1)), starts.group(2)
        return lambda element: element.get(name, "").startswith(start)
    wanted = None
    equals = re.fullmatch(r"(.*?@[\w:]+)='([^']*)'", predicate)
    if equals and len(split(equals.group(1))[-1].split("@")) == 2 and "[" not in split(equals.group(1))[-1]:
        predicate, wanted = equals.groups()
    *steps, last = split(predicate)
    if not last.startswith("@"):
        steps.append(last)
        return _leads(steps, lambda element: True)
    name = _attribute(last)
    if wanted is None:
        return _leads(steps, lambda element: element.get(name) is not None)
    return _leads(steps, lambda element: element.get(name) == wanted)


def _leads(steps: list[str], end: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a path of child elements leads to one for which `end` holds."""
    for text in reversed(steps):
        name, inner = predicates(text)
        end = _child(HL7 + name, [_test(each) for each in inner], end)
    return end


def _child(tag: str, tests: list[Callable[[Any], bool]], end: Callable[[Any], bool]) -> Callable[[Any], bool]:
    # Loops rather than all() and any(): this runs some thousand times per message.
    def any_child(element: Any) -> bool:
        for child in element.iterchildren(tag):
            for test in tests:
                if not test(child):
                    break
            else:
                if end(child):
                    return True
        return False

    return any_child


def _finder(path: str) -> Callable[[Any], str | None]:
    *steps, attribute = split(path)
    name = _attribute(attribute)
    where = "/".join(HL7 + step for step in steps)

    def find(element: Any) -> str | None:
        found = element.find(where)
        return None if found is None else found.get(name)

    return find
