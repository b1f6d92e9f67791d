"""The page of a quality run: the score, how it came about, what would raise it, and which rules failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.pages.page import Item
from trialops.quality.anomalies import methods
from trialops.quality.queries_page import queries_section

if TYPE_CHECKING:
    import polars as pl

    from trialops.quality.engine import QualityReport

OF_SUBJECTS = ("DM", "person", "Patient")
"""Tables with a row per subject: small counts of theirs are suppressed."""
STATUS = {"fail": 0, "error": 1, "pass": 2, "not applicable": 3}
SHOWN = 20


def damaged_page(what: str, where: str) -> Page:
    """The page when the tables to judge could not be read whole."""
    text = Text("Later steps use the last validated version. The damaged one is kept as it is.")
    return Page("Data quality", [Section("What happened", [text])], Verdict(what, "bad", where))


def quality_page(report: QualityReport, queries: pl.DataFrame | None = None, note: str = "") -> Page:
    """Rules and counts; queries are counted, not shown.

    Args:
        report: What the rules found.
        queries: The study's queries with state and age, where they are kept.
        note: What the run changed in them, in a sentence.
    """
    sections = [_score(report), _raise(report), _sources(report), _rules(report), *_checks(report), *_anomalies(report)]
    if queries is not None:
        sections.append(queries_section(queries, note))
    else:
        sections.append(_asked(report))
    return Page(
        "Data quality",
        [section for section in sections if section.items],
        Verdict(
            f"Score {report.score:.2f}",
            "good" if report.passed else "bad",
            f"{'at or above' if report.passed else 'below'} the gate of {report.threshold:g}; "
            f"rule book {report.rules_version}",
        ),
    )


def _score(report: QualityReport) -> Section:
    statuses = dict(report.results.group_by("status").len().sort("status").iter_rows())
    about = (
        "The score is the weight of the rules that passed, in percent of the weight of those that passed or failed. A "
        "rule weighs by its severity. A rule that does not apply or ended in an error is in neither sum. A fatal rule "
        "that fails, or cannot be checked, keeps the score below the gate."
    )
    facts = Facts({"score": report.score, "gate": report.threshold, **statuses})
    return Section("The score", [facts, *(Text(line) for line in report.explanation), Text(about, quiet=True)])


def _raise(report: QualityReport) -> Section:
    """What each failed rule costs."""
    items: list[Item] = []
    if report.losses:
        shown = report.losses[:SHOWN]
        plot = plots.bars(
            [loss.rule for loss in shown], [round(loss.points, 3) for loss in shown], xlabel="points lost"
        )
        items.append(Figure(plot, "Points of the score that each failed rule costs; fatal ones also cap it."))
        domains = dict(report.results.select("rule", "domain").iter_rows())
        rows = [
            (
                loss.rule,
                loss.severity,
                loss.weight,
                loss.points,
                suppressed(loss.to_mend) if domains[loss.rule] in OF_SUBJECTS else loss.to_mend,
            )
            for loss in shown
        ]
        columns = ("rule", "severity", "weight", "points", "violations to mend until it passes")
        more = f"{len(report.losses) - SHOWN} more rules failed." if len(report.losses) > SHOWN else ""
        items.append(Table(columns, rows, more))
    return Section("What would raise it", items)


def _sources(report: QualityReport) -> Section:
    """Rules by what they were judged on and what kind they are."""
    import polars as pl

    def count(status: str) -> pl.Expr:
        return (pl.col("status") == status).sum().alias(status)

    by = report.results.with_columns(pl.col("category").replace("", "edit check")).group_by("book", "category")
    table = by.agg(*(count(status) for status in STATUS)).sort("book", "category")
    return Section("By source", [Table(table.columns, table.rows())])


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    """A result as a line of the page; small counts of subjects are not told, nor their share."""
    violated, percent = row["violated"], row["percent"]
    if violated and row["domain"] in OF_SUBJECTS:
        violated = suppressed(violated)
        percent = percent if isinstance(violated, int) else None
    names = ("rule", "domain", "check", "severity", "status")
    return (*(row[n] for n in names), violated, row["denominator"], percent, row["threshold"], row["message"])


COLUMNS = (
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


def _rules(report: QualityReport) -> Section:
    """Every rule; of the thousands of OMOP checks those that failed or ended in an error."""
    import polars as pl

    order = pl.col("status").replace_strict(STATUS, default=4)
    bad = pl.col("status").is_in(["fail", "error"])
    shown = report.results.filter((pl.col("book") != "OMOP") | bad).sort(order, maintain_order=True)
    return Section("Rules", [Table(COLUMNS, [_row(row) for row in shown.iter_rows(named=True)])])


def _checks(report: QualityReport) -> list[Section]:
    """OMOP checks by type, as the OHDSI dashboard groups them."""
    import polars as pl

    omop = report.results.filter(pl.col("book") == "OMOP")
    if omop.is_empty():
        return []
    counts = [(pl.col("status") == status).sum().alias(status) for status in STATUS]
    table = omop.group_by("check", "severity", "category", maintain_order=True).agg(*counts)
    caption = "Check types of the OHDSI Data Quality Dashboard; a check that does not apply is never a pass."
    return [Section("OMOP checks", [Table(table.columns, table.rows(), caption)])]


def _anomalies(report: QualityReport) -> list[Section]:
    """The methods that look for anomalies, with their thresholds and where they come from."""
    import polars as pl

    if report.results.filter(pl.col("book") == "Anomalies").is_empty():
        return []
    rows = []
    for about in methods().values():
        settings = {k: v for k, v in about.items() if k not in ("label", "about", "source", "tests")}
        rows.append(
            (about["label"], about["about"], ", ".join(f"{k} {v}" for k, v in settings.items()), about["source"])
        )
    return [Section("Anomaly methods", [Table(("method", "what it looks at", "thresholds", "source"), rows)])]


def _asked(report: QualityReport) -> Section:
    import polars as pl

    queries = report.queries.group_by("priority", "rule").agg(pl.len().alias("queries")).sort("priority", "rule")
    return Section("Queries to the sites", [Table(queries.columns, queries.rows())])
