"""ICD-10-CM: is this a code, may it be reported, was it valid on that day, what else could be meant.

The classification comes with the package simple-icd-10-cm (MIT licence; the classification itself is in the public
domain), which holds one release: April 2026. Validity on another day is exact where the user supplies the order
file of that fiscal year (``icd10cm-order-YYYY.txt`` of CMS), and otherwise follows from the release and from the
changes listed in ``icd10_changes.yaml``; the finding says which.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.standards.term_match import Match, TermIndex

SYSTEM = "http://hl7.org/fhir/sid/icd-10-cm"
IN_USE = dt.date(2015, 10, 1)
"""First day ICD-10-CM was reported in the United States."""
RELEASE = (dt.date(2026, 4, 1), dt.date(2026, 9, 30))
RELEASE_NAME = "ICD-10-CM April 2026"
_FORMAT = re.compile(r"[A-Z]\d[0-9AB](\.?[0-9A-Z]{1,4})?")


@dataclass(frozen=True)
class Finding:
    """What is known of one code on one day.

    Attributes:
        text: As given.
        code: Normalised, with its dot; empty when the format is wrong.
        status: "valid", "not billable", "unknown", "not yet valid", "no longer valid", "bad format".
        reason: In words; empty for a valid code.
        description: Of the code.
        basis: What the answer rests on: the order file of a year, the release, the release and known changes.
        suggestions: Codes that may be meant, with their descriptions.
    """

    text: str
    code: str
    status: str
    reason: str = ""
    description: str = ""
    basis: str = RELEASE_NAME
    suggestions: tuple[tuple[str, str], ...] = ()

    @property
    def valid(self) -> bool:
        """Whether the code may be reported on that day."""
        return self.status == "valid"


@dataclass(frozen=True)
class OrderFile:
    """Codes of one fiscal year, from CMS's order file: code without dot -> (billable, long description)."""

    fiscal_year: int
    codes: Mapping[str, tuple[bool, str]]


@dataclass(frozen=True)
class Change:
    """A code that came or went on a day."""

    code: str
    day: dt.date
    added: bool


def read_order_file(path: Path) -> OrderFile:
    """Read ``icd10cm-order-YYYY.txt``: fixed columns, order number, code, billable flag, short and long description.

    Raises:
        TrialOpsError: The name holds no year, or the file is not an order file.
    """
    year = re.search(r"(20\d\d)", path.name)
    if year is None:
        raise TrialOpsError("The name of an order file holds its fiscal year.", where=path.name)
    codes: dict[str, tuple[bool, str]] = {}
    for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
        if not line.strip():
            continue
        code, flag, text = line[6:13].strip(), line[14:15], line[77:].strip()
        if not re.fullmatch(r"\d{5}", line[:5]) or flag not in "01" or not _FORMAT.fullmatch(code):
            raise TrialOpsError(
                f"Line {number} is not a line of an ICD-10-CM order file.",
                where=path.name,
                fix="Take icd10cm-order-YYYY.txt from the CMS download as it is.",
            )
        codes[code] = (flag == "1", text)
    if not codes:
        raise TrialOpsError("The order file is empty.", where=path.name)
    return OrderFile(int(year[1]), codes)


def fiscal_year(day: dt.date) -> int:
    """The fiscal year of a service date: it begins on 1 October of the year before."""
    return day.year + (day.month >= 10)


def normalise(text: str) -> str:
    """A code in its usual form, upper case with a dot; empty when it cannot be one."""
    plain = "".join(text.upper().split())
    if not _FORMAT.fullmatch(plain):
        return ""
    plain = plain.replace(".", "")
    return plain if len(plain) == 3 else f"{plain[:3]}.{plain[3:]}"


@cache
def _library() -> Any:
    import simple_icd_10_cm

    return simple_icd_10_cm


@cache
def changes() -> dict[str, Change]:
    """Known additions and deletions by code, from the file beside this module."""
    import yaml

    listed = yaml.safe_load((Path(__file__).parent / "icd10_changes.yaml").read_text("utf-8"))
    return {
        str(code): Change(str(code), day, kind == "added")
        for day, entry in listed["changes"].items()
        for kind in ("added", "deleted")
        for code in entry.get(kind, ())
    }


