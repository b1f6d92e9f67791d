"""Matching of short texts against many terms: exact, normalised, then fuzzy with ranked candidates.

Fuzzy score: the inverse-document-frequency weighted share of tokens in common, where a token counts as common to
the degree its spelling agrees (trigrams in common, or few typing errors), so that errors and inflections cost little
and rare words decide. Terms are reached through an index of tokens, of their trigrams, of tokens less one character
and of their letters; no query scans all terms.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[a-z0-9]+(?:[.,][0-9]+)*")
_STOP = frozenset(("a", "an", "and", "at", "by", "due", "for", "in", "nos", "of", "on", "or", "the", "to"))
# Words that hardly tell terms apart; light enough that a bare "tinnitus" finds the unspecified one first.
_LIGHT = {"unspecified": 0.2, "other": 0.4, "specified": 0.4, "type": 0.6, "not": 0.6, "elsewhere": 0.2}
_KEPT = 40
_REACHED = 120
"""Terms scored in full for one query."""
_POSTINGS = 4_000
"""A token that more terms hold than this cannot lead to a candidate alone."""


@dataclass(frozen=True)
class Match:
    """A term found: its position in the list given, and how well it fits (1 for the same normalised text)."""

    index: int
    score: float
    how: str


def normalised(text: str) -> str:
    """A text without accents, case, punctuation and repeated blanks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(_WORD.findall(text.lower()))


@lru_cache(maxsize=200_000)
def _spelled(token: str) -> str:
    """British and American spelling made one: oesophagus, haemorrhage, tumour."""
    return token if len(token) < 6 else token.replace("ae", "e").replace("oe", "e").replace("our", "or")


def _bag(tokens: Iterable[str]) -> tuple[str, ...]:
    """Words in any order; what is not said is unspecified, so that word adds nothing."""
    return tuple(sorted(token for token in tokens if token != "unspecified"))


@lru_cache(maxsize=200_000)
def _trigrams(token: str) -> frozenset[str]:
    padded = f"^{token}$"
    return frozenset(padded[i : i + 3] for i in range(max(1, len(padded) - 2)))


@lru_cache(maxsize=500_000)
def likeness(first: str, second: str) -> float:
    """How alike two tokens are spelled, between 0 and 1; numbers are alike only when equal.

    The better of the Dice coefficient of their character trigrams and, for at most two typing errors in five
    characters or more, the share of characters left alone.
    """
    if first == second:
        return 1.0
    if first[0].isdigit() or second[0].isdigit():
        return 0.0
    one, other = _trigrams(first), _trigrams(second)
    dice = 2 * len(one & other) / (len(one) + len(other))
    longest = max(len(first), len(second))
    if min(len(first), len(second)) < 5 or longest - min(len(first), len(second)) > 2:
        return dice
    errors = typing_errors(first, second)
    return max(dice, 1 - errors / longest) if errors <= 2 else dice


