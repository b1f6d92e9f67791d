"""Invented names: letters follow each other as in the names of an origin, so that hardly two notes share a name.

Every name belongs to one of two parts, decided by a checksum of its letters: what the model learns from, and what it is
judged on. No name is in both.
"""

from __future__ import annotations

import random
import zlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "text_grammar"
PARTS = ("training", "judging")
_ORDER = 2
#: One in so many names belongs to the judging part.
_KEPT_BACK = 5


def part_of(word: str) -> str:
    """The part a word belongs to."""
    return "judging" if zlib.crc32(word.lower().encode()) % _KEPT_BACK == 0 else "training"


@cache
def _lists() -> dict[tuple[str, str], list[str]]:
    lists = {}
    for line in (FOLDER / "names.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            head, _, words = line.partition(":")
            origin, kind = head.split()
            lists[origin, kind] = words.split()
    return lists


@cache
def origins() -> tuple[str, ...]:
    """Origins that have given names and surnames."""
    return tuple(sorted({origin for origin, _ in _lists()}))


@cache
def _chain(origin: str, kind: str) -> dict[str, list[str]]:
    follows: dict[str, list[str]] = {}
    for word in _lists()[origin, kind]:
        padded = "^" * _ORDER + word + "$"
        for i in range(_ORDER, len(padded)):
            follows.setdefault(padded[i - _ORDER : i], []).append(padded[i])
    return follows


def _invent(rng: random.Random, origin: str, kind: str) -> str:
    follows, word = _chain(origin, kind), "^" * _ORDER
    while len(word) < 14 + _ORDER:
        letter = rng.choice(follows[word[-_ORDER:]])
        if letter == "$":
            break
        word += letter
    return word[_ORDER:]


def name(rng: random.Random, origin: str, kind: str, part: str) -> str:
    """A given name ("given") or surname ("family") of an origin, in a part."""
    for _ in range(60):
        listed = rng.random() < 0.35
        word = rng.choice(_lists()[origin, kind]) if listed else _invent(rng, origin, kind)
        if part_of(word) == part and len(word) > 2 - listed and word[0].isupper() and word[-1].isalpha():
            return word
    return next(w for w in _lists()["english", kind] if part_of(w) == part)
