"""LOINC for local tests: ranked candidates on the axes of LOINC, with unit agreement.

The name decides the component, the unit the property (5 mg/dL is a mass concentration, 5 mmol/L an amount
concentration), the specimen or the test's category the system, the kind of result the scale. A candidate whose
property contradicts the unit is never accepted without a person.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from trialops.standards import ucum
from trialops.standards.coding_policy import policy
from trialops.standards.loinc import Loinc, LoincTerm, core, words
from trialops.standards.review import Candidate
from trialops.standards.term_match import TermIndex, likeness, normalised
from trialops.standards.units import ucum_code

# Dimension of a unit (base units of UCUM) -> properties whose values have it.
_PROPERTIES: Mapping[tuple[tuple[str, int], ...], tuple[str, ...]] = {
    (("g", 1), ("m", -3)): ("MCnc", "EntMCnc"),
    (("m", -3), ("mol", 1)): ("SCnc",),
    (("eq", 1), ("m", -3)): ("SCnc",),
    (("m", -3), ("mol", 1), ("s", -1)): ("CCnc",),
    (("[iU]", 1), ("m", -3)): ("ACnc", "CCnc"),
    (("m", -3),): ("NCnc",),
    (("m", 3),): ("EntVol", "EntMeanVol", "Vol"),
    (("g", 1),): ("EntMass", "EntMeanMass", "Mass"),
    (("mol", 1),): ("EntSub", "EntMeanMass"),
    (("s", 1),): ("Time",),
    (("m", 1),): ("Len",),
    (("m", 1), ("s", -1)): ("Vel",),
    (("K", 1),): ("Temp",),
    (("g", 1), ("m", -1), ("s", -2)): ("Pres",),
    (("s", -1),): ("NRat",),
    (("g", 1), ("m", -2)): ("Ratio",),
    (("m", 3), ("s", -1)): ("ArVRat", "VRat"),
    (("g", 1), ("s", -1)): ("MRat",),
    (("mol", 1), ("s", -1)): ("SRat",),
    (("g", -1), ("osm", 1)): ("Osmol",),
    (("g", 1), ("mol", -1)): ("MRto",),
}
_FRACTIONS = ("NFr", "MFr", "VFr", "AFr", "Ratio", "RelTime", "RelACnc", "MRto", "Rden", "LsCnc", "Num")
_ORDINAL = ("PrThr", "Type", "Aper", "Prid", "Imp", "Threshold", "Arb")
_LEAST_COMMON = math.log10(20_000)


@dataclass(frozen=True)
class LocalTest:
    """A test as a laboratory names it.

    Attributes:
        name: For example LBTEST.
        unit: Of the result, as written; empty where there is none.
        specimen: Specimen, or the category where the specimen is missing (LBSPEC, LBCAT).
        testcd: SDTM test code.
        numeric: Whether results are numbers; None where unknown.
    """

    name: str
    unit: str = ""
    specimen: str = ""
    testcd: str = ""
    numeric: bool | None = None


def properties_of(unit: str, testcd: str = "") -> tuple[str, ...]:
    """LOINC properties that results in a unit can have; empty when the unit tells nothing.

    Args:
        unit: As written.
        testcd: SDTM test code: a plain U is an arbitrary unit for a hormone.
    """
    code = ucum_code(unit, testcd or None)
    if not code:
        return ()
    parsed = ucum.parse(code)
    if "[pH]" in parsed.atoms:
        return ("LsCnc",)
    if parsed.dimension == ():
        if "mol" in parsed.atoms:
            return ("SFr", "SRto")
        # A result said to have no unit may be a number on an ordinal scale (1+, 2+).
        return _FRACTIONS + _ORDINAL if code == "1" else _FRACTIONS
    if any(base.endswith("U]") for base, _ in parsed.dimension) and parsed.exponent("m") == -3:
        return ("ACnc",)
    return _PROPERTIES.get(parsed.dimension, ("none",))


@dataclass(frozen=True)
class Ranked:
    """Candidates, best first, and why a person must choose among them (empty when the first may be taken)."""

    candidates: tuple[Candidate, ...]
    doubt: str


class LoincMatcher:
    """Finds LOINC terms for local tests.

    Args:
        loinc: A release; the core table by default. Its terms come after the core ones of equal score.
    """

    def __init__(self, loinc: Loinc | None = None) -> None:
        self.loinc = loinc or core()
        self.terms: Sequence[LoincTerm] = self.loinc.terms
        synonyms = words()["synonyms"]
        self._components = TermIndex([term.component for term in self.terms], synonyms)
        self._stands = [stands for stands in synonyms.values() if stands]
        self._aliases = TermIndex([alias for alias, stands in synonyms.items() if stands])
        self._names = TermIndex([term.name or term.component for term in self.terms], synonyms)
        self.by_code = {term.code: term for term in core().terms} | {term.code: term for term in self.terms}
        self._testcd = {term.code: term.testcd for term in core().terms}

    def match(self, test: LocalTest, limit: int = 5) -> Ranked:
        """Candidates with the reasons for and against each."""
        name, specimen, method = _split(test.name)
        systems = _systems(test.specimen) or _systems(specimen)
        wanted = () if test.numeric is False else properties_of(test.unit, test.testcd)
        scored = []
        for place, likely in self._reached(name, test).items():
            score, reasons = _axes(self.terms[place], likely, wanted, systems, test, method, worded=bool(specimen))
            scored.append((round(score, 4), self.terms[place], reasons))
        scored.sort(key=lambda s: (-s[0], s[1].rank or 99_999, len(s[1].code), s[1].code))
        found = tuple(Candidate(t.code, t.display(), s, tuple(r)) for s, t, r in scored[:limit])
        known = {"system": bool(systems), "method": bool(method)}
        return Ranked(found, _doubt([(s, t) for s, t, _ in scored[:limit]], known))

    def _reached(self, name: str, test: LocalTest) -> dict[int, float]:
        """Terms whose component or name is like the test's, with the likeness."""
        reached: dict[int, float] = {}
        asked = [(self._components, name, 1.0), (self._names, test.name, 1.0)]
        # A synonym that is misspelled, or has its words in another order.
        plain = " ".join(word for word in normalised(name).split() if words()["synonyms"].get(word) != "")
        for alias in self._aliases.search(plain, 3):
            if alias.score >= policy().alias_score:
                asked.append((self._components, self._stands[alias.index], alias.score))
        for index, text, worth in asked:
            for found in index.search(text, 120):
                reached[found.index] = max(reached.get(found.index, 0.0), worth * found.score)
        if test.testcd:
            for place, term in enumerate(self.terms):
                if self._testcd.get(term.code) == test.testcd.upper():
                    reached[place] = max(reached.get(place, 0.0), policy().testcd_score)
        return reached


