"""The check types of the OHDSI Data Quality Dashboard, each counted as its specification says.

Rows of a joined table (birth, death, visit, concept) are looked up once per table and shared by all rules.
Where the dashboard's SQL assumes something about a partial date of birth, the earliest possible day is taken here, so
that a record gets the benefit of the doubt.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from trialops.quality.checks import Context, Counted, Measure, NotApplicable, RowMeasure, check, table
from trialops.quality.rules import Rule

if TYPE_CHECKING:
    import polars as pl

AFTER_DEATH_DAYS = 60
"""A record may follow death by so many days: results and bills arrive late (DQD)."""
VISIT_DAYS = 7
GENDERS = {"male": 8507, "female": 8532}
VOCABULARY = frozenset(
    ("concept", "vocabulary", "domain", "concept_class", "concept_relationship", "relationship", "concept_synonym")
    + ("concept_ancestor", "drug_strength")
)
NUMERIC_ONLY = {("measurement", "unit_concept_id"), ("observation", "unit_concept_id")}


def _frame(context: Context, name: str, *columns: str) -> pl.DataFrame:
    """A table with rows and columns, or NotApplicable."""
    frame = table(context, name)
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise NotApplicable(f"table {name} has no column {', '.join(missing)}")
    return frame


def _aligned(context: Context, name: str, key: str, build: Any) -> pl.DataFrame:
    """Columns of another table beside the rows of this one, looked up once per check run."""

    def join() -> pl.DataFrame:
        keys = context.tables[name].select(key)
        other = build()
        joined: pl.DataFrame = keys.join(
            other.with_columns(other[other.columns[0]].cast(keys.schema[key]).alias(other.columns[0])).rename(
                {other.columns[0]: key}
            ),
            on=key,
            how="left",
            maintain_order="left",
        )
        return joined.drop(key)

    return context.memo((name, key, build.__name__), join)


# -- tables ------------------------------------------------------------------------------------------------------------


@check("cdmTable")
def cdm_table(rule: Rule, context: Context) -> Counted:
    """The table is there."""
    missing = rule.domain not in context.tables
    return Counted(int(missing), 1, f"table {rule.domain} is absent" if missing else "")


@check("measurePersonCompleteness")
def person_completeness(rule: Rule, context: Context) -> Counted:
    """Persons without a record in the table."""
    persons = _frame(context, "person", "person_id")["person_id"].unique()
    if rule.domain not in context.tables:
        raise NotApplicable(f"table {rule.domain} is absent")
    other = context.tables[rule.domain]
    if "person_id" not in other.columns:
        raise NotApplicable(f"table {rule.domain} has no column person_id")
    seen = other["person_id"].drop_nulls().unique().cast(persons.dtype)
    return Counted(int((~persons.is_in(seen.implode())).sum()), persons.len())


@check("measureConditionEraCompleteness")
def condition_era_completeness(rule: Rule, context: Context) -> Counted:
    """Persons who have conditions and no condition era."""
    persons = _frame(context, "condition_occurrence", "person_id")["person_id"].drop_nulls().unique()
    eras = context.tables.get(rule.domain)
    if eras is None or "person_id" not in eras.columns:
        raise NotApplicable(f"table {rule.domain} is absent")
    built = eras["person_id"].drop_nulls().unique().cast(persons.dtype)
    return Counted(int((~persons.is_in(built.implode())).sum()), persons.len())


@check("measureObservationPeriodOverlap")
def observation_period_overlap(rule: Rule, context: Context) -> Counted:
    """Persons with two observation periods that overlap, or of which one begins the day after the other ends."""
    import polars as pl

    start, end = "observation_period_start_date", "observation_period_end_date"
    frame = _frame(context, rule.domain, "person_id", start, end).select("person_id", start, end).drop_nulls()
    latest = pl.col(end).cum_max().shift(1).over("person_id")
    touching = pl.col(start) <= latest + pl.duration(days=1)
    ordered = frame.sort("person_id", start, end).with_columns(touching=touching.fill_null(False))
    return Counted(ordered.filter("touching")["person_id"].n_unique(), frame["person_id"].n_unique())


# -- fields: conformance -----------------------------------------------------------------------------------------------


@check("cdmField")
def cdm_field(rule: Rule, context: Context) -> Counted:
    """The field is there; not applicable where its table is absent."""
    if rule.domain not in context.tables:
        raise NotApplicable(f"table {rule.domain} is absent")
    missing = rule.arguments["column"] not in context.tables[rule.domain].columns
    return Counted(int(missing), 1, "the field is absent" if missing else "")


@check("cdmDatatype")
def cdm_datatype(rule: Rule, context: Context) -> RowMeasure:
    """Values are of the prescribed type. Unlike the dashboard, which looks at integers only, all types are checked.

    A text value counts as a number or a date where it can be read as one, which is how a delimited file arrives.
    """
    import polars as pl

    column, kind = rule.arguments["column"], rule.arguments["argument"]
    have = _frame(context, rule.domain, column).schema[column]
    value = pl.col(column)
    return RowMeasure(value.is_not_null(), _mistyped(value, have, kind))


def _mistyped(value: pl.Expr, have: pl.DataType, kind: str) -> pl.Expr:
    """Whether a value is not of a CDM type, given the type of its column."""
    import polars as pl

    never, always = pl.lit(False), pl.lit(True)
    if kind.startswith("varchar"):
        size = kind[8:-1]
        if have != pl.String:
            return always
        return never if size == "max" else value.str.len_chars() > int(size)
    if have == pl.String:
        target: Any = {
            "integer": pl.Int64,
            "bigint": pl.Int64,
            "float": pl.Float64,
            "date": pl.Date,
            "datetime": pl.Datetime,
        }[kind]
        if kind in ("date", "datetime"):
            return value.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).is_null()
        return value.cast(target, strict=False).is_null()
    if kind in ("integer", "bigint"):  # of any width: the model leaves it to the implementer
        return never if have.is_integer() else (value != value.floor()) if have.is_float() else always
    if kind == "float":
        return never if have.is_numeric() else always
    if kind == "date":
        return never if have == pl.Date else always
    return never if have == pl.Date or have == pl.Datetime else always


@check("isRequired")
def is_required(rule: Rule, context: Context) -> RowMeasure:
    """The field is not null."""
    import polars as pl

    column = rule.arguments["column"]
    _frame(context, rule.domain, column)
    return RowMeasure(pl.lit(True), pl.col(column).is_null())


@check("measureValueCompleteness")
def value_completeness(rule: Rule, context: Context) -> Measure:
    """Share of nulls; for information where the field is not required."""
    return is_required(rule, context)


@check("isPrimaryKey")
def is_primary_key(rule: Rule, context: Context) -> Measure:
    """No value occurs twice."""
    import polars as pl

    column = rule.arguments["column"]
    frame = _frame(context, rule.domain, column)
    values = frame[column]
    if values.null_count() == 0 and values.n_unique() == values.len():  # the usual case needs no marks per row
        return Counted(0, values.len())
    return RowMeasure(pl.lit(True), pl.col(column).is_duplicated() & pl.col(column).is_not_null())


@check("isForeignKey")
def is_foreign_key(rule: Rule, context: Context) -> RowMeasure:
    """A value exists in the table it refers to.

    A vocabulary table without rows has not been loaded: not applicable. An empty table of data is no excuse.
    """
    import polars as pl

    column = rule.arguments["column"]
    other, field = rule.arguments["argument"].split(".")
    frame = _frame(context, rule.domain, column)
    if other == "concept":
        return RowMeasure(pl.lit(True), pl.col(column).is_not_null() & pl.lit(_concepts(context, rule)["known"].not_()))
    if other not in context.tables or (other in VOCABULARY and context.tables[other].is_empty()):
        raise NotApplicable(f"table {other} is not loaded")
    if field not in context.tables[other].columns:
        raise NotApplicable(f"table {other} has no column {field}")
    known = context.memo(("known", other, field), lambda: context.tables[other][field].drop_nulls().unique())
    missing = ~pl.col(column).is_in(known.cast(frame.schema[column]).implode())
    return RowMeasure(pl.lit(True), pl.col(column).is_not_null() & missing)


def _concepts(context: Context, rule: Rule) -> pl.DataFrame:
    """Per row: whether the concept is known, its domain and class, and whether it is standard and valid."""
    import polars as pl

    _frame(context, "concept", "concept_id")
    have = context.tables["concept"]

    def concepts() -> pl.DataFrame:
        def text(name: str) -> pl.Expr:
            return pl.col(name).cast(pl.String) if name in have.columns else pl.lit(None, pl.String).alias(name)

        standard = (pl.col("standard_concept") == "S") & pl.col("invalid_reason").is_null()
        names = ("domain_id", "concept_class_id", "standard_concept", "invalid_reason")
        return (
            have.select("concept_id", *(text(n) for n in names))
            .unique("concept_id", keep="first", maintain_order=True)
            .with_columns(known=pl.lit(True), good=standard.fill_null(False))
            .drop("standard_concept", "invalid_reason")
        )

    joined = _aligned(context, rule.domain, rule.arguments["column"], concepts)
    return joined.with_columns(pl.col("known").fill_null(False))


def _concept_rule(rule: Rule, context: Context, column: str, wrong: pl.Expr) -> RowMeasure:
    """A concept other than 0 that is known and has something wrong."""
    import polars as pl

    _frame(context, rule.domain, column)
    looked_up = _concepts(context, rule)
    flags = looked_up.select((pl.col("known") & wrong).fill_null(False).alias("wrong"))["wrong"]
    return RowMeasure(pl.lit(True), pl.lit(flags) & (pl.col(column) != 0))


@check("fkDomain")
def fk_domain(rule: Rule, context: Context) -> RowMeasure:
    """The concept is of the domain that the field is for."""
    import polars as pl

    wanted = rule.arguments["argument"].split(", ")
    return _concept_rule(rule, context, rule.arguments["column"], ~pl.col("domain_id").is_in(wanted))


@check("fkClass")
def fk_class(rule: Rule, context: Context) -> RowMeasure:
    """The concept is of the class that the field is for."""
    import polars as pl

    wanted = rule.arguments["argument"]
    return _concept_rule(rule, context, rule.arguments["column"], pl.col("concept_class_id") != wanted)


@check("isStandardValidConcept")
def is_standard_valid(rule: Rule, context: Context) -> RowMeasure:
    """The concept is standard and valid."""
    import polars as pl

    return _concept_rule(rule, context, rule.arguments["column"], ~pl.col("good"))


# -- fields: completeness ----------------------------------------------------------------------------------------------


@check("standardConceptRecordCompleteness")
def concept_record_completeness(rule: Rule, context: Context) -> RowMeasure:
    """The concept is not 0. A unit is asked of records with a number only."""
    import polars as pl

    column = rule.arguments["column"]
    frame = _frame(context, rule.domain, column)
    applies = pl.lit(True)
    if (rule.domain, column) in NUMERIC_ONLY and "value_as_number" in frame.columns:
        applies = pl.col("value_as_number").is_not_null()
    return RowMeasure(applies, pl.col(column).cast(pl.Int64) == 0)


@check("sourceConceptRecordCompleteness")
def source_concept_completeness(rule: Rule, context: Context) -> Measure:
    """The source concept is not 0."""
    return concept_record_completeness(rule, context)


@check("sourceValueCompleteness")
def source_value_completeness(rule: Rule, context: Context) -> Counted:
    """Distinct source values that some record maps to concept 0."""
    import polars as pl

    column, concept = rule.arguments["column"], rule.arguments["argument"]
    values = _frame(context, rule.domain, column, concept).filter(pl.col(column).is_not_null())
    return Counted(values.filter(pl.col(concept) == 0)[column].n_unique(), values[column].n_unique())


# -- fields: plausibility ----------------------------------------------------------------------------------------------


def _date(context: Context, name: str, column: str) -> pl.Expr:
    """A date or datetime column as a date; text that is no date is null (cdmDatatype counts it)."""
    import polars as pl

    kind = _frame(context, name, column).schema[column]
    if kind == pl.String:
        return pl.col(column).str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    return pl.col(column).cast(pl.Date)


def _bound(rule: Rule, context: Context) -> tuple[pl.Expr, Any]:
    """The column and its limit as comparable values."""
    import polars as pl

    column, text = rule.arguments["column"], rule.arguments["argument"]
    _frame(context, rule.domain, column)
    if text == "tomorrow":
        return _date(context, rule.domain, column), context.as_of + dt.timedelta(days=1)
    if text == "next-year":
        return pl.col(column), context.as_of.year + 1
    if len(text) == 8 and text.isdigit():
        return _date(context, rule.domain, column), dt.datetime.strptime(text, "%Y%m%d").date()
    return pl.col(column).cast(pl.Float64), float(text)


@check("plausibleValueLow")
def plausible_low(rule: Rule, context: Context) -> RowMeasure:
    """The value is not below the limit."""
    value, limit = _bound(rule, context)
    return RowMeasure(value.is_not_null(), value < limit)


@check("plausibleValueHigh")
def plausible_high(rule: Rule, context: Context) -> RowMeasure:
    """The value is not above the limit."""
    value, limit = _bound(rule, context)
    return RowMeasure(value.is_not_null(), value > limit)


def _birth(context: Context, name: str) -> pl.Series:
    """Earliest possible day of birth beside each row."""
    import polars as pl

    _frame(context, name, "person_id")
    have = _frame(context, "person", "person_id")

    def born() -> pl.DataFrame:
        def part(column: str) -> pl.Expr:
            return pl.col(column).cast(pl.Int32) if column in have.columns else pl.lit(None, pl.Int32)

        day = pl.date(part("year_of_birth"), part("month_of_birth").fill_null(1), part("day_of_birth").fill_null(1))
        exact = [_date(context, "person", "birth_datetime")] if "birth_datetime" in have.columns else []
        return have.select("person_id", birth=pl.coalesce(*exact, day)).unique("person_id", maintain_order=True)

    return _aligned(context, name, "person_id", born)["birth"]


def _death(context: Context, name: str) -> pl.Series:
    """Day of death beside each row; null for the living."""
    import polars as pl

    _frame(context, name, "person_id")
    have = _frame(context, "death", "person_id", "death_date")

    def died() -> pl.DataFrame:
        dated = have.select("person_id", death=_date(context, "death", "death_date"))
        return dated.group_by("person_id", maintain_order=True).agg(pl.col("death").max())

    return _aligned(context, name, "person_id", died)["death"]


@check("plausibleAfterBirth")
def plausible_after_birth(rule: Rule, context: Context) -> RowMeasure:
    """The date is not before birth."""
    import polars as pl

    value, birth = _date(context, rule.domain, rule.arguments["column"]), pl.lit(_birth(context, rule.domain))
    return RowMeasure(value.is_not_null() & birth.is_not_null(), value < birth)


@check("plausibleTemporalAfter")
def plausible_temporal_after(rule: Rule, context: Context) -> Measure:
    """The date is not before another field of the row, or of the person."""
    other, field = rule.arguments["argument"].split(".")
    if other == "person":
        return plausible_after_birth(rule, context)
    value, before = _date(context, rule.domain, rule.arguments["column"]), _date(context, rule.domain, field)
    return RowMeasure(value.is_not_null() & before.is_not_null(), value < before)


@check("plausibleDuringLife")
def plausible_during_life(rule: Rule, context: Context) -> RowMeasure:
    """Records of those who died: not more than 60 days after death."""
    import polars as pl

    value, death = _date(context, rule.domain, rule.arguments["column"]), pl.lit(_death(context, rule.domain))
    late = value > death + pl.duration(days=AFTER_DEATH_DAYS)
    return RowMeasure(value.is_not_null() & death.is_not_null(), late)


@check("plausibleBeforeDeath")
def plausible_before_death(rule: Rule, context: Context) -> Measure:
    """The successor of plausibleDuringLife, with the same grace."""
    return plausible_during_life(rule, context)


@check("plausibleStartBeforeEnd")
def plausible_start_before_end(rule: Rule, context: Context) -> RowMeasure:
    """The start is not after the end, where there is an end."""
    start = _date(context, rule.domain, rule.arguments["column"])
    end = _date(context, rule.domain, rule.arguments["argument"])
    return RowMeasure(start.is_not_null() & end.is_not_null(), start > end)


@check("withinVisitDates")
def within_visit_dates(rule: Rule, context: Context) -> RowMeasure:
    """The record is dated within a week of its visit."""
    import polars as pl

    _frame(context, rule.domain, "visit_occurrence_id")
    have = _frame(context, "visit_occurrence", "visit_occurrence_id", "visit_start_date", "visit_end_date")

    def visits() -> pl.DataFrame:
        start, end = (_date(context, "visit_occurrence", f"visit_{name}_date") for name in ("start", "end"))
        chosen = have.select("visit_occurrence_id", begun=start, over=pl.coalesce(end, start))
        return chosen.unique("visit_occurrence_id", keep="first", maintain_order=True)

    looked_up = _aligned(context, rule.domain, "visit_occurrence_id", visits)
    value, week = _date(context, rule.domain, rule.arguments["column"]), pl.duration(days=VISIT_DAYS)
    begun, over = pl.lit(looked_up["begun"]), pl.lit(looked_up["over"])
    return RowMeasure(value.is_not_null() & begun.is_not_null(), (value < begun - week) | (value > over + week))


# -- concepts ----------------------------------------------------------------------------------------------------------


def _by_gender(context: Context, name: str, column: str) -> dict[tuple[int, int], int]:
    """Records by concept and gender of the person, counted once for all concepts of a table."""
    import polars as pl

    frame = _frame(context, name, column, "person_id")
    have = _frame(context, "person", "person_id", "gender_concept_id")

    def genders() -> pl.DataFrame:
        return have.select("person_id", "gender_concept_id").unique("person_id", keep="first", maintain_order=True)

    def counted() -> dict[tuple[int, int], int]:
        gender = _aligned(context, name, "person_id", genders)["gender_concept_id"].fill_null(0).cast(pl.Int64)
        pairs = frame.select(concept=pl.col(column).cast(pl.Int64)).with_columns(gender=gender)
        return {(c, g): n for c, g, n in pairs.drop_nulls("concept").group_by("concept", "gender").len().iter_rows()}

    return context.memo(("by gender", name, column), counted)


def _gender_count(rule: Rule, context: Context, concepts: set[int]) -> Counted:
    counts = _by_gender(context, rule.domain, rule.arguments["column"])
    right = GENDERS[rule.arguments["argument"]]
    mine = {pair: n for pair, n in counts.items() if pair[0] in concepts}
    wrong = sum(n for (_, gender), n in mine.items() if gender != right)
    return Counted(wrong, sum(mine.values()))


@check("plausibleGender")
def plausible_gender(rule: Rule, context: Context) -> Counted:
    """Records of a concept belong to persons of the right gender."""
    return _gender_count(rule, context, _concept_ids(rule))


@check("plausibleGenderUseDescendants")
def plausible_gender_descendants(rule: Rule, context: Context) -> Counted:
    """Records of a concept's descendants belong to persons of the right gender."""
    import polars as pl

    tree = _frame(context, "concept_ancestor", "ancestor_concept_id", "descendant_concept_id")
    below = tree.filter(pl.col("ancestor_concept_id").is_in(list(_concept_ids(rule))))["descendant_concept_id"]
    return _gender_count(rule, context, set(below.to_list()))


def _concept_ids(rule: Rule) -> set[int]:
    return {int(concept) for concept in rule.id.rsplit(".", 1)[1].split("+")}


@check("plausibleUnitConceptIds")
def plausible_unit(rule: Rule, context: Context) -> Counted:
    """Numbers of a test are in one of its units; -1 in the list allows a record without unit."""
    import polars as pl

    column = rule.arguments["column"]
    frame = _frame(context, rule.domain, column, "unit_concept_id", "value_as_number")

    def counted() -> dict[int, dict[int, int]]:
        pairs = frame.filter(pl.col("value_as_number").is_not_null() & pl.col(column).is_not_null())
        units: dict[int, dict[int, int]] = {}
        grouped = pairs.group_by(pl.col(column).cast(pl.Int64), pl.col("unit_concept_id").fill_null(-1).cast(pl.Int64))
        for concept, unit, n in grouped.len().iter_rows():
            units.setdefault(concept, {})[unit] = n
        return units

    units = context.memo(("units", rule.domain, column), counted)
    (concept,) = _concept_ids(rule)
    mine, allowed = units.get(concept, {}), {int(unit) for unit in rule.arguments["argument"].split()}
    return Counted(sum(n for unit, n in mine.items() if unit not in allowed), sum(mine.values()))
