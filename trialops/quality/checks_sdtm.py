"""Check types of SDTM conformance: numbering, days, dates, results, ranges, codes, related records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.intake import partial_dates
from trialops.quality.checks import Context, Counted, NotApplicable, RowMeasure, check, require, table
from trialops.quality.rules import Rule, condition

if TYPE_CHECKING:
    import polars as pl


@check("iso8601")
def iso8601(rule: Rule, context: Context) -> RowMeasure:
    """All --DTC columns hold ISO 8601 dates that exist; the denominator is rows with a date."""
    import polars as pl

    columns = [c for c in table(context, rule.domain).columns if c.endswith("DTC")]
    if not columns:
        raise NotApplicable(f"table {rule.domain} has no date as received")
    bad = [(partial_dates.not_iso(c) | partial_dates.impossible(c)).fill_null(False) for c in columns]
    return RowMeasure(pl.any_horizontal(pl.col(c).is_not_null() for c in columns), pl.any_horizontal(bad))


@check("no_day_zero")
def no_day_zero(rule: Rule, context: Context) -> RowMeasure:
    """No study day is 0: day 1 follows day -1 (SDTMIG 4.4.4)."""
    import polars as pl

    frame = table(context, rule.domain)
    days = [c for c in frame.columns if c.endswith("DY") and not c.startswith("_") and frame.schema[c].is_numeric()]
    if not days:
        raise NotApplicable(f"table {rule.domain} has no study day")
    there = pl.any_horizontal(pl.col(c).is_not_null() for c in days)
    return RowMeasure(there, pl.any_horizontal((pl.col(c) == 0).fill_null(False) for c in days))


@check("day_matches_date")
def day_matches_date(rule: Rule, context: Context) -> RowMeasure:
    """Study day `day` follows from date `date` and RFSTDTC of the subject; for tables as received."""
    import polars as pl

    from trialops.privacy.study_days import study_day

    date, day = rule.arguments["date"], rule.arguments["day"]
    require(context, rule.domain, "USUBJID", date, day)
    reference = _of_subject(context, rule.domain, "DM", "RFSTDTC", partial_dates.exact_day("RFSTDTC"))
    expected = study_day(partial_dates.exact_day(date), pl.lit(reference))
    return RowMeasure(expected.is_not_null() & pl.col(day).is_not_null(), expected != pl.col(day))


def _of_subject(context: Context, domain: str, other: str, column: str, value: pl.Expr) -> pl.Series:
    """One value of each row's subject, taken from a table with a row per subject."""
    import polars as pl

    require(context, domain, "USUBJID")
    require(context, other, "USUBJID", column)

    def look_up() -> pl.Series:
        values = context.tables[other].select("USUBJID", value=value).drop_nulls("USUBJID")
        first = values.unique("USUBJID", keep="first", maintain_order=True)
        keys = context.tables[domain].select(pl.col("USUBJID").cast(values.schema["USUBJID"]))
        return keys.join(first, on="USUBJID", how="left", maintain_order="left")["value"]

    found: pl.Series = context.memo((domain, "of subject", other, column), look_up)
    return found


@check("subject_order")
def subject_order(rule: Rule, context: Context) -> RowMeasure:
    """`column` of a row is not after `column` of the subject in `table` (or not before it: `relation` is "from")."""
    import polars as pl

    column, other = rule.arguments["column"], rule.arguments["table"]
    bound_column = rule.arguments["bound"]
    require(context, rule.domain, column)
    bound = pl.lit(_of_subject(context, rule.domain, other, bound_column, pl.col(bound_column)))
    wrong = pl.col(column) < bound if rule.arguments.get("relation") == "from" else pl.col(column) > bound
    applies = condition(rule.where) & pl.col(column).is_not_null() & bound.is_not_null()
    return RowMeasure(applies, wrong)