class ICD10:
    """The classification, with whatever order files the user has.

    Args:
        order_files: Exact lists of fiscal years.
    """

    def __init__(self, order_files: Sequence[OrderFile] = ()) -> None:
        self._years = {order.fiscal_year: order.codes for order in order_files}

    def check(self, text: str, on: dt.date | None = None) -> Finding:
        """What is known of a code.

        Args:
            text: In any spelling: ``e119``, ``E11.9``.
            on: Day of service; None to ask the release alone.
        """
        code = normalise(text)
        if not code:
            reason = "it does not have the form of an ICD-10-CM code"
            return Finding(text, "", "bad format", reason, suggestions=self._described(_edits(text)))
        if on is not None and on < IN_USE:
            return Finding(text, code, "not yet valid", "ICD-10-CM was not in use before 1 October 2015")
        exact = self._years.get(fiscal_year(on)) if on is not None else None
        if on is not None and exact is not None:
            return self._by_order_file(text, code, exact, fiscal_year(on))
        return self._by_release(text, code, on)

    def _by_order_file(self, text: str, code: str, listed: Mapping[str, tuple[bool, str]], year: int) -> Finding:
        basis = f"order file {year}"
        entry = listed.get(code.replace(".", ""))
        if entry is None:
            other = self._by_release(text, code, None)
            status = "unknown" if other.status == "unknown" else "no longer valid"
            known = changes().get(code)
            if known is not None and known.added and fiscal_year(known.day) > year:
                status = "not yet valid"
            reason = f"it is not in the list of fiscal year {year}"
            return Finding(text, code, status, reason, other.description, basis, self.near(code))
        billable, description = entry
        if not billable:
            reason = "it has subdivisions; one of them must be reported"
            return Finding(text, code, "not billable", reason, description, basis, self.below(code))
        return Finding(text, code, "valid", "", description, basis)

    def _by_release(self, text: str, code: str, on: dt.date | None) -> Finding:
        basis = RELEASE_NAME if on is None or RELEASE[0] <= on <= RELEASE[1] else f"{RELEASE_NAME} and known changes"
        known = changes().get(code)
        library = _library()
        there = library.is_valid_item(code) and not library.is_chapter_or_block(code)
        description = str(library.get_description(code)) if there else ""
        if known is not None and on is not None and on < known.day:
            if known.added:
                reason, before = f"it is valid from {known.day} on", self._before(code, on)
                return Finding(text, code, "not yet valid", reason, description, basis, before)
            return Finding(text, code, "valid", "", description, basis)  # it was deleted later
        if known is not None and not known.added:
            reason = f"it is no longer valid since {known.day}"
            return Finding(text, code, "no longer valid", reason, description, basis, self.below(code))
        if not there:
            return Finding(text, code, "unknown", "there is no such code", "", basis, self.near(code))
        if not library.is_leaf(code):
            extended = all(library.is_extended_subcategory(c) for c in library.get_children(code))
            reason = "its 7th character is missing" if extended else "it has subdivisions; one of them must be reported"
            return Finding(text, code, "not billable", reason, description, basis, self.below(code))
        return Finding(text, code, "valid", "", description, basis)

    def ancestors(self, code: str) -> list[str]:
        """Category, block and chapter a code belongs to, nearest first; empty for an unknown code."""
        library = _library()
        return [str(c) for c in library.get_ancestors(code)] if library.is_valid_item(code) else []

    def below(self, code: str, limit: int = 8) -> tuple[tuple[str, str], ...]:
        """Billable codes under a code."""
        library = _library()
        if not library.is_valid_item(code):
            return self.near(code)
        under = [str(c) for c in library.get_descendants(code) if library.is_leaf(c)]
        return tuple((c, str(library.get_description(c))) for c in under[:limit])

    def near(self, code: str, limit: int = 5) -> tuple[tuple[str, str], ...]:
        """Billable codes near an unknown one: the longest known beginning, then one character changed or swapped."""
        library = _library()
        found = [other for other, _ in self._described(_edits(code))]
        stem = code
        while len(stem) > 3 and not library.is_valid_item(stem):
            stem = stem[:-1].rstrip(".")
        if library.is_valid_item(stem):
            under = [stem, *library.get_descendants(stem)]
            found += [str(c) for c in under if library.is_leaf(c)][:limit]
        unique = list(dict.fromkeys(found))[:limit]
        return tuple((c, str(library.get_description(c))) for c in unique)

    def _described(self, codes: Sequence[str], limit: int = 5) -> tuple[tuple[str, str], ...]:
        """Those of some codes that are billable, with their descriptions."""
        library = _library()
        there = [c for c in codes if library.is_valid_item(c) and not library.is_chapter_or_block(c)]
        return tuple((c, str(library.get_description(c))) for c in there if library.is_leaf(c))[:limit]

    def _before(self, code: str, on: dt.date) -> tuple[tuple[str, str], ...]:
        """The code that a newer one was split from, where it was billable on that day."""
        older = [c for c in self.ancestors(code) if c in changes() and not changes()[c].added and on < changes()[c].day]
        return tuple((c, str(_library().get_description(c))) for c in older)

    def search(self, text: str, limit: int = 5) -> list[tuple[str, str, Match]]:
        """Billable codes whose description fits a text: code, description, how well."""
        codes, index = _described_terms()
        best: dict[str, Match] = {}
        for match in index.search(text, 4 * limit):
            best.setdefault(codes[match.index], match)
        return [(code, str(_library().get_description(code)), match) for code, match in list(best.items())[:limit]]


@cache
def _described_terms() -> tuple[list[str], TermIndex]:
    """Billable codes by their descriptions and inclusion terms, words in brackets (which may be absent) left out."""
    library = _library()
    codes, terms = [], []
    for code in library.get_all_codes(True):
        if library.is_leaf(code) and not library.is_chapter_or_block(code):
            own = [library.get_description(code), *library.get_inclusion_term(code), *library.get_includes(code)]
            bare = [re.sub(r"\s*\([^)]*\)", "", text) for text in own if "(" in text]
            for term in dict.fromkeys([*own, *bare]):
                codes.append(str(code))
                terms.append(term)
    return codes, TermIndex(terms)


def _edits(code: str) -> list[str]:
    """Codes that differ by one typing error: two neighbours swapped, O for 0, I for 1, a character lost or doubled."""
    plain = "".join(code.upper().replace(".", "").split())[:8]
    out = [plain[:i] + plain[i + 1] + plain[i] + plain[i + 2 :] for i in range(len(plain) - 1)]
    for wrong, right in (("O", "0"), ("0", "O"), ("I", "1"), ("L", "1"), ("S", "5"), ("B", "8")):
        out += [plain[:i] + right + plain[i + 1 :] for i, letter in enumerate(plain) if letter == wrong]
    out += [plain[:i] + plain[i + 1 :] for i in range(1, len(plain))]
    return [code for code in (normalise(text) for text in dict.fromkeys(out)) if code]
