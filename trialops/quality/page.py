"""The page of a quality gate: the score, how it came about, and which rules failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Page, Section, Table, Text, Verdict

if TYPE_CHECKING:
    from trialops.quality.engine import QualityReport


def damaged_page(what: str, where: str) -> Page:
    """The page when the tables to judge could not be read whole."""
    text = Text("Later steps use the last validated version. The damaged one is kept as it is.")
    return Page("Data quality", [Section("What happened", [text])], Verdict(what, "bad", where))


def quality_page(report: QualityReport) -> Page:
    """Rules and counts; queries are counted, not shown."""
    import polars as pl

    columns = (
        "rule",
        "domain",
        "check",
        "severity",
        "status",
        "violated",
        "denominator",
        "percent",
        "threshold",
        "message",
    )
    order = pl.col("status").replace_strict({"fail": 0, "error": 1, "pass": 2, "not applicable": 3}, default=4)
    results = report.results.sort(order, maintain_order=True).select(columns)
    statuses = dict(report.results.group_by("status").len().sort("status").iter_rows())
    queries = report.queries.group_by("priority", "rule").agg(pl.len().alias("queries")).sort("priority", "rule")
    return Page(
        "Data quality",
        [
            Section(
                "The score",
                [
                    Facts({"score": report.score, "gate": report.threshold, **statuses}),
                    *(Text(line) for line in report.explanation),
                ],
            ),
            Section("Rules", [Table(columns, results.rows())]),
            Section("Queries to the sites", [Table(queries.columns, queries.rows())]),
        ],
        Verdict(
            f"Score {report.score:.2f}",
            "good" if report.passed else "bad",
            f"{'at or above' if report.passed else 'below'} the gate of {report.threshold:g}; "
            f"rule book {report.rules_version}",
        ),
    )