@check("subject_extreme")
def subject_extreme(rule: Rule, context: Context) -> RowMeasure:
    """`column` of the subject is the first (or last) `of` in `table`."""
    import polars as pl

    column, other, of = (rule.arguments[name] for name in ("column", "table", "of"))
    require(context, rule.domain, "USUBJID", column)
    require(context, other, "USUBJID", of)
    pick = pl.col(of).min() if rule.arguments["which"] == "first" else pl.col(of).max()
    extreme = context.tables[other].group_by("USUBJID").agg(value=pick)
    keys = context.tables[rule.domain].select("USUBJID")
    value = pl.lit(keys.join(extreme, on="USUBJID", how="left", maintain_order="left")["value"])
    return RowMeasure(pl.col(column).is_not_null() & value.is_not_null(), pl.col(column) != value)


@check("standard_agrees")
def standard_agrees(rule: Rule, context: Context) -> RowMeasure:
    """--STRESC, where it is a number, is --STRESN."""
    import polars as pl

    text, number = f"{rule.domain}STRESC", f"{rule.domain}STRESN"
    require(context, rule.domain, text, number)
    read = pl.col(text).cast(pl.String).cast(pl.Float64, strict=False)
    off = (read - pl.col(number)).abs() > 1e-6 * pl.max_horizontal(read.abs(), pl.col(number).abs(), pl.lit(1e-9))
    return RowMeasure(
        read.is_not_null() | pl.col(number).is_not_null(), off | (read.is_null() != pl.col(number).is_null())
    )


@check("original_agrees")
def original_agrees(rule: Rule, context: Context) -> RowMeasure:
    """--STRESN is --ORRES converted from --ORRESU to --STRESU, within `tolerance` (relative) and printed decimals."""
    import polars as pl

    from trialops.standards.units import convert_column

    names = {n: f"{rule.domain}{n}" for n in ("TESTCD", "ORRES", "ORRESU", "STRESN", "STRESU")}
    require(context, rule.domain, *names.values())
    frame = table(context, rule.domain)
    original = frame[names["ORRES"]].cast(pl.String).cast(pl.Float64, strict=False)
    converted = convert_column(original, frame[names["ORRESU"]], frame[names["STRESU"]], frame[names["TESTCD"]])[
        "value"
    ]
    off = (pl.lit(converted) - pl.col(names["STRESN"])).abs() > rule.arguments["tolerance"] * pl.lit(converted).abs()
    return RowMeasure(pl.lit(converted.is_not_null()) & pl.col(names["STRESN"]).is_not_null(), off)


@check("range_indicator")
def range_indicator(rule: Rule, context: Context) -> RowMeasure:
    """--NRIND says what --ORRES is beside --ORNRLO and --ORNRHI: NORMAL, LOW or HIGH, the limits being normal."""
    import polars as pl

    result, low, high, said = (f"{rule.domain}{n}" for n in ("ORRES", "ORNRLO", "ORNRHI", "NRIND"))
    require(context, rule.domain, result, low, high, said)
    value, lower, upper = (pl.col(c).cast(pl.String).cast(pl.Float64, strict=False) for c in (result, low, high))
    found = (
        pl.when(value < lower).then(pl.lit("LOW")).when(value > upper).then(pl.lit("HIGH")).otherwise(pl.lit("NORMAL"))
    )
    applies = value.is_not_null() & lower.is_not_null() & upper.is_not_null()
    return RowMeasure(applies & pl.col(said).is_in(["NORMAL", "LOW", "HIGH"]), found != pl.col(said))


@check("visit_window")
def visit_window(rule: Rule, context: Context) -> RowMeasure:
    """A planned visit lies within the protocol's window (`limits`: days before and after, by VISITNUM or default)."""
    import polars as pl

    actual = rule.arguments["column"]
    require(context, rule.domain, actual, "VISITDY", "VISITNUM")
    windows = context.limits[rule.arguments["limits"]]
    usual, own = windows["default"], {float(k): v for k, v in windows.get("visits", {}).items()}

    def bound(name: str) -> pl.Expr:
        values = {number: int(window[name]) for number, window in own.items()}
        if not values:
            return pl.lit(int(usual[name]))
        return pl.col("VISITNUM").replace_strict(values, default=int(usual[name]), return_dtype=pl.Int64)

    def ordinal(column: str) -> pl.Expr:
        """Without day 0 the distance from -1 to 1 is one day."""
        return pl.col(column) - (pl.col(column) > 0).cast(pl.Int32)

    late = ordinal(actual) - ordinal("VISITDY")
    return RowMeasure(late.is_not_null(), (late > bound("after")) | (late < -bound("before")))


