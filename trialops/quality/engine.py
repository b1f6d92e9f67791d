"""The validator: rule books over a trial's tables, the score, and the gate's verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.quality.evaluation import evaluate, no_queries, ordered
from trialops.quality.rules import RuleBook, default_rules
from trialops.quality.score import Contribution, score

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ClinicalDataValidatorOperator", "QualityReport", "no_queries"]


@dataclass(frozen=True)
class QualityReport:
    """What the rules found.

    Attributes:
        results: One line per rule: book, rule, domain, check, category, columns, severity, status, violated,
            denominator, percent, threshold, message, detail. Status is pass, fail, not applicable or error.
        queries: One line per row to ask about: rule, priority, domain, USUBJID (pseudonym), record (the rest
            of the row's key, such as "AESEQ 3"; null in DM), delivery (its number), message. A column that is
            empty in every row is one question, without a subject.
        score: 0 to 100.
        passed: Whether the score reaches the gate.
        threshold: The gate.
        findings: Failed rules by severity.
        explanation: Sentences with the numbers behind the decision.
        rules_version: Versions of the rule books.
        losses: What each failed rule costs, dearest first.
    """

    results: pl.DataFrame
    queries: pl.DataFrame
    score: float
    passed: bool
    threshold: float
    findings: dict[str, int]
    explanation: list[str]
    rules_version: str
    losses: tuple[Contribution, ...] = ()

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
    """Validates a trial's tables by rule books: clean SDTM, and with it whatever else is handed over."""

    def run(
        self,
        tables: dict[str, pl.DataFrame],
        rules: RuleBook | None = None,
        *,
        more: Mapping[str, tuple[dict[str, pl.DataFrame], RuleBook]] | None = None,
        as_of: dt.date | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> QualityReport:
        """Check all rules and decide the gate.

        Only the newest version of an SDTM row that was corrected is judged.

        Args:
            tables: Clean SDTM tables by domain.
            rules: Their rule book; the platform's own by default.
            more: Further tables with their rule books, by a name for people: OMOP tables with `omop_rules()`,
                FHIR or raw tables with `contracts.contract(...)`, any with `anomaly_rules()`. All count in one score.
            as_of: The day no record can be later than; today (UTC) by default.
            progress: Called with a message and the fraction done.

        Returns:
            Results in the order of the books and their rules, queries sorted by priority, rule and position, score
            and gate.
        """
        import polars as pl

        book = rules or default_rules()
        parts = {"SDTM": (tables, book), **(more or {})}
        results, queries = [], [no_queries()]
        for i, (name, (frames, own)) in enumerate(parts.items()):
            found = evaluate(frames, own, as_of=as_of, progress=_part(progress, name, i, len(parts)))
            results.append(found.results.insert_column(0, pl.Series("book", [name] * found.results.height, pl.String)))
            queries.append(found.queries)
        weights = {s: w for _, own in reversed(parts.values()) for s, w in own.weights.items()}
        every = pl.concat(results)
        verdict = score(every, RuleBook("", (), book.gate, book.fatal_cap, weights))
        failed = every.filter(pl.col("status") == "fail")
        if progress:
            progress("scored", 1.0)
        return QualityReport(
            results=every,
            queries=ordered(pl.concat(queries)),
            score=verdict.value,
            passed=verdict.passed,
            threshold=book.gate,
            findings={s: failed.filter(pl.col("severity") == s).height for s in weights},
            explanation=verdict.explanation,
            rules_version="; ".join(
                own.version if len(parts) == 1 else f"{name} {own.version}" for name, (_, own) in parts.items()
            ),
            losses=verdict.losses,
        )


def _part(
    progress: Callable[[str, float], None] | None, name: str, number: int, parts: int
) -> Callable[[str, float], None] | None:
    """Progress of one rule book as a part of all."""
    if progress is None:
        return None
    return lambda message, done: progress(f"{name}: {message}", (number + done) / parts)
