"""Statistics against other calculations, and each detector on activity made for it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trialops.errors import TrialOpsError
from trialops.security.days import Days, days_of, rolling, trailing
from trialops.security.events import Collector, nothing, schema
from trialops.security.habits import first_use, unusual_hours
from trialops.security.networks import load_networks
from trialops.security.policy import SHIPPED, load_policy
from trialops.security.screening import screen
from trialops.security.statistics import calibrated, combine, discoveries, poisson_interval, upper_tail
from trialops.security.volumes import forecast, size, volume

POLICY = load_policy()
START = dt.date(2026, 1, 5)


def _activity(rows: list[tuple[str, int, float, str, int, str]]) -> Days:
    """Activity of (actor, day, hour, object, events, address); everybody is a data manager."""
    days = max(row[1] for row in rows) + 1
    made = {
        "source": "trail", "service": False, "role": "data manager", "action": "data.read", "outcome": "allowed",
    }  # fmt: skip
    frame = pl.DataFrame(
        [
            {**made, "actor": a, "object": thing, "address": address, "id": f"{a}-{d}-{h}-{thing}-{n}",
             "at": dt.datetime.combine(START, dt.time()) + dt.timedelta(days=d, hours=h, seconds=n)}
            for a, d, h, thing, count, address in rows
            for n in range(count)
        ]
    )  # fmt: skip
    missing = [pl.lit(None).alias(c) for c in schema() if c not in frame.columns]
    collector = Collector(lambda _, values: list(values), load_networks())
    collector.add(frame.with_columns(missing).select(pl.col(c).cast(t) for c, t in schema().items()))
    return days_of(collector.kept(), POLICY, START + dt.timedelta(days), {})


def _usual(
    people: int = 6, days: int = 100, seed: int = 3, level: float = 20
) -> list[tuple[str, int, float, str, int, str]]:
    rng = np.random.default_rng(seed)
    return [
        (f"p{n}", d, float(h), "clean", int(rng.poisson(level / 8)) + 1, "10.0.0.1")
        for n in range(people)
        for d in range(days)
        if (START + dt.timedelta(d)).weekday() < 5
        for h in range(9, 17)
    ]


def test_the_tail_is_the_negative_binomial_s() -> None:
    for mean, dispersion in ((0.02, 3.0), (5.0, 0.5), (200.0, 0.05)):
        r = 1 / dispersion
        for count in (1, 2, 7, 40, 300):
            expected = stats.nbinom.sf(count - 1, r, r / (r + mean))
            found = float(upper_tail(np.array(count), np.array(mean), np.array(dispersion)))
            assert found == pytest.approx(max(expected, 1e-30), rel=1e-6)
    assert float(upper_tail(np.array(0), np.array(3.0), np.array(1.0))) == 1.0


def test_combined_tails_hold_under_dependence_and_keep_a_small_one() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(1, 200_000)) * 0.7 + rng.normal(size=(6, 200_000)) * np.sqrt(1 - 0.49)
    p = combine(stats.norm.sf(z))
    for level in (0.01, 0.001):
        assert (p <= level).mean() == pytest.approx(level, rel=0.45)
    one = combine(np.array([[1e-12], [0.9], [0.8], [np.nan]]))
    assert 1e-13 < one[0] < 1e-11 and combine(np.array([[np.nan]]))[0] == 1.0


def test_calibration_makes_inflated_scores_fair_and_is_not_moved_by_attacks() -> None:
    rng = np.random.default_rng(2)
    fair = []
    for _ in range(40):
        past, now = 1.8 * rng.exponential(size=2_000), 1.8 * rng.exponential(size=5_000)
        fair.append((calibrated(now, past, tail=0.05, least=30, trim=0.002) <= 0.001).mean())
    assert np.mean(fair) == pytest.approx(0.001, rel=0.25)
    past = rng.exponential(size=2_000)
    attacked = np.concatenate([past[:-4], [60.0] * 4])
    limits = [calibrated(np.array([12.0]), h, tail=0.05, least=30, trim=0.002)[0] for h in (past, attacked)]
    assert limits[1] < 3e-4 and limits[0] < 3e-4
    few = calibrated(np.array([3.0]), past[:20], tail=0.05, least=30, trim=0.002)
    assert few[0] == pytest.approx(np.exp(-3.0))


def test_discoveries_are_those_of_benjamini_and_hochberg() -> None:
    """The example of the paper: of 15 tests 4 are rejected at 0.05."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    told = discoveries(np.array(p[::-1]), 0.05)
    assert told.sum() == 4 and told[-4:].all()
    assert not discoveries(np.array([0.2, 0.9]), 0.05).any() and discoveries(np.array([]), 0.05).size == 0
    assert poisson_interval(0) == pytest.approx((0, 3.689), abs=1e-3)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=1e-3)


def test_sums_of_days() -> None:
    values = np.random.default_rng(0).integers(0, 9, (3, 50)).astype(float)
    for window in (1, 7, 20, 49, 80):
        for day in range(50):
            assert np.allclose(trailing(values, window)[:, day], values[:, max(0, day - window) : day].sum(axis=1))
            assert np.allclose(
                rolling(values, window)[:, day], values[:, max(0, day - window + 1) : day + 1].sum(axis=1)
            )


