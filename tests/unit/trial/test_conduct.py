"""Participation, lags, milestones and retention on a trial small enough to count by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from trialops.errors import TrialOpsError
from trialops.trial.kri_measures import measures
from trialops.trial.kri_policy import site_policy
from trialops.trial.lag import event_lags, lag_table, schedule, visit_rows
from trialops.trial.milestones import Milestone, milestones, recruiting_sites
from trialops.trial.participation import participation
from trialops.trial.retention import retention, retention_by_arm, times_to_discontinuation
from trialops.trial.study_file import StudyFile, parse_study
from trialops.trial.tables import TrialTables, cut_at

CUT = date(2024, 6, 30)
PEOPLE: dict[str, tuple[str, str, str, str]] = {
    # subject: site, randomised, left, reason ("" takes part)
    "S-1": ("10", "2024-01-10", "2024-06-10", "COMPLETED"),
    "S-2": ("10", "2024-02-01", "2024-03-01", "ADVERSE EVENT"),
    "S-3": ("10", "2024-05-01", "", ""),
    "S-4": ("20", "2024-03-01", "2024-08-01", "WITHDRAWAL BY SUBJECT"),  # after the cut: still takes part
    "S-5": ("20", "2024-07-15", "", ""),  # screened before the cut, randomised after it
}


def _study(**protocol: Any) -> StudyFile:
    return parse_study(
        {
            "protocol": {
                "number": "T",
                "title": "A trial",
                "planned_enrolment": 8,
                "blinded": True,
                "treatment_days": 150,
                "follow_up_days": 30,
                "visits": [
                    {"number": 1, "name": "DAY 1", "day": 1, "window_days": 1},
                    {"number": 2, "name": "DAY 29", "day": 29, "window_days": 3},
                    {"number": 3, "name": "DAY 57", "day": 57, "window_days": 3},
                ],
                **protocol,
            },
            "milestones": {
                "days_to_lock": 20,
                "dates": {
                    "first_subject_in": {"planned": date(2024, 1, 1)},
                    "enrolled_50": {"planned": date(2024, 4, 1)},
                },
            },
        }
    )


@pytest.fixture
def trial() -> TrialTables:
    dm, ds, sv, ae = [], [], [], []
    for subject, (site, start, left, reason) in PEOPLE.items():
        dm.append(
            {"STUDYID": "T", "USUBJID": subject, "SITEID": site, "ARMCD": "A" if site == "10" else "B"}
            | {"RFSTDTC": start, "RFENDTC": left or None, "RFPENDTC": left or None, "DMDTC": "2024-01-02"}
        )
        ds.append(_event(subject, "PROTOCOL MILESTONE", "RANDOMIZED", start))
        if reason:
            ds.append(_event(subject, "DISPOSITION EVENT", reason, left))
    dm.append({"STUDYID": "T", "USUBJID": "S-6", "SITEID": "20", "ARMCD": "SCRNFAIL", "DMDTC": "2024-02-02"})
    ds.append(_event("S-6", "DISPOSITION EVENT", "SCREEN FAILURE", "2024-02-09"))
    dm.append({"STUDYID": "T", "USUBJID": "S-7", "SITEID": "20", "ARMCD": "SCRNFAIL", "DMDTC": "2024-06-29"})
    ds.append(_event("S-7", "DISPOSITION EVENT", "SCREEN FAILURE", "2024-07-02"))
    for subject, numbers in {"S-1": (1, 2, 3), "S-2": (1,), "S-3": (1,), "S-4": (1, 3), "S-5": (1,)}.items():
        start = date.fromisoformat(PEOPLE[subject][1])
        for number in numbers:
            on = start + timedelta(days={1: 0, 2: 28, 3: 56}[number])
            sv.append({"USUBJID": subject, "VISITNUM": float(number), "SVSTDTC": on.isoformat()})
    for subject, onset, collected in (
        ("S-1", "2024-01-20", "2024-01-25"),
        ("S-1", "2024-01-20", "2024-03-01"),
        ("S-2", "2024-01", "2024-02-20"),
        ("S-3", "2024-06-01", "2024-05-20"),
        ("S-4", "2024-02-01", "2024-02-02"),
    ):
        row = {"USUBJID": subject, "AESEQ": float(len(ae) + 1), "AESTDTC": onset, "AEDTC": collected}
        ae.append({**row, "AESER": "N", "AESDTH": "N", "AEDECOD": "X", "AEOUT": "", "AETERM": "X"})
    return TrialTables("T", {n: pl.DataFrame(r) for n, r in (("DM", dm), ("DS", ds), ("SV", sv), ("AE", ae))}, "src")


def _event(subject: str, group: str, term: str, on: str) -> dict[str, Any]:
    return {"USUBJID": subject, "DSSEQ": 1.0, "DSCAT": group, "DSDECOD": term, "DSSTDTC": on}


def test_participation_is_what_was_known_on_the_day(trial: TrialTables) -> None:
    rows = {row["USUBJID"]: row for row in participation(trial, CUT).iter_rows(named=True)}
    assert [rows[s]["randomised"] for s in ("S-1", "S-5", "S-6")] == [True, False, False]
    assert rows["S-5"]["start"] is None and not rows["S-5"]["ongoing"]
    assert (rows["S-4"]["reason"], rows["S-4"]["end"], rows["S-4"]["last"]) == (None, None, CUT)
    assert rows["S-2"]["reason"] == "ADVERSE EVENT" and rows["S-2"]["end"] == date(2024, 3, 1)
    assert [rows[s]["screen_failure"] for s in ("S-6", "S-7")] == [True, False]
    later = {row["USUBJID"]: row for row in participation(trial, date(2024, 12, 31)).iter_rows(named=True)}
    assert later["S-5"]["randomised"] and later["S-4"]["reason"] == "WITHDRAWAL BY SUBJECT"
    assert later["S-7"]["screen_failure"]


def test_without_categories_and_with_treatment_dispositions_the_study_one_counts(trial: TrialTables) -> None:
    ds = trial.table("DS").drop("DSCAT")
    plain = TrialTables("T", {**trial.tables, "DS": ds}, "src")
    assert participation(plain, CUT)["reason"].to_list() == participation(trial, CUT)["reason"].to_list()
    parted = trial.table("DS").with_columns(DSSCAT=pl.lit("STUDY PARTICIPATION"))
    stopped = pl.DataFrame([_event("S-3", "DISPOSITION EVENT", "ADVERSE EVENT", "2024-05-20")])
    parted = pl.concat([parted, stopped.with_columns(DSSCAT=pl.lit("TREATMENT"))])
    both = participation(TrialTables("T", {**trial.tables, "DS": parted}, "src"), CUT)
    assert both.filter(pl.col("USUBJID") == "S-3")["reason"].to_list() == [None], "left the treatment, not the study"


def test_visits_are_held_overdue_or_missed(trial: TrialTables) -> None:
    people, cut = participation(trial, CUT), cut_at(trial, CUT)
    rows = visit_rows(cut, people, schedule(_study(), cut, site_policy()), CUT)
    seen = {
        (s, int(v)): (h, o, m)
        for s, v, h, o, m in rows.select("USUBJID", "VISITNUM", "held", "overdue", "missed").iter_rows()
    }
    held, overdue, missed = (True, False, False), (False, True, False), (False, False, True)
    assert seen == {
        ("S-1", 1): held, ("S-1", 2): held, ("S-1", 3): held,
        ("S-2", 1): held,  # day 29 would have closed after the subject had left
        ("S-3", 1): held, ("S-3", 2): overdue, ("S-3", 3): overdue,
        ("S-4", 1): held, ("S-4", 2): missed, ("S-4", 3): held,
    }  # fmt: skip


def test_lags_of_events_and_queries_by_site(trial: TrialTables) -> None:
    people, cut = participation(trial, CUT), cut_at(trial, CUT)
    events = event_lags(cut, people)
    # A partial onset, an event before randomisation and one collected before its onset say nothing about the lag.
    assert events.select("USUBJID", "days").rows() == [("S-1", 5), ("S-1", 41)]
    queries = pl.DataFrame({"SITEID": ["10", "10", "10"], "state": ["open", "answered", "closed"], "age": [40, 10, 99]})
    visits = visit_rows(cut, people, schedule(_study(), cut, site_policy()), CUT)
    table = lag_table(people, visits, events, queries, CUT)
    first = table.row(0, named=True)
    assert (first["overdue"], first["missed"], first["waiting"], first["query_age"]) == (2, 0, 2, 25.0)
    assert first["oldest"] == (CUT - (date(2024, 5, 1) + timedelta(days=31))).days
    assert (first["event_median"], first["event_p90"]) == (23.0, pytest.approx(37.4))
    second = table.row(1, named=True)
    assert (second["overdue"], second["missed"], second["event_median"], second["waiting"]) == (0, 1, None, None)


def test_numerators_and_denominators_by_hand(trial: TrialTables) -> None:
    people, cut = participation(trial, CUT), cut_at(trial, CUT)
    visits = visit_rows(cut, people, schedule(_study(), cut, site_policy()), CUT)
    serious = pl.DataFrame({"USUBJID": ["S-1", "S-2"], "AESEQ": [1.0, 3.0], "SERIOUS": ["serious", "to confirm"]})
    queries = pl.DataFrame({"SITEID": ["20"] * 2, "state": ["open", "closed"], "age": [31, 60]})
    found = measures(
        cut, people, serious=serious, visits=visits, lags=event_lags(cut, people), queries=queries, policy=site_policy()
    )
    ten, twenty = found.rows(named=True)
    days = (date(2024, 6, 10) - date(2024, 1, 10)).days + 1 + 30 + 61
    assert (ten["screened"], ten["randomised"], ten["discontinued"], ten["days_on_study"]) == (3, 3, 1, days)
    # Onset "2024-01" of S-2 cannot be after randomisation on 1 February: it does not count.
    assert (ten["adverse_events"], ten["serious_events"], ten["serious_to_confirm"]) == (3, 1, 0)
    assert (ten["late_events"], ten["dated_events"]) == (1, 2)
    assert (ten["visits_due"], ten["visits_missing"]) == (7, 2)
    assert (twenty["screened"], twenty["screen_failures"], twenty["randomised"]) == (2, 1, 1)
    assert (twenty["queries"], twenty["queries_waiting"], twenty["queries_old"]) == (2, 1, 1)
    assert ten["queries"] == 0 and ten["deviations"] is None and ten["lab_results"] is None
    # DM, DS, SV and AE rows of the site's subjects at the cut.
    assert ten["records"] == 3 + 5 + 5 + 4


def test_milestones_reached_forecast_and_their_slippage(trial: TrialTables) -> None:
    study = _study()
    found = {m.name: m for m in _milestones(trial, study, CUT)}
    assert found["first_site_activated"].actual == date(2024, 1, 2) and found["first_site_activated"].slippage is None
    first = found["first_subject_in"]
    assert (first.actual, first.slippage, first.tone) == (date(2024, 1, 10), 9, "good")
    half = found["enrolled_50"]
    assert (half.actual, half.slippage, half.tone) == (date(2024, 5, 1), 30, "warn")
    last = found["last_subject_in"]
    assert last.actual is None and last.forecast is not None and last.forecast > CUT and "4 to go" in last.basis
    assert found["first_subject_out"].actual == date(2024, 6, 10)
    out = found["last_subject_out"].forecast
    assert out == last.forecast + timedelta(days=179)
    assert found["database_lock"].forecast == out + timedelta(days=20)
    assert found["database_lock"].as_dict()["tone"] == "plain"


def test_a_trial_that_is_full_and_over_has_its_end(trial: TrialTables) -> None:
    done = trial.table("DS").vstack(
        pl.DataFrame([_event(s, "DISPOSITION EVENT", "COMPLETED", "2024-11-30") for s in ("S-3", "S-5")])
    )
    over = TrialTables("T", {**trial.tables, "DS": done}, "src")
    found = {m.name: m for m in _milestones(over, _study(planned_enrolment=4), date(2025, 1, 31))}
    assert found["last_subject_in"].actual == date(2024, 7, 15), "five were randomised, four planned"
    assert found["last_subject_out"].actual == date(2024, 11, 30)
    assert found["database_lock"].forecast == date(2025, 1, 31), "a forecast is never before the cut"


def test_stated_dates_come_first_and_what_is_not_stated_is_said(trial: TrialTables) -> None:
    stated = _study()
    content = {"last_subject_in": {"planned": date(2024, 5, 1), "actual": date(2024, 5, 2)}}
    closed = parse_study(
        {
            "protocol": {"number": "T", "title": "t", "planned_enrolment": 100, "blinded": True},
            "milestones": {"dates": content},
            "sites": {"30": {"planned_activation": date(2024, 9, 1)}, "10": {"activated": date(2024, 1, 1)}},
        }
    )
    found = {m.name: m for m in _milestones(trial, closed, CUT)}
    assert (found["last_subject_in"].actual, found["last_subject_in"].slippage) == (date(2024, 5, 2), 1)
    assert found["first_site_activated"].actual == date(2024, 1, 1)
    assert found["last_subject_out"].forecast is None and "treatment_days" in found["last_subject_out"].basis
    assert "days_to_lock" in found["database_lock"].basis
    sites = {s.name: s for s in recruiting_sites(participation(trial, CUT).filter("randomised"), closed)}
    assert sites["10"].first_counted and not sites["20"].first_counted
    assert sites["30"].count == 0 and sites["30"].opened == date(2024, 9, 1).toordinal()
    assert (
        recruiting_sites(participation(trial, CUT).filter("randomised"), stated)[0].opened
        == date(2024, 1, 10).toordinal()
    )


def _milestones(trial: TrialTables, study: StudyFile, day: date) -> tuple[Milestone, ...]:
    return milestones(cut_at(trial, day), participation(trial, day), study, day, site_policy())


def test_retention_counts_days_from_randomisation_and_censors_completion(trial: TrialTables) -> None:
    people = participation(trial, CUT)
    rows = {r["USUBJID"]: r for r in times_to_discontinuation(people, CUT).iter_rows(named=True)}
    assert {s: (r["days"], r["event"]) for s, r in rows.items()} == {
        "S-1": (153, False), "S-2": (30, True), "S-3": (61, False), "S-4": (122, False),
    }  # fmt: skip
    found = retention(people, CUT, site_policy())
    assert found.curve.at([29, 30, 200])[0].tolist() == [1.0, 0.75, 0.75]
    assert found.reason_counts == {"OTHER REASONS": 1} and found.excluded == 0
    assert found.sites.select("site", "subjects", "ongoing", "day_28").rows() == [
        ("10", 3, 1, None),
        ("20", 1, 1, None),
    ]
    arms = retention_by_arm(trial, people, CUT)
    assert arms.test.groups == ("A", "B") and arms.test.observed == (1.0, 0.0)
    assert arms.curves["A"].survival[-1] == pytest.approx(2 / 3)


def test_reasons_of_few_are_told_as_one() -> None:
    reasons = ["ADVERSE EVENT"] * 40 + ["WITHDRAWAL BY SUBJECT"] * 12 + ["DEATH"] * 5 + ["LACK OF EFFICACY"] * 3
    people = pl.DataFrame(
        {
            "USUBJID": [f"S{i}" for i in range(60)],
            "SITEID": ["1"] * 60,
            "randomised": [True] * 60,
            "start": [date(2024, 1, 1)] * 60,
            "end": [date(2024, 1, 1) + timedelta(days=i) for i in range(60)],
            "reason": reasons,
            "ongoing": [False] * 60,
        }
    )
    # Death and lack of efficacy are eight together: the next reason joins them.
    assert retention(people, CUT, site_policy()).reason_counts == {"ADVERSE EVENT": 40, "OTHER REASONS": 20}


def test_what_cannot_be_told_is_refused_with_a_reason(trial: TrialTables) -> None:
    nobody = participation(trial, date(2024, 1, 5))
    with pytest.raises(TrialOpsError, match="nobody whose retention"):
        retention(nobody, date(2024, 1, 5), site_policy())
    without = TrialTables("T", {"DM": trial.table("DM")}, "src")
    plan = parse_study({"protocol": {"number": "T", "title": "t", "planned_enrolment": 1, "blinded": True}})
    with pytest.raises(TrialOpsError, match="which visits are planned"):
        schedule(plan, without, site_policy())
    with pytest.raises(TrialOpsError, match="two arms"):
        retention_by_arm(trial, participation(trial, date(2024, 2, 10)), date(2024, 2, 10))
