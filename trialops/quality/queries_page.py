"""The page of the queries: how many wait, for how long, and on which rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots
from trialops.pages.page import Item
from trialops.quality.evaluation import PRIORITIES
from trialops.quality.queries import STATES, WAITING

if TYPE_CHECKING:
    import polars as pl

BUCKETS = ((0, 7, "up to a week"), (8, 30, "up to a month"), (31, 90, "up to three months"), (91, None, "longer"))


def ageing(queries: pl.DataFrame) -> list[tuple[str, int]]:
    """Waiting queries by how long they have waited."""
    import polars as pl

    waiting = queries.filter(pl.col("state").is_in(WAITING))
    counts = []
    for low, high, label in BUCKETS:
        inside = pl.col("age") >= low if high is None else pl.col("age").is_between(low, high)
        counts.append((label, waiting.filter(inside).height))
    return counts


def queries_section(queries: pl.DataFrame, note: str = "") -> Section:
    """A section on the queries: states, ageing, and rules with waiting queries; no subject, no record.

    Args:
        queries: From `Queries.table`.
        note: What the run changed, in a sentence.
    """
    import polars as pl

    by_state = dict(queries.group_by("state").len().iter_rows())
    waiting = queries.filter(pl.col("state").is_in(WAITING))
    order = pl.col("priority").replace_strict({p: i for i, p in enumerate(PRIORITIES)}, default=9)
    rules = (
        waiting.group_by("priority", "rule", "message")
        .agg(waiting=pl.len(), oldest=pl.col("age").max(), median=pl.col("age").median())
        .sort(order, "rule")
        .select("priority", "rule", "waiting", "oldest", "median", "message")
    )
    items: list[Item] = [Facts({state: by_state.get(state, 0) for state in STATES})]
    if note:
        items.append(Text(note))
    if waiting.height:
        counts = ageing(queries)
        plot = plots.bars([label for label, _ in counts], [n for _, n in counts], xlabel="waiting queries")
        items.append(Figure(plot, "How long the waiting queries have been open."))
        columns = ("priority", "rule", "waiting", "oldest (days)", "median (days)", "question")
        items.append(Table(columns, rules.rows()))
    items.append(Text("Work through them with: trialops queries list, show, answer, close.", quiet=True))
    return Section("Queries to the sites", items)


def queries_page(queries: pl.DataFrame, note: str = "") -> Page:
    """The section as a page of its own."""
    import polars as pl

    waiting = queries.filter(pl.col("state").is_in(WAITING))
    critical = waiting.filter(pl.col("priority") == "critical").height
    verdict = Verdict(
        f"{waiting.height} queries wait",
        "bad" if critical else "warn" if waiting.height else "good",
        f"{critical} of them critical",
    )
    return Page("Queries", [queries_section(queries, note)], verdict)
