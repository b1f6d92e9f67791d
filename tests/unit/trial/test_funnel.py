"""The funnel: boxes that add up, and questions where they do not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
import pytest

from tests.support.enrolment_trial import small_trial
from trialops.pages import plots
from trialops.trial.consort import consort, pooled
from trialops.trial.eligibility_page import hidden
from trialops.trial.funnel import BOXES, EXITS, Funnel, by_arm, clopper_pearson, funnel, recounted, screen_failure_rates

ARM = {"ARMCD": "A", "ARM": "Drug A", "RFSTDTC": "2020-03-10"}
FAILED = {"ARMCD": "Scrnfail", "ARM": "Screen Failure"}


def event(
    subject: int, term: str, day: str = "2020-06-01", category: str = "DISPOSITION EVENT", **more: Any
) -> dict[str, Any]:
    return {"USUBJID": f"S{subject}", "DSDECOD": term, "DSCAT": category, "DSSTDTC": day, **more}


def randomised(subject: int, day: str = "2020-03-10") -> dict[str, Any]:
    return event(subject, "RANDOMIZED", day, "PROTOCOL MILESTONE")


def dose(subject: int) -> dict[str, Any]:
    return {"USUBJID": f"S{subject}", "EXTRT": "X", "EXDOSE": 1.0, "EXSTDTC": "2020-03-10", "EXENDTC": "2020-05-31"}


@pytest.fixture
def whole() -> Funnel:
    """One subject at every end of the diagram."""
    subjects = [
        ARM,  # 1 completed
        ARM,  # 2 discontinued
        ARM,  # 3 ongoing
        ARM,  # 4 not dosed
        FAILED,  # 5
        {"ARMCD": "NOTASSGN", "ARM": "Not assigned"},  # 6 passed, not randomised
        {"ARM": ""},  # 7 in screening
        {"ARM": "", "DMDTC": ""},  # 8 consented alone
    ]
    ds = [randomised(i) for i in (1, 2, 3, 4)]
    ds += [event(1, "COMPLETED"), event(2, "ADVERSE EVENT"), event(5, "SCREEN FAILURE", "2020-03-07")]
    return funnel(small_trial(subjects, DS=ds, EX=[dose(1), dose(2), dose(3)]))


def test_everybody_is_at_one_end(whole: Funnel) -> None:
    ends = {b: whole.total[b] for b in BOXES if b not in EXITS}
    assert ends == dict.fromkeys(ends, 1)
    assert [whole.total[b] for b in EXITS] == [8, 7, 4, 3]
    assert whole.imbalances == () and whole.queries.is_empty()
    for box, exits in EXITS.items():
        assert whole.total[box] == sum(whole.total[e] for e in exits)
    assert whole.reasons == (("ADVERSE EVENT", 1),)
    assert whole.sites.select(pl.col("SITEID"), pl.col("consented")).rows() == [("701", 8)]
    again = recounted(whole.subjects, whole.queries)
    assert again.total == whole.total and again.sites.equals(whole.sites)


def test_what_contradicts_is_asked_and_not_made_to_fit() -> None:
    subjects = [
        {**ARM, "RFICDTC": ""},  # 1 no consent
        {**ARM, "RFICDTC": "2020-03-11"},  # 2 randomised before consent
        FAILED,  # 3 a screen failure who was dosed
        {"ARM": ""},  # 4 dosed without an arm
        ARM,  # 5 not randomised by DS
        ARM,  # 6 completed and discontinued
        ARM,  # 7 failed screening by DS
        ARM,  # 8 ended before randomisation
        {"ARM": "", "RFICDTC": ""},  # 9 screened without consent
    ]
    ds = [randomised(i) for i in (1, 2, 6, 7, 8)]
    ds += [event(6, "COMPLETED"), event(6, "DEATH"), event(7, "SCREEN FAILURE"), event(8, "COMPLETED", "2020-03-02")]
    found = funnel(small_trial(subjects, DS=ds, EX=[dose(i) for i in (1, 2, 3, 4, 5, 6, 7, 8)]))
    asked = {(r["rule"], r["USUBJID"]) for r in found.queries.iter_rows(named=True)}
    assert asked >= {
        ("FUNL001", "S1"), ("FUNL002", "S2"), ("FUNL003", "S3"), ("FUNL004", "S4"), ("FUNL005", "S5"),
        ("FUNL006", "S6"), ("FUNL007", "S7"), ("FUNL008", "S8"), ("FUNL010", "S9"),
    }  # fmt: skip
    # The boxes that do not add up are named with their subjects, and those subjects are asked about.
    lost = {subject for rule, subject in asked if rule == "FUNL009"}
    assert {i.box for i in found.imbalances} == {"consented", "randomised", "dosed"}
    assert lost == {"S1", "S3", "S4", "S6", "S9"}
    dosed = next(i for i in found.imbalances if i.box == "dosed")
    assert (dosed.count, dosed.exits, dosed.subjects) == (8, 9, 1)
    assert "dosed" in consort(found).lower()


def test_a_trial_without_dates_of_consent_counts_who_was_screened() -> None:
    found = funnel(small_trial([{**ARM, "RFICDTC": ""}, {**FAILED, "RFICDTC": ""}], DS=[randomised(1)], EX=[dose(1)]))
    assert not found.consent_recorded and found.total["consented"] == 2
    assert found.imbalances == () and found.queries.is_empty(), "one sentence on the page, not a query per subject"


def test_consent_on_the_day_of_randomisation_is_in_time() -> None:
    found = funnel(small_trial([{**ARM, "RFICDTC": "2020-03-10"}], DS=[randomised(1)], EX=[dose(1)]))
    assert found.queries.is_empty()


def test_consent_as_a_milestone_counts() -> None:
    ds = [event(1, "INFORMED CONSENT OBTAINED", "2020-03-01", "PROTOCOL MILESTONE"), randomised(1)]
    found = funnel(small_trial([{**ARM, "RFICDTC": ""}], DS=ds, EX=[dose(1)]))
    assert found.consent_recorded and found.total["consented"] == 1 and found.queries.is_empty()


def test_dispositions_of_screening_and_follow_up_are_not_the_end() -> None:
    ds = [
        randomised(1),
        event(1, "COMPLETED", "2020-03-08", EPOCH="SCREENING"),
        event(1, "LOST TO FOLLOW-UP", "2020-07-01", EPOCH="FOLLOW-UP"),
        event(1, "ADVERSE EVENT", "2020-05-31", EPOCH="TREATMENT"),
    ]
    found = funnel(small_trial([ARM], DS=ds, EX=[dose(1)]))
    assert (
        found.total["discontinued"] == 1 and found.total["completed"] == 0 and found.reasons == (("ADVERSE EVENT", 1),)
    )


def test_by_arm_adds_up_to_the_whole() -> None:
    subjects = [ARM, {**ARM, "ARMCD": "B", "ARM": "Drug B", "SITEID": "702"}, FAILED]
    trial = small_trial(subjects, DS=[randomised(1), randomised(2)], EX=[dose(1)])
    found = funnel(trial)
    arms = by_arm(trial, found)
    assert arms.select("SITEID", "ARMCD", "randomised", "dosed", "ongoing").rows() == [
        ("701", "A", 1, 1, 1),
        ("702", "B", 1, 0, 0),
    ]
    assert int(arms["randomised"].sum()) == found.total["randomised"]
    drawn = consort(found, arms=arms)
    assert "Drug A" in drawn and "Drug B" in drawn and "Drug" not in consort(found)


def test_screen_failure_rates_have_exact_intervals() -> None:
    # Clopper and Pearson's interval of 4 of 20, as in any table of it.
    low, high = clopper_pearson(4, 20)
    assert (round(float(low or 0), 4), round(float(high or 0), 4)) == (0.0573, 0.4366)
    assert (
        clopper_pearson(0, 10)[0] == 0.0 and clopper_pearson(10, 10)[1] == 1.0 and clopper_pearson(0, 0) == (None, None)
    )
    found = funnel(small_trial([FAILED, {"ARMCD": "NOTASSGN"}, {"ARM": ""}, ARM], DS=[randomised(4)]))
    assert screen_failure_rates(found).select("SITEID", "failed", "screened").rows() == [
        ("701", 1, 3),
        ("all sites", 1, 3),
    ]


def test_small_counts_cannot_be_told_from_the_others() -> None:
    assert hidden([100, 50, 0]) == [100, 50, 0]
    assert hidden([100, 50, 3]) == [100, "–", "<11"], "with the total known, one more is left out"
    assert hidden([100, 4, 3]) == [100, "<11", "<11"]
    assert hidden([3]) == ["<11"]
    assert pooled([("A", 92), ("B", 27), ("C", 7), ("D", 6)]) == [("A", 92), ("B", 27), ("OTHER REASONS", 13)]
    assert pooled([("A", 92), ("B", 27), ("C", 3)]) == [("A", 92), ("OTHER REASONS", 30)]
    assert pooled([("A", 2)]) == [("OTHER REASONS", "<11")] and pooled([]) == []


def test_the_diagram_has_every_box_with_its_count(whole: Funnel) -> None:
    drawn = consort(whole, full=True)
    for text in ("Consented (n = 8)", "Screened (n = 7)", "Screen failure (n = 1)", "Passed, not randomised (n = 1)",
                 "In screening (n = 1)", "Not screened yet (n = 1)", "Randomised (n = 4)", "Not dosed (n = 1)",
                 "Dosed (n = 3)", "Completed (n = 1)", "Discontinued (n = 1)", "ADVERSE EVENT (n = 1)",
                 "Ongoing (n = 1)"):  # fmt: skip
        assert text in drawn
    assert "ADVERSE EVENT" not in consort(whole)
    assert drawn == consort(whole, full=True), "same data, same bytes"
    with_log = recounted(whole.subjects, whole.queries, prescreened=40)
    assert "Pre-screened (n = 40)" in consort(with_log)


def test_a_flow_of_any_boxes_is_drawn() -> None:
    boxes = [("a", 0.0, 0.0, ["A"], True), ("b", 1.0, 0.5, ["B", "more"], False), ("c", 0.0, 1.0, ["C"], False)]
    drawn = plots.flow(boxes, [("a", "b"), ("a", "c")], columns=2)
    assert Counter(t in drawn for t in (">A<", ">B<", ">more<", ">C<")) == {True: 4}
