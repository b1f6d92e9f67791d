"""Terms of medicine that look like a name or a place: eponyms, drugs, scores, instruments, organisms."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from trialops.privacy.context import names

TERMS = Path(__file__).parent / "clinical_terms.txt"
_WORD = re.compile(r"[^\W_]+")
#: After these nouns a capitalised word is the name of a thing. A disease or a test can be somebody's own, these cannot.
_HEAD = (
    r"(?:syndrome|sign|maneuver|manoeuvre|palsy|lymphoma|sarcoma|catheter|score|scale|criteria|fracture|contracture|reflex|phenomenon|virus|stain|"
    r"classification|staging|inventory|osteotomy|herniorrhaphy|fundoplication|anastomosis|forceps|retractor|cautery|tendon|"
    r"coefficient|agar|bacillus|antigen|protocol diet|esophagus|oesophagus|thyroiditis|dementia|encephalopathy|purpura)"
)


@cache
def _named() -> re.Pattern[str]:
    word = names()["CAPWORD"]
    return re.compile(rf"(?<![\w.])(?:{word}[ -]){{0,2}}{word}(?:['\u2019]s)?[ ]{_HEAD}(?!\w)")


@cache
def _terms() -> dict[str, list[str]]:
    by_first: dict[str, list[str]] = {}
    for line in TERMS.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            for term in line.partition(": ")[2].split("|"):
                term = term.strip()
                first = _WORD.match(term)
                if first and len(term) > 3:
                    by_first.setdefault(first[0].lower(), []).append(term.lower())
    return by_first


def find_terms(text: str) -> list[tuple[int, int]]:
    """Where a text has such a term.

    Args:
        text: Any text.

    Returns:
        (start, end) of each; they can overlap.
    """
    low, terms = text.lower(), _terms()
    found = [m.span() for m in _named().finditer(text)]
    if len(low) != len(text):
        return found
    for match in _WORD.finditer(low):
        for term in terms.get(match[0], ()):
            end = match.start() + len(term)
            if low.startswith(term, match.start()) and not low[end : end + 1].isalnum():
                found.append((match.start(), end + 2 if low[end : end + 2] in ("'s", "\u2019s") else end))
    return found
