"""The language rules on a message are written in: conditions over element numbers.

    C.1.3 = 2 and not C.5.4 given
    every G.k (G.k.1 in (1, 2, 3)) and some G.k (G.k.1 in $suspect)

==========================  ==========================================================================================
``E given``                 element E has a value
``E null``, ``E null NA``   E has a null flavour, or that one
``E stated``                a value or a null flavour
``E = v``, ``E = F``        a value of E is v, or is a value of element F
``E in (v, w)``             a value of E is one of them; also ``in $set`` (of the rule file) and ``in @fact``
``E matches "regex"``       a whole value of E matches
``E#name = v``              what stands beside E in the message (compression, representation)
``section D.10 stated``     anything below D.10 is stated
``some G (c)``              c holds in one repeat of the group G; ``every``: in all there are; ``first``: in the first
``@name = v``, ``known``    a fact the caller knows and the message does not tell
``not``, ``and``, ``or``    with parentheses; ``and`` binds closer than ``or``
==========================  ==========================================================================================

An element is looked up in the repeat a rule stands in, as far as the two have groups in common; in an inner group,
any repeat will do. A group is named without the prefix FDA: ``G.k.12.r`` is the repeat of devices of a product.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from trialops.errors import TrialOpsError

Path = tuple[int, ...]
Condition = Callable[["Scope"], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*")
    |(?P<element>(?:FDA\.)?[A-HN]\d?(?:\.[0-9]*[a-z]?[0-9]*[a-z]?)+(?<!\.)(?:\#[a-z]+)?(?![A-Za-z0-9_]))
    |(?P<fact>@[a-z_]+)|(?P<set>\$[a-z_]+)|(?P<word>[A-Za-z0-9_]+)|(?P<sign>[=(),]))""",
    re.VERBOSE,
)
_REPEATED = frozenset("kir")


@dataclass(frozen=True)
class Found:
    """One element of a message as it was found.

    Attributes:
        number: Element number ("G.k.4.r.1a"), or what stands beside one ("C.1.6.1.r.2#compression").
        path: Which repeat of each group it stands in, from 1: (1, 3) is the third dosage of the first product.
        value: Its text; empty where it has none.
        null: Its null flavour; empty where it has none.
    """

    number: str
    path: Path
    value: str = ""
    null: str = ""


@cache
def groups_of(number: str) -> tuple[str, ...]:
    """The repeated groups an element stands in, outermost first: G.k.4.r.1a is in G.k and in G.k.4.r.

    The repeat of messages (N.2.r) is none of them: a report is looked at by itself.
    """
    parts = number.partition("#")[0].removeprefix("FDA.").split(".")
    if parts[0] == "N":
        return ()
    return tuple(".".join(parts[: i + 1]) for i, part in enumerate(parts) if part in _REPEATED)


@dataclass(frozen=True)
class Facts:
    """What a message does not tell about itself; what is None or empty is not known.

    Attributes:
        route: "premarket" or "postmarket"; empty takes what the message receiver (N.2.r.3) stands for.
        initial: Whether the case has not been reported before.
        registered: Application numbers FDA has on file.
        products: Product names registered for the application.
        device_codes: FDA's and IMDRF's device problem codes.
    """

    route: str = ""
    initial: bool | None = None
    registered: frozenset[str] | None = None
    products: frozenset[str] | None = None
    device_codes: frozenset[str] | None = None

    def known(self) -> frozenset[str]:
        """The names of the facts that are known."""
        return frozenset(name for name, value in vars(self).items() if value is not None and value != "")


