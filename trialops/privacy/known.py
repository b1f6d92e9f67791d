"""A subject's own identifiers in a text, in whatever way they are written there.

The text is folded (case, accents, full-width signs) and squeezed to its letters and digits; a needle is squeezed in the
same way and looked for with `str.find`. So one needle meets every separator: "555-0142", "(555) 0142", "5 5 5 0 1 4 2".
What was found counts when its ends are ends of words in the text and the words in between are those of the needle, or
single letters (a scan that spaced them out), or the needle is long enough not to come about by chance.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product

from trialops.privacy.name_forms import COMMON_WORDS, NICKNAMES, STREET_FORMS
from trialops.privacy.spans import Known, Span

_RUN = re.compile(r"[^\W_]+")
_WORD = re.compile(r"[^\W\d_]+")
_PART = re.compile(r"\d+|[^\W\d_]+")
#: Squeezed needles of this length are taken across words; shorter ones could come about by chance.
LONG = 8
#: Shortest part of a name, number and address that is looked for alone.
NAME_PART, NUMBER_PART, PLACE_PART = 2, 4, 4
#: Most written forms of one part of an address.
FORMS = 48
#: Words beside a name that are no part of it.
TITLES = frozenset(
    [
        "dr",
        "mr",
        "mrs",
        "ms",
        "miss",
        "prof",
        "sir",
        "dame",
        "md",
        "phd",
        "jr",
        "sr",
        "ii",
        "iii",
        "iv",
        "rn",
        "do",
        "np",
        "pa",
        "the",
        "and",
        "of",
        "mx",
        "von",
        "van",
        "de",
        "la",
        "der",
        "del",
    ]
)
_INITIALS_BEFORE = re.compile(r"(?:\b[^\W\d_]\.?[ \u00a0-]{0,2}){1,3}$")
_PARTICLES_BEFORE = re.compile(
    r"(?:(?<!\w)(?:van|von|vom|zu|de|del|della|di|da|das|dos|du|den|der|des|ter|ten|la|las|los|le|el|al|bin|ibn|st)\b\.?\s+){1,3}$",
    re.IGNORECASE,
)
_INITIALS_AFTER = re.compile(r"(?:,? {0,2}[A-Z]\b\.?){1,3}")


class _Fold(dict[int, str]):
    """Each character in lower case, without accent, in its plain form; always exactly one character."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        plain = unicodedata.normalize("NFKD", char)
        base = next((c for c in plain if not unicodedata.combining(c)), char).lower()
        self[code] = base if len(base) == 1 else char
        return self[code]


_FOLD = _Fold({ord("ø"): "o", ord("Ø"): "o", ord("ł"): "l", ord("Ł"): "l", ord("ß"): "s", ord("đ"): "d", ord("Đ"): "d"})


def fold(text: str) -> str:
    """The text in lower case without accents, character by character: positions stay what they are."""
    return text.lower() if text.isascii() else text.translate(_FOLD)


def squeeze(text: str) -> str:
    """Letters and digits of the folded text."""
    return "".join(_RUN.findall(fold(text)))


@dataclass(frozen=True)
class Needle:
    """A squeezed identifier.

    Attributes:
        text: Letters and digits.
        cuts: Positions inside `text` where the identifier itself has a separator.
        kind: Kind of span.
        exact: The word is common; in the text it must start with a capital.
        far: It may also run over words that are not its own.
    """

    text: str
    cuts: frozenset[int]
    kind: str
    exact: bool = False
    far: bool = True


def _needle(text: str, kind: str, *, exact: bool = False, far: bool = True) -> Needle | None:
    parts = _PART.findall(fold(text))
    whole = "".join(parts)
    if not whole:
        return None
    cuts, at = set(), 0
    for part in parts:
        cuts.add(at)
        at += len(part)
    return Needle(whole, frozenset(cuts - {0}), kind, exact, far)


