"""The check types. Each turns a rule into what one pass over the table can count.

A check type is a function `(rule, context) -> Measure` under a name in the registry. Adding one is adding a
function.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.intake.domains import catalog
from trialops.quality.rules import Rule, columns_of, condition, one_of, within

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Context:
    """What rules are judged on.

    Attributes:
        tables: All tables, newest versions of the rows.
        limits: What rules refer to by name.
        as_of: The day of the check: no record can be of a later one.
        shared: What several rules need and one of them has worked out, see `memo`.
    """

    tables: dict[str, pl.DataFrame]
    limits: dict[str, Any]
    as_of: dt.date = field(default_factory=lambda: dt.datetime.now(dt.UTC).date())
    shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def memo(self, key: Any, build: Callable[[], Any]) -> Any:
        """The value of a key, worked out the first time it is asked for."""
        if key not in self.shared:
            self.shared[key] = build()
        return self.shared[key]

    def forget(self, domain: str) -> None:
        """Let go of what was worked out for the rows of a table, once its rules are judged."""
        for key in [k for k in self.shared if isinstance(k, tuple) and k[0] == domain]:
            del self.shared[key]


@dataclass(frozen=True)
class RowMeasure:
    """Two boolean expressions over the rows of the table: which the rule is about, and which violate it."""

    applies: pl.Expr
    violates: pl.Expr


@dataclass(frozen=True)
class Counted:
    """A result that is not about rows.

    Attributes:
        violated: Violations.
        denominator: What they are out of.
        detail: What was found, in words.
        items: What to ask about, where the rule raises queries: USUBJID (null where it is about a site) and record.
    """

    violated: int
    denominator: int
    detail: str = ""
    items: pl.DataFrame | None = None


Measure = RowMeasure | Counted
CheckType = Callable[[Rule, Context], Measure]
REGISTRY: dict[str, CheckType] = {}


class NotApplicable(Exception):
    """The rule has nothing to look at; the message says what is absent."""


def check(name: str) -> Callable[[CheckType], CheckType]:
    """Register a check type under its name in the rule data."""

    def register(function: CheckType) -> CheckType:
        REGISTRY[name] = function
        return function

    return register


def table(context: Context, domain: str) -> pl.DataFrame:
    """A table with rows, or NotApplicable."""
    frame = context.tables.get(domain)
    if frame is None or frame.is_empty():
        raise NotApplicable(f"table {domain} is {'absent' if frame is None else 'empty'}")
    return frame


def require(context: Context, domain: str, *columns: str, filled: bool = True) -> None:
    """Make sure a table has rows and columns, or NotApplicable.

    An optional column that is empty in every row is as good as none: de-identification adds it where the delivery
    lacks it. That it is empty is for a completeness rule to say, which asks with `filled` off.
    """
    frame, spec = table(context, domain), catalog().domains.get(domain)
    optional = {c for c in columns if filled and spec and spec.may_lack(c)}
    missing = [
        c for c in columns if c not in frame.columns or (c in optional and frame[c].null_count() == frame.height)
    ]
    if missing:
        raise NotApplicable(f"table {domain} has no column {', '.join(missing)}")


def _where(rule: Rule, context: Context) -> pl.Expr:
    """The rows a rule is about. A column that is only asked to be missing may itself be absent."""
    have = table(context, rule.domain).columns
    data = {k: v for k, v in rule.where.items() if not (v == "missing" and k not in have)}
    require(context, rule.domain, *columns_of(data))
    return condition(data)


@check("required_table")
def required_table(rule: Rule, context: Context) -> Counted:
    """The table is there and has rows."""
    frame = context.tables.get(rule.domain)
    missing = frame is None or frame.is_empty()
    return Counted(int(missing), 1, f"table {rule.domain} is absent or empty" if missing else "")


@check("required_column")
def required_column(rule: Rule, context: Context) -> Counted:
    """All `columns` are there."""
    have = table(context, rule.domain).columns
    missing = [c for c in rule.arguments["columns"] if c not in have]
    detail = f"missing: {', '.join(missing)}" if missing else ""
    return Counted(len(missing), len(rule.arguments["columns"]), detail)


TYPES = {
    "text": lambda kind: kind == "String",
    "number": lambda kind: kind.startswith(("Int", "UInt", "Float", "Decimal")),
    "integer": lambda kind: kind.startswith(("Int", "UInt")),
    "date": lambda kind: kind == "Date",
    "datetime": lambda kind: kind.startswith("Datetime"),
}
"""What a contract calls a type, and the column types that are one."""


@check("column_type")
def column_type(rule: Rule, context: Context) -> Counted:
    """`column` is of `type`. A column without any value may be of every type: nothing in it contradicts one."""
    column, wanted = rule.arguments["column"], rule.arguments["type"]
    require(context, rule.domain, column, filled=False)
    series = context.tables[rule.domain][column]
    fits = TYPES[wanted](str(series.dtype)) or series.null_count() == series.len()
    return Counted(int(not fits), 1, "" if fits else f"it is {series.dtype}")


@check("pattern")
def pattern(rule: Rule, context: Context) -> RowMeasure:
    """A value of `column` has the form of the regular expression `pattern`."""
    import polars as pl

    column = rule.arguments["column"]
    require(context, rule.domain, column)
    applies = _where(rule, context) & pl.col(column).is_not_null()
    return RowMeasure(applies, ~pl.col(column).str.contains(rule.arguments["pattern"]))


@check("completeness")
def completeness(rule: Rule, context: Context) -> RowMeasure:
    """`column` has a value."""
    import polars as pl

    column = rule.arguments["column"]
    require(context, rule.domain, column, filled=False)
    return RowMeasure(_where(rule, context), pl.col(column).is_null())


@check("value_set")
def value_set(rule: Rule, context: Context) -> RowMeasure:
    """A value of `column` is one of `values`."""
    import polars as pl

    column = rule.arguments["column"]
    require(context, rule.domain, column)
    applies = _where(rule, context) & pl.col(column).is_not_null()
    return RowMeasure(applies, ~one_of(pl.col(column), rule.arguments["values"]))


@check("unique_key")
def unique_key(rule: Rule, context: Context) -> RowMeasure:
    """No two rows share all of `columns`."""
    import polars as pl

    columns = rule.arguments["columns"]
    require(context, rule.domain, *columns)
    applies = _where(rule, context) & pl.all_horizontal(pl.col(c).is_not_null() for c in columns)
    if distinct(context.tables[rule.domain], columns):
        return RowMeasure(applies, pl.lit(False))
    return RowMeasure(applies, pl.struct(columns).is_duplicated())


def distinct(frame: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether no two rows share all columns, quickly: different hashes prove it; equal ones prove nothing."""
    return frame.select(columns).hash_rows(seed=3).n_unique() == frame.height


