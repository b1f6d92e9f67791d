"""Commands of study progress: flags of the sites, and retention by arm for who may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import polars as pl


@click.command()
@click.option("--all", "everything", is_flag=True, help="Every figure, not only the flagged ones.")
@click.option("--as-of", default="", help="Data cut to show; the newest by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sites(everything: bool, as_of: str, as_json: bool) -> None:
    """Key risk indicators of the sites: what the newest study_progress flagged."""
    import json

    from pipelines.cli_output import table

    cut, rows = _rows(everything, as_of)
    if as_json:
        click.echo(json.dumps({"as_of": cut, "rows": rows}, indent=1))
        return
    columns = ("site", "indicator", "flag", "count", "of", "figure", "unit", "score")
    table(list(columns), [["" if r[c] is None else str(r[c]) for c in columns] for r in rows], title=f"Data to {cut}")
    if not rows:
        click.echo("No figure is beyond its limits.")


@click.command()
@click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
def retention(purpose: str) -> None:
    """Retention by arm and its log-rank test, of the newest study_progress that compared the arms."""
    from pipelines.cli_output import table
    from trialops.settings import settings
    from trialops.stores.context import Step
    from trialops.stores.study import bound_study
    from trialops.trial.progress_run import read_by_arm

    run = Step("retention-by-arm", {}, settings())
    cut, found = read_by_arm(run, bound_study(run.objects), purpose)
    test, curves = found["test"], found["curves"]
    last = {arm: own.row(-1, named=True) for (arm,), own in curves.group_by(["arm"], maintain_order=True)}
    rows = [
        [r["arm"], f"{r['observed']:.0f}", f"{r['expected']:.1f}", f"{last[r['arm']]['retention']:.3f}"]
        for r in test.iter_rows(named=True)
    ]
    table(["arm", "discontinued", "expected", "retention at the end"], rows, title=f"Data to {cut}")
    one = test.row(0, named=True)
    click.echo(f"log-rank: chi-square {one['statistic']:.3f}, {one['degrees']} degrees of freedom, p {one['p']:.2g}")


def _rows(everything: bool, as_of: str) -> tuple[str, list[dict[str, Any]]]:
    """The data cut and its figures; of health below eleven only the flag."""
    import polars as pl

    from trialops.pages import suppressed
    from trialops.trial.kri_policy import site_policy
    from trialops.trial.site_pages import hidden

    history = _history()
    cut = as_of or str(history["as_of"].max())
    shown = history.filter(pl.col("as_of") == cut)
    if not everything:
        shown = shown.filter(pl.col("flag").is_in(["red", "amber"]))
    policy = {one.name: one for one in site_policy().indicators}
    rows = []
    for row in shown.sort("site", "indicator").iter_rows(named=True):
        one = policy.get(row["indicator"])
        private = one is None or hidden(one, row["numerator"], row["denominator"])
        count, of = (suppressed(int(row[part])) if private else int(row[part]) for part in ("numerator", "denominator"))
        rows.append(
            {
                "site": row["site"],
                "indicator": one.label if one else row["indicator"],
                "flag": row["flag"],
                "count": str(count),
                "of": str(of),
                "figure": None if private or one is None else f"{row['metric'] * one.per:.2f}",
                "unit": one.unit if one else "",
                "score": None if private else f"{row['score']:+.2f}",
            }
        )
    return cut, rows


def _history() -> pl.DataFrame:
    """Scores of every cut of the study these stores hold.

    Raises:
        TrialOpsError: There are none.
    """
    import polars as pl

    from trialops.errors import TrialOpsError
    from trialops.settings import settings
    from trialops.stores.context import Step
    from trialops.trial.site_monitor import HISTORY

    known = Step("trial-sites", {}, settings()).read_latest(HISTORY)
    if known is None or known.is_empty():
        raise TrialOpsError(
            "The sites have not been monitored yet",
            where=str(settings().home),
            fix="Run study_progress first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    return known.filter(pl.col("study") == known["study"][-1])
