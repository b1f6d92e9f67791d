"""UCUM codes: parsed, validated, compared, converted.

The grammar and the table of units are those of the package ucumvert (UCUM 2.2). Their arithmetic is ours and
exact (fractions of integers), because pint, which ucumvert hands its trees to, differs from UCUM where it
matters to a laboratory: the conventional mercury column, ``g%``, ``[pH]``, arbitrary units that become plain
numbers, a bare number with an exponent.

Stricter than UCUM in one point, on purpose: an amount of substance, of charge (``eq``) and of osmotically active
particles (``osm``), a microscope field and every arbitrary unit are dimensions of their own. UCUM calls ``mol``,
``eq`` and ``osm`` the same number; a calcium of 5 meq/L is 2.5 mmol/L all the same. What links them is the
analyte (:mod:`trialops.standards.units`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from trialops.errors import TrialOpsError
from trialops.standards.ucum_tables import InvalidCode, Special, fold, syntax_tree

LONGEST = 200
"""Characters of a code; the longest in common use has about 40."""

Dimension = tuple[tuple[str, int], ...]


class UnitError(TrialOpsError):
    """A code that is not UCUM, or two that cannot be converted into each other."""


@dataclass(frozen=True)
class Unit:
    """A parsed code.

    Attributes:
        code: As it was given.
        factor: One of this unit in base units, exact (0 for special units).
        dimension: Exponents of the base units, sorted by name, none of them 0.
        atoms: Unit symbols that occur, without prefixes.
        annotations: Texts in braces; they carry no meaning for conversion.
        special: For units that need a function.
    """

    code: str
    factor: Fraction
    dimension: Dimension
    atoms: frozenset[str]
    annotations: tuple[str, ...] = ()
    special: Special | None = None

    def exponent(self, base: str) -> int:
        """Exponent of a base unit ("g", "mol", "m", "s", ...)."""
        return dict(self.dimension).get(base, 0)

    def to_base(self, value: float) -> float:
        """A value in this unit, in base units."""
        if self.special is None:
            return float(Fraction(value) * self.factor) if math.isfinite(value) else value
        inverse = _FUNCTIONS[self.special.function][1]
        return inverse(value * float(self.special.prefix)) * float(self.special.scale)

    def from_base(self, value: float) -> float:
        """A value in base units, in this unit.

        Raises:
            UnitError: The scale has no such value (the logarithm of a negative number).
        """
        if self.special is None:
            return float(Fraction(value) / self.factor) if math.isfinite(value) else value
        function = _FUNCTIONS[self.special.function][0]
        try:
            return function(value / float(self.special.scale)) / float(self.special.prefix)
        except (ValueError, OverflowError):
            raise UnitError(f"{self.code} has no value for this quantity", where=self.code) from None


def _power_of(base: float) -> Callable[[float], float]:
    return lambda value: base**value


def _potency(step: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (lambda value: -math.log(value, step)), (lambda value: step**-value)


def _thermometer(zero: Fraction) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return (lambda value: value - float(zero)), (lambda value: value + float(zero))


_ZERO = {"Cel": Fraction("273.15"), "degF": Fraction("459.67"), "degRe": Fraction("218.52")}
"""Absolute zero lies so many degrees below 0."""

_FUNCTIONS: Mapping[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    # Each takes a quantity divided by its scale; degF and degRe have their step in the scale.
    **{name: _thermometer(zero) for name, zero in _ZERO.items()},
    "ln": (math.log, math.exp),
    "lg": (math.log10, _power_of(10.0)),
    "ld": (math.log2, _power_of(2.0)),
    "lgTimes2": (lambda value: 2 * math.log10(value), lambda value: 10.0 ** (value / 2)),
    "pH": (lambda value: -math.log10(value), lambda value: 10.0**-value),
    "sqrt": (math.sqrt, lambda value: value * value),
    "tanTimes100": (lambda value: math.tan(value) * 100, lambda value: math.atan(value / 100)),
    # The slope's function takes degrees.
    "100tan": (
        lambda value: math.tan(math.radians(value)) * 100,
        lambda value: math.degrees(math.atan(value / 100)),
    ),
    "hpX": _potency(10.0),
    "hpC": _potency(100.0),
    "hpM": _potency(1000.0),
    "hpQ": _potency(50000.0),
}


@lru_cache(maxsize=16_384)
def _result(code: str) -> Unit | str:
    """The unit, or why there is none. Cached: a table has few distinct units and many rows."""
    if not code or len(code) > LONGEST:
        return "it is empty" if not code else f"it is longer than {LONGEST} characters"
    try:
        part = fold(syntax_tree(code))
    except InvalidCode as error:
        return str(error)
    dimension = tuple(sorted(part.powers))
    factor = part.factor if part.special is None else Fraction(0)
    return Unit(code, factor, dimension, part.atoms, part.notes, part.special)


def parse(code: str) -> Unit:
    """Read a case-sensitive UCUM code.

    Args:
        code: For example ``mg/dL``, ``10*9/L``, ``m[iU]/L``. Blanks are no part of a code: one read from a table
            is trimmed by the reader (:func:`trialops.standards.units.ucum_code`).

    Raises:
        UnitError: It is not UCUM.
    """
    found = _result(code)
    if isinstance(found, str):
        raise UnitError(
            f"{code[:40]!r} is not a UCUM code: {found}.",
            where="unit",
            fix="Use the case-sensitive UCUM code, or add the spelling to the unit synonyms.",
        )
    return found


def problem(code: str) -> str:
    """Why a text is not a UCUM code; empty when it is one."""
    found = _result(code)
    return found if isinstance(found, str) else ""


def is_valid(code: str) -> bool:
    """Whether a text is a UCUM code."""
    return not problem(code)


def comparable(first: Unit, second: Unit) -> str:
    """Why two units cannot be converted into each other; empty when they can."""
    if first.dimension != second.dimension:
        return f"{first.code} and {second.code} measure different kinds of quantity"
    for unit in (first, second):
        if unit.special is not None and not unit.special.function:
            return f"{unit.code} combines a special unit with others and has no conversion"
    return ""


def straight(unit: Unit) -> tuple[Fraction, Fraction] | None:
    """Factor and offset that lead from a unit to base units, exact; None for a logarithm, a root, a tangent."""
    if unit.special is None:
        return unit.factor, Fraction(0)
    zero = _ZERO.get(unit.special.function)
    return None if zero is None else (unit.special.prefix * unit.special.scale, zero * unit.special.scale)


def convert(value: float, source: str, target: str) -> float:
    """Convert a value between UCUM units of one dimension.

    Args:
        value: In the source unit.
        source: UCUM code.
        target: UCUM code wanted.

    Raises:
        UnitError: A code is invalid, or the dimensions differ.
    """
    first, second = parse(source), parse(target)
    reason = comparable(first, second)
    if reason:
        raise UnitError(
            f"{reason}.", where=f"{source} -> {target}", fix="Name the analyte, if one links the two units."
        )
    one, other = straight(first), straight(second)
    if one is not None and other is not None:
        return float((Fraction(value) * one[0] + one[1] - other[1]) / other[0]) if math.isfinite(value) else value
    return second.from_base(first.to_base(value))


def multiply(value: float, unit: str, other: float, other_unit: str) -> tuple[float, str]:
    """The product of two quantities: its value and its unit as a code."""
    _ratio_only(unit, other_unit)
    return value * other, f"({unit or '1'}).({other_unit or '1'})"


def divide(value: float, unit: str, other: float, other_unit: str) -> tuple[float, str]:
    """The quotient of two quantities: its value and its unit as a code."""
    _ratio_only(unit, other_unit)
    return value / other, f"({unit or '1'})/({other_unit or '1'})"


def _ratio_only(*codes: str) -> None:
    for code in codes:
        if parse(code or "1").special is not None:
            raise UnitError(f"{code} is not a ratio scale; it has no products.", where="unit")
