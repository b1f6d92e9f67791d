"""The page of a canary: what was sent where, what was checked, and why it went on or back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Page, Section, Table, Text, Verdict

if TYPE_CHECKING:
    from trialops.serving.rollout_result import CanaryResult


def canary_page(result: CanaryResult) -> Page:
    """Steps and checks."""
    steps = [tuple(step.values()) for step in result.steps]
    headings = tuple(name.replace("_", " ") for name in result.steps[0]) if result.steps else ("step",)
    checks = [tuple(vars(check).values()) for check in result.checks]
    columns = tuple(name.replace("_", " ") for name in vars(result.checks[0])) if result.checks else ("check",)
    good = result.decision == "promote"
    return Page(
        "Canary",
        [
            Section(
                "Why",
                [Text(reason) for reason in result.reasons] or [Text("Every check passed in every step.")],
            ),
            Section("Steps", [Table(headings, steps)]),
            Section("Checks", [Table(columns, checks)]),
            Section("Policy", [Text(f"digest {result.policy_digest}", quiet=True)]),
        ],
        Verdict(
            "Promote" if good else "Roll back",
            "good" if good else "bad",
            f"{result.seconds:.1f} s on the model server",
        ),
    )
