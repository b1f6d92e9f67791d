"""Values that take the place of others in DICOM objects: dummies, shifted dates, cleaned words."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, MutableSequence
from functools import lru_cache
from pathlib import Path
from typing import Any

NO_DATE, NO_TIME = "19000101", "000000.00"
REMOVED = "REMOVED"
WORDS_FILE = Path(__file__).with_name("dicom_words.txt")

_DUMMIES: dict[str, Any] = {
    "AE": REMOVED, "AS": "000Y", "CS": REMOVED, "DA": NO_DATE, "DS": "0", "DT": NO_DATE + "000000.000000", "IS": "0",
    "LO": REMOVED, "LT": REMOVED, "PN": REMOVED, "SH": REMOVED, "ST": REMOVED, "TM": NO_TIME, "UC": REMOVED,
    "UR": "urn:removed", "UT": REMOVED, "FD": 0.0, "FL": 0.0, "SL": 0, "SS": 0, "SV": 0, "UL": 0, "US": 0, "UV": 0,
    "AT": 0,
}  # fmt: skip
_BULK = {"OB": 2, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "UN": 2}


def dummy(vr: str) -> Any:
    """A value of a value representation that says nothing; not for SQ and UI."""
    if vr in _BULK:
        return b"\0" * _BULK[vr]
    return _DUMMIES.get(vr, REMOVED)


def shift_date(value: str, days: int) -> str | None:
    """A DA or DT shifted by whole days, time and zone as they were; None where it holds no whole date."""
    match = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})(.*)\Z", value.strip(), re.S)
    if not match:
        return None
    year, month, day, rest = match.groups()
    try:
        moved = dt.date(int(year), int(month), int(day)) + dt.timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved:%Y%m%d}{rest}"


def capped_age(value: str) -> str:
    """An AS with ages over 89 shown as 90 years; empty where it is no age."""
    match = re.fullmatch(r"(\d{1,3})([DWMY])", value.strip())
    if not match:
        return ""
    years = int(match.group(1)) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match.group(2)]
    return "090Y" if years >= 90 else f"{int(match.group(1)):03d}{match.group(2)}"


@lru_cache(maxsize=1)
def _safe_words() -> frozenset[str]:
    lines = WORDS_FILE.read_text("ascii").splitlines()
    return frozenset(word.upper() for line in lines if not line.startswith("#") for word in line.split())


def cleaned(text: str) -> str:
    """A descriptor reduced to words of imaging and thicknesses in mm.

    An allow-list: a word that is not on it may be a name.
    """
    kept: list[str] = []
    for word in re.findall(r"[A-Za-z]+\d{0,2}|\d{1,2}(?:\.\d)?(?:mm|MM)?(?![\d.])", text):
        stem = word.rstrip("0123456789")
        if len(stem) in (1, 2) and not stem.isupper() and stem.lower() not in ("of", "in", "to"):
            continue  # MR is a modality, Mr is a person
        thickness = word[0].isdigit() and word.lower().endswith("mm")
        if thickness or word.upper() in _safe_words() or (stem and stem.upper() in _safe_words()):
            kept.append(word)
    return " ".join(kept)


def each(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a change to a value or to each of several."""
    if value is None:
        return value
    if isinstance(value, MutableSequence):
        return [change(str(item)) for item in value]
    return change(str(value))