def typing_errors(first: str, second: str) -> int:
    """Characters inserted, left out, replaced or swapped with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        older, before, row = before, row, [i] + [0] * len(second)
        for j, b in enumerate(second, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and first[i - 2] == b:
                row[j] = min(row[j], older[j - 2] + 1)
    return row[-1]


def _near_keys(token: str) -> set[str]:
    """What tokens with a typing error have in common: the token less one character, and its letters."""
    if len(token) < 5:
        return set()
    return {token[:i] + token[i + 1 :] for i in range(len(token))} | {token, "=" + "".join(sorted(token))}


class TermIndex:
    """An index over terms.

    Args:
        terms: Texts; the position is the term's number.
        synonyms: Normalised token or phrase -> normalised text it stands for, applied to terms and queries.
    """

    def __init__(self, terms: Sequence[str], synonyms: Mapping[str, str] | None = None) -> None:
        self._synonyms = dict(synonyms or {})
        self._longest = max((len(key.split()) for key in self._synonyms), default=0)
        plain = [normalised(term) for term in terms]
        self._tokens = [self._told(text) for text in plain]
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._bags: dict[tuple[str, ...], list[int]] = defaultdict(list)
        self._postings: dict[str, list[int]] = defaultdict(list)
        for index, (text, tokens) in enumerate(zip(plain, self._tokens, strict=True)):
            self._exact[text].append(index)
            self._bags[_bag(tokens)].append(index)
            for token in set(tokens):
                self._postings[token].append(index)
        total = max(1, len(terms))
        self._weight = {
            token: math.log(1 + total / len(places)) * _LIGHT.get(token, 1.0)
            for token, places in self._postings.items()
        }
        self._unknown = math.log(1 + total)
        self._by_trigram: dict[str, list[str]] = defaultdict(list)
        self._near: dict[str, list[str]] = defaultdict(list)
        for token in sorted(self._postings):
            for gram in _trigrams(token):
                self._by_trigram[gram].append(token)
            for key in _near_keys(token):
                self._near[key].append(token)

    def tokens(self, text: str) -> tuple[str, ...]:
        """Tokens of a text that tell something, synonyms replaced."""
        return self._told(normalised(text))

    def _told(self, plain: str) -> tuple[str, ...]:
        words = plain.split()
        if not self._synonyms:
            return tuple(_spelled(word) for word in words if word not in _STOP) or tuple(words)
        out: list[str] = []
        i = 0
        while i < len(words):
            for length in range(min(self._longest, len(words) - i), 0, -1):
                stands = self._synonyms.get(" ".join(words[i : i + length]))
                if stands is not None:
                    out += stands.split()
                    i += length
                    break
            else:
                out.append(words[i])
                i += 1
        kept = tuple(_spelled(word) for word in out if word not in _STOP)
        return kept or tuple(out)

    def search(self, text: str, limit: int = 5, allowed: Iterable[int] | None = None) -> list[Match]:
        """The terms that fit best, best first; ties in the order of the terms.

        Args:
            text: The text to match.
            limit: Most matches.
            allowed: Only these terms, where given.
        """
        chosen = None if allowed is None else set(allowed)
        plain = normalised(text)
        if not plain:
            return []
        found: dict[int, Match] = {}
        for index in self._exact.get(plain, ()):
            found[index] = Match(index, 1.0, "exact")
        query = self.tokens(text)
        for index in self._bags.get(_bag(query), ()):
            found.setdefault(index, Match(index, 0.98, "same words"))
        for index in self._reached(query):
            if index not in found:
                found[index] = Match(index, 0.97 * self.score(query, self._tokens[index]), "similar")
        ranked = sorted(found.values(), key=lambda match: (-match.score, match.index))
        return [match for match in ranked if chosen is None or match.index in chosen][:limit]

    def score(self, query: Sequence[str], term: Sequence[str]) -> float:
        """Weighted agreement of two token lists, between 0 and 1, symmetric."""
        if not query or not term:
            return 0.0
        return math.sqrt(self._covered(query, term) * self._covered(term, query))

    def _covered(self, tokens: Sequence[str], others: Sequence[str]) -> float:
        total = shared = 0.0
        for token in tokens:
            weight = self._weight.get(token, self._unknown)
            total += weight
            best = 1.0 if token in others else max(likeness(token, other) for other in others)
            shared += weight * best if best >= 0.4 else 0.0
        return shared / total

    def _reached(self, query: Sequence[str]) -> list[int]:
        """Numbers of the terms that share a token with the query, or one spelled alike."""
        votes: dict[int, float] = defaultdict(float)
        for token in dict.fromkeys(query):
            for known, alike in self._alike(token):
                places = self._postings[known]
                if len(places) > _POSTINGS and len(query) > 1:
                    continue
                gain = alike * self._weight[known]
                for index in places:
                    votes[index] += gain
        return [index for index, _ in sorted(votes.items(), key=lambda pair: (-pair[1], pair[0]))[:_REACHED]]

    def _alike(self, token: str) -> list[tuple[str, float]]:
        """Tokens of the index like this one, with their likeness, best first."""
        if token in self._postings and (len(token) < 4 or token[0].isdigit()):
            return [(token, 1.0)]
        shared: Counter[str] = Counter()
        for gram in _trigrams(token):
            shared.update(self._by_trigram.get(gram, ()))
        reached = {known for known, _ in shared.most_common(_KEPT * 3)}
        for key in _near_keys(token):
            reached.update(self._near.get(key, ()))
        near = [(known, likeness(token, known)) for known in reached]
        near = sorted((pair for pair in near if pair[1] >= 0.5), key=lambda pair: (-pair[1], pair[0]))
        return near[:8]