@check("one_value")
def one_value(rule: Rule, context: Context) -> RowMeasure:
    """All rows with the same `key` have one value of `column`; the rarer ones violate it."""
    import polars as pl

    key, column = list(rule.arguments["key"]), rule.arguments["column"]
    require(context, rule.domain, *key, column)
    frame = table(context, rule.domain)
    counts = frame.select(*key, column).drop_nulls().group_by(*key, column).len()
    usual = counts.sort("len", column, descending=[True, False]).unique(key, keep="first", maintain_order=True)
    several = counts.group_by(key).len().filter(pl.col("len") > 1).select(key)
    if several.is_empty():
        return RowMeasure(pl.all_horizontal(pl.col(c).is_not_null() for c in (*key, column)), pl.lit(False))
    expected = usual.join(several, on=key, how="semi").select(*key, expected=column)
    looked_up = frame.select(key).join(expected, on=key, how="left", maintain_order="left")["expected"]
    applies = pl.all_horizontal(pl.col(c).is_not_null() for c in (*key, column))
    return RowMeasure(applies, pl.lit(looked_up).is_not_null() & (pl.col(column) != pl.lit(looked_up)))


@check("at_most_one")
def at_most_one(rule: Rule, context: Context) -> RowMeasure:
    """Of the rows that meet `where`, no two share all of `key`; columns of the key that are absent do not count."""
    import polars as pl

    have = table(context, rule.domain).columns
    key = [c for c in rule.arguments["key"] if c in have]
    require(context, rule.domain, *key, *rule.where)
    applies = condition(rule.where)
    return RowMeasure(applies, (applies.cast(pl.Int32).sum().over(key) > 1))


@check("no_overlap")
def no_overlap(rule: Rule, context: Context) -> RowMeasure:
    """Intervals of one `key` do not begin before an earlier one has ended."""
    import polars as pl

    key, start, end = list(rule.arguments["key"]), rule.arguments["start"], rule.arguments["end"]
    require(context, rule.domain, *key, start, end)
    ordered = table(context, rule.domain).select(*key, start, end, row=pl.int_range(pl.len())).sort(*key, start, end)
    before = pl.col(end).cum_max().shift(1).over(key)
    marked = ordered.select("row", bad=(pl.col(start) < before).fill_null(False)).sort("row")["bad"]
    return RowMeasure(pl.col(start).is_not_null() & pl.col(end).is_not_null(), pl.lit(marked))


@check("sex_terms")
def sex_terms(rule: Rule, context: Context) -> RowMeasure:
    """A term that one sex alone can have (`limits`: male, female; parts of terms) belongs to a subject of that sex."""
    import polars as pl

    column = rule.arguments["column"]
    require(context, rule.domain, column)
    sex = pl.lit(_of_subject(context, rule.domain, "DM", "SEX", pl.col("SEX")))
    parts = context.limits[rule.arguments["limits"]]
    term = pl.col(column).str.to_uppercase()
    women, men = (term.str.contains_any(list(parts[name])).fill_null(False) for name in ("female", "male"))
    return RowMeasure((women | men) & sex.is_in(["F", "M"]), (women & (sex == "M")) | (men & (sex == "F")))


