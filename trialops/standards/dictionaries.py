"""The dictionaries that a study codes with: found in a folder, read, searched.

MedDRA and WHODrug are licensed, so none of their terms ship with the project: the user's own files are read.
MedDRA comes as its ASCII distribution (``llt.asc``, ``pt.asc`` and, for the hierarchy, ``mdhier.asc``); WHODrug, or
any other list, as ``whodrug.csv`` with columns ``code``, ``name`` and optionally ``preferred_code``,
``preferred_name``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trialops.errors import TrialOpsError
from trialops.standards.coding_policy import policy
from trialops.standards.icd10 import ICD10, read_order_file
from trialops.standards.loinc import Loinc, core, read_release
from trialops.standards.loinc_match import LocalTest, LoincMatcher, Ranked
from trialops.standards.review import Candidate
from trialops.standards.term_match import TermIndex

FOLDER = "dictionaries"
"""Folder under the installation's home that imports fill."""


@dataclass(frozen=True)
class Term:
    """A term of a dictionary.

    Attributes:
        code, name: Of the term itself (MedDRA: lowest level term).
        preferred_code, preferred_name: Of the term it is reported under (MedDRA: preferred term).
        current: Whether it may be used for new coding.
        path: Primary hierarchy upwards (MedDRA: HLT, HLGT, SOC), where it was loaded.
    """

    code: str
    name: str
    preferred_code: str
    preferred_name: str
    current: bool = True
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class TermDictionary:
    """A dictionary of terms.

    Attributes:
        system: "MedDRA" or "WHODrug".
        release: What identifies the release: number of terms and digest of the files.
        terms: In file order.
    """

    system: str
    release: str
    terms: tuple[Term, ...]

    @cached_property
    def index(self) -> TermIndex:
        """Index over the names."""
        return TermIndex([term.name for term in self.terms])

    def match(self, verbatim: str, limit: int = 5) -> Ranked:
        """Terms for a verbatim text; only the same words, of a current term, are taken without a person."""
        found = [(match, self.terms[match.index]) for match in self.index.search(verbatim, 4 * limit)]
        found.sort(key=lambda pair: (-pair[0].score, not pair[1].current, pair[0].index))
        candidates = tuple(
            Candidate(term.code, term.name, round(match.score, 4), tuple(_about(match.how, term)))
            for match, term in found[:limit]
        )
        return Ranked(candidates, _doubt([term for _, term in found[:limit]], candidates))

    @cached_property
    def by_code(self) -> Mapping[str, Term]:
        """Terms by their code."""
        return {term.code: term for term in self.terms}


def _about(how: str, term: Term) -> list[str]:
    reasons = [f"{how} text", f"reported as {term.preferred_name}"]
    if not term.current:
        reasons.append("no longer current")
    return reasons + ([" > ".join(term.path)] if term.path else [])


