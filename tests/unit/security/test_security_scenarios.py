"""Planted scenarios and quiet months: recall, precision and false alarms at the policy's budget.

Limits were set on other seeds (see tests/support/security_scenarios.py). The numbers that docs/validation/security.md
states come from `python -m benchmarks.security --scenarios`; here a sample keeps them from getting worse unnoticed.
"""

from __future__ import annotations

import pytest

from tests.support.security_scenarios import MONTH, POLICY, World, hit, played
from trialops.synthetic.insiders import SCENARIOS, plant

CERTAIN = {
    "dormant", "terminated", "blinded_person", "impersonator", "break_glass", "hijacked_service", "probing",
}  # fmt: skip
"""What a rule finds, or what cannot be taken for anything usual."""


@pytest.fixture(scope="module")
def world() -> World:
    """An organisation that no limit was set on."""
    return World(2001, 1)


def test_a_quiet_month_is_quiet(world: World) -> None:
    alerts = world.alerts(0)
    assert len(alerts) <= 4, alerts  # one a week
    assert all(alert.kind == "unlike" for alert in alerts)  # nothing usual breaks a rule


@pytest.mark.slow
def test_scenarios_are_found_within_the_budget(world: World) -> None:
    quiet = {(a.kind, a.actor, a.day) for a in world.alerts(0)}
    found: dict[str, bool] = {}
    right = wrong = 0
    for name, (planted, alerts) in zip(SCENARIOS, played(world, 0, list(SCENARIOS), 500), strict=True):
        hits = hit(alerts, planted)
        found[name] = bool(hits)
        right, wrong = right + len(hits), wrong + len(alerts) - len(hits)
        # What is planted makes nobody else an insider.
        strange = {(a.kind, a.actor, a.day) for a in alerts if a.actor != planted.actor} - quiet
        assert len(strange) <= 2, (name, strange)
        per_day = [sum(a.day == day and a.kind == "unlike" for a in alerts) for day in range(500)]
        assert max(per_day) <= POLICY.alerts_per_day
    assert all(found[name] for name in CERTAIN), found
    assert sum(found.values()) >= len(SCENARIOS) - 3, found
    assert right / (right + wrong) >= 1 / 3, (right, wrong)  # one insider a month, and what is usual besides


def test_an_explanation_has_the_figures(world: World) -> None:
    planted = plant(world.made, "bulk_before_leaving", 501, world.first(0))
    words = "; ".join(a.words for a in hit(world.alerts(0, planted), planted))
    assert "where" in words and "were to be expected" in words and any(c.isdigit() for c in words)


def test_without_a_scenario_its_actor_is_not_found(world: World) -> None:
    """The recall is the scenario's: the same days without it raise nothing about the same actor."""
    alerts = world.alerts(0)
    for name in SCENARIOS:
        planted = plant(world.made, name, 500, world.first(0))
        assert planted.days[1] < world.first(0) + MONTH + 1
        assert not [a for a in hit(alerts, planted) if a.kind != "unlike"], name