def _split(name: str) -> tuple[str, str, str]:
    """A name's component, specimen and method, where it is worded as LOINC words it."""
    plain = re.sub(r"\[[^\]]*\]", " ", name)
    match = re.match(r"^(?P<c>.+?)(?:,? (?:in|of) (?P<s>.+?))?(?: by (?P<m>.+))?$", plain.strip())
    if match is None:
        return plain, "", ""
    specimen = match["s"] or ""
    known = normalised(specimen) in words()["systems"]
    component = match["c"] if known or not specimen else plain
    return component, specimen if known else "", match["m"] or ""


@lru_cache(maxsize=1024)
def _systems(specimen: str) -> tuple[str, ...]:
    return tuple(words()["systems"].get(normalised(specimen), ()))


def _axes(
    term: LoincTerm,
    likely: float,
    wanted: tuple[str, ...],
    systems: tuple[str, ...],
    test: LocalTest,
    method: str,
    worded: bool,
) -> tuple[float, list[str]]:
    """Score of one term and the reasons, axis by axis; a name worded as LOINC words it names a method if it has one."""
    weights = policy().loinc_weights
    reasons = [f"component {likely:.2f}"]
    marks: dict[str, float] = {"component": likely}
    if wanted:
        marks["property"] = 1.0 if term.property in wanted or not term.property else 0.0
        agrees = "agrees with" if marks["property"] else "contradicts"
        reasons.append(f"property {term.property or 'not stated'} {agrees} the unit")
    else:
        marks["property"] = 1.0 if test.numeric is False and term.property in _ORDINAL else 0.5
    if systems:
        place = systems.index(term.system) if term.system in systems else -1
        marks["system"] = 0.0 if place < 0 else 1.0 - 0.3 * min(place, 3)
        reasons.append(f"system {term.system} {'fits' if place >= 0 else 'does not fit'} the specimen")
    else:
        marks["system"] = 0.75 if term.system in ("Ser/Plas", "^Patient", "RBC") else 0.7
    numeric = test.numeric if test.numeric is not None else (True if test.unit else None)
    if numeric and ucum_code(test.unit) in ("", "1"):
        numeric = None
    marks["scale"] = 0.5 if numeric is None else float(numeric == (term.scale in ("Qn", "OrdQn", "")))
    if marks["scale"] == 0.0:
        reasons.append(f"scale {term.scale} does not fit the results")
    marks["time"] = float((term.time == "Pt") != ("(24.h)" in ucum_code(test.unit)))
    marks["method"] = _method(term.method, method)
    popular = max(0.0, 1.0 - math.log10(term.rank) / _LEAST_COMMON) if term.rank else 0.0
    marks["rank"] = 0.5 if worded else popular
    score = sum(weights[axis] * mark for axis, mark in marks.items()) / sum(weights.values())
    if (wanted and not marks["property"]) or (systems and not marks["system"]):
        score = min(score, policy().contradiction)
    return score * (0.4 + 0.6 * likely), reasons


def _method(method: str, asked: str) -> float:
    """A method named in the test's name decides; otherwise terms without one come first."""
    if asked:
        return likeness(normalised(method) or "-", normalised(asked)) if method else 0.4
    return 0.6 if method else 1.0


def _doubt(ranked: Sequence[tuple[float, LoincTerm]], known: Mapping[str, bool]) -> str:
    """Why a person must look at these terms; empty when the first may be taken."""
    limits = policy()
    if not ranked:
        return "no candidate"
    score, first = ranked[0]
    if score < limits.auto_score:
        return f"best score {score:.2f} is below {limits.auto_score:.2f}"
    for other_score, other in ranked[1:]:
        if score - other_score < limits.margin:
            return f"{other.code} is within {limits.margin:.2f} of the first"
        alike = (other.component, other.property, other.scale) == (first.component, first.property, first.scale)
        if alike and other.system != first.system and not known["system"]:
            return f"the specimen is not known, and {other.code} differs only in it"
        named = first.method and other.method and other.method != first.method
        if alike and other.system == first.system and named and not known["method"]:
            return f"the method is not known, and {other.code} differs only in it"
    return ""
