"""What the de-identification of free text finds and is told: spans, their kinds, a subject's own identifiers."""

from __future__ import annotations

import datetime
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

#: Kinds of span. Their names are the placeholders of strict mode.
KINDS = ("NAME", "LOCATION", "ORGANIZATION", "DATE", "AGE", "PHONE", "EMAIL", "URL", "ID")
#: Layers in the order in which they decide the kind of a span that several have found.
SOURCES = ("known", "pattern", "date", "context", "gazetteer", "model")
PLACEHOLDERS = tuple(f"[{kind}]" for kind in KINDS)


#: Kinds made of words, and what does not belong to their end.
_WORDS = frozenset({"NAME", "LOCATION", "ORGANIZATION"})
_TRAILING = " .,;:-\n"


@dataclass(frozen=True)
class Known:
    """A subject's own identifiers, as the structured record has them.

    Attributes:
        names: Names of the subject and of the people in the record: "Ann Lee", "Lee, Ann", or parts of them.
        addresses: Postal addresses, whole or in parts.
        phones: Telephone and fax numbers in any form.
        emails: E-mail addresses.
        identifiers: Medical record, subject, account and other numbers.
        dates: Days related to the subject.
    """

    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    dates: tuple[datetime.date, ...] = ()


@dataclass(frozen=True, order=True)
class Span:
    """One identifier in a text.

    Attributes:
        start: Position of its first character.
        end: Position after its last character.
        kind: One of `KINDS`.
        source: Layer that found it, one of `SOURCES`.
    """

    start: int
    end: int
    kind: str
    source: str


class Intervals:
    """Places in a text, sorted, so that many spans can be compared with many of them.

    Args:
        pairs: (start, end) of each; those that overlap become one.
    """

    def __init__(self, pairs: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(pairs):
            if self._ends and start < self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    def touching(self, start: int, end: int) -> list[tuple[int, int]]:
        """Those that share a character with a span, in order."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        return list(zip(self._starts[first:last], self._ends[first:last], strict=True))

    def hold(self, start: int, end: int) -> bool:
        """Whether a span lies inside one of them."""
        return any(a <= start and end <= b for a, b in self.touching(start, end))


def merge(text: str, spans: Iterable[Span]) -> list[Span]:
    """Turn overlapping and touching spans into disjoint ones, in order.

    A merged span covers all its parts; its kind is that of the first layer in `SOURCES` that took part, and among
    equals of the longest span. Names and places that only spaces, full stops or commas part become one.
    """
    rank = {source: i for i, source in enumerate(SOURCES)}
    result: list[Span] = []
    best: tuple[int, int] = (0, 0)
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        end = span.end
        while span.kind in _WORDS and end > span.start and text[end - 1] in _TRAILING:
            end -= 1
        if span.start >= end:
            continue
        key = (rank[span.source], span.start - end)
        if result and (span.start < result[-1].end or _joined(text, result[-1], span)):
            last = result[-1]
            kind, source = (span.kind, span.source) if key < best else (last.kind, last.source)
            best = min(best, key)
            result[-1] = Span(last.start, max(last.end, end), kind, source)
        else:
            result.append(Span(span.start, end, span.kind, span.source))
            best = key
    return result


def _joined(text: str, left: Span, right: Span) -> bool:
    if left.kind != right.kind or left.kind not in _WORDS:
        return False
    gap = text[left.end : right.start]
    if left.kind == "LOCATION":
        return len(gap) <= 2 and not gap.strip(" ,-'\n")
    # "J. Lee" is one name; a longer word before the full stop ends a sentence.
    initial = gap.startswith(".") and left.end - left.start > 1 and text[left.end - 2].isalnum()
    return len(gap) <= 2 and not initial and not gap.strip(" .-'\u2019")
