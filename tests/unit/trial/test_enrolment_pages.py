"""Pages of enrolment: what they say, and that nobody is in them."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from tests.support.enrolment_trial import lab, one_rule, small_trial
from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.safety.blinding import leaks
from trialops.trial.eligibility import evaluate
from trialops.trial.eligibility_change import changes
from trialops.trial.eligibility_page import eligibility_page, no_criteria_page
from trialops.trial.eligibility_site import compare_with_site, coverage
from trialops.trial.eligibility_view import view
from trialops.trial.enrolment import enrolment, figures, known_at
from trialops.trial.enrolment_page import enrolment_page
from trialops.trial.study_file import parse_study, study_file
from trialops.trial.tables import TrialTables, cut_day

RULE = {"value": {"test": "CREAT", "unit": "mg/dL", "above": 1.5, "window": {"of": "screening"}}}


def study(planned: int = 100, **more: Any) -> Any:
    protocol = {"number": "T", "title": "t", "planned_enrolment": planned, "blinded": True}
    return parse_study({"protocol": protocol, **more})


def recruiting(n: int = 60) -> TrialTables:
    """n subjects at three sites, one every two days from 2020-01-01; every sixth fails screening."""
    subjects: list[dict[str, Any]] = []
    ds, ex = [], []
    for i in range(n):
        day = date.fromordinal(date(2020, 1, 1).toordinal() + 2 * i)
        start = date.fromordinal(day.toordinal() + 7).isoformat()
        failed = i % 6 == 5
        subjects.append(
            {
                "USUBJID": f"SECRET-{i:03d}",
                "SITEID": str(701 + i % 3),
                "RFICDTC": day.isoformat(),
                "DMDTC": day.isoformat(),
                "ARMCD": "Scrnfail" if failed else "ZYX",
                "ARM": "Screen Failure" if failed else "Zyxol",
                "RFSTDTC": "" if failed else start,
            }
        )
        term = "SCREEN FAILURE" if failed else "RANDOMIZED"
        row = {"USUBJID": f"SECRET-{i:03d}", "DSDECOD": term, "DSSTDTC": start}
        ds.append({**row, "DSCAT": "DISPOSITION EVENT" if failed else "PROTOCOL MILESTONE"})
        if not failed:
            ex.append({"USUBJID": f"SECRET-{i:03d}", "EXTRT": "ZYXOL", "EXDOSE": 1.0, "EXSTDTC": start, "EXENDTC": ""})
    labs = [{**lab("2" if i % 2 else "1", day="2019-12-20"), "USUBJID": f"SECRET-{i:03d}"} for i in range(0, n, 3)]
    return small_trial(subjects, DS=ds, EX=ex, LB=labs)


def test_the_trial_is_shown_as_it_was_known_on_the_day() -> None:
    trial = recruiting()
    early, late = (
        enrolment(known_at(trial, day), study()).found.total for day in (date(2020, 2, 1), date(2020, 12, 1))
    )
    # 16 had consented by 1 February; who came less than a week before is in screening, although DM has an arm.
    assert (early["consented"], early["in_screening"], early["randomised"], early["screen_failure"]) == (16, 3, 11, 2)
    assert (late["consented"], late["in_screening"], late["randomised"], late["screen_failure"]) == (60, 0, 50, 10)
    arms = set(known_at(trial, date(2020, 2, 1)).table("DM")["ARM"])
    assert arms == {"Zyxol", "Screen Failure", ""}


def test_the_enrolment_page_says_funnel_forecast_and_plan_and_nobody() -> None:
    milestones = {
        "dates": {
            "first_subject_in": {"planned": date(2020, 1, 1)},
            "enrolled_50": {"planned": date(2020, 4, 1)},
            "last_subject_in": {"planned": date(2020, 8, 1)},
        }
    }
    trial = known_at(recruiting(), date(2020, 5, 10))
    made = enrolment(trial, study(milestones=milestones))
    verdicts = evaluate(trial, one_rule(RULE, kind="exclusion")).verdicts
    text = render(enrolment_page(made, verdicts, note="This run opened 0 queries."))
    assert made.expected is not None and made.plan is not None
    assert made.plan.at(date(2020, 4, 1)) == 50 and made.plan.at(date(2021, 1, 1)) == 100
    assert "50 of 100 randomised" in text and "Every box equals the sum of its exits." in text
    assert "By the planned 2020-08-01 with a probability of" in text and "90 % interval" in text
    assert "Poisson-gamma model (Anisimov and Fedorov 2007)" in text
    assert not leaks(text, trial) and "SECRET" not in text and "ZYX" not in text.upper()
    assert text == render(enrolment_page(made, verdicts, note="This run opened 0 queries."))
    document = figures(made)
    assert document["funnel"]["randomised"] == 50 and document["reconciles"] and document["forecast"]["low"]
    assert "SECRET" not in str(document)


def test_what_stands_in_the_way_of_a_forecast_is_said() -> None:
    trial = known_at(recruiting(), date(2020, 5, 1))
    reached = enrolment(trial, study(planned=40))
    assert reached.expected is None and "is reached" in reached.why_none
    over = {"dates": {"last_subject_in": {"actual": date(2020, 4, 30)}}}
    assert "Recruiting ended on 2020-04-30" in enrolment(trial, study(milestones=over)).why_none
    early = known_at(recruiting(), date(2020, 1, 5))
    assert "No rate of recruiting" in enrolment(early, study()).why_none
    for made in (reached, enrolment(early, study())):
        assert "randomised" in render(enrolment_page(made, pl.DataFrame()))
    with pytest.raises(TrialOpsError, match="stands at a day"):
        enrolment(recruiting(), study())


def test_prescreened_persons_come_from_the_study_file() -> None:
    made = enrolment(
        known_at(recruiting(), date(2020, 5, 1)), study(eligibility={"prescreened": {"701": 80, "702": 40}})
    )
    assert made.found.prescreened == 120


def test_the_eligibility_page_shows_counts_alone() -> None:
    trial = known_at(recruiting(), date(2020, 5, 1))
    found = evaluate(trial, one_rule(RULE, kind="exclusion"))
    queries = compare_with_site(trial, found)
    nothing = changes(found.verdicts, found.verdicts, found.evidence, found.evidence)
    page = eligibility_page(
        found, coverage(trial, found.criteria), queries, nothing, compared=True, day=trial.cut, note="note"
    )
    text = render(page)
    assert "60 subjects judged on 1 criteria" in text and "critical queries" in text
    assert "no CREAT result up to screening" in text and "No verdict has changed." in text
    assert "SECRET" not in text and "ZYX" not in text.upper()
    # 10 do not enter by the criterion: too few to be told, with the total known.
    shown = found.outcomes().row(0)
    assert shown[2:] == (10, 10, 40) and "&lt;11" in text
    # 40 are unknown; what they lack does not tell a small number either.
    vague = [{**lab("2", day="2020"), "USUBJID": f"SECRET-{i:03d}"} for i in (1, 2)]
    parts = TrialTables(
        "T", {**trial.tables, "LB": pl.concat([trial.table("LB"), _labs(vague)], how="diagonal_relaxed")}, "d"
    )
    other = evaluate(parts, one_rule(RULE, kind="exclusion"))
    told = render(eligibility_page(other, coverage(trial, other.criteria), queries, nothing, compared=True, day=None))
    assert other.outcomes().row(0)[4] == 40 and ">38<" not in told and ">2<" not in told
    # Nine met, none not met, 51 unknown: the 51 would tell the nine.
    few = trial.table("LB").filter(pl.col("LBORRES") == "2").head(9)
    alone = evaluate(TrialTables("T", {**trial.tables, "LB": few}, "d"), one_rule(RULE, kind="exclusion"))
    assert alone.outcomes().row(0)[2:] == (9, 0, 51)
    told = render(eligibility_page(alone, coverage(trial, alone.criteria), queries, nothing, compared=True, day=None))
    assert ">51<" not in told and ">9<" not in told and "no CREAT result" in told
    first = render(eligibility_page(found, coverage(trial, found.criteria), queries, nothing, compared=False, day=None))
    assert "This is the first evaluation." in first
    assert "names no eligibility criteria" in render(no_criteria_page(study()))


def _labs(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{**row, "LBSEQ": 900.0 + i} for i, row in enumerate(rows)])


def test_the_view_answers_who_and_why() -> None:
    trial = known_at(recruiting(), date(2020, 5, 1))
    found = evaluate(trial, one_rule(RULE, kind="exclusion"))
    tables = {
        "verdicts": found.verdicts,
        "evidence": found.evidence,
        "changes": changes(found.verdicts, found.verdicts, found.evidence, found.evidence),
        "queries": compare_with_site(trial, found),
    }
    everybody = view(tables)
    assert everybody.height == 60 and everybody.columns[-2:] == ["barred by", "open"]
    barred = view(tables, verdict="not eligible")
    assert barred.height == 10 and set(barred["barred by"]) == {"C1"}
    assert view(tables, criterion="C1").height == 50
    one = view(tables, subject="SECRET-003").row(0, named=True)
    assert (one["criterion"], one["outcome"], one["domain"], one["sequence"]) == ("C1", "met", "LB", 2)
    assert view(tables, changed=True).is_empty() and view(tables, queries=True).height == tables["queries"].height
    with pytest.raises(TrialOpsError, match="no such subject"):
        view(tables, subject="SECRET-999")
    with pytest.raises(TrialOpsError, match="no criterion C9") as caught:
        view(tables, criterion="C9")
    assert "C1" in caught.value.fix


def test_the_day_of_a_report() -> None:
    assert cut_day("2024-05-31") == date(2024, 5, 31)
    assert cut_day("2024-05-31T23:30:00-05:00") == date(2024, 6, 1), "the moment in UTC"
    assert cut_day("").year >= 2024
    with pytest.raises(TrialOpsError, match="no ISO 8601 day"):
        cut_day("31.5.2024")
    assert study_file().number == "TRIALOPS01"
