"""Pages of the training steps around the search: what is new, and what was selected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.models.training_trigger import TRAIN
from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.models.selection import Selection
    from trialops.models.training_trigger import Trigger


def trigger_page(trigger: Trigger) -> Page:
    """What is new since the last training, and whether that is enough."""
    facts = {
        "labelled subjects": suppressed(trigger.subjects),
        "new subjects": suppressed(trigger.new_subjects),
        "changed labels": suppressed(trigger.changed),
        "subjects gone": suppressed(trigger.gone),
        "trained last": f"version {trigger.last_version}" if trigger.last_version else "never",
    }
    if trigger.new_subjects == suppressed(trigger.new_subjects):
        facts["events among the new"] = suppressed(trigger.new_events)
    return Page(
        "Is training due",
        [
            Section("Since the last training", [Facts(facts)]),
            Section(
                "Policy",
                [
                    *(Text(reason) for reason in trigger.reasons),
                    Text(f"{trigger.policy}, digest {trigger.policy_digest}", quiet=True),
                ],
            ),
        ],
        Verdict(trigger.action.capitalize(), "good" if trigger.action == TRAIN else "plain", trigger.reasons[0]),
    )


def selection_page(selection: Selection) -> Page:
    """The families, the winner, and what it saves against the prespecified model."""
    gain = selection.gain
    bounded = gain.low > float("-inf")
    return Page(
        "Comparison and selection",
        [
            Section(
                "Against the prespecified model, on sites left out of the fit",
                [
                    Text(selection.reason.capitalize() + "."),
                    *(
                        [
                            Figure(
                                plots.intervals(
                                    ["log loss saved"],
                                    [gain.value],
                                    [gain.low],
                                    [gain.high],
                                    reference=0.0,
                                    xlabel="log loss saved per subject, 95 % interval; dashed: nothing saved",
                                )
                            )
                        ]
                        if bounded
                        else []
                    ),
                ],
            ),
            Section("Best of each family", [Table(("family", "log loss"), list(selection.families.items()))]),
            Section("Policy", [Text(f"{selection.policy}, digest {selection.policy_digest}", quiet=True)]),
        ],
        Verdict(
            "Registered" if selection.action == "register" else "Not registered",
            "good" if selection.action == "register" else "warn",
            f"configuration {selection.number}, {selection.kind}",
        ),
    )
