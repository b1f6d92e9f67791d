"""Names of places that need no context: countries, states and the towns of the world.

Countries, states and large cities are in `places.txt`. Towns come from a file beside the model: the names of telephone
areas that the phonenumbers package (Apache-2.0) has, without those that are also words of medicine or of plain English.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

from trialops.privacy.context import names
from trialops.privacy.spans import Span

TOWNS = Path(__file__).parent / "models" / "towns.txt.gz"
LISTS = Path(__file__).with_name("places.txt")


def _listed(name: str) -> tuple[str, ...]:
    lines = LISTS.read_text(encoding="utf-8").splitlines()
    return next(tuple(line.partition(": ")[2].split("|")) for line in lines if line.startswith(f"{name}: "))


COUNTRIES, STATES, CITIES = _listed("countries"), _listed("states"), _listed("cities")


@cache
def _word() -> re.Pattern[str]:
    up, low = names()["UP"], names()["LOW"]
    return re.compile(rf"(?<![\w@./])[{up}][\w'\u2019.-]*[{up}{low}](?:\.(?=[{up}]))?")


@cache
def listed_towns() -> tuple[str, ...]:
    """Towns of the file beside the model, in order."""
    return tuple(gzip.decompress(TOWNS.read_bytes()).decode().split("\n"))


@cache
def _places() -> dict[str, list[tuple[str, ...]]]:
    """Places by their first word, as words; longest first."""
    places = {*COUNTRIES, *STATES, *CITIES, *listed_towns()}
    by_first: dict[str, list[tuple[str, ...]]] = {}
    for name in places:
        words = tuple(name.split(" "))
        for form in {words, tuple(w.upper() for w in words)}:
            by_first.setdefault(form[0], []).append(form)
    for forms in by_first.values():
        forms.sort(key=lambda f: (-len(f), f))
    return by_first


def find_places(text: str) -> list[Span]:
    """Places a text names, written with capitals.

    Args:
        text: Any text.

    Returns:
        Spans of kind LOCATION and source "gazetteer".
    """
    places, spans = _places(), []
    for match in _word().finditer(text):
        for form in places.get(match[0], ()):
            whole = " ".join(form)
            end = match.start() + len(whole)
            if text.startswith(whole, match.start()) and not text[end : end + 1].isalnum():
                spans.append(Span(match.start(), end, "LOCATION", "gazetteer"))
                break
    return spans
