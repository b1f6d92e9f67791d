"""Members as OMOP tables, what has changed and why, where a person stands, and the blinding of the tables."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from trialops.standards import cdm
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.trial.cohorts import membership
from trialops.trial.cohorts.definitions import SHIPPED, in_folder
from trialops.trial.cohorts.evaluate import Evaluated
from trialops.trial.cohorts.load import _marked, blind_exposures
from trialops.trial.cohorts.membership import BOTH, DATA, DEFINITION, ENTERED, LEFT, MOVED, PROGRAM

SCHEMA = {"person_id": pl.Int64, "start_date": pl.Date, "end_date": pl.Date}


def spans(*rows: tuple[int, int, int]) -> pl.DataFrame:
    """Memberships: person, first and last day of January 2000."""
    dates = [(p, dt.date(2000, 1, a), dt.date(2000, 1, b)) for p, a, b in rows]
    return pl.DataFrame(dates, schema=SCHEMA, orient="row")


def test_omop_tables() -> None:
    chosen = in_folder(SHIPPED)
    table = membership.cohort_table({one.id: spans((2, 1, 3), (1, 2, 9)) for one in chosen})
    assert dict(table.schema) == dict(cdm.schema("cohort")) and table.height == 2 * len(chosen)
    assert membership.members_of(table, chosen[0].id).rows() == spans((1, 2, 9), (2, 1, 3)).rows()
    defined = membership.definition_table(chosen, {one.name: 3 for one in chosen})
    assert dict(defined.schema) == dict(cdm.schema("cohort_definition"))
    assert defined["cohort_definition_id"].n_unique() == len(chosen)
    assert all("version 3" in text for text in defined["cohort_definition_description"])


def test_who_entered_left_and_moved() -> None:
    before, now = spans((1, 1, 5), (2, 1, 5), (3, 1, 5), (3, 8, 9)), spans((2, 1, 6), (3, 1, 5), (3, 8, 9), (4, 2, 2))
    found = membership.differences(before, now)
    assert found.select("person_id", "change").rows() == [(1, LEFT), (2, MOVED), (4, ENTERED)]
    assert membership.differences(now, now).is_empty()


@pytest.mark.parametrize(
    ("definition", "data", "expected"),
    [(True, False, DEFINITION), (False, True, DATA), (False, False, PROGRAM)],
)
def test_one_cause_is_the_reason(definition: bool, data: bool, expected: str) -> None:
    changed = membership.differences(spans(), spans((1, 1, 2)))
    found = membership.with_reasons(changed, definition_changed=definition, data_changed=data, by_data=None)
    assert found["reason"].to_list() == [expected]


def test_two_causes_are_told_apart() -> None:
    """The earlier definition over today's data: 1 stays out (definition), 2 comes in (data), 3 is moved by both."""
    before = spans((3, 1, 5), (4, 1, 5), (5, 1, 5))
    between = spans((2, 1, 5), (3, 1, 6), (5, 1, 5))
    now = spans((1, 1, 5), (2, 1, 5), (3, 1, 7))
    changed = membership.differences(before, now)
    by_data = membership.differences(between.clear(), between)
    found = membership.with_reasons(changed, definition_changed=True, data_changed=True, by_data=by_data)
    assert dict(found.select("person_id", "reason").iter_rows()) == {
        1: DEFINITION,
        2: DATA,
        3: BOTH,
        4: DATA,
        5: DEFINITION,
    }


def test_changes_on_a_page_tell_nothing_small() -> None:
    """40 of 100 stay, 15 enter, 4 leave: who left is hidden, and so is the size before, which would tell."""
    changed = pl.DataFrame({"person_id": range(19), "change": [ENTERED] * 15 + [LEFT] * 4, "reason": [DATA] * 19})
    told = membership.count_changes(changed, 44, 55, 100, known=True, definition_changed=False, data_changed=True)
    assert (told.shown["now"], told.shown[ENTERED], told.shown[LEFT], told.shown["before"]) == (55, 15, "<11", "–")
    assert told.words == "Members entered: 15, left: <11, changed dates: 0 (data changed)"
    none = membership.count_changes(
        changed.clear(), 55, 55, 100, known=True, definition_changed=True, data_changed=False
    )
    assert none.words == "No change (definition changed)" and none.shown["before"] == 55


def test_sizes_over_runs_differ_by_none_or_eleven() -> None:
    assert membership.series([39, 45, 50, 61, 61]) == [39, None, 50, 61, 61]
    assert membership.series([3, 0, 20]) == [None, 0, 20] and membership.series([30, 41], withheld=True) == [30, None]


