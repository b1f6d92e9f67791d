"""Memberships worked out by hand, among them the results that OHDSI publishes with the tests of circe-be."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.support.small_cdm import concept_set, expression, members, small_cdm

CONDITION = {"ConditionOccurrence": {"CodesetId": 1}}
DRUG = {"DrugExposure": {"CodesetId": 1}}
START_TO_NEXT = {"DateOffset": {"DateField": "StartDate", "Offset": 1}}
END = "2001-01-01"


def group(*criteria: dict[str, Any], kind: str = "ALL", **more: Any) -> dict[str, Any]:
    return {"Type": kind, "CriteriaList": list(criteria), "DemographicCriteriaList": [], "Groups": [], **more}


def near(
    criterion: dict[str, Any], start: dict[str, Any], end: dict[str, Any], count: int = 1, kind: int = 2, **more: Any
) -> dict[str, Any]:
    window = {"Start": start, "End": end, **more.pop("window", {})}
    occurrence = {"Type": kind, "Count": count, **more.pop("occurrence", {})}
    return {"Criteria": criterion, "StartWindow": window, "Occurrence": occurrence, **more}


def before(days: int | None = None) -> dict[str, Any]:
    return {"Coeff": -1} if days is None else {"Days": days, "Coeff": -1}


def after(days: int | None = None) -> dict[str, Any]:
    return {"Coeff": 1} if days is None else {"Days": days, "Coeff": 1}


# -- published: github.com/OHDSI/circe-be, src/test/resources/cohortgeneration (Apache-2.0) -------------------------

MONTHS = ("01-01", "02-01", "06-01", "07-01", "08-01", "11-01", "12-01")
EXPOSED = ("01-01", "02-01", "03-01", "04-01", "08-01", "09-01", "10-01")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [("02-01", "02-02"), ("06-01", "08-02"), ("11-01", "12-02")]),
        ({"ExpressionLimit": "First"}, [("02-01", "02-02")]),
        ({"QualifiedLimit": "First"}, [("02-01", "02-02")]),
        ({"PrimaryCriteriaLimit": "First"}, []),
        ({"ExpressionLimit": "Last"}, [("12-01", "12-02")]),
    ],
    ids=["all", "expression first", "qualified first", "primary first", "expression last"],
)
def test_published_limits(limits: dict[str, str], expected: list[tuple[str, str]]) -> None:
    """Conditions with another one before; era pad 60 days, leaving a day after the start (limits)."""
    document = expression(
        CONDITION,
        AdditionalCriteria=group(near(CONDITION, before(), before(1))),
        EndStrategy=START_TO_NEXT,
        CollapseSettings={"CollapseType": "ERA", "EraPadUnit": "day", "EraPadUnitValue": 60},
    )
    for name, value in limits.items():
        place = document["PrimaryCriteria"] if name == "PrimaryCriteriaLimit" else document
        place[name] = {"Type": value}
    tables = small_cdm(conditions=[(1, 1, d, None) for d in MONTHS])
    assert members(tables, document) == [(1, a, b) for a, b in expected]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"CustomEra": {"DrugCodesetId": 1, "GapDays": 60, "Offset": 0}}, [("01-01", "04-02"), ("08-01", "10-02")]),
        ({"CustomEra": {"DrugCodesetId": 1, "GapDays": 60, "Offset": 9999}}, [("01-01", END)]),
        ({"DateOffset": {"DateField": "EndDate", "Offset": 31}}, [("01-01", "05-03"), ("08-01", "11-02")]),
    ],
    ids=["continuous exposure", "cut by the observation period", "fixed offset from the end"],
)
def test_published_exits(end: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """Exposures without an end last one day (exits/continuousExposure, continuousExposureCensor, fixedOffset)."""
    tables = small_cdm(drugs=[(1, 1, d, None) for d in EXPOSED])
    assert members(tables, expression(DRUG, EndStrategy=end)) == [(1, a, b) for a, b in expected]


def test_published_censor_window() -> None:
    """Memberships cut at both ends; person 2's lies before the window and goes (censorWindow)."""
    tables = small_cdm(
        periods=[(1, "01-01", END), (2, "01-01", END)],
        conditions=[(1, 1, "02-01", None), (1, 1, "07-01", None), (2, 1, "01-01", None)],
    )
    document = expression(
        CONDITION,
        EndStrategy={"DateOffset": {"DateField": "StartDate", "OffsetUnit": "day", "OffsetUnitValue": 90}},
        CensorWindow={"StartDate": "2000-04-01", "EndDate": "2000-09-01"},
    )
    assert members(tables, document) == [(1, "04-01", "05-01"), (1, "07-01", "09-01")]


