"""Dates in running text: found in every written form, and shifted by days in the form in which they stand.

A date is exact (day, month, year), or partial. What a shift by days does to each:

* exact: the exact day, same form; a day of the week written beside it moves along.
* month and year: the month into which the 15th of the written one falls, the rule of `study_days.shifted` for SDTM.
* day and month: shifted where the answer is the same for leap and other years; else withheld.
* a day of the week alone: moves along. A holiday has no form to move to and is withheld.

Numbers as in 03/04/2013 leave the order of day and month open. It is settled, in this order, by a date of the subject's
record, by the other dates of the same text, by the default.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from trialops.privacy.spans import Intervals

_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "en3": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "en4": "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec",
    "fr3": "janv févr mars avr mai juin juil août sept oct nov déc",
    "de3": "Jan Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "es3": "ene feb mar abr may jun jul ago sep oct nov dic",
    "it3": "gen feb mar apr mag giu lug ago set ott nov dic",
}
_TABLES = {key: names.split() for key, names in _MONTHS.items()}
_WEEKDAYS = {
    "en": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "en3": "Mon Tue Wed Thu Fri Sat Sun",
    "en4": "Mon Tues Weds Thurs Fri Sat Sun",
    "fr": "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
    "es": "lunes martes miércoles jueves viernes sábado domingo",
}
_WEEK_TABLES = {key: names.split() for key, names in _WEEKDAYS.items()}


def _union(tables: dict[str, list[str]]) -> str:
    words = {w for names in tables.values() for w in names} | {"fevrier", "aout", "decembre", "Maerz", "Marz"}
    return "|".join(sorted(map(re.escape, words), key=lambda w: (-len(w), w)))


_MON = rf"(?P<mon>(?:{_union(_TABLES)})(?![^\W\d_]))\.?"
_DAYNAME = "|".join(sorted((w for t in _WEEK_TABLES.values() for w in t), key=lambda w: (-len(w), w)))
#: Looks at one character before the long alternatives are tried; a date begins a word.
_WORD_START, _DIGIT_START = r"(?<![^\W\d_])(?=[jfmasondgeltwv])", r"(?<![^\W_])(?=[\dmtwfsldjv])"
_WEEK = rf"(?:(?P<wd>(?:{_DAYNAME})(?![^\W\d_]))\.?,?[ \u00a0]+(?:the[ ])?)?"
_Y4 = r"(?P<y>(?:1[89]|20)\d{2})"
_Y2 = r"(?P<y>(?:1[89]|20)\d{2}|\d{2})"
_D = r"(?P<d>[12]\d|3[01]|0?[1-9])"
_ORD = r"(?P<ord>st|nd|rd|th|er|\.|º|ª)?"
_TIME = r"(?P<t>(?:[T ]|,? at )[0-2]?\d:[0-5]\d(?::[0-5]\d)?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?"
_L, _R = r"(?<![\w./-])", r"(?![\w]|[./-]\d)"
_BEFORE_MONTH = (
    "in",
    "since",
    "until",
    "last",
    "next",
    "this",
    "early",
    "late",
    "mid",
    "of",
    "by",
    "during",
    "from",
    "for",
)
_ANNOUNCED_MONTH = "|".join(rf"(?<=\b{word} )" for word in _BEFORE_MONTH)
_FORMS = {
    "ymd": rf"{_L}{_Y4}(?P<s>[-/.])(?P<m>1[0-2]|0?[1-9])(?P=s){_D}(?:{_TIME}{_R}|T[\d:.Z+-]*)",
    "compact": rf"{_L}{_Y4}(?P<m>1[0-2]|0[1-9])(?P<d>[12]\d|3[01]|0[1-9])(?:T\d{{4,6}})?(?!\w)",
    "numeric": rf"{_DIGIT_START}{_WEEK}{_L}(?P<a>[12]\d|3[01]|0?[1-9])(?P<g> ?)(?P<s>[-/.\u2013])(?P=g)"
    rf"(?P<b>[12]\d|3[01]|0?[1-9])(?P=g)(?P=s)(?P=g){_Y2}{_TIME}{_R}",
    "d_mon_y": rf"{_DIGIT_START}{_WEEK}(?<![\w.,/-]){_D}{_ORD}(?:[ -]?of[ ]|[ ]de[ ]|[ ,/.-]{{0,2}})?{_MON}"
    rf"(?:[ ]de[ ]|[ ,/.'\u2019-]{{0,2}}){_Y2}{_TIME}(?!\w|:\d)",
    "mon_d_y": rf"{_WORD_START}{_WEEK}(?<![^\W\d_]){_MON}[ -]{{0,2}}{_D}{_ORD}"
    rf"(?:,?[ ]|,|-|[ ]'){{1}}{_Y2}{_TIME}(?!\w|[.,:]\d)",
    "y_mon_d": rf"(?<!\w){_Y4}[ -]{_MON}[ -]{_D}(?!\w)",
    "mon_y": rf"{_WORD_START}(?<![^\W\d_]){_MON}(?:[ ]of[ ]|[ ]de[ ]|[ ,/'-]{{1,2}}){_Y4}(?!\w)",
    "d_mon": rf"{_DIGIT_START}{_WEEK}(?<![\w./,-]){_D}{_ORD}(?:[ -]?of[ ]|[ ]de[ ]|[ -]{{0,1}}){_MON}(?![\w])",
    "mon_d": rf"{_WORD_START}{_WEEK}(?<![^\W\d_]){_MON}[ ]{_D}{_ORD}"
    rf"(?![\w:/]|[.,%]\d|[ ]?(?:mg|ml|mL|kg|cm|mm|%|times|days|weeks))",
    "mon": rf"(?:{_ANNOUNCED_MONTH})(?P<mon>{'|'.join(_TABLES['en'])})(?!\w)",
    "ym": rf"{_L}{_Y4}(?P<s>[-/])(?P<m>1[0-2]|0[1-9])(?![\w/-])",
    "my": rf"{_L}(?P<m>1[0-2]|0?[1-9])(?P<s>[-/]){_Y4}(?![\w/-])",
    "short": r"(?<=\b[oO]n )(?P<a>1[0-2]|0?[1-9])/(?P<b>[12]\d|3[01]|0?[1-9])(?![\w/]|[.,]\d)"
    r"|(?:(?<=\bsince )|(?<=\bSince )|(?<=\buntil )|(?<=\bdated )|(?<=\bDate: )|(?<=\bby ))"
    r"(?P<a2>1[0-2]|0?[1-9])/(?P<b2>[12]\d|3[01]|0?[1-9])(?![\w/]|[.,]\d)",
    "weekday": rf"(?<!\w)(?P<wd>{'|'.join(w for k in ('en', 'fr', 'de') for w in _WEEK_TABLES[k])})s?(?!\w)",
    "holiday": r"(?<!\w)(?:Christmas(?: Eve| Day)?|Thanksgiving(?: Day)?|New Year'?s(?: Eve| Day)?|"
    r"Easter(?: Sunday| Monday)?|Labou?r Day|Memorial Day|Independence Day|Halloween|Valentine'?s Day|Boxing Day|"
    r"Passover|Ramadan|Eid|Diwali|Yom Kippur|"
    r"Mother'?s Day|Father'?s Day|Bastille Day|Fourth of July|4th of July)(?!\w)",
}


@cache
def _compiled() -> dict[str, re.Pattern[str]]:
    flags = {"weekday": 0, "holiday": 0, "short": 0, "mon": 0}
    return {name: re.compile(form, flags.get(name, re.IGNORECASE)) for name, form in _FORMS.items()}


@cache
def _hint() -> re.Pattern[str]:
    """What a text without any date has not: a month, a day of the week, or numbers with separators."""
    return re.compile(
        rf"(?i){_union(_TABLES)}|{_DAYNAME}|\d[-/.\u2013 ]+\d|\d{{8}}|Christmas|Thanks|New Year|of July|day\b|"
        r"Easter|Hallow|Passover|Ramadan|Eid|Diwali|Yom"
    )


@cache
def _month_name() -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![^\W\d_])(?=[jfmasondeg])(?:{_union(_TABLES)})(?![^\W\d_])")


#: Years that a four-digit year of a date can have.
EARLIEST, LATEST = 1800, 2100


@dataclass(frozen=True)
class TextDate:
    """A date in a text.

    Attributes:
        start: Position of its first character.
        end: Position after its last character.
        form: Name of its written form.
        parts: Component and its position: "y", "m", "d", "mon", "ord", "wd", and "a", "b" where order is open.
    """

    start: int
    end: int
    form: str
    parts: tuple[tuple[str, int, int], ...]


def find_dates(text: str) -> list[TextDate]:
    """All dates in a text, disjoint and in order; the fuller form wins."""
    if not _hint().search(text):
        return []
    taken: list[TextDate] = []
    month = _month_name().search(text) is not None
    for form, pattern in _compiled().items():
        if "mon" in form and not month:
            continue
        places = Intervals((d.start, d.end) for d in taken)
        for match in pattern.finditer(text):
            start, end = match.span()
            if places.touching(start, end):
                continue
            parts = tuple(
                (name.rstrip("2"), *match.span(name))
                for name, value in match.groupdict().items()
                if value and name not in "sgt"
            )
            if form in ("mon_y", "d_mon", "mon_d") and not _capital(text, parts):
                continue
            found = TextDate(start, end, form, parts)
            if form in ("weekday", "holiday") or _readings(text, found):
                taken.append(found)
    return sorted(taken, key=lambda d: d.start)


def _capital(text: str, parts: tuple[tuple[str, int, int], ...]) -> bool:
    """English "may 5" and "march 2" without a year are words before a number, unless they start with a capital."""
    word = next(text[a:b] for name, a, b in parts if name == "mon")
    return word[0].isupper() or word.lower() not in (
        "may",
        "march",
        "mar",
        "set",
        "sun",
        "mars",
        "nov",
        "dec",
        "ago",
        "gen",
        "out",
    )


def _year(text: str) -> int:
    value = int(text)
    return value if len(text) == 4 else value + (1900 if value > 49 else 2000)


def _month(word: str) -> tuple[int, str]:
    """Number of a month and the table it was found in."""
    low = word.lower()
    for key, names in _TABLES.items():
        for i, name in enumerate(names):
            if name.lower() == low:
                return i + 1, key
    plain = {"fevrier": (2, "fr"), "aout": (8, "fr"), "decembre": (12, "fr"), "maerz": (3, "de"), "marz": (3, "de")}
    return plain[low]


def _valid(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _readings(text: str, found: TextDate) -> list[tuple[datetime.date, bool]]:
    """The days a date can mean, each with whether the day comes before the month; month first comes first.

    A year that is not written is 2024, so that 29 February is a day.
    """
    at = {name: text[a:b] for name, a, b in found.parts}
    year = _year(at["y"]) if "y" in at else 2024
    month = _month(at["mon"])[0] if "mon" in at else int(at["m"]) if "m" in at else 0
    if month:
        day = _valid(year, month, int(at.get("d", 15)))
        return [(day, False)] if day else []
    a, b = int(at["a"]), int(at["b"])
    both = [(_valid(year, a, b), False), (_valid(year, b, a), True)]
    return [(day, first) for day, first in both if day]


def exact_days(text: str) -> list[datetime.date]:
    """Every day that an exact date of the text can mean."""
    exact = (d for d in find_dates(text) if {"y", "d"} <= {p[0] for p in d.parts} or d.form == "numeric")
    return [day for d in exact for day, _ in _readings(text, d)]


def day_first(text: str, dates: Collection[TextDate], record: Collection[datetime.date], default: bool) -> bool:
    """Whether numeric dates of a text have the day before the month."""
    votes = 0
    for found in dates:
        if found.form not in ("numeric", "short"):
            continue
        readings = _readings(text, found)
        if len(readings) == 2 and readings[0][0] != readings[1][0]:
            inside = [(day in record) for day, _ in readings]
            if inside[0] != inside[1]:
                return inside[1]
        elif len(readings) == 1:
            votes += 1 if readings[0][1] else -1
    return default if votes == 0 else votes > 0


def shift_date(text: str, found: TextDate, days: int, *, day_before_month: bool = False) -> str | None:
    """A date of the text, shifted.

    Args:
        text: The text.
        found: The date, as `find_dates` gave it.
        days: By how many days.
        day_before_month: How to read a numeric date that leaves it open.

    Returns:
        The date in the same written form, or None where no exact answer exists.
    """
    names = {p[0] for p in found.parts}
    if found.form == "holiday":
        return None
    if found.form == "weekday":
        return _rewrite(text, found, None, days, False)
    readings = _readings(text, found)
    day, first = next(((d, f) for d, f in readings if f == day_before_month), readings[0])
    try:
        moved = day + datetime.timedelta(days=days)
        if "y" not in names:
            other = _valid(2023, day.month, day.day)
            again = other + datetime.timedelta(days=days) if other else None
            if again is None or again.month != moved.month or (found.form != "mon" and again.day != moved.day):
                return None
    except OverflowError:
        return None
    if not EARLIEST <= moved.year < LATEST:
        return None
    if (
        "y" in names
        and len(next(text[a:b] for n, a, b in found.parts if n == "y")) == 2
        and not 1950 <= moved.year <= 2049
    ):
        return None
    return _rewrite(text, found, moved, days, first)


def _rewrite(text: str, found: TextDate, moved: datetime.date | None, days: int, first: bool) -> str:
    out, at = "", found.start
    numbers = [text[a:b] for n, a, b in found.parts if n in ("m", "d", "a", "b")]
    # Two digits say nothing about the width of one; beside a month's name only what is run together is filled up.
    spelled = any(n == "mon" for n, _, _ in found.parts) and " " in text[found.start : found.end].strip()
    padded = any(n[0] == "0" for n in numbers) or not (spelled or any(len(n) == 1 for n in numbers))
    for name, start, end in sorted(found.parts, key=lambda p: p[1]):
        old = text[start:end]
        out += text[at:start]
        at = end
        if name == "wd":
            out += _weekday(old, days)
        elif moved is None:
            out += old
        elif name == "y":
            out += f"{moved.year:04d}" if len(old) == 4 else f"{moved.year % 100:02d}"
        elif name == "mon":
            out += _spelled(old, moved.month, tight=start > 0 and (text[start - 1].isdigit() or text[start - 1] == "-"))
        elif name == "ord":
            out += _ordinal(old, moved.day)
        else:
            value = moved.day if name == "d" or name == ("a" if first else "b") else moved.month
            out += f"{value:02d}" if padded else str(value)
    return out + text[at : found.end]


def _cased(old: str, new: str) -> str:
    return new.upper() if old.isupper() else new.lower() if old.islower() else new[0].upper() + new[1:]


def _spelled(old: str, month: int, *, tight: bool) -> str:
    key = _month(old)[1]
    if key == "en" and old.lower() == "may" and tight:
        key = "en3"
    return _cased(old, _TABLES[key][month - 1])


def _weekday(old: str, days: int) -> str:
    for names in _WEEK_TABLES.values():
        for i, name in enumerate(names):
            if name.lower() == old.lower():
                return _cased(old, names[(i + days) % 7])
    return old


def _ordinal(old: str, day: int) -> str:
    if old.lower() not in ("st", "nd", "rd", "th"):
        return old
    ending = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return ending.upper() if old.isupper() else ending
