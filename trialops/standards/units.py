"""Units of clinical results: spellings, analytes, conversion of values and of columns.

UCUM alone stops at the dimension. A glucose of 90 mg/dL becomes 5.0 mmol/L only by its molar mass, a calcium of
5 meq/L becomes 2.5 mmol/L only by its valence, an HbA1c of 6.5 % becomes 48 mmol/mol only by the master equation.
These facts are data (``analytes.yaml``); what they do not cover is refused with a reason and never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from trialops.standards import ucum
from trialops.standards.analytes import Analyte, find_analyte, folded, molar_mass, tables
from trialops.standards.ucum import Unit, UnitError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = [
    "Conversion",
    "UnitError",
    "cdisc_unit",
    "convert",
    "convert_column",
    "find_analyte",
    "molar_mass",
    "solve",
    "ucum_code",
]

_PLAIN_UNIT = re.compile(r"(?<![A-Za-z\['_])([munpk]?)U(?![A-Za-z\]'_])")


@dataclass(frozen=True)
class Conversion:
    """How values go from one unit to another: ``target = value * factor + offset``, or why they do not.

    Attributes:
        source, target: UCUM codes; empty where a spelling is unknown.
        factor, offset: Of the straight line; unused on a curve.
        rule: "identity", "dimension", "molar mass", "valence", "NGSP-IFCC", "curve".
        reason: Why there is no conversion; empty when there is one.
    """

    source: str
    target: str
    factor: float = 1.0
    offset: float = 0.0
    rule: str = ""
    reason: str = ""

    def apply(self, value: float) -> float:
        """One value.

        Raises:
            UnitError: There is no conversion.
        """
        if self.reason:
            raise UnitError(f"{self.reason}.", where=f"{self.source} -> {self.target}")
        if self.rule == "curve":
            return ucum.convert(value, self.source, self.target)
        return value * self.factor + self.offset

    def apply_array(self, values: np.ndarray) -> np.ndarray:
        """Many values; NaN where there is no conversion or the scale has no such value."""
        import numpy as np

        if self.reason:
            return np.full(len(values), np.nan)
        if self.rule != "curve":
            return values * self.factor + self.offset
        distinct, places = np.unique(values, return_inverse=True)
        return np.array([_or_nan(self, value) for value in distinct], dtype=float)[places]


def _or_nan(conversion: Conversion, value: float) -> float:
    try:
        return conversion.apply(float(value))
    except UnitError:
        return float("nan")


@lru_cache(maxsize=65_536)
def ucum_code(text: str, analyte: str | None = None, *, spelled: bool = True) -> str:
    """The UCUM code that a unit as written stands for.

    Args:
        text: As found in a table; blanks around it are trimmed.
        analyte: LOINC or SDTM test code: decides what a plain ``U`` and a missing unit mean.
        spelled: Laboratory and SDTM spellings are known; False for data that declares UCUM (FHIR).

    Returns:
        The code; empty when the text is no known unit.
    """
    code, _ = _read_unit(text, analyte, spelled)
    return code


def _read_unit(text: str, analyte: str | None, spelled: bool) -> tuple[str, str]:
    """The code and, where there is none, the reason."""
    facts, known = tables(), find_analyte(analyte)
    text = text.strip()
    if not text:
        plain = known.plain if known is not None else ""
        return plain, "" if plain else "no unit"
    code = text
    if spelled:
        if text in facts.refused:
            return "", f"unit {text!r}: {facts.refused[text]}"
        code = facts.exact.get(text, text)
    if not ucum.is_valid(code):
        code = facts.spelled.get(folded(text), "") if spelled else ""
    if not code:
        return "", f"unit {text[:20]!r} is not known"
    if known is not None and known.plain and ucum.parse(code).dimension == () and code == "1":
        return known.plain, ""
    if known is not None and known.activity and "U" in ucum.parse(code).atoms:
        read = _PLAIN_UNIT.sub(lambda match: match[1] + known.activity, code)
        code = read if ucum.is_valid(read) else code
    return code, ""


def cdisc_unit(code: str) -> str:
    """The CDISC submission value of a UCUM code; the code itself where the table has none."""
    return tables().cdisc.get(code, code)


@lru_cache(maxsize=65_536)
def solve(source: str, target: str, analyte: str | None = None, *, spelled: bool = True) -> Conversion:
    """How to convert between two units of an analyte; solved once per distinct triple.

    Args:
        source: Unit as written.
        target: Unit wanted, as written.
        analyte: LOINC or SDTM test code, or None.
        spelled: As for :func:`ucum_code`.

    Returns:
        The conversion; its ``reason`` is set where there is none.
    """
    first, why_first = _read_unit(source, analyte, spelled)
    second, why_second = _read_unit(target, analyte, spelled)
    if "" in (source.strip(), target.strip()) and {first, second} <= {"", "1"}:
        return Conversion(first, second, rule="identity")  # a plain number, whether or not that was said
    if not first or not second:
        return Conversion(first, second, reason=why_first or why_second)
    if first == second:
        return Conversion(first, second, rule="identity")
    return _between(ucum.parse(first), ucum.parse(second), find_analyte(analyte), analyte or "")


def _between(first: Unit, second: Unit, known: Analyte | None, name: str) -> Conversion:
    if known is not None and known.hba1c and ("mol" in first.atoms) != ("mol" in second.atoms):
        return _hba1c(first, second)
    if first.dimension == second.dimension:
        reason = ucum.comparable(first, second)
        if reason:
            return Conversion(first.code, second.code, reason=reason)
        if first.special is None and second.special is None:
            return Conversion(first.code, second.code, float(first.factor / second.factor), rule="dimension")
        return _special(first, second)
    return _linked(first, second, known, name)


def _special(first: Unit, second: Unit) -> Conversion:
    """Thermometer scales are straight lines; logarithms are not."""
    lines = [ucum.straight(unit) for unit in (first, second)]
    if None not in lines:
        (factor, offset), (other, shift) = (line or (Fraction(1), Fraction(0)) for line in lines)
        return Conversion(first.code, second.code, float(factor / other), float((offset - shift) / other), "dimension")
    return Conversion(first.code, second.code, rule="curve")


def _hba1c(first: Unit, second: Unit) -> Conversion:
    """NGSP % and IFCC mmol/mol are two calibrations of one quantity, linked by the master equation."""
    facts = tables()
    if first.dimension or second.dimension or first.special or second.special:
        return Conversion(first.code, second.code, reason=f"{first.code} and {second.code} are no HbA1c units")
    per_cent, per_mille = Fraction(1, 100), Fraction(1, 1000)
    if "mol" in second.atoms:  # NGSP -> IFCC
        factor = first.factor / per_cent / facts.slope * per_mille / second.factor
        offset = -facts.intercept / facts.slope * per_mille / second.factor
    else:
        factor = first.factor / per_mille * facts.slope * per_cent / second.factor
        offset = facts.intercept * per_cent / second.factor
    return Conversion(first.code, second.code, float(factor), float(offset), "NGSP-IFCC")


def _linked(first: Unit, second: Unit, known: Analyte | None, name: str) -> Conversion:
    """Mass, substance and charge are exchanged one for one power, everything else must agree."""
    bases = {base for base, _ in first.dimension + second.dimension}
    gap = {base: first.exponent(base) - second.exponent(base) for base in bases}
    gap = {base: power for base, power in gap.items() if power}
    pair = tuple(sorted(gap))
    powers = list(gap.values())
    refused = f"{first.code} and {second.code} measure different kinds of quantity"
    if pair not in (("g", "mol"), ("eq", "mol"), ("eq", "g")) or sorted(powers) != [-1, 1]:
        return Conversion(first.code, second.code, reason=refused)
    if first.special is not None or second.special is not None:
        return Conversion(first.code, second.code, reason=refused)
    if known is None:
        reason = f"{refused}, and analyte {name!r} is not in the table" if name else f"{refused} without an analyte"
        return Conversion(first.code, second.code, reason=reason)
    # One of `base` is so many mol.
    moles: dict[str, Fraction] = {"mol": Fraction(1)}
    if known.mass is not None:
        moles["g"] = 1 / known.mass
    if known.valence is not None:
        moles["eq"] = Fraction(1, known.valence)
    for base, what in (("g", "molar mass"), ("eq", "valence")):
        if base in gap and base not in moles:
            return Conversion(first.code, second.code, reason=f"{refused}, and {known.code} has no {what}")
    source = next(base for base in pair if gap[base] == 1)
    target = next(base for base in pair if gap[base] == -1)
    factor = first.factor / second.factor * moles[source] / moles[target]
    return Conversion(first.code, second.code, float(factor), rule="molar mass" if "g" in gap else "valence")


def convert(value: float, from_ucum: str, to_ucum: str, loinc: str | None = None, analyte: str | None = None) -> float:
    """Convert one value between UCUM units.

    Args:
        value: In the first unit.
        from_ucum: UCUM code, not a spelling.
        to_ucum: UCUM code wanted.
        loinc: LOINC code of the test.
        analyte: SDTM test code, where there is no LOINC code.

    Raises:
        UnitError: A unit is not UCUM, or nothing known links the two.
    """
    return solve(from_ucum, to_ucum, loinc or analyte, spelled=False).apply(value)


def convert_column(
    values: pl.Series,
    from_unit: pl.Series | str,
    to_unit: pl.Series | str,
    analyte: pl.Series | str | None = None,
    *,
    spelled: bool = True,
) -> pl.DataFrame:
    """Convert a column: each distinct (unit, unit, analyte) is solved once and joined to its rows.

    Args:
        values: Numbers; null stays null.
        from_unit: Column of the same length, or one text for all rows; null is the empty text.
        to_unit: Likewise.
        analyte: LOINC or SDTM test codes, likewise.
        spelled: As for :func:`ucum_code`.

    Returns:
        One row per value, in order: ``value`` (Float64, null where there is no conversion), ``unit`` (UCUM code
        of the target), ``rule`` and ``reason`` (empty where it was converted).
    """
    import polars as pl

    rows = values.len()
    keys = ["from", "to", "analyte"]
    frame = pl.DataFrame(
        {"number": values.cast(pl.Float64)}
        | {name: _column(part, rows) for name, part in zip(keys, (from_unit, to_unit, analyte), strict=True)}
    )
    distinct = frame.select(keys).unique(maintain_order=True)
    solved = [solve(source, target, test or None, spelled=spelled) for source, target, test in distinct.iter_rows()]
    plan = distinct.with_columns(
        pl.Series("case", range(len(solved)), pl.UInt32),
        pl.Series("factor", [c.factor for c in solved], pl.Float64),
        pl.Series("offset", [c.offset for c in solved], pl.Float64),
        pl.Series("unit", [c.target for c in solved], pl.String),
        pl.Series("rule", [c.rule for c in solved], pl.String),
        pl.Series("reason", [c.reason for c in solved], pl.String),
    )
    line = pl.when(pl.col("reason") == "").then(pl.col("number") * pl.col("factor") + pl.col("offset"))
    out = frame.join(plan, on=keys, how="left", maintain_order="left").with_columns(value=line)
    for case, conversion in enumerate(solved):
        if conversion.rule == "curve":
            here = pl.col("case") == case
            points = out.filter(here)["number"].to_numpy()
            bent = pl.Series(conversion.apply_array(points), dtype=pl.Float64, nan_to_null=True)
            places = out.select(pl.arg_where(here)).to_series()
            out = out.with_columns(out["value"].scatter(places, bent).alias("value"))
    lost = pl.col("value").is_null() & pl.col("number").is_not_null() & (pl.col("reason") == "")
    reason = pl.when(lost).then(pl.lit("the target scale has no such value")).otherwise(pl.col("reason"))
    return out.select("value", "unit", "rule", reason.alias("reason"))


def _column(part: pl.Series | str | None, rows: int) -> pl.Series:
    import polars as pl

    if isinstance(part, pl.Series):
        return part.cast(pl.String).fill_null("")
    return pl.repeat(part or "", rows, dtype=pl.String, eager=True)