def test_published_duplicate_events_are_one_membership() -> None:
    """Three conditions on the same days (eraDupes)."""
    spans = [("06-16", "06-19"), ("07-01", "07-04"), *[("07-27", "07-30")] * 3]
    tables = small_cdm(conditions=[(1, 1, a, b) for a, b in spans])
    document = expression(CONDITION, EndStrategy={"DateOffset": {"DateField": "EndDate", "Offset": 0}})
    assert members(tables, document) == [(1, "06-16", "06-19"), (1, "07-01", "07-04"), (1, "07-27", "07-30")]


# -- windows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "start", "end", "found"),
    [
        ("06-01", before(0), after(0), True),
        ("05-31", before(0), after(0), False),
        ("05-25", before(7), before(0), True),
        ("05-24", before(7), before(0), False),
        ("06-08", after(0), after(7), True),
        ("06-09", after(0), after(7), False),
        ("05-31", before(), before(1), True),
        ("06-01", before(), before(1), False),
        ("01-01", before(), after(), True),
        ("2001-01-01", before(), after(), True),
        ("2001-01-02", before(), after(), False),
    ],
)
def test_both_ends_of_a_window_belong_to_it(other: str, start: Any, end: Any, found: bool) -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 2, other, None)])
    rule = {"name": "r", "expression": group(near({"ConditionOccurrence": {"CodesetId": 2}}, start, end))}
    document = expression(CONDITION, InclusionRules=[rule], EndStrategy=START_TO_NEXT)
    assert bool(members(tables, document)) is found


def test_all_days_without_observation_reach_past_it() -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 2, "2001-05-01", None)])
    one = near({"ConditionOccurrence": {"CodesetId": 2}}, before(), after(), IgnoreObservationPeriod=True)
    document = expression(CONDITION, InclusionRules=[{"name": "r", "expression": group(one)}])
    assert members(tables, document) == [(1, "06-01", END)]


def test_windows_about_ends() -> None:
    """From the end of the index event, about the end of the other: 06-20 to 06-25 and an end on 06-25."""
    tables = small_cdm(conditions=[(1, 1, "06-01", "06-20"), (1, 2, "05-01", "06-25")])
    window = {"window": {"UseIndexEnd": True, "UseEventEnd": True}}
    other = {"ConditionOccurrence": {"CodesetId": 2}}
    for last, found in ((5, True), (4, False)):
        one = near(other, after(0), after(last), **window)
        document = expression(CONDITION, InclusionRules=[{"name": "r", "expression": group(one)}])
        assert bool(members(tables, document)) is found, last


def test_an_end_window_is_about_the_end_of_the_event() -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 2, "05-01", "06-02")])
    for last, found in ((1, True), (0, False)):
        one = near({"ConditionOccurrence": {"CodesetId": 2}}, before(), after())
        one["EndWindow"] = {"Start": before(), "End": after(last)}
        document = expression(CONDITION, InclusionRules=[{"name": "r", "expression": group(one)}])
        assert bool(members(tables, document)) is found, last


def test_observation_around_the_entry_event() -> None:
    """Ten days before are there from 01-11 on; five days after up to 12-27."""
    days = ("01-10", "01-11", "12-27", "12-28")
    for day, found in zip(days, (False, True, True, False), strict=True):
        document = expression(CONDITION, EndStrategy=START_TO_NEXT)
        document["PrimaryCriteria"]["ObservationWindow"] = {"PriorDays": 10, "PostDays": 5}
        assert bool(members(small_cdm(conditions=[(1, 1, day, None)]), document)) is found, day


# -- counting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "count", "found"),
    [(0, 2, True), (0, 1, False), (1, 2, True), (1, 1, False), (2, 2, True), (2, 3, False), (0, 0, False)],
)
def test_occurrences(kind: int, count: int, found: bool) -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 2, "06-02", None), (1, 2, "06-03", None)])
    one = near({"ConditionOccurrence": {"CodesetId": 2}}, before(), after(), count, kind)
    assert bool(members(tables, expression(CONDITION, InclusionRules=[{"expression": group(one)}]))) is found


