"""Presidio's pattern recognisers, called one by one: no language model, no download, no network.

Presidio's engine adds context words to weak patterns through a language model. Here a weak pattern counts when one of
the recogniser's own context words stands in the sixty characters before it. A recogniser is asked only about texts that
have what all its patterns need (an "@" for an e-mail address): it finds the same and costs less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from trialops.privacy.spans import Intervals, Span

if TYPE_CHECKING:
    from tldextract import TLDExtract

#: Score from which a pattern counts without a context word.
SURE = 0.4
BEFORE = 60
#: Kinds whose patterns have no space in them.
_BARE = frozenset({"EMAIL", "URL"})
_CHUNK = re.compile(r"\S+")
#: Regions whose way of writing telephone numbers is tried when there is no country code.
REGIONS = ("US", "GB", "DE", "FR", "ES", "IN", "AU")


@dataclass(frozen=True)
class Recogniser:
    """One Presidio recogniser.

    Attributes:
        entity: Presidio's name of what it finds.
        kind: Our kind.
        analyze: Its `analyze(text, entities)`.
        needs: What a text must have to be worth asking about.
        bare: Its patterns have no space in them: it is asked only about the words that have what it needs.
        context: Words that make a weak find count.
    """

    entity: str
    kind: str
    analyze: Callable[[str, list[str]], list[Any]]
    needs: re.Pattern[str]
    context: re.Pattern[str] | None
    bare: bool


@cache
def public_suffixes() -> TLDExtract:
    """The public suffix list that came with the package; it is never fetched and nothing is written."""
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=(), cache_dir=None)


@cache
def recognisers() -> tuple[Recogniser, ...]:
    """The recognisers in use, made once."""
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        CryptoRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        IpRecognizer,
        MedicalLicenseRecognizer,
        UrlRecognizer,
        UsBankRecognizer,
        UsItinRecognizer,
        UsLicenseRecognizer,
        UsPassportRecognizer,
        UsSsnRecognizer,
    )

    class Mail(EmailRecognizer):
        """An address of any domain: of a clinic's internal network too, which no public suffix ends."""

        def validate_result(self, pattern_text: str) -> None:
            return None

    class Url(UrlRecognizer):
        """Web addresses; a bare domain must end in a public suffix and not be two sentences without a space."""

        def validate_result(self, pattern_text: str) -> bool:
            if "://" in pattern_text or pattern_text.lower().startswith("www."):
                return True
            host = pattern_text.partition("/")[0]
            last = host.rpartition(".")[2]
            named = any(c.isalpha() for c in public_suffixes()(host).domain)
            return host == host.lower() and len(last) > 1 and named

    digits = r"\d(?:\W{0,2}\d){%d}"
    chosen = (
        (Mail(), "EMAIL", "@"),
        (Url(), "URL", r"\w\.\w{2}|://"),
        (IpRecognizer(), "ID", r"\d\.\d{1,3}\.\d|:[\da-fA-F]{0,4}:"),
        (CreditCardRecognizer(), "ID", digits % 11),
        (IbanRecognizer(), "ID", r"[A-Za-z]{2}\d{2}"),
        (CryptoRecognizer(), "ID", r"\w{25}"),
        (UsSsnRecognizer(), "ID", digits % 8),
        (UsItinRecognizer(), "ID", digits % 8),
        (UsBankRecognizer(), "ID", r"\d{8}"),
        (UsPassportRecognizer(), "ID", r"\d{8}"),
        (UsLicenseRecognizer(), "ID", r"\d"),
        (MedicalLicenseRecognizer(), "ID", r"[A-Za-z][A-Za-z9]\d{6}"),
    )
    return tuple(
        Recogniser(r.supported_entities[0], kind, r.analyze, re.compile(needs), _words(r.context), kind in _BARE)
        for r, kind, needs in chosen
    )


def _words(context: list[str] | None) -> re.Pattern[str] | None:
    words = [w for w in context or () if w != "save"]
    return re.compile(rf"(?i)\b(?:{'|'.join(map(re.escape, words))})") if words else None


_PHONE_NEEDS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
_NUMBER_LIKE = re.compile(r"(?:\+|\(|\b)\d[\d ().\u00a0/\u2013-]{5,}\d(?:[ ]?(?:x|ext\.?|extension)[ ]?\d{1,6})?", re.I)


def find_patterns(text: str, taken: list[tuple[int, int]] | None = None) -> list[Span]:
    """What Presidio's recognisers find in a text.

    Args:
        text: Any text.
        taken: Places that are known to be something else; telephone numbers are not looked for there.

    Returns:
        Spans with source "pattern"; they can overlap.
    """
    spans = []
    for recogniser in recognisers():
        if not recogniser.needs.search(text):
            continue
        for found in _asked(recogniser, text):
            if found.score >= SURE or _announced(recogniser.context, text, found.start):
                spans.append(Span(found.start, found.end, recogniser.kind, "pattern"))
    return spans + _phones(text, taken or [])


def _asked(recogniser: Recogniser, text: str) -> list[Any]:
    if not recogniser.bare:
        return recogniser.analyze(text, [recogniser.entity])
    results = []
    for chunk in _CHUNK.finditer(text):
        if recogniser.needs.search(chunk[0]):
            for found in recogniser.analyze(chunk[0], [recogniser.entity]):
                found.start, found.end = found.start + chunk.start(), found.end + chunk.start()
                results.append(found)
    return results


def _announced(context: re.Pattern[str] | None, text: str, start: int) -> bool:
    return context is not None and context.search(text, max(0, start - BEFORE), start) is not None


def _phones(text: str, taken: list[tuple[int, int]]) -> list[Span]:
    """Telephone numbers that are possible in one of the regions, asked only about runs of digits."""
    if not _PHONE_NEEDS.search(text):
        return []
    import phonenumbers

    spans = []
    places = Intervals(taken)
    for run in _NUMBER_LIKE.finditer(text):
        start, end = run.span()
        if places.touching(start, end):
            continue
        # The character before a run belongs to the question: "v1234567" is no telephone number.
        piece = text[max(0, start - 1) : end]
        for region in REGIONS:
            matches = list(phonenumbers.PhoneNumberMatcher(piece, region, leniency=phonenumbers.Leniency.VALID))
            if matches:
                base = max(0, start - 1)
                spans += [Span(base + m.start, base + m.end, "PHONE", "pattern") for m in matches]
                break
    return spans
