"""Looks for what is left of a person in a text; shares no code with what takes it out.

Text and identifier are reduced to plain letters and digits. Names and towns are compared word by word and run together,
numbers as digits with whatever stands between them, days in every order of their parts.
"""

from __future__ import annotations

import datetime
import re
import unicodedata

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
    wanted = [digits, digits[-shortest:]] if len(digits) > shortest else [digits]
    return any(re.search(r"(?<!\d)" + r"[^\w\n]{0,2}".join(w) + r"(?!\d)", text) for w in wanted)


def phrase_left(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text, whatever its case, accents and punctuation."""
    return f" {plain(phrase)} " in f" {plain(text)} "


def day_left(text: str, day: datetime.date) -> bool:
    """Whether a text names a day with its month and year, in any order and writing."""
    reduced = plain(text)
    month = MONTHS[day.month - 1]
    y, m, d = f"(?:{day.year}|{day.year % 100:02d})", f"0?{day.month}", f"0?{day.day}"
    name = f"{month[:3]}\\w*"
    orders = (
        f"{y} {m} {d}",
        f"{d} {m} {y}",
        f"{m} {d} {y}",
        f"{d}(?:st|nd|rd|th)? ?(?:of )?{name} ?{y}",
        f"{name} ?{d}(?:st|nd|rd|th)? {y}",
    )
    if any(re.search(rf"(?<!\w){order}(?!\w)", reduced) for order in orders):
        return True
    tight = (f"{day:%Y%m%d}", f"{day:%d%m%Y}", f"{day:%m%d%Y}")
    return any(re.search(rf"(?<!\d){t}(?!\d)", text) for t in tight)
