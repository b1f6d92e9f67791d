"""Looks for what is left of a person in a text; shares no code with what takes it out.

Text and identifier are reduced to plain letters and digits. Names and towns are compared word by word and run together,
numbers as digits with whatever stands between them, days in every order of their parts.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from functools import cache

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]


def plain(text: str) -> str:
    """Lower case, no accents, everything but letters and digits a space, and no placeholders."""
    text = re.sub(r"\[[A-Z]+\]", " / ", text)
    base = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return " ".join("".join(c if c.isalnum() else " " for c in base).split())


def words_left(text: str, name: str, shortest: int = 3) -> list[str]:
    """Words of a name that stand in a text, whole, spaced out, or run together with another."""
    reduced = plain(text)
    words = set(reduced.split())
    spaced = {m[0].replace(" ", "") for m in re.finditer(r"(?<!\w)(?:\w ){2,}\w(?!\w)", reduced)}
    found = []
    for part in plain(name).split():
        if len(part) >= shortest and (part in words or part + "s" in words or any(part in s for s in spaced)):
            found.append(part)
    together = plain(name).replace(" ", "")
    if len(together) >= 8 and together in reduced.replace(" ", ""):
        found.append(together)
    return found


def number_left(text: str, number: str, shortest: int = 7) -> bool:
    """Whether the digits of a number, or its last seven, stand in a text with at most two other signs between them."""
    digits = re.sub(r"\D", "", number)
    runs = [re.sub(r"\D", "", run) for run in re.findall(r"\d(?:[^\w\n]{0,2}\d)*", text)]
    return any(digits in run or (len(digits) > shortest and digits[-shortest:] in run) for run in runs)


def phrase_left(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text, whatever its case, accents and punctuation."""
    return f" {plain(phrase)} " in f" {plain(text)} "


def day_left(text: str, day: datetime.date) -> bool:
    """Whether a text names a day with its month and year, in any order and writing."""
    year, month, date = (
        (f"{day.year}", day.strftime("%y")),
        (str(day.month), f"{day.month:02d}"),
        (str(day.day), f"{day.day:02d}"),
    )
    name = MONTHS[day.month - 1][:3]
    forms = {f" {y} {m} {d} " for y in year for m in (*month, name) for d in date}
    forms |= {f" {d} {m} {y} " for y in year for m in (*month, name) for d in date}
    forms |= {f" {m} {d} {y} " for y in year for m in (*month, name) for d in date}
    reduced = _dates_apart(text)
    if any(form in reduced for form in forms):
        return True
    eight = set(re.findall(r"(?<!\d)\d{8}(?!\d)", text))
    return not eight.isdisjoint({f"{day:%Y%m%d}", f"{day:%d%m%Y}", f"{day:%m%d%Y}"})


@cache
def _dates_apart(text: str) -> str:
    """Words and numbers of a text, numbers apart from letters, months cut to three letters, no ordinals."""
    words = re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", plain(text)))
    short = {word: m[:3] for m in MONTHS for word in (m, m[:3], m[:4])}
    return " " + " ".join(short.get(w, w) for w in words if w != "of") + " "
