"""Values of laboratory messages: times, numbers, structured numbers, ranges, flags, LOINC check digits.

Sources: HL7 v2.5.1 chapters 2A and 7 (data types NM, SN, TS; tables 0078 and 0085); LOINC manual (check digit).
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from functools import lru_cache

TIME = re.compile(r"(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,4}))?)?([+-]\d{4})?\Z", re.A)
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)\Z", re.A)
RANGE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*-\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\Z", re.A)
BOUND = re.compile(r"\s*(<=|>=|<|>)\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\Z", re.A)

FLAGS = {
    "L": "LOW", "LL": "LOW", "<": "LOW", "H": "HIGH", "HH": "HIGH", ">": "HIGH", "N": "NORMAL",
    "A": "ABNORMAL", "AA": "ABNORMAL",
}  # fmt: skip
"""HL7 table 0078 -> SDTM codelist NRIND; panic values keep their direction."""


@lru_cache(maxsize=1 << 16)
def iso_time(value: str) -> str | None:
    """An HL7 time as ISO 8601, as precise as it was sent: "2026", "2026-03-01T08:15", "...+01:00".

    Returns:
        The text; an empty one for an empty value; None where the value is no time that exists.
    """
    value = value.strip()
    if not value:
        return ""
    match = TIME.match(value)
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    if int(year) < 1 or (month and not 1 <= int(month) <= 12):
        return None
    if day and not 1 <= int(day) <= calendar.monthrange(int(year), int(month))[1]:
        return None
    if (hour and int(hour) > 23) or (minute and int(minute) > 59) or (second and int(second) > 59):
        return None
    if hour and not day:
        return None
    text = "-".join(part for part in (year, month, day) if part)
    if hour:
        text += f"T{hour}:{minute or '00'}"
        if second:
            text += f":{second}" + (f".{fraction}" if fraction else "")
        if zone:
            if int(zone[1:3]) > 14 or int(zone[3:]) > 59:
                return None
            text += f"{zone[:3]}:{zone[3:]}"
    return text


@lru_cache(maxsize=1 << 16)
def instant(value: str) -> str:
    """A sortable UTC time of an ISO text; what is missing counts as its earliest value, no zone as UTC."""
    if not value:
        return ""
    date, _, clock = value.partition("T")
    date += "-01" * (2 - date.count("-"))
    try:
        moment = dt.datetime.fromisoformat(f"{date}T{clock or '00:00'}")
        if moment.tzinfo:
            moment = moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def structured_number(parts: list[str]) -> str | None:
    """SN as text: comparator, number, separator or suffix, number (">100", "1:128", "10-20", "2+").

    Returns:
        None where the parts make no structured number.
    """
    comparator, first, separator, second = (part.strip() for part in (parts + [""] * 4)[:4])
    if any(part.strip() for part in parts[4:]):
        return None
    if comparator not in ("", "=", "<", ">", "<=", ">=", "<>") or separator not in ("", "-", "+", "/", ".", ":"):
        return None
    if not NUMBER.match(first) or (second and not NUMBER.match(second)) or (second and not separator):
        return None
    return ("" if comparator == "=" else comparator) + first + separator + second


@lru_cache(maxsize=1 << 16)
def limits(value: str) -> tuple[str, str]:
    """Lower and upper limit of an OBX-7 range, each empty where it is not stated ("3.5-5.0", "<200", "> 60")."""
    if match := RANGE.match(value):
        return match.group(1), match.group(2)
    if match := BOUND.match(value):
        return ("", match.group(2)) if match.group(1)[0] == "<" else (match.group(2), "")
    return "", ""


@lru_cache(maxsize=1 << 16)
def is_loinc(code: str) -> bool:
    """Whether a code is LOINC by form and check digit (modulus 10, alternate digits doubled from the right)."""
    match = re.fullmatch(r"(\d{1,7})-(\d)", code, re.A)
    if not match:
        return False
    total = 0
    for place, digit in enumerate(reversed(match.group(1))):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return (10 - total % 10) % 10 == int(match.group(2))
