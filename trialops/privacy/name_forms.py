"""Nicknames, street words in their written forms, and words that are names as well as plain words."""

from __future__ import annotations

from pathlib import Path

FORMS = Path(__file__).with_suffix(".txt")


def _line(name: str) -> str:
    lines = FORMS.read_text(encoding="utf-8").splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith(f"{name}: "))


def _groups(text: str) -> dict[str, tuple[str, ...]]:
    others: dict[str, set[str]] = {}
    for group in text.split("|"):
        words = group.split()
        for word in words:
            others.setdefault(word, set()).update(w for w in words if w != word)
    return {word: tuple(sorted(rest)) for word, rest in sorted(others.items())}


#: A given name in lower case and the others it goes by.
NICKNAMES = _groups(_line("nicknames"))
#: A word of an address in lower case and its other written forms.
STREET_FORMS = _groups(_line("streets"))
#: Words that, in lower case, are more often plain words than somebody's name or town.
COMMON_WORDS = frozenset(_line("common").split())