@pytest.mark.parametrize(
    ("column", "count"), [("DOMAIN_CONCEPT", 2), ("START_DATE", 3), ("VISIT_ID", 1)], ids=["concept", "day", "visit"]
)
def test_distinct_occurrences(column: str, count: int) -> None:
    """Four rows: two concepts, three days, one visit (two rows have none)."""
    rows = [(1, 2, "06-02", None, 0), (1, 2, "06-03", None), (1, 3, "06-03", None), (1, 3, "06-04", None, 0)]
    tables = small_cdm(conditions=[(1, 1, "06-01", None), *rows], visits=[(1, 9, "06-02", "06-04")])
    other = {"ConditionOccurrence": {"OccurrenceStartDate": {"Op": "gt", "Value": "2000-06-01"}}}
    distinct = {"occurrence": {"IsDistinct": True, "CountColumn": column}}
    for wanted, found in ((count, True), (count + 1, False), (count - 1, False)):
        one = near(other, before(), after(), wanted, 0, **distinct)
        document = expression(CONDITION, InclusionRules=[{"expression": group(one)}])
        assert bool(members(tables, document)) is found, wanted


@pytest.mark.parametrize(
    ("kind", "count", "found"),
    [("ALL", 0, False), ("ANY", 0, True), ("AT_LEAST", 2, True), ("AT_LEAST", 3, False), ("AT_MOST", 2, True),
     ("AT_MOST", 1, False)],
)  # fmt: skip
def test_groups(kind: str, count: int, found: bool) -> None:
    """Two of three members hold: a condition, a demographic criterion and (not) a nested group."""
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 2, "06-02", None)])
    two = near({"ConditionOccurrence": {"CodesetId": 2}}, before(), after())
    three = near({"ConditionOccurrence": {"CodesetId": 3}}, before(), after())
    mixed = group(two, kind=kind, Count=count, Groups=[group(three)])
    mixed["DemographicCriteriaList"] = [{"Age": {"Op": "bt", "Value": 50, "Extent": 50}}]
    assert bool(members(tables, expression(CONDITION, InclusionRules=[{"expression": mixed}]))) is found


def test_an_empty_group_holds_for_everybody() -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None)])
    assert members(tables, expression(CONDITION, InclusionRules=[{"expression": group()}])) == [(1, "06-01", END)]


# -- criteria -------------------------------------------------------------------------------------------------------


def test_first_is_first_in_history_before_other_attributes() -> None:
    """The first of the set is on 02-01; that it does not fit leaves nobody, not the next one."""
    tables = small_cdm(conditions=[(1, 1, "02-01", None), (1, 1, "06-01", None)])
    late = {"OccurrenceStartDate": {"Op": "gt", "Value": "2000-03-01"}}
    first = {"ConditionOccurrence": {"CodesetId": 1, "First": True, **late}}
    assert members(tables, expression(first)) == []
    assert members(tables, expression({"ConditionOccurrence": {"CodesetId": 1, **late}})) == [(1, "06-01", END)]


def test_ratios_and_missing_values() -> None:
    """Above the limit strictly; without a limit, with a limit of 0, or without a value nothing is said."""
    rows = [(1, 1, "02-01", 40.0, 0.0, 40.0), (1, 1, "03-01", 41.0, 0.0, 40.0), (1, 1, "04-01", 99.0),
            (1, 1, "05-01", None, 1.0, 2.0), (1, 1, "06-01", 3.0, 1.0, 0.0)]  # fmt: skip
    high = {"Measurement": {"CodesetId": 1, "RangeHighRatio": {"Op": "gt", "Value": 1}}}
    document = expression(high, EndStrategy=START_TO_NEXT)
    assert members(small_cdm(measurements=rows), document) == [(1, "03-01", "03-02")]
    odd = {"Measurement": {"CodesetId": 1, "RangeLowRatio": {"Op": "!bt", "Value": 5, "Extent": 6}}}
    assert members(small_cdm(measurements=rows), expression(odd, EndStrategy=START_TO_NEXT)) == [(1, "06-01", "06-02")]


