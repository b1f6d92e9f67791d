"""Reporting clocks of a real case register: half, three quarters, nine tenths, overdue; and what ends the alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.homes import leave, live_in
from tests.support.released_cases import STUDY, Registered
from trialops.alerts.lifecycle import evaluate
from trialops.alerts.measures import Stores, measure
from trialops.alerts.register import AlertRegister
from trialops.alerts.thresholds import load_thresholds
from trialops.settings import settings
from trialops.stores.context import Step

AWARE = datetime(2026, 1, 2, 10, 0, tzinfo=UTC)


def test_clocks_alert_at_their_levels_and_name_no_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live_in(tmp_path, monkeypatch)
    run, rules = Step("cases", {}, settings()), load_thresholds()
    case, _ = Registered(run).version()
    stores, register = Stores(run.engine, run.objects, STUDY, tmp_path), AlertRegister(run.engine, STUDY)
    seen: list[set[str]] = []
    shares: list[float] = []
    for days in (1, 8, 12, 14.8, 16.5):
        now = AWARE + timedelta(days=days)
        found = measure(stores, rules, now)
        assert found.unread == {}
        evaluate(register, found, rules, now)
        shares.append(next(s.value for s in found.samples if s.metric == "trialops_safety_clock_used_ratio"))
        firing = [a for a in register.known().values() if a.firing and a.area == "safety"]
        seen.append({a.name for a in firing})
        assert all(a.labels["case"] == case and case in a.summary and a.labels["authority"] == "FDA" for a in firing)
    names = ["SafetyClock50", "SafetyClock75", "SafetyClock90", "SafetyReportOverdue"]
    assert seen == [set(names[:n]) for n in (0, 1, 2, 3, 4)]
    # Due at the end of calendar day 15, in the desk's zone: more than 15 and less than 16 days after 10:00 UTC.
    assert shares == sorted(shares) and 8 / 16 < shares[1] < 8 / 15 and shares[-1] > 1
    leave()
