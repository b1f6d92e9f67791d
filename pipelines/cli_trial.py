"""Commands over the conduct of the trial: who is eligible and why, the flow of subjects, by arm for who may see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step

PURPOSE = click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
VERDICTS = {"eligible": "eligible", "not-eligible": "not eligible", "undecided": "cannot be decided yet"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def trial() -> None:
    """The conduct of the trial: eligibility, flow of subjects."""


def _add(module: str, *names: str) -> None:
    """Commands that live in modules of their own."""
    from importlib import import_module

    for name in names:
        trial.add_command(getattr(import_module(f"pipelines.{module}"), name))


_add("cli_progress", "sites", "retention")
_add("cli_cohorts", "cohort")


def _step(name: str) -> tuple[Step, str]:
    """Stores and audit trail for a command outside a pipeline, and the study they hold."""
    from trialops.settings import settings
    from trialops.stores.context import Step
    from trialops.stores.study import bound_study

    run = Step(name, {}, settings())
    return run, bound_study(run.objects)


@trial.command()
@PURPOSE
@click.option("--subject", default="", help="Only this USUBJID, with every row that decides.")
@click.option("--verdict", type=click.Choice(list(VERDICTS)), help="Only subjects with this verdict.")
@click.option("--criterion", default="", help="Only subjects who stand in the way of this criterion, or leave it open.")
@click.option("--changed", is_flag=True, help="Whose verdict changed since the evaluation before, and because of what.")
@click.option("--queries", is_flag=True, help="Where verdict and site disagree, with subject and row.")
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV there, outside the platform's home.")
@click.option("--limit", default=50, show_default=True, help="How many rows to print.")
def eligibility(
    purpose: str,
    subject: str,
    verdict: str | None,
    criterion: str,
    changed: bool,
    queries: bool,
    out: Path | None,
    limit: int,
) -> None:
    """Verdicts of the newest evaluation by subject. They identify people: the look needs a role and is audited."""
    from trialops.governance.access import authorise
    from trialops.trial.eligibility_record import newest
    from trialops.trial.eligibility_view import view

    run, study = _step("trial-eligibility")
    authorise(run, "subject_lists", purpose, subject=subject and run.vault.pseudonym("subject", subject))
    found = view(
        newest(run, "eligibility", study),
        subject=subject,
        verdict=VERDICTS.get(verdict or "", ""),
        criterion=criterion,
        changed=changed,
        queries=queries,
    )
    run.audit("eligibility.show", study, reason=purpose, rows=found.height)
    _show(run, found, out, limit)


@trial.command()
@PURPOSE
@click.option("--by-arm", is_flag=True, help="From randomisation on by arm: unblinded, for the roles that may.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="SVG file, outside the platform's home.")
def consort(purpose: str, by_arm: bool, out: Path) -> None:
    """Draw the flow of subjects of the newest enrolment report in full, small counts of reasons among them."""
    from trialops.governance.access import authorise
    from trialops.trial.consort import consort as drawn
    from trialops.trial.eligibility_record import newest
    from trialops.trial.funnel import recounted

    run, study = _step("trial-consort")
    authorise(run, "unblinded_documents" if by_arm else "subject_lists", purpose)
    _outside(run, out)
    tables = newest(run, "enrolment", study)
    svg = drawn(recounted(tables["stages"], tables["queries"]), full=True, arms=tables["arms"] if by_arm else None)
    run.audit("consort.write", study, reason=purpose, by_arm=by_arm)
    _write(out, svg.encode())
    click.echo(str(out))


def _outside(run: Step, out: Path) -> None:
    from trialops.errors import TrialOpsError

    home, place = run.settings.home.resolve(), out.resolve()
    if home == place or home in place.parents:
        raise TrialOpsError(
            "This may not be written below the platform's home: nothing identifiable lies there in the clear",
            where=out.name,
            fix="Choose a folder outside it that may hold such data.",
        )


def _show(run: Step, frame: pl.DataFrame, out: Path | None, limit: int) -> None:
    from pipelines.cli_output import table

    if out is not None:
        _outside(run, out)
        _write(out, frame.write_csv().encode())
        click.echo(f"{frame.height} rows in {out}")
        return
    shown = frame.head(limit)
    table(frame.columns, [["" if v is None else str(v) for v in row] for row in shown.iter_rows()])
    if frame.height > limit:
        click.echo(f"{frame.height - limit} more; see --limit")


def _write(out: Path, data: bytes) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.write_bytes(data)
    partial.replace(out)