def test_where_a_person_stands() -> None:
    marked = pl.DataFrame(
        [(1, 0, 3), (2, 1, 2), (3, 2, 0), (4, 3, 3)],
        schema={"person_id": pl.Int64, "event_key": pl.Int64, "mask": pl.Int64},
        orient="row",
    ).with_columns(start_date=pl.date(2000, 1, 1))
    found = membership.eligibility(
        Evaluated(spans((1, 1, 2)), marked, 2), ["adult", "treated"], pl.Series([5, 4, 3, 2, 1])
    )
    assert found.rows() == [
        (1, "member", "", ""),
        (2, "rule not met", "adult", "adult"),
        (3, "rule not met", "adult", "adult; treated"),
        (4, "no membership", "", ""),
        (5, "no entry event", "", ""),
    ]


def test_who_stands_elsewhere() -> None:
    """30 stay members, 12 become members, 3 leave for good, 20 stay outside: the three are not told."""
    stood = ["member"] * 33 + ["rule not met"] * 12 + ["no entry event"] * 20
    stands = ["member"] * 30 + ["rule not met"] * 3 + ["member"] * 12 + ["no entry event"] * 20
    before, now = (pl.DataFrame({"person_id": range(65), "status": side}) for side in (stood, stands))
    assert membership.transitions(before, now) == [
        ("member", "rule not met", "<11"),
        ("rule not met", "member", 12),
    ]
    assert membership.transitions(now, now) == []


def test_exposures_to_study_treatment_tell_days_alone() -> None:
    """Two products become the same rows; another medicine stays; eras go where a product could be told from them."""
    rows = [
        {"drug_exposure_id": n, "person_id": n, "drug_concept_id": c, "drug_source_value": s, "quantity": q}
        for n, (c, s, q) in enumerate([(99, "TRX-101", 54.0), (0, "PLACEBO", 0.0), (7, "ASPIRIN", 100.0)])
    ]
    common = {"drug_exposure_start_date": dt.date(2000, 1, 1), "drug_exposure_end_date": dt.date(2000, 1, 9)}
    exposures = cdm.conform("drug_exposure", pl.DataFrame([{**row, **common, "sig": "QD"} for row in rows]))
    eras = cdm.conform("drug_era", pl.DataFrame([{"drug_era_id": 1, "person_id": 0, "drug_concept_id": 99}]))
    origin = pl.DataFrame({"table": ["drug_exposure"] * 3, "row_id": [0, 1, 2], "kind": ["EX", "EX", "CM"]})
    origin = origin.with_columns(pl.col("row_id").cast(pl.Int64))
    tables = {"drug_exposure": exposures, "drug_era": eras, "dose_era": cdm.empty("dose_era")}
    made = _marked(tables, origin, blinded=True)
    ours = made["drug_exposure"].filter("study_treatment").drop("drug_exposure_id", "person_id")
    assert ours.height == 2 and ours.n_unique() == 1 and made["drug_era"].is_empty()
    other = made["drug_exposure"].filter(~pl.col("study_treatment")).row(0, named=True)
    assert (other["drug_source_value"], other["quantity"], other["sig"]) == ("ASPIRIN", 100.0, "QD")
    text = str(made["drug_exposure"].to_dicts())
    assert "TRX" not in text and "PLACEBO" not in text and "54" not in text
    open_label = _marked(tables, origin, blinded=False)
    assert open_label["drug_exposure"]["drug_source_value"].to_list() == ["TRX-101", "PLACEBO", "ASPIRIN"]
    assert open_label["drug_era"].height == 1
    assert blind_exposures(open_label["drug_exposure"]).equals(made["drug_exposure"])


def test_members_can_be_erased(tmp_path: pytest.TempPathFactory) -> None:
    """OMOP's cohort table is found by the person's number."""
    from trialops.privacy.erasure_reach import erase_rows, versions_with

    lake = Lake(f"{tmp_path}/lake", open_store(f"{tmp_path}/objects"))
    person = cdm.conform("person", pl.DataFrame({"person_id": [1, 2], "person_source_value": ["aaa", "bbb"]}))
    lake.write("omop/person", person)
    lake.write("omop/cohort", membership.cohort_table({9: spans((1, 1, 2), (2, 1, 2))}))
    found = versions_with(lake, ["omop/*"], "aaa")
    assert {one.table for one in found} == {"omop/person", "omop/cohort"}
    erase_rows(lake, found, "aaa", {"why": "test"}, run_id="r")
    newest = lake.versions("omop/cohort")[0]
    assert newest["rows"] == 1
