"""Identifiers in free text: found by several independent layers, replaced by placeholders or, for dates, shifted.

The layers, in the order in which they decide what a find is:

1. `known`: the subject's own identifiers, in every written form (`trialops.privacy.known`);
2. `pattern`: Presidio's recognisers of numbers and addresses with a form (`trialops.privacy.recognisers`);
3. `date`: dates (`trialops.privacy.text_dates`);
4. `context`: words that announce an identifier, such as "Dr." and "MRN:" (`trialops.privacy.context`);
5. `gazetteer`: names of countries, states and large cities (`trialops.privacy.gazetteer`);
6. `model`: a small named-entity model trained on synthesized notes (`trialops.privacy.text_model`).

A find of any layer is enough. What is left after one round is looked at again until nothing is found, so that scrubbing
a scrubbed text changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from trialops.errors import TrialOpsError
from trialops.privacy import text_dates
from trialops.privacy.clinical_terms import find_terms
from trialops.privacy.context import find_context
from trialops.privacy.gazetteer import find_places
from trialops.privacy.known import TITLES, find_known, fold
from trialops.privacy.recognisers import find_patterns
from trialops.privacy.spans import KINDS, Intervals, Known, Span, merge

__all__ = ["KINDS", "Known", "Span", "TextDeidentifier"]

#: Rounds after which a text counts as settled; two are the rule.
ROUNDS = 8
_PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(KINDS)})\]")
_EDGES = " \t\n\r.,;:-()[]{}\"'/"
_LETTERS = re.compile(r"[^\W\d_]{2}")


class TextDeidentifier:
    """Finds and replaces identifiers in free text.

    Args:
        mode: "strict" (Safe Harbor) puts a placeholder for every date; "limited" shifts dates by the subject's offset.
        day_first: How to read 03/04/2013 where neither the record nor the text says.
        model: Use the named-entity model; without it names are found by the other layers only.

    Raises:
        TrialOpsError: The mode is unknown.
    """

    def __init__(
        self, mode: Literal["strict", "limited"] = "strict", *, day_first: bool = False, model: bool = True
    ) -> None:
        if mode not in ("strict", "limited"):
            raise TrialOpsError(
                "The mode of text de-identification is unknown.", where="TextDeidentifier", fix="strict or limited."
            )
        self.mode = mode
        self.day_first = day_first
        self.model = model

    def find(self, texts: Sequence[str], known: Sequence[Known | None] | None = None) -> list[list[Span]]:
        """Where each text has identifiers.

        Args:
            texts: The texts.
            known: Per text the subject's own identifiers, or None.

        Returns:
            Per text the spans: disjoint, in order, positions in characters.

        Raises:
            TrialOpsError: There are not as many `known` as texts.
        """
        return [spans for spans, _ in self._find(texts, known)]

    def scrub(
        self,
        texts: Sequence[str],
        known: Sequence[Known | None] | None = None,
        offsets: Sequence[int] | None = None,
    ) -> list[str]:
        """The texts without identifiers.

        Args:
            texts: The texts.
            known: Per text the subject's own identifiers, or None.
            offsets: Limited mode: per text the subject's offset in days.

        Returns:
            The texts with "[NAME]" and so on; in limited mode dates are shifted in the form in which they stand, and
            those that no exact shift exists for become "[DATE]".

        Raises:
            TrialOpsError: Lengths differ, or the offsets do not fit the mode.
        """
        if (offsets is not None) != (self.mode == "limited"):
            raise TrialOpsError(
                "Dates in texts are shifted in limited mode and only there.",
                where="TextDeidentifier.scrub",
                fix="Give one offset per text in limited mode, and none in strict mode.",
            )
        if offsets is not None and len(offsets) != len(texts):
            raise _lengths("offsets")
        result = []
        for i, (spans, dates) in enumerate(self._find(texts, known)):
            result.append(
                self._replace(texts[i], spans, dates, known[i] if known else None, offsets[i] if offsets else 0)
            )
        return result

    def _find(
        self, texts: Sequence[str], known: Sequence[Known | None] | None
    ) -> list[tuple[list[Span], list[text_dates.TextDate]]]:
        if known is not None and len(known) != len(texts):
            raise _lengths("known")
        done: list[tuple[list[Span], list[text_dates.TextDate]]] = [([], []) for _ in texts]
        open_ = [i for i, text in enumerate(texts) if text]
        for round_ in range(ROUNDS):
            masked = [_masked(texts[i], done[i][0]) for i in open_]
            found = self._round([m[0] for m in masked], [known[i] if known else None for i in open_])
            changed = []
            for i, (text, origin), (spans, dates) in zip(open_, masked, found, strict=True):
                fresh = _outside(text, spans)
                if not fresh:
                    continue
                moved = [Span(origin[s.start], origin[s.end - 1] + 1, s.kind, s.source) for s in fresh]
                done[i] = (merge(texts[i], [*done[i][0], *moved]), dates if round_ == 0 else done[i][1])
                changed.append(i)
            open_ = changed
            if not open_:
                break
        return done

    def _round(
        self, texts: Sequence[str], known: Sequence[Known | None]
    ) -> list[tuple[list[Span], list[text_dates.TextDate]]]:
        result = []
        for text, own in zip(texts, known, strict=True):
            dates = text_dates.find_dates(text)
            spans = [Span(d.start, d.end, "DATE", "date") for d in dates]
            context = _beside(find_context(text), dates)
            numbers = [(s.start, s.end) for s in context if s.kind in ("PHONE", "ID")]
            spans += find_patterns(text, [*((d.start, d.end) for d in dates), *numbers])
            spans += context
            spans += _unnamed(find_places(text), text)
            if own is not None:
                spans += find_known(text, own)
            result.append((spans, dates))
        if self.model:
            from trialops.privacy.text_model import find_model

            asked = [i for i, text in enumerate(texts) if _LETTERS.search(text)]
            for i, spans in zip(asked, find_model([texts[i] for i in asked]), strict=True):
                result[i][0].extend(_beside(_unnamed(spans, texts[i]), result[i][1]))
        return result

    def _replace(
        self, text: str, spans: list[Span], dates: list[text_dates.TextDate], own: Known | None, offset: int
    ) -> str:
        at = {(d.start, d.end): d for d in dates}
        first = self.mode == "limited" and text_dates.day_first(text, dates, own.dates if own else (), self.day_first)
        out, last = [], 0
        for span in spans:
            new = None
            if self.mode == "limited" and span.kind == "DATE":
                found = at.get((span.start, span.end))
                new = found and text_dates.shift_date(text, found, offset, day_before_month=first)
            out += [text[last : span.start], new or f"[{span.kind}]"]
            last = span.end
        return "".join([*out, text[last:]])


def _beside(spans: list[Span], dates: list[text_dates.TextDate]) -> list[Span]:
    """Spans without the dates they touch: a date keeps its own bounds, or it could not be shifted."""
    result = []
    places = Intervals((d.start, d.end) for d in dates)
    for span in spans:
        touching = places.touching(span.start, span.end)
        if not touching:
            result.append(span)
        elif span.kind != "DATE":
            edges = [span.start, *(p for place in touching for p in place), span.end]
            result += [
                Span(a, b, span.kind, span.source) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b
            ]
    return result


def _unnamed(spans: list[Span], text: str) -> list[Span]:
    """Spans that are not part of a term of medicine, as Foley is in "Foley catheter"."""
    if not spans:
        return spans
    terms = Intervals(find_terms(text))
    return [
        s for s in spans if not terms.hold(s.start, s.end) and fold(text[s.start : s.end]).strip(" .") not in TITLES
    ]


def _lengths(what: str) -> TrialOpsError:
    return TrialOpsError(
        f"There are not as many {what} as texts.",
        where="TextDeidentifier",
        fix="Give one per text, None where unknown.",
    )


def _masked(text: str, spans: list[Span]) -> tuple[str, Sequence[int]]:
    """The text with placeholders, and for each of its characters the position it came from."""
    if not spans:
        return text, range(len(text))
    out: list[str] = []
    origin: list[int] = []
    last = 0
    for span in spans:
        placeholder = f"[{span.kind}]"
        out += [text[last : span.start], placeholder]
        origin += [*range(last, span.start), *([span.start] * (len(placeholder) - 1)), span.end - 1]
        last = span.end
    return "".join([*out, text[last:]]), [*origin, *range(last, len(text))]


def _outside(text: str, spans: list[Span]) -> list[Span]:
    """Spans without the placeholders of this and earlier runs; a span around one falls in two."""
    holes = Intervals(m.span() for m in _PLACEHOLDER.finditer(text))
    result = []
    for span in spans:
        start = span.start
        inside = holes.touching(span.start, span.end)
        if not inside:
            result += [span] if any(c.isalnum() for c in text[start : span.end]) else []
            continue
        for a, b in [*inside, (span.end, span.end)]:
            piece = text[start:a]
            body = piece.strip(_EDGES)
            if any(c.isalnum() for c in body):
                begin = start + piece.index(body)
                result.append(Span(begin, begin + len(body), span.kind, span.source))
            start = max(start, b)
    return result