def _names(names: Iterable[str]) -> Iterable[Needle | None]:
    for name in names:
        words = [w for w in _WORD.findall(name.replace("'", "").replace("\u2019", "")) if fold(w) not in TITLES]
        proper = [w for w in words if len(w) > 1]
        if len(proper) > 1:
            yield _needle(name, "NAME")
            yield _needle(" ".join(words), "NAME")
            yield _needle(" ".join([proper[-1], *proper[:-1]]), "NAME")
            yield _needle(" ".join([*proper[1:], proper[0]]), "NAME")
            yield _needle(f"{proper[0]} {proper[-1]}", "NAME")
            yield _needle(f"{proper[0][0]} {proper[-1]}", "NAME")
            yield _needle("".join(w[0] for w in proper[:-1]) + proper[-1], "NAME")
            yield _needle(proper[-1] + "".join(w[0] for w in proper[:-1]), "NAME")
            yield _needle(proper[0] + proper[-1][0], "NAME", exact=True)
        for joined in name.split():
            if "-" in joined:
                yield _needle(joined, "NAME")
        # O'Neil is one word and two, Smith-Jones is two.
        for word in {*proper, *re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)+", name)}:
            plain = fold(word)
            if len(plain) < NAME_PART or plain in TITLES:
                continue
            yield _needle(word, "NAME", exact=plain in COMMON_WORDS or len(plain) < 4)
            for other in NICKNAMES.get(plain, ()):
                yield _needle(other, "NAME", exact=other in COMMON_WORDS or len(other) < 5)


def _addresses(addresses: Iterable[str]) -> Iterable[Needle | None]:
    for address in addresses:
        yield _needle(address, "LOCATION")
        for piece in re.split(r"[,;\n]", address):
            words = _PART.findall(piece)
            if sum(map(len, words)) < PLACE_PART:
                continue
            numbers = [w for w in words if w.isdigit()]
            letters = [w for w in words if not w.isdigit()]
            yield _needle(piece, "LOCATION", exact=not numbers and fold(piece.strip()) in COMMON_WORDS)
            for number in re.findall(r"\d[\d -]*\d", piece):
                if sum(c.isdigit() for c in number) >= PLACE_PART + 1:
                    yield _needle(number, "LOCATION", far=False)
                    yield _needle(re.findall(r"\d+", number)[0], "LOCATION", far=False) if "-" in number else None
            if sum(map(len, letters)) >= PLACE_PART and numbers:
                yield _needle(" ".join(letters), "LOCATION", exact=fold(" ".join(letters)) in COMMON_WORDS)
            # "12 North Main Street" is also "12 N Main St", "Main St", and "Main" with or without its number.
            choices = [(w, *STREET_FORMS.get(fold(w), ())) for w in words]
            for form in islice(product(*choices), 1, FORMS):
                yield _needle(" ".join(form), "LOCATION")
                if sum(map(len, letters)) >= PLACE_PART and numbers:
                    yield _needle(" ".join(w for w in form if not w.isdigit()), "LOCATION")
            for i, word in enumerate(words):
                if fold(word) in STREET_FORMS and i >= 1 and len("".join(words[:i])) >= PLACE_PART:
                    yield _needle(" ".join(words[:i]), "LOCATION", exact=fold(" ".join(words[:i])) in COMMON_WORDS)
                    bare = [w for w in words[:i] if not w.isdigit()]
                    if len("".join(bare)) >= PLACE_PART + 1:
                        yield _needle(" ".join(bare), "LOCATION", exact=True)


def _numbers(phones: Iterable[str], identifiers: Iterable[str]) -> Iterable[Needle | None]:
    for phone in phones:
        digits = "".join(c for c in fold(phone) if c.isdigit())
        if phone.strip().startswith("+") or len(digits) > 10:
            for length in (10, 9, 8):
                if len(digits) > length:
                    yield _needle(digits[-length:], "PHONE")
                    yield _needle("0" + digits[-length:], "PHONE")
        if digits.startswith("0"):
            yield _needle(digits.lstrip("0"), "PHONE") if len(digits.lstrip("0")) >= 7 else None
        if len(digits) == 10:
            yield _needle("1" + digits, "PHONE")
        for cut in (len(digits), 7):
            if len(digits) >= cut >= 6:
                yield _needle(digits[-cut:], "PHONE")
    for identifier in identifiers:
        whole = squeeze(identifier)
        if len(whole) >= NUMBER_PART or (len(whole) == 3 and not whole.isdigit()):
            yield _needle(identifier, "ID", exact=False, far=len(whole) >= LONG)
        for run in _RUN.findall(fold(identifier)):
            digits = run.lstrip("0")
            if run != whole and sum(c.isdigit() for c in run) >= NUMBER_PART + 1:
                yield _needle(run, "ID", far=False)
            if run.isdigit() and digits != run and len(digits) >= NUMBER_PART + 1:
                yield _needle(digits, "ID", far=False)


def _days(dates: Iterable[datetime.date]) -> Iterable[Needle | None]:
    for day in dates:
        y, m, d = f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}"
        # What is written with separators or with a month's name is found by its form; these are not.
        for form in (y + m + d, d + m + y, m + d + y, d + m + y[2:], m + d + y[2:], y[2:] + m + d):
            yield _needle(form, "DATE", far=len(form) == LONG)
        for form in (
            f"{d} {m} {y}",
            f"{m} {d} {y}",
            f"{y} {m} {d}",
            f"{day.day} {day.month} {y}",
            f"{day.month} {day.day} {y}",
        ):
            yield _needle(form, "DATE", far=False)


