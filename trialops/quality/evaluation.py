"""Evaluate a rule book over tables: one pass per table, a line per rule, a question per row to ask about."""

from __future__ import annotations

import datetime as dt
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.intake.domains import SOURCE, catalog, current_rows
from trialops.quality.checks import REGISTRY, Context, Counted, Measure, NotApplicable, RowMeasure, distinct
from trialops.quality.rules import Rule, RuleBook, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    Progress = Callable[[str, float], None] | None

PRIORITIES = ("critical", "major", "minor")
CHECK_MODULES = ("checks_omop", "checks_sdtm", "checks_source", "checks_anomaly")
"""Modules that register check types beside those of `checks`."""


@dataclass(frozen=True)
class Evaluation:
    """What one rule book found: `results` a line per rule, `queries` a line per row to ask about."""

    results: pl.DataFrame
    queries: pl.DataFrame


@dataclass(frozen=True)
class _Unjudged:
    """A rule that neither passes nor fails."""

    status: str
    detail: str


def registry() -> dict[str, Any]:
    """All check types by name."""
    for module in CHECK_MODULES:
        importlib.import_module(f"trialops.quality.{module}")
    return REGISTRY


def evaluate(
    tables: dict[str, pl.DataFrame], book: RuleBook, *, as_of: dt.date | None = None, progress: Progress = None
) -> Evaluation:
    """Check all rules of a book.

    Only the newest version of an SDTM row that was corrected is judged.

    Args:
        tables: Tables by the name that rules use as their domain.
        book: The rules.
        as_of: The day no record can be later than; today (UTC) by default.
        progress: Called with a message and the fraction done.

    Returns:
        Results in the order of the rules; queries sorted by priority, rule and position.
    """
    import polars as pl

    day = as_of or dt.datetime.now(dt.UTC).date()
    context = Context({d: _newest(d, t) for d, t in tables.items()}, book.limits, day)
    checks = registry()
    outcomes: dict[str, dict[str, Any]] = {}
    queries = [no_queries()]
    of_domain: dict[str, list[Rule]] = {}
    for rule in book.rules:
        of_domain.setdefault(rule.domain, []).append(rule)
    for i, (domain, rules) in enumerate(of_domain.items()):
        if progress:
            progress(f"checking {domain}", i / len(of_domain))
        measures: dict[str, RowMeasure] = {}
        for rule in rules:
            measure = _measure(rule, context, checks)
            if isinstance(measure, RowMeasure):
                measures[rule.id] = measure
            else:
                outcomes[rule.id] = _judge(rule, measure)
                if rule.query and isinstance(measure, Counted) and measure.items is not None:
                    queries.append(_items(rule, measure.items))
        counts = _count(context.tables[domain], measures) if measures else {}
        for rule in rules:
            if rule.id not in counts:
                continue
            outcomes[rule.id] = _judge(rule, counts[rule.id])
            if rule.query and outcomes[rule.id].get("violated"):
                queries.append(_queries(rule, context.tables[domain], measures[rule.id]))
        context.forget(domain)
    lines = [_line(rule, outcomes[rule.id]) for rule in book.rules]
    return Evaluation(pl.DataFrame(lines, schema=result_schema()), ordered(pl.concat(queries)))


