"""The texts of FHIR resources, treated in one batch: notes, phrases and coded terms."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from trialops.privacy.known import fold, squeeze
from trialops.privacy.patterns import DATE, PATTERNS
from trialops.privacy.spans import Known, Span

if TYPE_CHECKING:
    from trialops.privacy.fhir_people import People
    from trialops.privacy.fhir_policy import FhirPolicy
    from trialops.privacy.fhir_walk import Walker

_RUN = re.compile(r"[^\W_]+")
_LONG, _SHORT = 4, 2


class Scrubber(Protocol):
    """What is needed of `trialops.privacy.text.TextDeidentifier`."""

    def find(self, texts: Sequence[str], known: Sequence[Known | None] | None = None) -> list[list[Span]]:
        """Identifiers in each text."""
        ...

    def scrub(
        self,
        texts: Sequence[str],
        known: Sequence[Known | None] | None = None,
        offsets: Sequence[int] | None = None,
    ) -> list[str]:
        """The texts without identifiers."""
        ...


class Scrubbers:
    """The text de-identifier with its named-entity model for notes, and without it for names of concepts."""

    def __init__(self, mode: str) -> None:
        """Take the mode: "strict" or "limited"."""
        from trialops.privacy.text import TextDeidentifier

        chosen = "limited" if mode == "limited" else "strict"
        self.notes: Scrubber = TextDeidentifier(chosen)  # type: ignore[arg-type]
        self.phrases: Scrubber = TextDeidentifier(chosen, model=False)  # type: ignore[arg-type]


def treat(walker: Walker, people: People, policy: FhirPolicy, mode: str, scrubbers: Scrubbers) -> dict[str, int]:
    """Replace every waiting text by what is left of it, and forget the slots.

    A text without a find of its own is looked at once, however many subjects bear it; a subject's own identifiers are
    compared with each of the subject's texts.

    Args:
        walker: Holds the slots.
        people: The subjects' own identifiers.
        policy: Longest phrase.
        mode: "strict" or "limited".
        scrubbers: For notes and for phrases.

    Returns:
        Distinct texts looked at, and those changed: {"texts": n, "changed": n}.
    """
    owned = _Own(people)
    wanted: dict[tuple[str, str | None, str], str] = {}
    for slot in walker.slots:
        text = slot.holder[slot.place]
        how = "text" if slot.how == "phrase" and len(text) > policy.phrase else slot.how
        wanted[text, slot.subject, how] = text
    borne: dict[tuple[str, str], int] = {}
    for text, _, how in wanted:
        borne[text, how] = borne.get((text, how), 0) + 1
    plain = _plain_terms([t for t, how in borne if how == "term"])
    harmless = {(t, "term") for t in plain}
    for how, scrubber in (("phrase", scrubbers.phrases), ("text", scrubbers.notes)):
        # A note is one subject's alone: it goes the long way at once, and is not looked at twice.
        asked = sorted(t for (t, h), n in borne.items() if h == how and (n > 1 or how == "phrase"))
        found = scrubber.find(asked)
        harmless |= {(t, how) for t, spans in zip(asked, found, strict=True) if not spans}
    changed = 0
    for how, scrubber in (("phrase", scrubbers.phrases), ("text", scrubbers.notes), ("term", scrubbers.phrases)):
        rest = sorted(
            (k for k in wanted if k[2] == how and ((k[0], how) not in harmless or owned.in_text(k[1], k[0]))),
            key=lambda k: (k[0], k[1] or ""),
        )
        owners = [people.subjects.get(s) if s is not None else None for _, s, _ in rest]
        known = [owner.known if owner else None for owner in owners]
        offsets = [owner.offset if owner else 0 for owner in owners] if mode == "limited" else None
        for key, new in zip(rest, scrubber.scrub([k[0] for k in rest], known, offsets), strict=True):
            changed += new != key[0]
            wanted[key] = new
    for slot in walker.slots:
        text = slot.holder[slot.place]
        how = "text" if slot.how == "phrase" and len(text) > policy.phrase else slot.how
        slot.holder[slot.place] = wanted[text, slot.subject, how]
    for attachment in walker.attachments:
        attachment["data"] = base64.b64encode(attachment["data"].encode()).decode("ascii")
    walker.slots.clear()
    walker.attachments.clear()
    return {"texts": len(wanted), "changed": changed}


def _plain_terms(texts: Sequence[str]) -> list[str]:
    """Texts that look like no identifier."""
    import polars as pl

    series = pl.Series("text", list(texts), dtype=pl.String)
    bad = pl.any_horizontal([pl.col("text").str.contains(p) for p in (*PATTERNS.values(), DATE)])
    return series.to_frame().filter(~bad)["text"].to_list()


class _Own:
    """Whether a text has something in it that a subject's own identifiers have."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._words: dict[str, tuple[frozenset[str], tuple[str, ...]]] = {}
        self._texts: dict[str, tuple[frozenset[str], str]] = {}

    def in_text(self, subject: str | None, text: str) -> bool:
        """True where a word of an identifier is a word of the text, or a long one is anywhere in it."""
        if subject is None or subject not in self._people.subjects:
            return False
        if subject not in self._words:
            known = self._people.subjects[subject].known
            parts = (*known.names, *known.addresses, *known.phones, *known.emails, *known.identifiers)
            words = {w for p in parts for w in _RUN.findall(fold(p)) if len(w) >= _SHORT}
            words |= {w for p in known.names for w in re.findall(r"[^\W\d_]{2,}", fold(p))}
            whole = {s for p in parts if len(s := squeeze(p)) >= 2 * _LONG}
            # A short run of digits is inside many a number by chance.
            long = {w for w in words if len(w) >= _LONG and (w.isalpha() or len(w) >= 2 * _LONG)} | whole
            self._words[subject] = (frozenset(words), tuple(sorted(long)))
        if text not in self._texts:
            self._texts[text] = (frozenset(_RUN.findall(fold(text))), squeeze(text))
        (words_, long_), (own, squeezed) = self._words[subject], self._texts[text]
        return not own.isdisjoint(words_) or any(w in squeezed for w in long_)