def test_a_platform_that_began_today_has_nothing_to_judge_yet() -> None:
    """The days before are screened, and nobody did anything then; and a platform that nobody has used at all."""
    for kept in (_activity(_usual(people=2, days=1)).kept, nothing()):
        before = days_of(kept, POLICY, START, {})
        found = screen(before, POLICY, START - dt.timedelta(1))
        assert before.actors == () and before.active.shape[0] == 0
        assert found.unlike == () and sum(found.tested) == 0


def test_a_burst_is_found_and_a_campaign_of_all_is_not() -> None:
    last = 99 - (START + dt.timedelta(99)).weekday() % 7 if (START + dt.timedelta(99)).weekday() > 4 else 99
    rows = _usual(days=last + 1)
    alone = _activity([*rows, ("p0", last, 10.5, "clean", 150, "10.0.0.1")])
    tail = volume(alone, POLICY)[0]
    place = alone.actors.index("p0")
    assert tail.tail[place, last] < 1e-3 < np.delete(tail.tail[:, last], place).min()
    assert "read in 1 day: " in tail.say(place, last)
    busy = _activity([*rows, *((f"p{n}", last, 10.5, "clean", 150, "10.0.0.1") for n in range(6))])
    assert volume(busy, POLICY)[0].tail[:, last].min() > 1e-3
    mean = forecast(busy, POLICY, busy.summed(busy.kept.activity.group_by("actor", "day").agg(pl.col("events").sum())))
    assert (mean[:, last] > 3 * mean[:, last - 1]).all()


def test_an_hour_that_nobody_keeps_is_rare_whatever_the_time_zone() -> None:
    rows = _usual(days=100)
    away = [("far", d, (h + 12) % 24, t, n, a) for p, d, h, t, n, a in rows if p == "p1"]
    night = _activity([*rows, *away, ("p0", 98, 1.0, "clean", 3, "10.0.0.1")])
    hours = unusual_hours(night, POLICY)
    p0, far = night.actors.index("p0"), night.actors.index("far")
    assert hours.tail[p0, 98] < 1e-3 and hours.tail[far, 98] > 0.2
    assert "between 01 and 02" in hours.say(p0, 98)


def test_first_uses_are_as_rare_as_they_were_before() -> None:
    rows = _usual(days=100)
    often = [(f"p{n}", 30 + 10 * n, 11.0, "quality", 1, "10.0.0.1") for n in range(1, 6)]
    new = _activity([*rows, *often, ("p0", 98, 11.0, "genomics", 1, "203.0.113.9")])
    kinds, networks = first_use(new, POLICY)
    p0 = new.actors.index("p0")
    judged_days = sum(1 for d in range(42, 98) if (START + dt.timedelta(d)).weekday() < 5) * 6
    assert kinds.tail[p0, 98] == pytest.approx(2 / (judged_days + 1), rel=0.5)
    assert networks.tail[p0, 98] == pytest.approx(1 / (judged_days + 1), rel=0.05)
    assert "genomics" in kinds.say(p0, 98) and "203.0.113.0/24" in networks.say(p0, 98)


def test_size_is_a_robust_z_of_the_logarithm() -> None:
    days = _activity(_usual(people=2, days=60))
    rows = days.kept.activity.with_columns(pl.lit("export").alias("class"), pl.lit(12.0).alias("volume"))
    bigger = rows.with_columns(
        pl.when(pl.col("day") == START + dt.timedelta(58)).then(90.0).otherwise("volume").alias("volume")
    )
    changed = Days(days.actors, days.roles, days.services, days.start, days.count,
                   type(days.kept)(bigger, days.kept.objects, days.kept.notable))  # fmt: skip
    found = size(changed, POLICY)
    past = np.log1p(12.0 * 8)
    n = sum(1 for d in range(2, 58) if (START + dt.timedelta(d)).weekday() < 5)
    z = (np.log1p(90.0 * 8) - past) / POLICY.least_spread
    assert found.tail[0, 58] == pytest.approx(stats.t.sf(z, n - 1), rel=1e-3)


def test_who_has_little_history_is_not_judged() -> None:
    rows = [*_usual(days=60), *(("new", d, 3.0, "clean", 400, "10.0.0.1") for d in range(56, 60))]
    days = _activity(rows)
    found = screen(days, POLICY, START + dt.timedelta(56))
    assert "new" not in {u.actor for u in found.unlike} and found.tested[-1] == 6


def test_a_policy_that_cannot_be_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    text = SHIPPED.read_text()
    for old, new in (
        ("false_discovery: 0.05", "false_discovery: 2"),
        ("windows: [1, 7, 28]", "windows: []"),
        ("tail: 0.05", "tial: 0.05"),
    ):
        assert old in text
        (tmp_path / "p.yaml").write_text(text.replace(old, new))
        with pytest.raises(TrialOpsError):
            load_policy(tmp_path / "p.yaml")
    assert len(POLICY.digest) == 64