@check("foreign_key")
def foreign_key(rule: Rule, context: Context) -> RowMeasure:
    """The value of `column` is in the same column (or `other`) of `table`, in its rows that meet `reference_where`."""
    import polars as pl

    column, other = rule.arguments["column"], rule.arguments["table"]
    there, wanted = rule.arguments.get("other", column), rule.arguments.get("reference_where", {})
    require(context, rule.domain, column)
    require(context, other, there, *columns_of(wanted))
    known = context.tables[other].filter(condition(wanted))[there].drop_nulls().unique()
    applies = _where(rule, context) & pl.col(column).is_not_null()
    # Each value is looked up once, not once per row.
    values = context.tables[rule.domain][column].drop_nulls().unique()
    strange = values.filter(~values.is_in(known.implode()))
    return RowMeasure(applies, pl.col(column).is_in(strange.implode()) if strange.len() else pl.lit(False))


@check("treated_has_exposure")
def treated_has_exposure(rule: Rule, context: Context) -> RowMeasure:
    """A subject with an actual arm (the planned one where ACTARMCD is absent) has a row in EX."""
    import polars as pl

    from trialops.intake.facts import NOT_ASSIGNED

    arm = "ACTARMCD" if "ACTARMCD" in table(context, rule.domain).columns else "ARMCD"
    require(context, rule.domain, arm, "USUBJID")
    require(context, "EX", "USUBJID")
    treated = pl.col(arm).is_not_null() & ~pl.col(arm).str.to_uppercase().is_in(NOT_ASSIGNED)
    exposed = context.tables["EX"]["USUBJID"].drop_nulls().unique()
    return RowMeasure(treated, ~pl.col("USUBJID").is_in(exposed.implode()))


