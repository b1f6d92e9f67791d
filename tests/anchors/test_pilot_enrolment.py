"""Enrolment of the CDISC pilot: the published figures of its funnel, and criteria of entry on its real data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trialops.intake.sdtm import read_folder
from trialops.pages import render
from trialops.regulatory.cut import make_cut
from trialops.safety.blinding import leaks
from trialops.trial.eligibility import evaluate
from trialops.trial.eligibility_criteria import parse_criteria
from trialops.trial.eligibility_site import coverage
from trialops.trial.enrolment import enrolment, figures, known_at
from trialops.trial.enrolment_page import enrolment_page
from trialops.trial.forecast import forecast
from trialops.trial.funnel import by_arm, funnel, screen_failure_rates
from trialops.trial.study_file import parse_study
from trialops.trial.tables import TrialTables


@pytest.fixture(scope="module")
def pilot(anchors: Path) -> TrialTables:
    folder = anchors / "cdiscpilot01" / "sdtm"
    cut = make_cut(read_folder(folder).tables, {p.name: p.read_bytes() for p in sorted(folder.glob("*.xpt"))})
    return TrialTables("CDISCPILOT01", cut.tables, "pilot")


def study(planned: int) -> Any:
    return parse_study(
        {"protocol": {"number": "CDISCPILOT01", "title": "Pilot", "planned_enrolment": planned, "blinded": True}}
    )


def test_the_funnel_of_the_pilot(pilot: TrialTables) -> None:
    found = funnel(pilot)
    total: Mapping[str, int] = found.total
    assert (total["screened"], total["randomised"], total["screen_failure"]) == (306, 254, 52)
    assert (total["dosed"], total["completed"], total["discontinued"], total["ongoing"]) == (254, 110, 144, 0)
    assert dict(found.reasons)["ADVERSE EVENT"] == 92 and sum(n for _, n in found.reasons) == 144
    assert found.sites.height == 17 and int(found.sites["screened"].sum()) == 306
    assert found.imbalances == () and found.queries.is_empty() and not found.consent_recorded
    arms = by_arm(pilot, found).group_by("ARMCD").agg(pl.col("randomised").sum()).sort("ARMCD")
    assert arms.rows() == [("Pbo", 86), ("Xan_Hi", 84), ("Xan_Lo", 84)]
    rate = screen_failure_rates(found).row(-1, named=True)
    assert (rate["failed"], rate["screened"]) == (52, 306) and rate["low"] < 52 / 306 < rate["high"]


@pytest.mark.parametrize("made_on", [date(2013, 3, 31), date(2013, 6, 30)])
def test_a_forecast_made_in_the_middle_holds_what_came(pilot: TrialTables, made_on: date) -> None:
    """A quarter, half a year and nine months ahead, with what was known on the day; and the page is blinded."""
    made = enrolment(known_at(pilot, made_on), study(254))
    assert made.expected is not None and made.found.imbalances == ()
    entered = funnel(pilot).subjects["randomised_on"]
    days = [made_on + timedelta(ahead) for ahead in (90, 180, 270)]
    found = forecast(
        made.sites, today=float(made_on.toordinal()), target=254, days=[float(day.toordinal()) for day in days]
    )
    came = [int((entered <= day).sum()) for day in days]
    assert all(low <= n <= high for low, n, high in zip(found.low, came, found.high, strict=True))
    assert all(abs(n - median) <= 6 for n, median in zip(came, found.median, strict=True))
    text = render(enrolment_page(made, pl.DataFrame()))
    assert not leaks(text, pilot) and "01-701-" not in text


def test_a_full_trial_needs_no_forecast(pilot: TrialTables) -> None:
    assert figures(enrolment(known_at(pilot, date(2015, 6, 30)), study(254)))["forecast"] is None


def test_criteria_on_real_tables(pilot: TrialTables) -> None:
    """Outcomes against the same questions asked of the tables directly."""
    window = {"of": "screening", "from": -30, "to": 0}
    rules: dict[str, Any] = {
        "AGE": {"age": {"at_least": 50}},
        "AD": {"has": {"domain": "MH", "where": {"MHCAT": "PRIMARY DIAGNOSIS"}, "window": {"of": "screening"}}},
        "CREAT": {"value": {"test": "CREAT", "unit": "mg/dL", "above": 1.5, "window": window}},
        "ALT": {"value": {"test": "ALT", "unit": "ULN", "above": 1, "window": window}},
        "ASPIRIN": {"has": {"domain": "CM", "like": {"CMTRT": "ASPIRIN%"}}},
    }
    items = [{"id": i, "kind": "inclusion", "text": i, "reference": "-", "rule": rule} for i, rule in rules.items()]
    found = evaluate(pilot, parse_criteria({"protocol": "CDISCPILOT01", "version": 1, "criteria": items}))
    assert found.verdicts["AGE"].to_list() == [age >= 50 for age in pilot.table("DM").sort("USUBJID")["AGE"]]

    def day(column: str) -> pl.Expr:
        return pl.col(column).str.slice(0, 10).str.to_date()

    lb = pilot.table("LB").join(pilot.table("DM").select("USUBJID", "DMDTC"), on="USUBJID")
    days = lb.with_columns(
        gap=(day("LBDTC") - day("DMDTC")).dt.total_days(),
        own=pl.col("LBORRES").cast(pl.Float64, strict=False),
        high=pl.col("LBORNRHI").cast(pl.Float64, strict=False),
    ).filter(pl.col("gap").is_between(-30, 0))  # fmt: skip
    for test, unit, above in (("CREAT", "SI", 1.5 * 10_000 / 113.12), ("ALT", "ULN", 1.0)):
        last = days.filter(pl.col("LBTESTCD") == test).sort("USUBJID", "LBDTC", "LBSEQ").group_by("USUBJID").last()
        value = pl.col("LBSTRESN") if unit == "SI" else pl.col("own") / pl.col("high")
        expected = dict(last.select("USUBJID", value > above).rows())
        said = dict(found.verdicts.select("USUBJID", test).rows())
        assert {k: v for k, v in said.items() if v is not None} == {k: v for k, v in expected.items() if v is not None}
        assert any(said.values()) and any(v is False for v in said.values())
    # Who failed screening has no MH: an absence that nobody asked about is not a no.
    mh = set(pilot.table("MH")["USUBJID"])
    unknown = found.verdicts.filter(pl.col("AD").is_null())["USUBJID"].to_list()
    assert unknown and not set(unknown) & mh
    assert not coverage(pilot, found.criteria).delivered
