"""The UCUM table and grammar of the package ucumvert, evaluated exactly."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lark import Lark

LARGEST_EXPONENT = 99
OWN_DIMENSION = ("mol", "eq", "osm", "[HPF]", "[LPF]")


@dataclass(frozen=True)
class Special:
    """A unit on a scale that is no ratio scale: 0 Cel is 273.15 K, pH 7 is 1e-7 mol/L.

    Attributes:
        function: Name in the UCUM table ("Cel", "lg", "pH").
        scale: The argument of the function, in base units.
        prefix: Factor of the prefix (0.1 in dB).
    """

    function: str
    scale: Fraction
    prefix: Fraction = Fraction(1)


@dataclass(frozen=True)
class _Atom:
    """A line of the UCUM table."""

    factor: str
    unit: str
    function: str
    arbitrary: bool
    base: bool = False


@dataclass(frozen=True)
class Part:
    """A code or a part of one, evaluated: factor and exponents of the base units."""

    factor: Fraction = Fraction(1)
    powers: tuple[tuple[str, int], ...] = ()
    atoms: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    special: Special | None = None

    @property
    def trivial(self) -> bool:
        """Whether it is the plain number 1."""
        return self.special is None and not self.powers and self.factor == 1

    def raised(self, exponent: int) -> Part:
        """To a power."""
        special = self.special
        if special is not None and exponent != 1:
            special = Special("", special.scale)
        powers = tuple((name, power * exponent) for name, power in self.powers)
        return Part(self.factor**exponent, powers, self.atoms, self.notes, special)

    def times(self, other: Part) -> Part:
        """The product with another part."""
        # Data hold Cel in products (W/cm/Cel). Those are codes, but UCUM gives them no conversion.
        special = self.special or other.special
        if special is not None and not (self.trivial or other.trivial):
            special = Special("", special.scale)
        powers = dict(self.powers)
        for name, power in other.powers:
            powers[name] = powers.get(name, 0) + power
        return Part(
            self.factor * other.factor,
            tuple(sorted((name, power) for name, power in powers.items() if power)),
            self.atoms | other.atoms,
            self.notes + other.notes,
            special,
        )


class InvalidCode(Exception):  # noqa: N818  an inner signal, turned into a UnitError with the code
    """Why a text is not a UCUM code."""


@cache
def _grammar() -> Lark:
    from ucumvert.parser import get_ucum_parser

    return get_ucum_parser()


@cache
def _tables() -> tuple[dict[str, _Atom], dict[str, Fraction]]:
    """Units and prefixes of the UCUM table that ucumvert carries."""
    from ucumvert.xml_util import get_base_units, root

    atoms = {code: _Atom("1", "", "", False, base=True) for code in get_base_units()}
    for unit in root.findall(".//{*}unit"):
        value = unit.find("{*}value")
        if value is None:
            continue
        function = value.find("{*}function")
        source = value if function is None else function
        atoms[unit.attrib["Code"]] = _Atom(
            source.attrib.get("value", "1"),
            source.attrib["Unit"],
            "" if function is None else function.attrib["name"],
            unit.attrib.get("isArbitrary") == "yes",
        )
    prefixes = {}
    for prefix in root.findall(".//{*}prefix"):
        value = prefix.find("{*}value")
        if value is not None:
            prefixes[prefix.attrib["Code"]] = Fraction(value.attrib["value"])
    return atoms, prefixes


@cache
def _atom(code: str) -> Part:
    entry = _tables()[0].get(code)
    if entry is None:
        raise InvalidCode(f"{code} is not a UCUM unit")
    if entry.base or code in OWN_DIMENSION or (entry.arbitrary and entry.unit == "1"):
        return Part(powers=((code, 1),), atoms=frozenset((code,)))
    inner = fold(syntax_tree(entry.unit))
    if entry.function:
        scale = Fraction(entry.factor) * inner.factor
        # The scale's powers are the dimension of the quantity behind the function.
        return Part(Fraction(1), inner.powers, frozenset((code,)), special=Special(entry.function, scale))
    return Part(Fraction(entry.factor) * inner.factor, inner.powers, frozenset((code,)))


def syntax_tree(code: str) -> Any:
    """The parse tree by ucumvert's grammar."""
    from lark.exceptions import LarkError

    try:
        return _grammar().parse(code)
    except (LarkError, RecursionError):
        raise InvalidCode("it does not follow the UCUM grammar") from None


def fold(node: Any) -> Part:
    """Fold a parse tree; the node types are those of ucumvert's grammar."""
    from lark import Token

    if isinstance(node, Token):
        return Part(notes=(str(node)[1:-1],))  # an annotation standing for the unit 1
    children = node.children
    if node.data == "simple_unit":
        return _simple(children)
    if node.data == "annotatable":
        if getattr(children[0], "data", "") == "simple_unit" and children[0].children[0].type == "FACTOR":
            raise InvalidCode("a bare number cannot be raised to a power; write 10*3 for a thousand")
        exponent = int(children[1])
        if abs(exponent) > LARGEST_EXPONENT:
            raise InvalidCode(f"the exponent is larger than {LARGEST_EXPONENT}")
        return fold(children[0]).raised(exponent)
    if node.data == "component":
        return fold(children[0]).times(fold(children[1]))
    if node.data == "term":
        right = fold(children[2])
        return fold(children[0]).times(right if children[1] == "." else right.raised(-1))
    if len(children) == 2:  # main_term with a leading solidus
        return fold(children[1]).raised(-1)
    return fold(children[0])


def _simple(tokens: Any) -> Part:
    if len(tokens) == 1:
        token = tokens[0]
        return Part(Fraction(int(token))) if token.type == "FACTOR" else _atom(str(token))
    prefix = _tables()[1][str(tokens[0])]
    part = _atom(str(tokens[1]))
    if part.special is not None:
        special = Special(part.special.function, part.special.scale, prefix)
        return Part(part.factor, part.powers, part.atoms, special=special)
    return Part(part.factor * prefix, part.powers, part.atoms)