@dataclass(frozen=True)
class Report:
    """The elements of one report with those of its batch."""

    found: tuple[Found, ...]
    facts: Facts = Facts()

    @cached_property
    def _by_number(self) -> dict[str, list[Found]]:
        table: dict[str, list[Found]] = {}
        for item in self.found:
            if item.value or item.null:
                table.setdefault(item.number, []).append(item)
        return table

    @cached_property
    def _repeats(self) -> dict[str, list[Path]]:
        table: dict[str, set[Path]] = {}
        for item in self.found:
            for depth, group in enumerate(groups_of(item.number), 1):
                table.setdefault(group, set()).add(item.path[:depth])
        return {group: sorted(paths) for group, paths in table.items()}

    def of(self, number: str) -> Sequence[Found]:
        """Everything found under a number."""
        return self._by_number.get(number, ())

    def repeats(self, group: str) -> Sequence[Path]:
        """The repeats of a group, in the order of the message."""
        return self._repeats.get(group, ())

    def section(self, prefix: str) -> bool:
        """Whether anything below a section is stated."""
        inside = prefix + "."
        return any(number.removeprefix("FDA.").startswith(inside) for number in self._by_number)

    @cached_property
    def route(self) -> str:
        """Premarket or postmarket: as stated, else by the message receiver; empty where neither tells."""
        receivers = {item.value for item in self.of("N.2.r.3")}
        if self.facts.route:
            return self.facts.route
        if receivers & {"CDER", "CBER"}:
            return "postmarket"
        return "premarket" if receivers & {"CDER_IND", "CBER_IND", "CDER_IND_EXEMPT_BA_BE"} else ""

    def fact(self, name: str) -> Any:
        """A fact by name; None where it is not known."""
        if name == "route":
            return self.route or None
        return getattr(self.facts, name)


@dataclass(frozen=True)
class Scope:
    """Where a condition is evaluated: a report, and in it a repeat of a group; blame collects where `every` failed."""

    report: Report
    groups: tuple[str, ...] = ()
    path: Path = ()
    blame: list[Path] = field(default_factory=list)

    def of(self, number: str) -> list[Found]:
        """What is found under a number within this scope."""
        found = self.report.of(number)
        if not self.path:
            return list(found)
        shared = 0
        for mine, its in zip(self.groups, groups_of(number), strict=False):
            if mine != its:
                break
            shared += 1
        return [item for item in found if item.path[:shared] == self.path[:shared]]

    def inner(self, group: str) -> list[Scope]:
        """The repeats of a group within this scope."""
        chain = groups_of(group)
        shared = sum(1 for a, b in zip(self.groups, chain, strict=False) if a == b)
        return [
            Scope(self.report, chain, path, self.blame)
            for path in self.report.repeats(group)
            if path[:shared] == self.path[:shared]
        ]


def compile_condition(text: str, sets: Mapping[str, Sequence[Any]]) -> Condition:
    """Turn a condition into a function.

    Args:
        text: The condition.
        sets: Named sets of values of the rule file.

    Raises:
        TrialOpsError: The text is no condition.
    """
    parser = _Parser(text, sets)
    condition = parser.either()
    parser.end()
    return condition


def elements_in(text: str) -> frozenset[str]:
    """The element numbers a condition mentions, without what stands beside them."""
    found = (match["element"] for match in _TOKEN.finditer(text) if match["element"])
    return frozenset(number.partition("#")[0] for number in found)