def _doubt(terms: Sequence[Term], candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "no candidate"
    if candidates[0].score < policy().term_score:
        return f"the closest term has other words (score {candidates[0].score:.2f})"
    if not terms[0].current:
        return "the term is no longer current"
    for term, candidate in zip(terms[1:], candidates[1:], strict=True):
        if candidate.score >= candidates[0].score and term.preferred_code != terms[0].preferred_code and term.current:
            return "several terms have these words"
    return ""


def read_meddra(folder: Path) -> TermDictionary:
    """Read MedDRA's ASCII files: fields divided by ``$``.

    Raises:
        TrialOpsError: A file is missing, or a line is not what MedDRA's distribution holds.
    """
    llt, pt = folder / "llt.asc", folder / "pt.asc"
    for path in (llt, pt):
        if not path.is_file():
            raise TrialOpsError("A MedDRA file is missing.", where=path.name, fix="Unpack the ASCII distribution.")
    preferred = {row[0]: row[1] for row in _dollar_rows(pt, 2)}
    paths = {}
    if (folder / "mdhier.asc").is_file():
        for row in _dollar_rows(folder / "mdhier.asc", 12):
            if row[11] == "Y":  # the primary path
                paths[row[0]] = (row[5], row[6], row[7])
    terms = []
    for number, row in enumerate(_dollar_rows(llt, 10), 1):
        if row[2] not in preferred:
            raise TrialOpsError(f"Line {number} names a preferred term that pt.asc lacks.", where=llt.name)
        terms.append(Term(row[0], row[1], row[2], preferred[row[2]], row[9] != "N", paths.get(row[2], ())))
    return TermDictionary("MedDRA", _release(len(terms), llt, pt), tuple(terms))


def read_terms(path: Path, system: str) -> TermDictionary:
    """Read a term list with columns code, name and optionally preferred_code, preferred_name.

    Raises:
        TrialOpsError: It cannot be read, lacks a column, or holds a row without code or name.
    """
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise TrialOpsError("The term list cannot be read.", where=path.name, fix="Save it as UTF-8 CSV.") from None
    if not rows or not {"code", "name"} <= set(rows[0]):
        raise TrialOpsError("A term list needs columns code and name, and rows.", where=path.name)
    if any(not row["code"] or not row["name"] for row in rows):
        raise TrialOpsError("A row has no code or no name.", where=path.name)
    terms = tuple(
        Term(
            row["code"],
            row["name"],
            row.get("preferred_code") or row["code"],
            row.get("preferred_name") or row["name"],
        )
        for row in rows
    )
    return TermDictionary(system, _release(len(terms), path), terms)


def _dollar_rows(path: Path, fields: int) -> list[list[str]]:
    rows = []
    for number, line in enumerate(path.read_text("latin-1").splitlines(), 1):
        row = line.split("$")
        if len(row) < fields or not row[0].isdigit():
            raise TrialOpsError(
                f"Line {number} is not a line of this MedDRA file.",
                where=path.name,
                fix="Take the file from the MedDRA distribution as it is.",
            )
        rows.append(row)
    if not rows:
        raise TrialOpsError("The MedDRA file is empty.", where=path.name)
    return rows


def _release(terms: int, *paths: Path) -> str:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    return f"{terms} terms, sha256 {digest[:12]}"


@dataclass(frozen=True)
class Dictionaries:
    """What there is to code with.

    Attributes:
        icd: ICD-10-CM, with the order files found.
        loinc: A loaded release, or the core table.
        meddra, whodrug: None where the user gave none.
    """

    icd: ICD10
    loinc: Loinc
    meddra: TermDictionary | None = None
    whodrug: TermDictionary | None = None

    @cached_property
    def matcher(self) -> LoincMatcher:
        """Over the LOINC terms."""
        return LoincMatcher(self.loinc)

    def search(self, system: str, text: str, limit: int = 8) -> list[Candidate]:
        """Terms of a code system for a text, or for a code; for a person who looks for another one."""
        known = self.describe(system, text)
        if known is not None:
            return [known]
        if system == "LOINC":
            return list(self.matcher.match(LocalTest(text), limit).candidates)
        if system == "ICD-10-CM":
            hits = self.icd.search(text, limit)
            return [Candidate(code, name, round(match.score, 4), (f"{match.how} text",)) for code, name, match in hits]
        dictionary = self._named(system)
        return [] if dictionary is None else list(dictionary.match(text, limit).candidates)

    def describe(self, system: str, code: str) -> Candidate | None:
        """A code with its text, where the system knows it and it may be used."""
        if system == "LOINC":
            term = self.matcher.by_code.get(code.strip())
            return None if term is None else Candidate(term.code, term.display(), 1.0, ("by its code",))
        if system == "ICD-10-CM":
            finding = self.icd.check(code)
            return Candidate(finding.code, finding.description, 1.0, ("by its code",)) if finding.valid else None
        dictionary = self._named(system)
        found = None if dictionary is None else dictionary.by_code.get(code.strip())
        return Candidate(found.code, found.name, 1.0, ("by its code",)) if found is not None and found.current else None

    def _named(self, system: str) -> TermDictionary | None:
        return {"MedDRA": self.meddra, "WHODrug": self.whodrug}.get(system)


def load_dictionaries(folder: Path | None = None) -> Dictionaries:
    """Read what a folder holds; what it lacks is left to the facts that ship with the project.

    Args:
        folder: May hold ``Loinc.csv`` or ``CONCEPT.csv``, ``icd10cm-order-YYYY.txt``, MedDRA's ASCII files (here
            or under ``meddra/``), ``whodrug.csv``.

    Raises:
        TrialOpsError: The folder does not exist, or a file in it cannot be read.
    """
    if folder is None:
        return Dictionaries(ICD10(), core())
    if not folder.is_dir():
        raise TrialOpsError("The vocabulary folder does not exist.", where=folder.name, fix="Name a folder.")
    releases = [folder / name for name in ("Loinc.csv", "LoincTable/Loinc.csv", "CONCEPT.csv")]
    meddra = next((place for place in (folder, folder / "meddra") if (place / "llt.asc").is_file()), None)
    orders = [read_order_file(path) for path in sorted(folder.glob("icd10cm-order-*.txt"))]
    whodrug = folder / "whodrug.csv"
    return Dictionaries(
        ICD10(orders),
        next((read_release(path) for path in releases if path.is_file()), core()),
        None if meddra is None else read_meddra(meddra),
        read_terms(whodrug, "WHODrug") if whodrug.is_file() else None,
    )


def dictionary_folder(home: Path, given: str = "") -> Path | None:
    """The folder to code with: the one given, else the one that imports fill, else None."""
    if given:
        return Path(given)
    imported = home / FOLDER
    return imported if imported.is_dir() else None


def import_files(home: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Copy dictionary files under the installation's home, where later runs find them.

    Args:
        home: Of the installation.
        files: Name there -> file.

    Returns:
        SHA-256 of each.
    """
    digests = {}
    for name, source in files.items():
        target, data = home / FOLDER / name, source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f".{target.name}.partial")
        staged.write_bytes(data)
        staged.replace(target)
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests
