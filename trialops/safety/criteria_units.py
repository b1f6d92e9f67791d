"""Which unit a result is compared in, and how it gets there.

The unit system a result was collected in rules: its own unit where the text prints numbers for it, else the first unit
of the same kind (a power of ten apart), and only where the text has none of its kind a conversion by molar mass or
valence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.safety.criteria import Condition, Criterion

if TYPE_CHECKING:
    import polars as pl


def amount_column(condition: Condition) -> str:
    """The column of a condition's absolute limit, in the unit that is compared in."""
    return f"_a{'_'.join(map(str, condition.amounts))}"


def unit_plan(criterion: Criterion, used: list[Condition], pairs: list[tuple[str, str]]) -> pl.DataFrame:
    """How results and baselines become numbers in the unit of the limits.

    Args:
        criterion: Whose limits they are.
        used: Its conditions.
        pairs: Each distinct pair of the unit of a result and of its baseline, as written.

    Returns:
        One row per pair: UNIT, BASE_UNIT; ``_unit``, the unit that is compared in; ``_factor``, ``_offset`` and
        ``_base_factor``, ``_base_offset``, the lines that lead there (null where none does); ``_why`` there is none;
        and the limits in that unit, a column for each, see :func:`amount_column`.
    """
    import polars as pl

    names = {amount_column(c): c.amounts for c in used if c.amounts}
    rows = []
    for unit, base_unit in pairs:
        chosen, factor, offset, why = _target(criterion, unit)
        target = criterion.units[chosen] if criterion.units and not why else unit
        base = _between(base_unit, target, criterion)
        amounts = {name: values[chosen] if not why else None for name, values in names.items()}
        rows.append(
            {"UNIT": unit, "BASE_UNIT": base_unit, "_factor": factor, "_offset": offset, "_unit": target, "_why": why}
            | {"_base_factor": base[0] if base else None, "_base_offset": base[1] if base else None}
            | amounts
        )
    numbers = ("_factor", "_offset", "_base_factor", "_base_offset", *names)
    schema = {"UNIT": pl.String, "BASE_UNIT": pl.String, "_unit": pl.String, "_why": pl.String}
    return pl.DataFrame(rows, schema=schema | dict.fromkeys(numbers, pl.Float64))


def _target(criterion: Criterion, unit: str) -> tuple[int, float, float, str]:
    """Which of the criterion's units a result is compared in, the line that leads there, or why there is none."""
    from trialops.standards.units import solve, ucum_code

    if not criterion.units:
        return 0, 1.0, 0.0, ""
    test = criterion.tests[0]
    code = ucum_code(unit, test)
    if criterion.unitless and code in ("", "1", "[pH]"):
        return 0, 1.0, 0.0, ""
    if code in criterion.units:
        return criterion.units.index(code), 1.0, 0.0, ""
    solved = [solve(unit, target, test) for target in criterion.units]
    kind = next((i for i, s in enumerate(solved) if not s.reason and s.rule in ("identity", "dimension")), None)
    chosen = kind if kind is not None else next((i for i, s in enumerate(solved) if not s.reason), None)
    if chosen is None or solved[chosen].rule == "curve":
        return 0, 1.0, 0.0, "no unit" if not unit else f"the unit cannot be compared with {criterion.units[0]}"
    return chosen, solved[chosen].factor, solved[chosen].offset, ""


def _between(unit: str, target: str, criterion: Criterion) -> tuple[float, float] | None:
    """Factor and offset from the baseline's unit; None where the two cannot be compared."""
    from trialops.standards.units import solve

    if unit == target or criterion.unitless:
        return 1.0, 0.0
    found = solve(unit, target, criterion.tests[0])
    return None if found.reason or found.rule == "curve" else (found.factor, found.offset)
