"""Compare a de-identified DICOM data set with its original, attribute by attribute, against the PS3.15 table itself.

Independent of the code under test: it reads the reference's JSON, and knows neither the shipped table nor the way
actions are resolved. An action of a compound code is kept if any of its alternatives is.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary


def table(path: Path) -> dict[str, dict[str, str]]:
    """Rows of the reference by tag text."""
    return {row["id"].lower(): row for row in json.loads(path.read_text())}


def row_of(rows: dict[str, dict[str, str]], tag: int) -> dict[str, str] | None:
    text = f"{tag:08x}"
    if (tag >> 16) % 2:
        return next(row for name, row in rows.items() if name.startswith("gggg"))
    if text in rows:
        return rows[text]
    if text.startswith("50"):
        return rows["50xxxxxx"]
    return rows.get(f"60xx{text[4:]}") if text.startswith("60") else None


def _empty(element: Any) -> bool:
    return element.is_empty or (element.VR == "SQ" and len(element.value) == 0)


def _values(element: Any) -> list[str]:
    if element.is_empty:
        return []
    value = element.value
    return [str(v) for v in value] if isinstance(value, list | tuple) or hasattr(value, "append") else [str(value)]


class Checker:
    """Collects attributes against their action, over any number of objects."""

    def __init__(self, rows: dict[str, dict[str, str]], subject: str) -> None:
        self.rows, self.subject = rows, subject
        self.checked: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.uids: dict[str, str] = {}

    def compare(self, before: Dataset, after: Dataset, where: str) -> None:
        for tag in list(before.keys()):
            number = int(tag)
            if number >> 16 == 0 or number & 0xFFFF == 0:
                continue
            row = row_of(self.rows, number)
            old = before[tag]
            new = after.get(tag)
            if row is not None:
                self.checked[row["basicProfile"]] += 1
                if not any(self._kept(code, old, new) for code in row["basicProfile"].split("/")):
                    self.wrong.append(f"{where} {tag} {old.keyword} {row['basicProfile']}")
                    continue
            # A sequence that the profile replaces was judged as a whole.
            inside = row is None or "U" in row["basicProfile"]
            if inside and old.VR == "SQ" and new is not None and len(new.value) == len(old.value):
                for i, (one, other) in enumerate(zip(old.value, new.value, strict=True)):
                    self.compare(one, other, f"{where} {tag}[{i}]")

    def _kept(self, code: str, old: Any, new: Any) -> bool:
        if code == "X":
            return new is None
        if new is None:
            return False
        if code == "Z":
            return _empty(new) or _values(new) == [self.subject]
        if code == "D":
            if old.VR == "SQ":
                return len(new.value) == 1 and not self._shared(old, new)
            return not _empty(new) and (_empty(old) or _values(new) != _values(old) or self._says_nothing(old))
        if code == "U*":
            return old.VR == "SQ"  # what is inside is compared item by item
        assert code == "U"
        if old.VR == "SQ":
            return True
        pairs = list(zip(_values(old), _values(new), strict=True)) if not old.is_empty else []
        return all(self._replaced(a, b) for a, b in pairs)

    def _replaced(self, old: str, new: str) -> bool:
        if old in UID_dictionary or not old:
            return new == old
        return new.startswith("2.25.") and new != old and self.uids.setdefault(old, new) == new

    @staticmethod
    def _says_nothing(old: Any) -> bool:
        return all(str(v).strip("0. ") in ("", "19", "REMOVED") or not str(v).strip() for v in _values(old))

    @staticmethod
    def _shared(old: Any, new: Any) -> set[str]:
        """Texts of a sequence that are in its replacement."""

        def leaves(dataset: Dataset) -> set[str]:
            found: set[str] = set()
            for element in dataset.iterall():
                if element.VR not in ("SQ", "OB", "OW", "UN"):
                    found |= {v for v in _values(element) if len(v) > 3}
            return found

        return set().union(*(leaves(i) for i in old.value), set()) & set().union(*(leaves(i) for i in new.value), set())
