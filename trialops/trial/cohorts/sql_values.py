"""Values of criteria as SQL conditions.

Every literal is made from a typed value (number, day, concept id) or is a quoted text: nothing of a definition reaches
the SQL as it was written.
"""

from __future__ import annotations

import datetime as dt
import re

from trialops.standards.calendar import STUDY_EPOCH
from trialops.trial.cohorts.expression import Concepts, DateRange, NumberRange, TextFilter, Value

COMPARISONS = {"lt": "<", "lte": "<=", "eq": "=", "!eq": "<>", "gt": ">", "gte": ">="}
TEXT_FUNCTIONS = {"contains": "contains", "startsWith": "starts_with", "endsWith": "ends_with"}
DAYS_A_YEAR = 365.25
_AGE = re.compile(r"AGE\(([^()]+)\)")


def day(value: dt.date) -> str:
    """A day as a literal."""
    return f"DATE '{value.isoformat()}'"


def text(value: str) -> str:
    """A text as a literal."""
    return "'" + value.replace("'", "''") + "'"


def ids(values: frozenset[int] | tuple[int, ...]) -> str:
    """Concept ids as the inside of IN (...)."""
    return ", ".join(str(int(one)) for one in sorted(values))


def aged(sql: str, *, study_days: bool) -> str:
    """Replace AGE(x) by the age in years on day x.

    OHDSI counts calendar years: year of x less year of birth. On the study-day calendar the year of birth is 2000 less
    the age at day 1, and January 1st is nobody's birthday: there the completed years since (or before) day 1 are added
    to that age, so that a screening visit a week before day 1 does not make everybody a year younger.
    """
    if study_days:
        years = rf"CAST(trunc((\1 - {day(STUDY_EPOCH)}) / {DAYS_A_YEAR}) AS INTEGER)"
        return _AGE.sub(rf"({STUDY_EPOCH.year} - d.year_of_birth + {years})", sql)
    return _AGE.sub(r"(year(\1) - d.year_of_birth)", sql)


def condition(sql: str, value: Value, codeset: str = "") -> str:
    """A condition on an expression.

    Args:
        sql: The expression.
        value: What it must be.
        codeset: Concept ids of the value's concept set, as the inside of IN (...).
    """
    if isinstance(value, NumberRange | DateRange):
        return _range(sql, value)
    if isinstance(value, TextFilter):
        called = f"{TEXT_FUNCTIONS[value.op.removeprefix('!')]}({sql}, {text(value.text)})"
        return f"NOT {called}" if value.op.startswith("!") else called
    if isinstance(value, Concepts):
        inside = ids(value.ids) if value.codeset is None else codeset
        if not inside:
            return f"({sql} IS NOT NULL)" if value.exclude else "FALSE"
        return f"{sql} {'NOT IN' if value.exclude else 'IN'} ({inside})"
    return sql


def _range(sql: str, value: NumberRange | DateRange) -> str:
    def literal(one: float | dt.date) -> str:
        return day(one) if isinstance(one, dt.date) else repr(one)

    if value.op.endswith("bt"):
        assert value.extent is not None
        inside = f"{sql} BETWEEN {literal(value.value)} AND {literal(value.extent)}"
        return f"NOT ({inside})" if value.op.startswith("!") else f"({inside})"
    return f"{sql} {COMPARISONS[value.op]} {literal(value.value)}"