def test_ages_on_real_dates_and_on_the_study_calendar() -> None:
    """By years of the calendar 65 in 2000 and 64 in 1999; on study days 65 until a year around day 1 is over."""
    tables = small_cdm(
        periods=[(1, "1999-01-01", "2002-12-31")],
        births={1: 1935},
        conditions=[(1, 1, d, None) for d in ("1999-12-20", "01-01", "12-31", "2001-01-02")],
    )

    def at(age: int, *, study_days: bool) -> list[str]:
        aged = {"ConditionOccurrence": {"CodesetId": 1, "Age": {"Op": "eq", "Value": age}}}
        document = expression(aged, EndStrategy={"DateOffset": {"DateField": "StartDate", "Offset": 0}})
        return [start for _, start, _ in members(tables, document, study_days=study_days)]

    assert at(64, study_days=False) == ["1999-12-20"] and at(65, study_days=False) == ["01-01", "12-31"]
    assert at(65, study_days=True) == ["1999-12-20", "01-01", "12-31"] and at(66, study_days=True) == ["2001-01-02"]


def test_correlated_criteria_within_a_criterion() -> None:
    """Only the second condition has an exposure on the day before."""
    tables = small_cdm(conditions=[(1, 1, "02-01", None), (1, 1, "06-01", None)], drugs=[(1, 2, "05-31", None)])
    nested = group(near({"DrugExposure": {"CodesetId": 2}}, before(1), before(1)))
    inside = {"ConditionOccurrence": {"CodesetId": 1, "CorrelatedCriteria": nested}}
    assert members(tables, expression(inside)) == [(1, "06-01", END)]


def test_restricted_to_the_visit() -> None:
    visits = [(1, 9, "06-01", "06-03"), (1, 9, "06-02", "06-02")]
    for visit, found in ((0, True), (1, False), (None, False)):
        rows = [(1, 1, "06-01", None, 0), (1, 2, "06-02", None, visit)]
        one = near({"ConditionOccurrence": {"CodesetId": 2}}, before(), after(), RestrictVisit=True)
        document = expression(CONDITION, InclusionRules=[{"expression": group(one)}])
        assert bool(members(small_cdm(conditions=rows, visits=visits), document)) is found, visit


def test_source_values_and_study_treatment() -> None:
    """Matched without a concept, case aside; an exposure is study treatment because the loader says so."""
    tables = small_cdm(conditions=[(1, 0, "06-01", None)], drugs=[(1, 0, "05-01", None), (1, 0, "07-01", None)])
    tables["condition_occurrence"] = tables["condition_occurrence"].with_columns(condition_source_value=pl.lit("Rash"))
    tables["drug_exposure"] = tables["drug_exposure"].with_columns(study_treatment=pl.Series([False, True]))
    document = expression(CONDITION, EndStrategy=START_TO_NEXT)
    document["ConceptSets"] = [concept_set(1, sourceValues=["RASH"])]
    assert members(tables, document) == [(1, "06-01", "06-02")]
    document = expression(DRUG, EndStrategy=START_TO_NEXT)
    document["ConceptSets"] = [concept_set(1, studyTreatment=True)]
    assert members(tables, document) == [(1, "07-01", "07-02")]


def test_texts_are_quoted() -> None:
    """A source value and a text filter with quotes are looked for as they are."""
    nasty = "O'Brien'); DROP TABLE person; --"
    tables = small_cdm(conditions=[(1, 0, "06-01", None), (1, 0, "07-01", None)])
    tables["condition_occurrence"] = tables["condition_occurrence"].with_columns(
        condition_source_value=pl.Series([nasty, "other"]), stop_reason=pl.Series(["it's over", "100% done"])
    )
    document = expression(CONDITION, EndStrategy=START_TO_NEXT)
    document["ConceptSets"] = [concept_set(1, sourceValues=[nasty])]
    assert members(tables, document) == [(1, "06-01", "06-02")]
    for op, text, days in (
        ("contains", "'s", ["06-01"]),
        ("endsWith", "% done", ["07-01"]),
        ("!startsWith", "1", ["06-01"]),
        ("contains", "_", []),
    ):
        stopped = {"ConditionOccurrence": {"StopReason": {"Op": op, "Text": text}}}
        assert [a for _, a, _ in members(tables, expression(stopped, EndStrategy=START_TO_NEXT))] == days


# -- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "expected"), [(9, "06-11"), (10, "06-30"), (11, "06-30")])
def test_gaps_of_an_exposure(gap: int, expected: str) -> None:
    """From the end on 06-11 to the next start on 06-21 are ten days."""
    drugs = [(1, 1, "06-01", "06-11"), (1, 1, "06-21", "06-30")]
    document = expression(DRUG, limits="First")
    document["EndStrategy"] = {"CustomEra": {"DrugCodesetId": 1, "GapDays": gap, "Offset": 0}}
    assert members(small_cdm(drugs=drugs), document) == [(1, "06-01", expected)]