@check("sex_ranges")
def sex_ranges(rule: Rule, context: Context) -> RowMeasure:
    """The reference ranges a laboratory used for a subject are those it uses for that sex.

    A range counts as one sex's when at least `least` subjects have it and `share` of them are of that sex. A subject is
    judged by the ranges that tell the sexes apart, and violates the rule when most of them are the other sex's.
    """
    import polars as pl

    require(context, rule.domain, "USUBJID", "SEX")
    low, high = "LBSTNRLO", "LBSTNRHI"
    require(context, "LB", "USUBJID", "LBTESTCD", low, high)
    key = ["LBTESTCD", low, high]
    sexes = table(context, rule.domain).select("USUBJID", "SEX").unique("USUBJID", keep="first")
    used = context.tables["LB"].select("USUBJID", *key).drop_nulls().unique()
    known = used.join(sexes.filter(pl.col("SEX").is_in(["F", "M"])), on="USUBJID")
    share = (
        known.group_by(key)
        .agg(n=pl.len(), women=(pl.col("SEX") == "F").mean())
        .filter(
            (pl.col("n") >= rule.arguments["least"])
            & ((pl.col("women") >= rule.arguments["share"]) | (pl.col("women") <= 1 - rule.arguments["share"]))
        )
    )
    # A range that all subjects of a one-sex trial have tells nothing: the test must have ranges of either sex.
    both = share.group_by("LBTESTCD").agg(sides=(pl.col("women") > 0.5).n_unique()).filter(pl.col("sides") == 2)
    told = known.join(share.join(both, on="LBTESTCD", how="semi"), on=key)
    wrong = (
        told.with_columns(other=(pl.col("women") > 0.5) != (pl.col("SEX") == "F"))
        .group_by("USUBJID")
        .agg(value=pl.col("other").mean() > 0.5)
    )
    keys = context.tables[rule.domain].select("USUBJID")
    marked = keys.join(wrong, on="USUBJID", how="left", maintain_order="left")["value"]
    return RowMeasure(pl.lit(marked.is_not_null()), pl.lit(marked.fill_null(False)))


@check("not_constant")
def not_constant(rule: Rule, context: Context) -> Counted:
    """Rows that meet `where` have more than one value of `column`, those of `besides` apart; judged from `least` on."""
    import polars as pl

    column = rule.arguments["column"]
    require(context, rule.domain, column, *rule.where)
    kept = table(context, rule.domain).filter(condition(rule.where) & ~pl.col(column).is_in(rule.arguments["besides"]))
    if kept.height < rule.arguments["least"]:
        raise NotApplicable("too few rows to expect two values")
    return Counted(int(kept[column].n_unique() < 2), 1)


@check("supp_keys")
def supp_keys(rule: Rule, context: Context) -> Counted:
    """Every supplemental qualifier finds its row: RDOMAIN, USUBJID and IDVAR = IDVARVAL (SDTMIG 8.4)."""
    return _related(rule.domain, table(context, rule.domain), context)


@check("relrec_keys")
def relrec_keys(rule: Rule, context: Context) -> Counted:
    """Every record of RELREC finds its row (SDTMIG 8.2)."""
    return _related(rule.domain, table(context, rule.domain), context)


def _related(name: str, frame: pl.DataFrame, context: Context) -> Counted:
    import polars as pl

    columns = ("RDOMAIN", "USUBJID", "IDVAR", "IDVARVAL")
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise NotApplicable(f"table {name} has no column {', '.join(missing)}")
    lost = 0
    wanted = frame.select(pl.col(c).cast(pl.String).fill_null("") for c in columns)
    for (domain, variable), rows in wanted.partition_by("RDOMAIN", "IDVAR", as_dict=True).items():
        parent = context.tables.get(str(domain))
        if parent is None or (variable and variable not in parent.columns):
            lost += rows.height
            continue
        key = {"USUBJID": pl.col("USUBJID").cast(pl.String).fill_null("")}
        if variable:
            key["IDVARVAL"] = pl.col(str(variable)).cast(pl.String).str.strip_suffix(".0")
        mine = rows.with_columns(pl.col("IDVARVAL").str.strip_chars().str.strip_suffix(".0"))
        lost += mine.join(parent.select(**key), on=list(key), how="anti").height
    return Counted(lost, frame.height)