@check("range")
def value_range(rule: Rule, context: Context) -> RowMeasure:
    """`column` is between `min` and `max`; or --STRESN is inside the `limits` of its test in its unit."""
    import polars as pl

    if "limits" not in rule.arguments:
        column = rule.arguments["column"]
        require(context, rule.domain, column)
        inside = within(pl.col(column), rule.arguments.get("min"), rule.arguments.get("max"))
        return RowMeasure(_where(rule, context) & pl.col(column).is_not_null(), ~inside)
    code, value, unit = (f"{rule.domain}{name}" for name in ("TESTCD", "STRESN", "STRESU"))
    require(context, rule.domain, code, value, unit)
    limits = context.limits[rule.arguments["limits"]]
    tests = list(limits)

    def of_test(name: str, kind: type[pl.DataType]) -> pl.Expr:
        values = pl.Series([limits[t][name] for t in tests], dtype=kind, strict=False)
        return pl.col(code).replace_strict(tests, values, default=None, return_dtype=kind)

    low, high = of_test("min", pl.Float64), of_test("max", pl.Float64)
    applies = _where(rule, context) & pl.col(value).is_not_null() & (pl.col(unit) == of_test("unit", pl.String))
    return RowMeasure(applies, (pl.col(value) < low) | (pl.col(value) > high))


@check("day_order")
def day_order(rule: Rule, context: Context) -> RowMeasure:
    """Study day `start` is not after study day `end`, where both are known."""
    import polars as pl

    start, end = rule.arguments["start"], rule.arguments["end"]
    require(context, rule.domain, start, end)
    both = pl.col(start).is_not_null() & pl.col(end).is_not_null()
    return RowMeasure(_where(rule, context) & both, pl.col(start) > pl.col(end))


@check("consistency")
def consistency(rule: Rule, context: Context) -> RowMeasure:
    """Where `when` holds, `then` holds. An alternative of `when` whose column is absent is left out."""
    wanted, then = rule.arguments["when"], rule.arguments["then"]
    if set(wanted) == {"any"}:
        have = set(table(context, rule.domain).columns)
        wanted = {"any": [part for part in wanted["any"] if set(columns_of(part)) <= have]}
        if not wanted["any"]:
            raise NotApplicable(f"table {rule.domain} has none of the columns of the condition")
    require(context, rule.domain, *columns_of(wanted), *columns_of(then))
    return RowMeasure(_where(rule, context) & condition(wanted), ~condition(then))


@check("site_size")
def site_size(rule: Rule, context: Context) -> Counted:
    """Every site has `minimum` subjects; the denominator is sites."""
    import polars as pl

    require(context, rule.domain, "SITEID", "USUBJID")
    sites = context.tables[rule.domain].filter(pl.col("SITEID").is_not_null()).group_by("SITEID", maintain_order=True)
    small = sites.agg(n=pl.col("USUBJID").n_unique()).filter(pl.col("n") < rule.arguments["minimum"]).sort("SITEID")
    items = small.select(USUBJID=pl.lit(None, pl.String), record=pl.format("SITEID {}", "SITEID"))
    return Counted(small.height, context.tables[rule.domain]["SITEID"].drop_nulls().n_unique(), items=items)


@check("unit_present")
def unit_present(rule: Rule, context: Context) -> RowMeasure:
    """A numeric result has a unit, but for the tests that have none."""
    import polars as pl

    code, value, unit = (f"{rule.domain}{name}" for name in ("TESTCD", "STRESN", "STRESU"))
    require(context, rule.domain, code, value, unit)
    unitless = list(context.limits.get("unitless", {}).get(rule.domain, []))
    applies = pl.col(value).is_not_null() & ~pl.col(code).is_in(unitless)
    return RowMeasure(_where(rule, context) & applies, pl.col(unit).is_null())
