"""Facts about analytes and unit spellings, read from the data files beside this module.

An analyte is keyed by its SDTM test code and by its LOINC codes. Molar masses are sums over IUPAC atomic weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from trialops.standards.ucum import UnitError

FOLDER = Path(__file__).parent
LOINC_CODE = re.compile(r"\d{1,7}-\d")


@dataclass(frozen=True)
class Analyte:
    """What is known of one analyte or vital sign.

    Attributes:
        code: SDTM test code.
        name: For people.
        domain: "LB" or "VS".
        mass: Molar mass in g/mol, exact as written; None where mass and substance are not exchanged.
        valence: Charges per particle; None where equivalents are not used.
        us, si: UCUM codes of the conventional and of the SI-based unit.
        activity: The arbitrary unit that a plain U stands for.
        plain: The unit of a result reported without one.
        hba1c: Whether the NGSP-IFCC master equation links % and mmol/mol.
        loinc: LOINC codes of this analyte.
        note: What the molar mass counts.
    """

    code: str
    name: str
    domain: str
    us: str
    si: str
    mass: Fraction | None = None
    valence: int | None = None
    activity: str = ""
    plain: str = ""
    hba1c: bool = False
    loinc: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Tables:
    """The two data files, read once."""

    analytes: Mapping[str, Analyte]
    by_loinc: Mapping[str, Analyte]
    spelled: Mapping[str, str]
    exact: Mapping[str, str]
    refused: Mapping[str, str]
    cdisc: Mapping[str, str]
    slope: Fraction
    intercept: Fraction
    version: str


@cache
def tables() -> Tables:
    """Analytes and unit spellings, from the files beside this module."""
    import yaml

    facts = yaml.safe_load((FOLDER / "analytes.yaml").read_text("utf-8"))
    names = yaml.safe_load((FOLDER / "unit_synonyms.yaml").read_text("utf-8"))
    weights = {symbol: Fraction(weight) for symbol, weight in facts["atomic_weights"].items()}
    analytes = {
        code: _analyte(code, domain, entry, weights) for domain in ("LB", "VS") for code, entry in facts[domain].items()
    }
    by_loinc: dict[str, Analyte] = {}
    for analyte in analytes.values():
        for loinc in analyte.loinc:
            by_loinc.setdefault(loinc, analyte)
    spelled: dict[str, str] = {folded(code): code for code in names["units"]}
    for code, entry in names["units"].items():
        for text in entry.get("spelled", ()):
            spelled.setdefault(folded(text), code)
    for code, entry in names["units"].items():
        if entry["cdisc"]:
            spelled.setdefault(folded(entry["cdisc"]), code)
    return Tables(
        analytes,
        by_loinc,
        spelled,
        names["exact"] | names["overrides"],
        names["refused"],
        {code: entry["cdisc"] for code, entry in names["units"].items()},
        Fraction(facts["hba1c"]["slope"]),
        Fraction(facts["hba1c"]["intercept"]),
        f"{facts['version']}.{names['version']}",
    )


def _analyte(code: str, domain: str, entry: Mapping[str, Any], weights: Mapping[str, Fraction]) -> Analyte:
    mass = Fraction(entry["mass"]) if "mass" in entry else None
    if "formula" in entry:
        mass = formula_mass(entry["formula"], weights)
    return Analyte(
        code=code,
        name=entry["name"],
        domain=domain,
        us=entry["us"],
        si=entry["si"],
        mass=mass,
        valence=entry.get("valence"),
        activity=entry.get("activity", ""),
        plain=entry.get("plain", ""),
        hba1c=entry.get("hba1c", False),
        loinc=tuple(entry.get("loinc", ())),
        note=entry.get("note", ""),
    )


def formula_mass(formula: str, weights: Mapping[str, Fraction]) -> Fraction:
    """Molar mass in g/mol of a chemical formula without brackets, such as ``C6H12O6``.

    Raises:
        UnitError: The formula cannot be read, or an element has no weight.
    """
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    if "".join(symbol + count for symbol, count in parts) != formula or not parts:
        raise UnitError(f"{formula!r} is not a chemical formula.", where="analytes.yaml")
    missing = sorted({symbol for symbol, _ in parts} - set(weights))
    if missing:
        raise UnitError(f"No atomic weight for {', '.join(missing)}.", where="analytes.yaml")
    return sum((weights[symbol] * int(count or 1) for symbol, count in parts), Fraction(0))


def find_analyte(code: str | None) -> Analyte | None:
    """The analyte behind a LOINC code or an SDTM test code; None when the table has none."""
    if not code:
        return None
    facts = tables()
    if LOINC_CODE.fullmatch(code):
        return facts.by_loinc.get(code)
    return facts.analytes.get(code.upper())


def molar_mass(analyte: str) -> float | None:
    """Molar mass in g/mol by SDTM test code or LOINC code; None when there is none."""
    found = find_analyte(analyte)
    return float(found.mass) if found is not None and found.mass is not None else None


def folded(text: str) -> str:
    """A spelling without case and blanks; the two micro signs are one."""
    return "".join(text.split()).replace("μ", "µ").upper().replace("Μ", "µ").replace("µ", "U")
