"""SDTM to OMOP, and SDTM beside FHIR: results as reported, days, corrections, and each fact once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from tests.support.fhir_samples import LOINC, about, concept, measured, quantity, released, tables
from trialops.errors import TrialOpsError
from trialops.standards import cdm_load
from trialops.standards.omop_cdm import Cdm
from trialops.standards.transformer import FHIRTransformerOperator

DAY = "urn:trialops:study-day"


def clean(dated: bool) -> dict[str, pl.DataFrame]:
    """One subject of a trial, as de-identification leaves it: days alone (Safe Harbor), or dates as well."""
    dm = {"USUBJID": "s1", "SITEID": "A", "AGE": 63.0, "SEX": "F", "RACE": "ASIAN", "ETHNIC": "HISPANIC OR LATINO"}
    dm |= {"COUNTRY": "USA", "RFICDY": -3, "DTHDY": 40}
    visits = [
        {"USUBJID": "s1", "VISITNUM": n, "VISIT": f"WEEK {n:g}", "SVSTDY": d, "SVENDY": d}
        for n, d in ((1.0, 1), (2.0, 15))
    ]
    lb = {"USUBJID": "s1", "LBTEST": "Glucose", "LBTESTCD": "GLUC", "VISITNUM": 1.0, "LBORRESU": "mg/dL", "LBDY": 1}
    labs = [
        {**lb, "LBSEQ": 1, "LBORRES": "99", "LBORNRLO": "70", "LBORNRHI": "100", "LBSTAT": None, "KNOWNDY": 1},
        {**lb, "LBSEQ": 2, "LBORRES": "<5", "LBORNRLO": None, "LBORNRHI": None, "LBSTAT": None, "KNOWNDY": 1},
        {**lb, "LBSEQ": 3, "LBORRES": "TRACE", "LBORNRLO": None, "LBORNRHI": None, "LBSTAT": None, "KNOWNDY": 1},
        {**lb, "LBSEQ": 4, "LBORRES": None, "LBORNRLO": None, "LBORNRHI": None, "LBSTAT": "NOT DONE", "KNOWNDY": 1},
        {**lb, "LBSEQ": 1, "LBORRES": "98", "LBORNRLO": "70", "LBORNRHI": "100", "LBSTAT": None, "KNOWNDY": 9},
    ]
    events = [{"USUBJID": "s1", "AESEQ": 1, "AEDECOD": "RASH", "AESEV": "MILD", "AESTDY": 15, "AEENDY": 17, "AEDY": 16}]
    history = [{"USUBJID": "s1", "MHSEQ": 1, "MHDECOD": "GOUT", "MHSTDY": None, "MHDY": -3}]
    doses = [
        {
            "USUBJID": "s1",
            "EXSEQ": 1,
            "EXTRT": "DRUG",
            "EXDOSE": 10.0,
            "EXDOSU": "mg",
            "EXROUTE": "ORAL",
            "EXSTDY": 1,
            "EXENDY": 15,
        }
    ]
    rows: dict[str, list[dict[str, Any]]] = {
        "DM": [dm],
        "SV": visits,
        "LB": labs,
        "AE": events,
        "MH": history,
        "EX": doses,
    }
    made = {name: pl.DataFrame(listed, infer_schema_length=None) for name, listed in rows.items()}
    return {name: _dates(frame) for name, frame in made.items()} if dated else made


def _dates(frame: pl.DataFrame) -> pl.DataFrame:
    """Dates beside the days: day 1 is 1 July 2021."""

    def date(day: int | None) -> str | None:
        return (
            None if day is None else (dt.date(2021, 7, 1) + dt.timedelta(days=day - 1 if day > 0 else day)).isoformat()
        )

    names = [c for c in frame.columns if c.endswith("DY") and c != "KNOWNDY"]
    made = {f"{name[:-2]}DTC": [date(day) for day in frame[name].to_list()] for name in names}
    if "SITEID" in frame.columns:
        made["RFSTDTC"] = ["2021-07-01"]
    return frame.with_columns(pl.Series(name, values, dtype=pl.String) for name, values in made.items())


def mapped(**inputs: Any) -> Cdm:
    made = FHIRTransformerOperator().run(**inputs).made
    assert cdm_load.violations(made.tables).height == 0
    given = made.dispositions()
    assert (given["read"] == given["loaded"] + given["quarantined"] + given["ignored"]).all()
    return made


@pytest.mark.parametrize("dated", [True, False])
def test_a_trial(dated: bool) -> None:
    made = mapped(sdtm=clean(dated))
    first = dt.date(2021, 7, 1) if dated else dt.date(2000, 1, 1)
    assert made.study_days is not dated
    person = made.tables["person"].row(0, named=True)
    assert (person["gender_concept_id"], person["race_concept_id"], person["ethnicity_concept_id"]) == (
        8532,
        8515,
        38003563,
    )
    assert person["year_of_birth"] == first.year - 63
    assert made.tables["death"]["death_date"].to_list() == [first + dt.timedelta(days=39)]
    visits = made.tables["visit_occurrence"].sort("visit_start_date")
    assert visits["visit_source_value"].to_list() == ["WEEK 1", "WEEK 2"]
    assert visits["visit_start_date"].to_list() == [first, first + dt.timedelta(days=14)]
    dose = made.tables["drug_exposure"].row(0, named=True)
    assert (dose["quantity"], dose["dose_unit_source_value"], dose["route_source_value"]) == (10.0, "mg", "ORAL")
    assert dose["drug_exposure_end_date"] == first + dt.timedelta(days=14)
    assert set(made.tables["measurement"]["measurement_type_concept_id"]) == {32809}


def test_results_as_reported_in_their_newest_version() -> None:
    rows = mapped(sdtm=clean(False)).tables["measurement"].sort("value_source_value")
    columns = ("value_as_number", "operator_concept_id", "value_source_value", "unit_concept_id", "range_high")
    assert rows.select(columns).rows() == [
        (5.0, 4171756, "5", 8840, None),
        (98.0, None, "98", 8840, 100.0),
        (None, None, "TRACE", 8840, None),
    ]
    reasons = dict(mapped(sdtm=clean(False)).outcomes.select("id", "reason").iter_rows())
    assert reasons == {"s1/1": "a later delivery has a new version of the row", "s1/4": "not done"}


def test_events_find_their_visit() -> None:
    made = mapped(sdtm=clean(False))
    visits = dict(made.tables["visit_occurrence"].select("visit_source_value", "visit_occurrence_id").iter_rows())
    assert set(made.tables["measurement"]["visit_occurrence_id"]) == {visits["WEEK 1"]}
    conditions = dict(
        made.tables["condition_occurrence"].select("condition_source_value", "visit_occurrence_id").iter_rows()
    )
    assert conditions == {"RASH": visits["WEEK 2"], "GOUT": None}


def test_without_a_start_the_day_of_collection_counts() -> None:
    rows = mapped(sdtm=clean(False)).tables["condition_occurrence"]
    starts = dict(rows.select("condition_source_value", "condition_start_date").iter_rows())
    assert starts == {"RASH": dt.date(2000, 1, 15), "GOUT": dt.date(1999, 12, 29)}


def test_codes_found_by_coding() -> None:
    terms = pl.DataFrame(
        {
            "table": ["LB", "MH", "MH"],
            "variable": ["LBTEST", "MHDECOD", "MHDECOD"],
            "verbatim": ["Glucose", "GOUT", "GOUT"],
            "status": ["auto", "auto", "remembered"],
            "system": ["LOINC", "ICD-10-CM", "ICD-10-CM"],
            "code": ["2345-7", "M10.9", "M10.0"],
        }
    )
    made = mapped(sdtm=clean(False), terms=terms)
    coded = made.provenance.filter(pl.col("kind") == "LB").select("system", "code").unique().rows()
    assert coded == [(LOINC, "2345-7")]
    assert set(made.tables["measurement"]["measurement_source_value"]) == {"GLUC"}
    # Two codes for one text: which one counts depends on the day, so neither is taken.
    assert made.provenance.filter(pl.col("kind") == "MH")["code"].to_list() == [None]


# -- beside FHIR -----------------------------------------------------------------------------------------------


def days(day: int, year: str = "2021") -> dict[str, Any]:
    return {"effectiveDateTime": year, "_effectiveDateTime": {"extension": [{"url": DAY, "valueInteger": day}]}}


def resources() -> dict[str, pl.DataFrame]:
    """The same subject in FHIR, where day 1 is the day of consent: study day -3 is day 1, study day 1 is day 4."""
    glucose = concept(LOINC, "2345-7", "GLUC")
    made = tables(
        released("s1", address=[{"state": "MA"}]),
        measured("same", "s1", code=glucose, valueQuantity=quantity(98, "mg/dL"), encounter=None, **days(4)),
        measured("other day", "s1", code=glucose, valueQuantity=quantity(98, "mg/dL"), encounter=None, **days(5)),
        measured("other value", "s1", code=glucose, valueQuantity=quantity(97, "mg/dL"), encounter=None, **days(4)),
        about("Condition", "gout", "s1", code={"text": "GOUT"}, onsetDateTime="2001"),
        about(
            "Encounter",
            "week1",
            "s1",
            status="finished",
            type=[{"text": "WEEK 1"}],
            period={"start": "2021", "_start": {"extension": [{"url": DAY, "valueInteger": 4}]}},
            **{"class": {"code": "AMB"}},
        ),
        released("s2"),
        measured("lost", "s2", code=glucose, encounter=None, **days(4)),
    )
    return {kind: frame.with_columns(pl.col("subject")) for kind, frame in made.items()}


def test_the_same_fact_is_loaded_once() -> None:
    made = mapped(fhir=resources(), sdtm=clean(False))
    reasons = dict(made.outcomes.filter(pl.col("kind").str.len_chars() > 2).select("id", "reason").iter_rows())
    assert reasons == {
        "same": "the SDTM tables have the same fact",
        "gout": "the SDTM tables have the same fact",
        "week1": "the SDTM tables have the same fact",
        "lost": "its study days cannot be put on the calendar of the SDTM tables",
    }
    rows = made.provenance.filter(pl.col("kind") == "Observation").select("row_id", "source_id")
    dates = made.tables["measurement"].join(rows, left_on="measurement_id", right_on="row_id")
    assert dict(dates.select("source_id", "measurement_date").iter_rows()) == {
        "other day": dt.date(2000, 1, 2),
        "other value": dt.date(2000, 1, 1),
    }
    assert set(dates["measurement_type_concept_id"]) == {32817}


def test_a_person_known_to_both_is_one_person() -> None:
    made = mapped(fhir=resources(), sdtm=clean(False))
    person = made.tables["person"].filter(pl.col("person_source_value") == "s1").row(0, named=True)
    assert person["race_concept_id"] == 8515
    home = made.tables["location"].filter(pl.col("location_id") == person["location_id"]).row(0, named=True)
    assert (home["state"], home["country_source_value"]) == ("MA", "USA")
    assert made.tables["person"].height == 2


def test_nothing_to_do() -> None:
    with pytest.raises(TrialOpsError, match="nothing to standardize"):
        FHIRTransformerOperator().run()