class _Parser:
    """Recursive descent, one method per level of binding."""

    def __init__(self, text: str, sets: Mapping[str, Sequence[Any]]) -> None:
        self.text, self.sets, self.at = text, sets, 0
        self.tokens: list[tuple[str, str]] = []
        place = 0
        stripped = text.rstrip()
        while place < len(stripped):
            match = _TOKEN.match(stripped, place)
            if match is None:
                raise self.wrong(f"{stripped[place : place + 12]!r} is not understood")
            self.tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
            place = match.end()

    def wrong(self, what: str) -> TrialOpsError:
        return TrialOpsError(f"A rule's condition cannot be read: {what}", where=self.text, fix="Correct rules.yaml.")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def take(self, kind: str = "", text: str = "") -> str:
        found = self.peek()
        if (kind and found[0] != kind) or (text and found[1] != text):
            raise self.wrong(f"{text or kind} expected, {found[1] or 'the end'} found")
        self.at += 1
        return found[1]

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.wrong(f"nothing expected after {self.peek()[1]}")

    def either(self) -> Condition:
        parts = [self.both()]
        while self.peek() == ("word", "or"):
            self.take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda scope: any(part(scope) for part in parts)

    def both(self) -> Condition:
        parts = [self.one()]
        while self.peek() == ("word", "and"):
            self.take()
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else lambda scope: all(part(scope) for part in parts)

    def one(self) -> Condition:
        kind, text = self.peek()
        if (kind, text) == ("word", "not"):
            self.take()
            inner = self.one()
            return lambda scope: not inner(scope)
        if text == "(":
            self.take()
            inner = self.either()
            self.take("sign", ")")
            return inner
        if kind == "word" and text in ("some", "every", "first"):
            return self.quantified(self.take())
        if (kind, text) == ("word", "section"):
            self.take()
            prefix = self.take("element")
            self.take("word", "stated")
            return lambda scope: scope.report.section(prefix)
        return self.fact() if kind == "fact" else self.element()

    def quantified(self, how: str) -> Condition:
        group = self.take("element")
        self.take("sign", "(")
        inner = self.either()
        self.take("sign", ")")
        if how == "some":
            return lambda scope: any(inner(each) for each in scope.inner(group))
        if how == "first":
            return lambda scope: all(inner(each) for each in scope.inner(group)[:1])

        def every(scope: Scope) -> bool:
            failed = [each.path for each in scope.inner(group) if not inner(each)]
            scope.blame.extend(failed)
            return not failed

        return every

    def fact(self) -> Condition:
        name = self.take("fact")[1:]
        if name not in Facts.__dataclass_fields__:
            raise self.wrong(f"@{name} is no fact")
        if self.take() == "known":
            return lambda scope: scope.report.fact(name) is not None
        value = self.value()

        def equal(scope: Scope) -> bool:
            known = scope.report.fact(name)
            return known is not None and (str(known).lower() if isinstance(known, bool) else known) == value

        return equal

    def element(self) -> Condition:
        number = self.take("element")
        verb = self.take()
        if verb == "given":
            return lambda scope: any(item.value for item in scope.of(number))
        if verb == "stated":
            return lambda scope: bool(scope.of(number))
        if verb == "null":
            return self.null(number)
        if verb == "matches":
            pattern = re.compile(self.take("text")[1:-1])
            return lambda scope: any(pattern.fullmatch(item.value) for item in scope.of(number))
        if verb == "in":
            return self.among(number)
        if verb != "=":
            raise self.wrong(f"{verb} after {number}")
        if self.peek()[0] == "element":
            other = self.take()
            return lambda scope: bool({i.value for i in scope.of(number)} & {i.value for i in scope.of(other)})
        value = self.value()
        return lambda scope: any(item.value == value for item in scope.of(number))

    def null(self, number: str) -> Condition:
        kind, flavour = self.peek()
        if kind == "word" and flavour.isupper():
            self.take()
            return lambda scope: any(item.null == flavour for item in scope.of(number))
        return lambda scope: any(item.null for item in scope.of(number))

    def among(self, number: str) -> Condition:
        kind, text = self.peek()
        if kind == "fact":
            name = self.take()[1:]
            return lambda scope: any(item.value in (scope.report.fact(name) or ()) for item in scope.of(number))
        if kind == "set":
            if self.take()[1:] not in self.sets:
                raise self.wrong(f"{text} is no set of the rule file")
            values = frozenset(str(value) for value in self.sets[text[1:]])
        else:
            self.take("sign", "(")
            listed = [self.value()]
            while self.peek()[1] == ",":
                self.take()
                listed.append(self.value())
            self.take("sign", ")")
            values = frozenset(listed)
        return lambda scope: any(item.value in values for item in scope.of(number))

    def value(self) -> str:
        kind, text = self.peek()
        if kind not in ("word", "text"):
            raise self.wrong(f"a value expected, {text or 'the end'} found")
        return self.take().strip('"')
