"""The facts that criteria are about, prepared for SQL: subjects with their anchors, dated rows, values in one unit.

Days are whole numbers since 1970-01-01, so that a partial date is a pair (earliest, latest) and a missing one reaches
from ``NEVER`` to ``ALWAYS``. Rows that begin after a subject was randomised are left out: they cannot have decided
who enters. A row counts as known in time when its latest day, or the latest day it was collected, lies before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.trial.eligibility_criteria import RANGE_UNITS
from trialops.trial.eligibility_rules import Count, Criteria, Has, Order, Rows, Subject, Value, leaves
from trialops.trial.eligibility_subjects import ALWAYS, NEVER, subject_facts

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from trialops.trial.tables import TrialTables

MOST_ROWS = 1 << 20
"""--SEQ stays below this: evidence is packed into one number."""


# Why a row leaves a fact open; the number is part of the packed evidence.
PARTIAL, UNCODED, NOT_ASKED, NO_NUMBER, NO_CONVERSION, BEYOND, NO_RANGE, LATE = range(1, 9)
WHY = {
    PARTIAL: "the date is partial or missing",
    UNCODED: "the term is not coded",
    NOT_ASKED: "the question was not answered",
    NO_NUMBER: "the result is no number",
    NO_CONVERSION: "the unit does not convert",
    BEYOND: "the result lies beyond a limit of quantification",
    NO_RANGE: "the row has no reference limit",
    LATE: "it is not known whether it was there before randomisation",
}


@dataclass(frozen=True)
class Facts:
    """Prepared tables.

    Attributes:
        connection: DuckDB, with ``subjects`` (s, anchors, columns of DM), one ``rows_<domain>`` for each domain asked
            for and delivered, and one ``value_<k>`` per measure.
        subjects: USUBJID, SITEID, randomised; row s is subject s.
        columns: Columns that rows of a domain can be asked for, by delivered domain.
        measures: Name of the table of values, by (domain, test, unit).
        codes: Test codes that occur, by domain.
    """

    connection: duckdb.DuckDBPyConnection
    subjects: pl.DataFrame
    columns: dict[str, tuple[str, ...]]
    measures: dict[tuple[str, str, str], str]
    codes: dict[str, frozenset[str]]


def prepare(trial: TrialTables, criteria: Criteria) -> Facts:
    """Prepare what some criteria ask for.

    Args:
        trial: The delivery, cut at the day of evaluation.
        criteria: Which domains, columns and values are wanted.

    Raises:
        TrialOpsError: A criterion names a column that its table does not have.
    """
    import duckdb

    subjects = subject_facts(trial)
    asked = _asked(criteria)
    columns = {domain: tuple(table.columns) for domain in asked.columns if (table := trial.get(domain)) is not None}
    _check_columns(criteria, columns, trial)
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    connection.register("subjects_frame", subjects.drop("USUBJID", "SITEID").to_arrow())
    connection.execute("CREATE TABLE subjects AS SELECT * FROM subjects_frame ORDER BY s")
    measures: dict[tuple[str, str, str], str] = {}
    codes: dict[str, frozenset[str]] = {}
    for domain in sorted(columns):
        tests = {test for d, test, _ in asked.measures if d == domain}
        frame = _rows(trial.table(domain), domain, subjects, asked.columns[domain])
        wanted = [c for c in frame.columns if c not in ("result", "unit", "number", "standard", "low", "high")]
        if domain in asked.rows:
            _table(connection, f"rows_{domain}", frame.select(wanted))
        if tests:
            codes[domain] = frozenset(frame[f"{domain}TESTCD"].drop_nulls().unique().to_list())
        for d, test, unit in sorted(asked.measures):
            if d == domain:
                measures[d, test, unit] = f"value_{len(measures)}"
                _table(connection, measures[d, test, unit], _values(frame, domain, test, unit))
    _table(connection, "exceptions", _exceptions(trial, subjects))
    return Facts(connection, subjects.select("USUBJID", "SITEID", "randomised"), columns, measures, codes)


@dataclass(frozen=True)
class _Asked:
    columns: dict[str, set[str]]
    rows: set[str]
    measures: set[tuple[str, str, str]]


def rows_of(leaf: object) -> tuple[Rows, ...]:
    """The rows a fact is about; none for facts of DM and IE."""
    if isinstance(leaf, Has | Count | Value):
        return (leaf.rows,)
    return (leaf.first, leaf.then) if isinstance(leaf, Order) else ()


def _asked(criteria: Criteria) -> _Asked:
    columns: dict[str, set[str]] = {}
    measures, whole = set(), set()
    for criterion in criteria.criteria:
        for leaf in leaves(criterion.rule):
            for rows in rows_of(leaf):
                names = {column for column, _ in (*rows.where, *rows.like)}
                columns.setdefault(rows.domain, set()).update(names)
                if not isinstance(leaf, Value):
                    whole.add(rows.domain)
            if isinstance(leaf, Value):
                measures.add((leaf.rows.domain, leaf.test, leaf.unit))
    return _Asked(columns, whole, measures)


def _check_columns(criteria: Criteria, columns: dict[str, tuple[str, ...]], trial: TrialTables) -> None:
    import difflib

    for criterion in criteria.criteria:
        for leaf in leaves(criterion.rule):
            for rows in rows_of(leaf):
                for key, conditions in (("where", rows.where), ("like", rows.like)):
                    for column, _ in conditions:
                        if rows.domain in columns and column not in columns[rows.domain]:
                            near = difflib.get_close_matches(column, columns[rows.domain], n=1)
                            raise TrialOpsError(
                                f"{rows.domain} has no column {column}",
                                where=f"{criteria.where}: criterion {criterion.id}, {key}.{column}",
                                fix=f"Did you mean {near[0]}?" if near else f"Name a column of {rows.domain}.",
                            )
            if isinstance(leaf, Subject) and leaf.column not in trial.table("DM").columns:
                raise TrialOpsError(
                    f"DM has no column {leaf.column}",
                    where=f"{criteria.where}: criterion {criterion.id}, subject.{leaf.column}",
                    fix="Deliver it, or leave the criterion out.",
                )


def _rows(table: pl.DataFrame, domain: str, subjects: pl.DataFrame, wanted: set[str]) -> pl.DataFrame:
    """Rows of a domain with days as numbers, conditions in upper case, result and unit of findings as text."""
    import polars as pl

    def name(end: str) -> str | None:
        return f"{domain}{end}" if f"{domain}{end}" in table.columns else None

    started, collected, ended = name("STDTC") or name("DTC"), name("DTC"), name("ENDTC")
    sequence = name("SEQ")
    if sequence is None:
        raise TrialOpsError(
            f"{domain} has no {domain}SEQ: evidence could not be pointed at", where=domain, fix="Deliver the column."
        )
    texts = {c: _upper(table, c) for c in sorted(wanted)}
    nothing = pl.lit(None, pl.String)
    going = pl.lit(False)
    for flag, words in (("ENRTPT", ("ONGOING", "AFTER")), ("ENRF", ("ONGOING", "AFTER", "DURING/AFTER"))):
        if column := name(flag):
            going = going | pl.col(column).str.to_uppercase().is_in(words).fill_null(False)
    frame = table.select(
        "USUBJID",
        seq=pl.col(sequence).cast(pl.Int64, strict=False).fill_null(0),
        started=pl.col(started) if started else nothing,
        collected=pl.col(collected) if collected else nothing,
        ended=pl.col(ended) if ended else nothing,
        going=going,
        occurs=_upper(table, f"{domain}OCCUR") if name("OCCUR") else nothing,
        status=_upper(table, f"{domain}STAT") if name("STAT") else nothing,
        **{out: (pl.col(f"{domain}{end}").cast(pl.String) if name(end) else nothing) for out, end in _FINDINGS.items()},
        **texts,
    )
    if frame.height and int(frame["seq"].max() or 0) >= MOST_ROWS:  # type: ignore[arg-type]
        raise TrialOpsError(f"{sequence} exceeds {MOST_ROWS - 1:,}", where=domain, fix="Number rows within a subject.")
    known = subjects.select("USUBJID", "s", "cap")
    frame = frame.join(known, on="USUBJID", how="inner", maintain_order="left").drop("USUBJID")
    for column, low, high in (("started", "lo", "hi"), ("collected", "_c", "known"), ("ended", "_lo", "_hi")):
        frame = frame.join(_bounds(frame[column], column, low, high), on=column, how="left", nulls_equal=True)
    # What was recorded on a day had begun by then, however vague its start.
    if name("STDTC"):
        seen = pl.max_horizontal("known", pl.col("lo").fill_null(NEVER))
        frame = frame.with_columns(
            hi=pl.when(pl.col("known").is_not_null()).then(pl.min_horizontal("hi", seen)).otherwise("hi")
        )
    frame = frame.filter(pl.col("lo").fill_null(NEVER) <= pl.col("cap"))
    undated = pl.col("hi").is_null() & pl.col("known").is_null()
    sure = ((pl.col("hi") <= pl.col("cap")) | (pl.col("known") <= pl.col("cap"))).fill_null(False) | undated
    first, last = pl.col("lo").fill_null(NEVER), pl.col("hi").fill_null(ALWAYS)
    return frame.with_columns(
        sure=sure,
        clock=pl.col("started").str.extract(r"T(\d{2})").cast(pl.Int32, strict=False).fill_null(0) * 60
        + pl.col("started").str.extract(r"T\d{2}:(\d{2})").cast(pl.Int32, strict=False).fill_null(0),
        lo=first,
        hi=last,
        elo=pl.when("going").then(ALWAYS).otherwise(pl.max_horizontal(pl.col("_lo").fill_null(NEVER), first)),
        ehi=pl.when("going").then(ALWAYS).otherwise(pl.col("_hi").fill_null(ALWAYS)),
        done=(pl.col("status").fill_null("") != "NOT DONE"),
    ).drop("started", "collected", "ended", "going", "status", "known", "_c", "_lo", "_hi", "cap")


_FINDINGS = {
    "result": "ORRES",
    "unit": "ORRESU",
    "number": "STRESN",
    "standard": "STRESU",
    "low": "ORNRLO",
    "high": "ORNRHI",
}


def _upper(table: pl.DataFrame, column: str) -> pl.Expr:
    """Text of a column without case and blanks around; whole numbers as they are written; empty is null."""
    import polars as pl

    text = pl.col(column).cast(pl.String)
    if table.schema[column].is_numeric():
        text = text.str.strip_suffix(".0")
    text = text.str.strip_chars().str.to_uppercase()
    return pl.when(text != "").then(text)


def _bounds(dates: pl.Series, name: str, low: str, high: str) -> pl.DataFrame:
    """Earliest and latest day of each distinct date text: there are far fewer of them than rows."""
    import polars as pl

    from trialops.intake.partial_dates import earliest, latest

    distinct = dates.alias(name).unique().to_frame()
    return distinct.with_columns(earliest(name).cast(pl.Int32).alias(low), latest(name).cast(pl.Int32).alias(high))


def _values(frame: pl.DataFrame, domain: str, test: str, unit: str) -> pl.DataFrame:
    """Results of one test as intervals in one unit: a number is a point, "<5" everything below 5.

    Returns:
        The row's columns with ``vlo``, ``vhi`` (null where nothing is known), ``below``, ``above`` (whether the
        upper, the lower end is itself left out) and ``why``.
    """
    import polars as pl

    from trialops.standards.units import convert_column

    rows = frame.filter((pl.col(f"{domain}TESTCD") == test) & pl.col("done"))
    text = pl.col("result").str.strip_chars().fill_null("")
    parts = rows.select(
        sign=text.str.extract(r"^([<>]=?)\s*[\d.+-]", 1).fill_null(""),
        own=text.str.replace(r"^[<>]=?\s*", "").cast(pl.Float64, strict=False),
        standard=pl.col("number").cast(pl.Float64, strict=False),
        low=pl.col("low").cast(pl.Float64, strict=False),
        high=pl.col("high").cast(pl.Float64, strict=False),
        unit=pl.col("unit").fill_null(""),
        standard_unit=pl.col("standard").fill_null(""),
    )
    # Where the original result is no number, the standard one may be (a code, a "TRACE" that was scored).
    second = pl.col("own").is_null()
    number = pl.coalesce("own", "standard")
    if unit in RANGE_UNITS:
        limit = pl.col("high" if unit == "ULN" else "low")
        made = parts.select(value=pl.when(limit > 0).then(pl.col("own") / limit), number="own").with_columns(
            why=pl.when(pl.col("number").is_null()).then(NO_NUMBER).when(pl.col("value").is_null()).then(NO_RANGE)
        )
    else:
        units = parts.select(pl.when(second).then("standard_unit").otherwise("unit")).to_series()
        numbers = parts.select(number).to_series()
        # Written as plain numbers, both sides have no unit; anything else that comes with one does not convert.
        converted = convert_column(numbers, units, "" if unit == "1" else unit, test)
        made = converted.select("value", number=numbers).with_columns(
            why=pl.when(pl.col("number").is_null()).then(NO_NUMBER).when(pl.col("value").is_null()).then(NO_CONVERSION)
        )
    value = pl.col("value").round_sig_figs(12)
    sign = pl.when(second).then(pl.lit("")).otherwise("sign")
    bounds = pl.concat([parts, made.select("value", "why")], how="horizontal").select(
        vlo=pl.when(sign.str.starts_with("<")).then(pl.when(value.is_not_null()).then(float("-inf"))).otherwise(value),
        vhi=pl.when(sign.str.starts_with(">")).then(pl.when(value.is_not_null()).then(float("inf"))).otherwise(value),
        below=sign == "<",
        above=sign == ">",
        why=pl.col("why").fill_null(0).cast(pl.Int32),
    )
    kept = rows.drop("result", "unit", "number", "standard", "low", "high", "done", "occurs")
    return pl.concat([kept, bounds], how="horizontal")


def _exceptions(trial: TrialTables, subjects: pl.DataFrame) -> pl.DataFrame:
    """Criteria that the site recorded as not fulfilled: s, code, seq."""
    import polars as pl

    from trialops.intake.partial_dates import earliest

    ie = trial.get("IE")
    schema = {"s": pl.Int32, "code": pl.String, "seq": pl.Int64, "day": pl.Int32}
    if ie is None:
        return pl.DataFrame(schema=schema)
    rows = ie.select(
        "USUBJID",
        code=_upper(ie, "IETESTCD"),
        seq=pl.col("IESEQ").cast(pl.Int64, strict=False).fill_null(0) if "IESEQ" in ie.columns else pl.lit(0, pl.Int64),
        day=earliest("IEDTC").cast(pl.Int32) if "IEDTC" in ie.columns else pl.lit(None, pl.Int32),
    )
    return rows.join(subjects.select("USUBJID", "s"), on="USUBJID", how="inner").select(list(schema)).cast(schema)  # type: ignore[arg-type]


def _table(connection: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    connection.register("frame_", frame.to_arrow())
    connection.execute(f'CREATE TABLE "{name}" AS SELECT * FROM frame_')
    connection.unregister("frame_")