@lru_cache(maxsize=4096)
def needles(known: Known) -> tuple[Needle, ...]:
    """All forms in which a subject's identifiers are looked for, longest first."""
    found: dict[str, Needle] = {}
    mails = [n for mail in known.emails for n in (_needle(mail, "EMAIL"), _mailbox(mail))]
    for needle in (
        *_names(known.names),
        *_addresses(known.addresses),
        *mails,
        *_numbers(known.phones, known.identifiers),
        *_days(known.dates),
    ):
        if needle is not None and len(needle.text) > 1:
            old = found.get(needle.text, needle)
            found[needle.text] = Needle(
                needle.text, old.cuts | needle.cuts, old.kind, old.exact and needle.exact, old.far or needle.far
            )
    return tuple(sorted(found.values(), key=lambda n: (-len(n.text), n.text)))


def _mailbox(mail: str) -> Needle | None:
    box = mail.partition("@")[0]
    return _needle(box, "EMAIL", far=False) if len(squeeze(box)) > NUMBER_PART else None


def find_known(text: str, known: Known) -> list[Span]:
    """Where a text holds one of the subject's identifiers.

    Args:
        text: Any text.
        known: The identifiers.

    Returns:
        Spans with source "known"; they can overlap.
    """
    runs = [(m.start(), m.end()) for m in _RUN.finditer(text)]
    if not runs:
        return []
    folded = fold(text)
    starts, at = [], 0
    for start, end in runs:
        starts.append(at)
        at += end - start
    squeezed = "".join([folded[a:b] for a, b in runs])
    spans = []
    for needle in needles(known):
        at = squeezed.find(needle.text)
        while at >= 0:
            span = _placed(text, needle, at, runs, starts)
            if span is not None:
                spans.append(span)
            at = squeezed.find(needle.text, at + 1)
    return spans


def _placed(text: str, needle: Needle, at: int, runs: list[tuple[int, int]], starts: list[int]) -> Span | None:
    """The span of a squeezed match, or None when it is there by chance."""
    stop = at + len(needle.text)
    i, j = bisect_right(starts, at) - 1, bisect_right(starts, stop - 1) - 1
    start = runs[i][0] + at - starts[i]
    end = runs[j][0] + stop - starts[j]
    if not (_edge(text, start - 1, start, needle) and _edge(text, end - 1, end, needle)):
        return None
    if i != j:
        inner = starts[i + 1 : j + 1]
        apart = all(s - at in needle.cuts for s in inner)
        spaced = all(b - a == 1 for a, b in runs[i : j + 1])
        gaps = all(runs[k + 1][0] - runs[k][1] <= 4 for k in range(i, j))
        if not (apart or spaced or (needle.far and len(needle.text) >= (LONG - needle.text.isdigit()))) or not gaps:
            return None
    if needle.exact and not text[start].isupper():
        return None
    if needle.kind == "NAME" and text[end : end + 1] in ("s", "S") and not text[end + 1 : end + 2].isalnum():
        end += 1
    return _widened(text, start, end) if needle.kind == "NAME" else Span(start, end, needle.kind, "known")


def _edge(text: str, before: int, after: int, needle: Needle) -> bool:
    """Whether a word ends between two neighbouring positions; a plural or possessive "s" belongs to the word."""
    if before < 0 or after >= len(text):
        return True
    left, right = text[before], text[after]
    if not (left.isalnum() and right.isalnum()):
        return True
    if left.isdigit() != right.isdigit():
        return True
    if left.islower() and right.isupper():
        return True
    if needle.kind == "NAME" and len(needle.text) >= 4 and right in "sS":
        return after + 1 >= len(text) or not text[after + 1].isalnum()
    return False


def _widened(text: str, start: int, end: int) -> Span:
    """A name with the particles before it and the initials beside it: "J. R. van der Lee", "Lee, J."."""
    particles = _PARTICLES_BEFORE.search(text, max(0, start - 16), start)
    if particles:
        start = particles.start()
    before = _INITIALS_BEFORE.search(text, max(0, start - 12), start)
    if before and before[0].strip() and before[0].lstrip()[0].isupper() and before[0].strip() not in ("A", "I"):
        start = before.start() + len(before[0]) - len(before[0].lstrip())
    after = _INITIALS_AFTER.match(text, end)
    if after and after[0].strip(" ,.") not in ("A", "I"):
        end = after.end()
    return Span(start, end, "NAME", "known")