def test_an_exposure_lasts_its_end_its_supply_or_a_day() -> None:
    document = expression(DRUG, limits="First")
    for row, last in (("06-09", "06-09"), (None, "06-06"), ("none", "06-02")):
        supply = 5 if row is None else None
        drug = (1, 1, "06-01", None if row == "none" else row, supply)
        document["EndStrategy"] = {"CustomEra": {"DrugCodesetId": 1, "GapDays": 0, "Offset": 0}}
        assert members(small_cdm(drugs=[drug]), document) == [(1, "06-01", last)]
    document["EndStrategy"]["CustomEra"]["DaysSupplyOverride"] = 3
    assert members(small_cdm(drugs=[(1, 1, "06-01", "06-20")]), document) == [(1, "06-01", "06-04")]


def test_an_event_that_ends_before_it_starts_is_no_membership() -> None:
    document = expression(CONDITION, EndStrategy={"DateOffset": {"DateField": "StartDate", "Offset": -1}})
    assert members(small_cdm(conditions=[(1, 1, "06-01", None)]), document) == []


@pytest.mark.parametrize(("died", "last"), [("06-01", "06-01"), ("07-05", "07-05"), ("05-31", END)])
def test_a_censoring_event_on_or_after_the_start_ends_it(died: str, last: str) -> None:
    tables = small_cdm(conditions=[(1, 1, "06-01", None)], deaths=[(1, died)])
    assert members(tables, expression(CONDITION, CensoringCriteria=[{"Death": {}}])) == [(1, "06-01", last)]


@pytest.mark.parametrize(("pad", "count"), [(0, 2), (3, 2), (4, 1)])
def test_era_pad_joins_memberships(pad: int, count: int) -> None:
    """From 06-02 to 06-06 are four days."""
    tables = small_cdm(conditions=[(1, 1, "06-01", None), (1, 1, "06-06", None)])
    collapse = {"CollapseType": "ERA", "EraPad": pad}
    found = members(tables, expression(CONDITION, EndStrategy=START_TO_NEXT, CollapseSettings=collapse))
    assert len(found) == count and found[-1][2] == "06-07"


# -- concept sets ---------------------------------------------------------------------------------------------------


def vocabulary(name: str) -> pl.LazyFrame:
    """Concept 1 above 2 and 3; the source concept 9 maps to 2; concept 3 is invalid as a descendant."""
    tables = {
        "concept": pl.LazyFrame({"concept_id": [1, 2, 3, 9], "invalid_reason": [None, None, "D", None]}),
        "concept_ancestor": pl.LazyFrame({"ancestor_concept_id": [1, 1, 1], "descendant_concept_id": [1, 2, 3]}),
        "concept_relationship": pl.LazyFrame(
            {
                "concept_id_1": [9, 8],
                "concept_id_2": [2, 2],
                "relationship_id": ["Maps to", "Maps to"],
                "invalid_reason": [None, "D"],
            }
        ),
    }
    return tables[name]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([{"concept": 1}], {1}),
        ([{"concept": 1, "includeDescendants": True}], {1, 2}),
        ([{"concept": 1, "includeDescendants": True, "includeMapped": True}], {1, 2, 9}),
        ([{"concept": 1, "includeDescendants": True}, {"concept": 2, "isExcluded": True}], {1}),
        ([{"concept": 2}, {"concept": 1, "includeDescendants": True, "isExcluded": True}], set()),
    ],
    ids=["itself", "descendants", "mapped", "less one", "all excluded"],
)
def test_concept_sets(items: list[dict[str, Any]], expected: set[int]) -> None:
    from trialops.trial.cohorts.circe import read_expression
    from trialops.trial.cohorts.concept_sets import resolve

    document = expression(CONDITION)
    content = [{**item, "concept": {"CONCEPT_ID": item["concept"]}} for item in items]
    document["ConceptSets"] = [{"id": 1, "name": "s", "expression": {"items": content}}]
    found = resolve(read_expression(document), vocabulary)
    assert found.concepts[1] == expected and found.narrow == ()
    alone = resolve(read_expression(document), None)
    wide = any(item.get("includeDescendants") for item in items)
    assert alone.narrow == (("s",) if wide else ())