def _newest(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The newest version of every row; a table in which no key occurs twice has no other."""
    spec = catalog().domains.get(domain)
    if spec is None or not set(spec.key) <= set(frame.columns) or distinct(frame, spec.key):
        return frame
    return current_rows(domain, frame)


def _measure(rule: Rule, context: Context, checks: dict[str, Any]) -> Measure | _Unjudged:
    """What to count for a rule, or why there is nothing to count."""
    kind = checks.get(rule.check)
    if kind is None:
        return _Unjudged("error", f"there is no check type {rule.check}")
    try:
        measured: Measure = kind(rule, context)
        return measured
    except NotApplicable as absent:
        return _Unjudged("not applicable", str(absent))
    except Exception as error:  # a rule is data: what it breaks is a finding about it, not the end of the run
        return _Unjudged("error", f"the rule cannot be read ({type(error).__name__})")


def _count(frame: pl.DataFrame, measures: dict[str, RowMeasure]) -> dict[str, Counted | _Unjudged]:
    """Count all measures of a table in one pass; if one of them breaks it, halve them to find which."""
    import polars as pl

    flags: dict[str, pl.Expr] = {}
    for name, measure in measures.items():
        applies = measure.applies.fill_null(False)
        flags[f"{name}:violated"] = applies & measure.violates.fill_null(False)
        flags[f"{name}:denominator"] = applies
    try:
        # Two steps: a condition that always holds is one value, not one per row, until it stands beside rows.
        sums = [pl.col(name).cast(pl.Boolean).sum() for name in flags]
        marked = frame.lazy().with_columns(**flags).select(sums)
        row = marked.collect().row(0, named=True)
    except Exception as error:  # the engine's text may quote values, so only its type is kept
        if len(measures) == 1:
            failure = _Unjudged("error", f"the check failed ({type(error).__name__})")
            return dict.fromkeys(measures, failure)
        names = list(measures)
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        first, second = (_count(frame, {name: measures[name] for name in half}) for half in halves)
        return {**first, **second}
    return {n: Counted(int(row[f"{n}:violated"]), int(row[f"{n}:denominator"])) for n in measures}


def _judge(rule: Rule, outcome: Counted | _Unjudged) -> dict[str, Any]:
    if isinstance(outcome, _Unjudged):
        return {"status": outcome.status, "detail": outcome.detail}
    if not outcome.denominator:
        return {"status": "not applicable", "violated": 0, "denominator": 0, "detail": "no row it is about"}
    percent = 100.0 * outcome.violated / outcome.denominator
    return {
        "status": "fail" if percent > rule.threshold else "pass",
        "violated": outcome.violated,
        "denominator": outcome.denominator,
        "percent": percent,
        "detail": outcome.detail,
    }


def _line(rule: Rule, outcome: dict[str, Any]) -> dict[str, Any]:
    named = [rule.arguments[k] for k in ("column", "start", "end") if k in rule.arguments]
    for part in (rule.where, rule.arguments.get("when"), rule.arguments.get("then")):
        named += columns_of(part) if isinstance(part, dict) else []
    columns = dict.fromkeys(str(c) for c in [*rule.arguments.get("columns", []), *named])
    return {
        "rule": rule.id,
        "domain": rule.domain,
        "check": rule.check,
        "category": rule.category,
        "columns": ", ".join(columns),
        "severity": rule.severity,
        "status": outcome["status"],
        "violated": outcome.get("violated"),
        "denominator": outcome.get("denominator"),
        "percent": outcome.get("percent"),
        "threshold": rule.threshold,
        "message": rule.message,
        "detail": outcome.get("detail", ""),
    }


def result_schema() -> dict[str, Any]:
    """Columns of the results."""
    import polars as pl

    numbers = {"violated": pl.Int64, "denominator": pl.Int64, "percent": pl.Float64, "threshold": pl.Float64}
    names = ["rule", "domain", "check", "category", "columns", "severity", "status", *numbers, "message", "detail"]
    return {name: numbers.get(name, pl.String) for name in names}


def no_queries() -> pl.DataFrame:
    """A table of queries without any."""
    import polars as pl

    names = ("rule", "priority", "domain", "USUBJID", "record", "delivery", "message")
    return pl.DataFrame(schema={name: pl.Int64 if name == "delivery" else pl.String for name in names})


def _queries(rule: Rule, frame: pl.DataFrame, measure: RowMeasure) -> pl.DataFrame:
    """One query per violating row, named by pseudonym and record key; its values not at all."""
    import polars as pl

    bad = frame.filter(measure.applies.fill_null(False) & measure.violates.fill_null(False))
    have = bad.columns
    empty = rule.arguments.get("column") if rule.check == "completeness" else None
    if empty and frame[empty].null_count() == frame.height > 1:
        bad = pl.DataFrame({name: [None] for name in have}, schema=frame.schema)
    spec = catalog().domains.get(rule.domain)
    key = [c for c in (spec.key if spec else ()) if c in have and c != "USUBJID"]
    parts = [pl.lit(f"{c} ") + pl.col(c).cast(pl.String).str.strip_suffix(".0") for c in key]
    return bad.select(
        rule=pl.lit(rule.id),
        priority=pl.lit(rule.query),
        domain=pl.lit(rule.domain),
        USUBJID=pl.col("USUBJID").cast(pl.String) if "USUBJID" in have else pl.lit(None, pl.String),
        record=pl.concat_str(parts, separator=", ") if parts else pl.lit(None, pl.String),
        delivery=_delivery() if SOURCE in have else pl.lit(None, pl.Int64),
        message=pl.lit(rule.message),
    )


def _items(rule: Rule, items: pl.DataFrame) -> pl.DataFrame:
    """One query per item that a rule found which is not about single rows."""
    import polars as pl

    return items.select(
        rule=pl.lit(rule.id),
        priority=pl.lit(rule.query),
        domain=pl.lit(rule.domain),
        USUBJID=pl.col("USUBJID").cast(pl.String),
        record=pl.col("record").cast(pl.String),
        delivery=pl.lit(None, pl.Int64),
        message=pl.lit(rule.message),
    )


def _delivery() -> pl.Expr:
    import polars as pl

    return pl.col(SOURCE).str.extract(r"^delivery (\d+)/").cast(pl.Int64)


def ordered(queries: pl.DataFrame) -> pl.DataFrame:
    """Queries by priority, rule and position in the table."""
    import polars as pl

    order = {priority: i for i, priority in enumerate(PRIORITIES)}
    rank = pl.col("priority").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    # Within a rule they come in the order of the table, which is by pseudonym and key.
    return queries.sort(rank, "rule", maintain_order=True)
