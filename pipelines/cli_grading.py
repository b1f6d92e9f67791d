"""The command over graded results: findings, questions, shifts, liver tests of the newest grading."""

from __future__ import annotations

from pathlib import Path

import click

TABLES = ("findings", "queries", "liver_cases", "shifts", "events", "results", "qtc", "emergence")


@click.command()
@click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
@click.option("--table", "name", type=click.Choice(TABLES), default="findings", show_default=True, help="Which table.")
@click.option("--subject", default="", help="Only this USUBJID.")
@click.option("--from-grade", type=click.IntRange(0, 4), default=0, help="Only grades from this on.")
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV there, outside the platform's home.")
@click.option("--limit", default=50, show_default=True, help="How many rows to print.")
def grading(purpose: str, name: str, subject: str, from_grade: int, out: Path | None, limit: int) -> None:
    """Show what the newest grading found. It identifies people: the look needs a role and is audited."""
    import polars as pl

    from pipelines.cli_trial import _show, _step
    from trialops.governance.access import authorise
    from trialops.safety.grading_record import newest

    run, study = _step("safety-grading")
    authorise(run, "safety_cases", purpose, subject=subject and run.vault.pseudonym("subject", subject))
    found = newest(run, study, reason=purpose)[name]
    if subject and "USUBJID" in found.columns:
        found = found.filter(pl.col("USUBJID") == subject)
    if from_grade and "GRADE" in found.columns:
        found = found.filter(pl.col("GRADE") >= from_grade)
    # A list prints as one field.
    nested = [c for c, kind in found.schema.items() if kind == pl.List(pl.String)]
    _show(run, found.with_columns(pl.col(c).list.join("; ") for c in nested), out, limit)
