"""The page of an experiment: what may differ, how many were shown what, and what the looks say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.serving.ab import Look
    from trialops.serving.experiment import Experiment

TONES: dict[str, Tone] = {
    "stop: difference": "good",
    "stop: planned end": "plain",
    "continue": "plain",
    "stop: sample ratio mismatch": "bad",
}


def experiment_page(experiment: Experiment, looks: Sequence[Look]) -> Page:
    """Plan and looks of an experiment.

    Args:
        experiment: The experiment.
        looks: The looks taken, in order; at least one.
    """
    last = looks[-1]
    arms = []
    for k, arm in enumerate(experiment.arms):
        small = 0 < last.n[k] < 11
        arms.append(
            (
                arm.name,
                arm.version,
                arm.share,
                experiment.planned[k],
                suppressed(last.sample_ratio.counts[k]),
                suppressed(last.n[k]),
                None if small else last.values[k],
            )
        )
    told = [
        (k, one.information, one.z, one.boundary, one.difference, one.low, one.high, one.decision)
        for k, one in enumerate(looks, 1)
    ]
    figure = plots.lines(
        [
            ("|z|", [one.information for one in looks], [abs(one.z) for one in looks]),
            ("boundary", [one.information for one in looks], [one.boundary for one in looks]),
        ],
        xlabel="share of the planned units",
        ylabel="|z|",
        markers=True,
    )
    ratio = last.sample_ratio
    checks = {
        "sample ratio p": ratio.p,
        "shown another arm later": suppressed(last.crossed),
        "first shown another arm than assigned": suppressed(last.misplaced),
    }
    plan = {
        "task": experiment.task,
        "allowed by": experiment.protocol,
        "changes": experiment.surface,
        "metric": experiment.metric.name,
        "smallest difference worth finding": experiment.metric.minimum_effect,
        "alpha": experiment.alpha,
        "power": experiment.power,
    }
    return Page(
        experiment.title,
        [
            Section("Plan", [Facts(plan)]),
            Section(
                "Arms",
                [
                    Table(("arm", "version", "share", "planned", "exposed", "with outcome", "mean"), arms),
                    Facts(checks),
                ],
            ),
            Section(
                "Looks",
                [
                    Table(("look", "information", "z", "boundary", "difference", "low", "high", "decision"), told),
                    Figure(figure, "The test statistic against the boundary that keeps the error over all looks."),
                ],
            ),
            Section(
                "Documents",
                [Text(f"experiment {experiment.digest}; policy {experiment.policy_digest}", quiet=True)],
            ),
        ],
        Verdict(last.decision.capitalize(), TONES[last.decision], f"look {len(looks)}"),
    )
