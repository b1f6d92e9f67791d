"""Run quality rules over clean tables: one pass per table, a result per rule, queries, and the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.intake.domains import SOURCE, catalog, current_rows
from trialops.quality.checks import REGISTRY, Context, Counted, Measure, NotApplicable, RowMeasure
from trialops.quality.rules import SEVERITIES, Rule, RuleBook, columns_of, default_rules
from trialops.quality.score import score

if TYPE_CHECKING:
    import polars as pl

PRIORITIES = ("critical", "major", "minor")


@dataclass(frozen=True)
class QualityReport:
    """What the rules found.

    Attributes:
        results: One line per rule: rule, domain, check, columns, severity, status, violated, denominator,
            percent, threshold, message, detail. Status is pass, fail, not applicable or error.
        queries: One line per row to ask about: rule, priority, domain, USUBJID (pseudonym), record (the rest
            of the row's key, such as "AESEQ 3"; null in DM), delivery (its number), message. A column that is
            empty in every row is one question, without a subject.
        score: 0 to 100.
        passed: Whether the score reaches the gate.
        threshold: The gate.
        findings: Failed rules by severity.
        explanation: Sentences with the numbers behind the decision.
        rules_version: Version of the rule book.
    """

    results: pl.DataFrame
    queries: pl.DataFrame
    score: float
    passed: bool
    threshold: float
    findings: dict[str, int]
    explanation: list[str]
    rules_version: str

    def decision(self) -> dict[str, Any]:
        """The gate's decision with its numbers and policy, for a step record."""
        return {
            "passed": self.passed,
            "score": self.score,
            "threshold": self.threshold,
            "findings": self.findings,
            "explanation": self.explanation,
            "rules_version": self.rules_version,
        }


class ClinicalDataValidatorOperator:
    """Validates clean SDTM tables by a rule book."""

    def run(self, tables: dict[str, pl.DataFrame], rules: RuleBook | None = None) -> QualityReport:
        """Check all rules and decide the gate.

        Only the newest version of a row that was corrected is judged.

        Args:
            tables: Clean tables by domain.
            rules: The rule book; the platform's own by default.

        Returns:
            Results in the order of the rules, queries sorted by priority, rule and position, score and gate.
        """
        import polars as pl

        book = rules or default_rules()
        context = Context({d: current_rows(d, t) for d, t in tables.items()}, book.limits)
        outcomes: dict[str, dict[str, Any]] = {}
        queries = [no_queries()]
        for domain in dict.fromkeys(rule.domain for rule in book.rules):
            measures: dict[str, RowMeasure] = {}
            of_table = [rule for rule in book.rules if rule.domain == domain]
            for rule in of_table:
                measure = _measure(rule, context)
                if isinstance(measure, RowMeasure):
                    measures[rule.id] = measure
                else:
                    outcomes[rule.id] = _judge(rule, measure)
            counts = _count(context.tables[domain], measures) if measures else {}
            for rule in of_table:
                if rule.id not in counts:
                    continue
                outcomes[rule.id] = _judge(rule, counts[rule.id])
                if rule.query and outcomes[rule.id].get("violated"):
                    queries.append(_queries(rule, context.tables[domain], measures[rule.id]))
        lines = [_line(rule, outcomes[rule.id]) for rule in book.rules]
        results = pl.DataFrame(lines, schema=_result_schema())
        verdict = score(results, book)
        failed = results.filter(pl.col("status") == "fail")
        return QualityReport(
            results=results,
            queries=_ordered(pl.concat(queries)),
            score=verdict.value,
            passed=verdict.passed,
            threshold=book.gate,
            findings={s: failed.filter(pl.col("severity") == s).height for s in SEVERITIES},
            explanation=verdict.explanation,
            rules_version=book.version,
        )


def _measure(rule: Rule, context: Context) -> Measure | _Unjudged:
    """What to count for a rule, or why there is nothing to count."""
    kind = REGISTRY.get(rule.check)
    if kind is None:
        return _Unjudged("error", f"there is no check type {rule.check}")
    try:
        return kind(rule, context)
    except NotApplicable as absent:
        return _Unjudged("not applicable", str(absent))
    except Exception as error:  # a rule is data: what it breaks is a finding about it, not the end of the run
        return _Unjudged("error", f"the rule cannot be read ({type(error).__name__})")


@dataclass(frozen=True)
class _Unjudged:
    """A rule that neither passes nor fails."""

    status: str
    detail: str


def _count(frame: pl.DataFrame, measures: dict[str, RowMeasure]) -> dict[str, Counted | _Unjudged]:
    """Count all measures of a table in one pass; if one of them breaks it, each on its own to find which."""
    import polars as pl

    flags: dict[str, pl.Expr] = {}
    for name, measure in measures.items():
        applies = measure.applies.fill_null(False)
        flags[f"{name}:violated"] = applies & measure.violates.fill_null(False)
        flags[f"{name}:denominator"] = applies
    try:
        # Two steps: a condition that always holds is one value, not one per row, until it stands beside rows.
        sums = [pl.col(name).cast(pl.Int64).sum() for name in flags]
        marked = frame.lazy().with_columns(**flags).select(sums)
        row = marked.collect().row(0, named=True)
    except Exception as error:  # the engine's text may quote values, so only its type is kept
        if len(measures) == 1:
            failure = _Unjudged("error", f"the check failed ({type(error).__name__})")
            return dict.fromkeys(measures, failure)
        return {name: _count(frame, {name: measure})[name] for name, measure in measures.items()}
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


def _result_schema() -> dict[str, Any]:
    import polars as pl

    numbers = {"violated": pl.Int64, "denominator": pl.Int64, "percent": pl.Float64, "threshold": pl.Float64}
    names = ["rule", "domain", "check", "columns", "severity", "status", *numbers, "message", "detail"]
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


def _delivery() -> pl.Expr:
    import polars as pl

    return pl.col(SOURCE).str.extract(r"^delivery (\d+)/").cast(pl.Int64)


def _ordered(queries: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    order = {priority: i for i, priority in enumerate(PRIORITIES)}
    rank = pl.col("priority").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    # Within a rule they come in the order of the table, which is by pseudonym and key.
    return queries.sort(rank, "rule", maintain_order=True)
