"""Commands of an A/B experiment with a model: plan, begin, look, end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.stores.context import Step

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def experiment() -> None:
    """Compare two model versions on a use that the protocol allows."""


@experiment.command()
@click.argument("file", type=FILE)
def plan(file: Path) -> None:
    """Check the experiment of FILE and say how many subjects it needs."""
    from trialops.serving.boundaries import spending_boundary
    from trialops.serving.experiment import load_experiment

    made = load_experiment(file)
    click.echo(f"{made.title}\nallowed by {made.protocol}; changes {made.surface}")
    for arm, units in zip(made.arms, made.planned, strict=True):
        click.echo(f"{arm.name:>20}: version {arm.version}, {arm.share:.0%} of subjects, {units:,} with an outcome")
    boundary = spending_boundary(made.looks, made.alpha, made.spending)
    for information, critical in zip(made.looks, boundary, strict=True):
        click.echo(f"   look at {information:4.0%}: stops from |z| = {critical:.3f}")


@experiment.command()
@click.argument("file", type=FILE)
@click.option("--candidate", required=True, metavar="HOST:PORT", help="Server of the second arm's version.")
def begin(file: Path, candidate: str) -> None:
    """Give the second arm of FILE its share of the subjects at the model's router."""
    from pipelines.cli_rollout import address
    from trialops.serving.experiment import load_experiment
    from trialops.serving.experiment_run import begin_experiment

    made = load_experiment(file)
    begin_experiment(_step(made.name), made, *address(candidate))
    click.echo(f"{made.name}: {made.arms[1].share:.0%} of the subjects see version {made.arms[1].version}.")


@experiment.command()
@click.argument("file", type=FILE)
@click.option("--outcomes", type=FILE, required=True, help="CSV of subject_id, label: outcomes known by now.")
@click.option("--page", type=click.Path(path_type=Path), help="HTML file to write the looks to.")
def look(file: Path, outcomes: Path, page: Path | None) -> None:
    """Look at the experiment of FILE; it ends by itself where the look says so."""
    from trialops.pages import render
    from trialops.serving.ab_page import experiment_page
    from trialops.serving.experiment import load_experiment
    from trialops.serving.experiment_run import take_look
    from trialops.serving.live import known_labels

    made = load_experiment(file)
    looks = take_look(_step(made.name), made, known_labels(outcomes))
    last = looks[-1]
    if page is not None:
        page.write_text(render(experiment_page(made, looks)), "utf-8")
        click.echo(f"Page: {page}")
    click.echo(
        f"look {len(looks)} at {last.information:.0%}: difference {last.difference:+.4f} "
        f"({last.low:+.4f} to {last.high:+.4f}), |z| {abs(last.z):.3f} of {last.boundary:.3f}: {last.decision}"
    )


@experiment.command()
@click.argument("file", type=FILE)
@click.option("--reason", required=True, help="Why, in a sentence.")
def end(file: Path, reason: str) -> None:
    """End the experiment of FILE: everybody is back on the version in use."""
    from trialops.serving.experiment import load_experiment
    from trialops.serving.experiment_run import end_experiment

    made = load_experiment(file)
    end_experiment(_step(made.name), made, reason)
    click.echo(f"{made.name} has ended.")


def _step(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step("experiment", {}, settings().model_copy(update={"run_id": f"experiment-{name}"}))
