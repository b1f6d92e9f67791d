"""Every check type of the OHDSI Data Quality Dashboard: silent on a sound database, and found where it is planted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import duckdb
import polars as pl
import pytest

from tests.support.omop_database import AS_OF, PERSONS, TYPE, omop_database
from trialops.quality.dqd import omop_rules
from trialops.quality.evaluation import evaluate
from trialops.standards import cdm

Tables = dict[str, pl.DataFrame]
YESTERDAY = dt.date(2021, 6, 1)
ERA = {"condition_era": cdm.empty("condition_era")}


@pytest.fixture(scope="module")
def sound() -> Tables:
    return omop_database()


@pytest.fixture(scope="module")
def before(sound: Tables) -> pl.DataFrame:
    return evaluate(sound, omop_rules(), as_of=AS_OF).results


def put(table: str, rows: int | list[int], **values: Any) -> Callable[[Tables], Tables]:
    """Overwrite values in the first rows of a table, or in those given."""

    def change(tables: Tables) -> Tables:
        frame = tables[table]
        chosen = pl.int_range(pl.len()) < rows if isinstance(rows, int) else pl.int_range(pl.len()).is_in(rows)
        return {
            **tables,
            table: frame.with_columns(
                pl.when(chosen).then(pl.lit(v, frame.schema[c])).otherwise(pl.col(c)).alias(c)
                for c, v in values.items()
            ),
        }

    return change


def text(table: str, column: str, value: str) -> Callable[[Tables], Tables]:
    """Make a column text, as a delimited file would have it, with one value that is none of its type."""

    def change(tables: Tables) -> Tables:
        first = pl.int_range(pl.len()) == 0
        as_text = pl.when(first).then(pl.lit(value)).otherwise(pl.col(column).cast(pl.String)).alias(column)
        return {**tables, table: tables[table].with_columns(as_text)}

    return change


def drop_rows(table: str, keep: pl.Expr) -> Callable[[Tables], Tables]:
    return lambda tables: {**tables, table: tables[table].filter(keep)}


def add_row(table: str, **values: Any) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        more = cdm.conform(table, pl.DataFrame([values]))
        return {**tables, table: pl.concat([tables[table], more])}

    return change


def concept(number: int, **values: Any) -> Callable[[Tables], Tables]:
    def change(tables: Tables) -> Tables:
        row = tables["concept"]["concept_id"].to_list().index(number)
        return put("concept", [row], **values)(tables)

    return change


# check type -> (what is planted, rules that fail besides it because the fault is theirs too)
PLANTED: dict[str, tuple[Callable[[Tables], Tables], str, set[str]]] = {
    "cdmTable": (lambda t: {k: v for k, v in t.items() if k != "note"}, "note.cdmTable", set()),
    "cdmField": (
        lambda t: {**t, "note": t["note"].drop("note_title")},
        "note.note_title.cdmField",
        set(),
    ),
    "cdmDatatype": (text("measurement", "value_as_number", "12,4"), "measurement.value_as_number.cdmDatatype", set()),
    "isRequired": (
        put("person", 1, race_concept_id=None),
        "person.race_concept_id.isRequired",
        {"person.race_concept_id.measureValueCompleteness"},
    ),
    "measureValueCompleteness": (
        put("drug_exposure", 1, drug_exposure_end_date=None),
        "drug_exposure.drug_exposure_end_date.measureValueCompleteness",
        {"drug_exposure.drug_exposure_end_date.isRequired"},
    ),
    "isPrimaryKey": (put("observation", [1], observation_id=1), "observation.observation_id.isPrimaryKey", set()),
    "isForeignKey": (
        put("measurement", 1, visit_occurrence_id=99_999),
        "measurement.visit_occurrence_id.isForeignKey",
        set(),
    ),
    "fkDomain": (put("drug_exposure", 1, drug_concept_id=4301351), "drug_exposure.drug_concept_id.fkDomain", set()),
    "fkClass": (put("drug_era", 1, drug_concept_id=19019073), "drug_era.drug_concept_id.fkClass", set()),
    "isStandardValidConcept": (
        concept(4301351, standard_concept=None),
        "procedure_occurrence.procedure_concept_id.isStandardValidConcept",
        set(),
    ),
    "standardConceptRecordCompleteness": (
        put("visit_occurrence", 1, visit_concept_id=0),
        "visit_occurrence.visit_concept_id.standardConceptRecordCompleteness",
        {"visit_occurrence.visit_source_value.sourceValueCompleteness"},
    ),
    "sourceConceptRecordCompleteness": (
        put("drug_exposure", 8, drug_source_concept_id=0),
        "drug_exposure.drug_source_concept_id.sourceConceptRecordCompleteness",
        set(),
    ),
    "sourceValueCompleteness": (
        put("procedure_occurrence", 1, procedure_concept_id=0, procedure_source_value="P2"),
        "procedure_occurrence.procedure_source_value.sourceValueCompleteness",
        set(),
    ),
    "plausibleValueLow": (put("person", 2, year_of_birth=1849), "person.year_of_birth.plausibleValueLow", set()),
    "plausibleValueHigh": (
        put("drug_exposure", 3, days_supply=400),
        "drug_exposure.days_supply.plausibleValueHigh",
        set(),
    ),
    "plausibleTemporalAfter": (
        put("drug_exposure", [7], verbatim_end_date=YESTERDAY),
        "drug_exposure.verbatim_end_date.plausibleTemporalAfter",
        set(),
    ),
    "plausibleStartBeforeEnd": (
        put("drug_era", 2, drug_era_end_date=YESTERDAY),
        "drug_era.drug_era_start_date.plausibleStartBeforeEnd",
        {"drug_era.drug_era_end_date.plausibleTemporalAfter"},
    ),
    "plausibleAfterBirth": (
        put("specimen", [0], specimen_date=dt.date(1940, 1, 1)),
        "specimen.specimen_date.plausibleAfterBirth",
        {"specimen.specimen_date.plausibleTemporalAfter", "specimen.specimen_date.plausibleValueLow"},
    ),
    "plausibleDuringLife": (
        put("drug_era", [10], drug_era_start_date=dt.date(2023, 9, 1), drug_era_end_date=dt.date(2023, 9, 2)),
        "drug_era.drug_era_start_date.plausibleDuringLife",
        {
            "drug_era.drug_era_start_date.plausibleBeforeDeath",
            "drug_era.drug_era_end_date.plausibleBeforeDeath",
        },
    ),
    "plausibleBeforeDeath": (
        put("observation", [20], observation_date=dt.date(2023, 9, 1)),
        "observation.observation_date.plausibleBeforeDeath",
        set(),
    ),
    "withinVisitDates": (
        put("procedure_occurrence", 3, procedure_date=dt.date(2022, 3, 20)),
        "procedure_occurrence.procedure_date.withinVisitDates",
        set(),
    ),
    "plausibleGender": (
        put("condition_occurrence", [1], condition_concept_id=194696),
        "condition_occurrence.condition_concept_id.plausibleGender.194696",
        set(),
    ),
    "plausibleGenderUseDescendants": (
        put("condition_occurrence", [2], condition_concept_id=4000001),
        "condition_occurrence.condition_concept_id.plausibleGenderUseDescendants.4090861+4025213",
        set(),
    ),
    "plausibleUnitConceptIds": (
        put("measurement", 7, unit_concept_id=8840),
        "measurement.measurement_concept_id.plausibleUnitConceptIds.3000963",
        set(),
    ),
    "measurePersonCompleteness": (
        drop_rows("observation_period", pl.col("person_id") != 3),
        "observation_period.measurePersonCompleteness",
        set(),
    ),
    "measureConditionEraCompleteness": (
        drop_rows("condition_era", pl.col("person_id") != 3),
        "condition_era.measureConditionEraCompleteness",
        set(),
    ),
    "measureObservationPeriodOverlap": (
        add_row(
            "observation_period",
            observation_period_id=900,
            person_id=0,
            observation_period_start_date=dt.date(2022, 7, 23),
            observation_period_end_date=dt.date(2022, 8, 1),
            period_type_concept_id=TYPE,
        ),
        "observation_period.measureObservationPeriodOverlap",
        set(),
    ),
}


def test_all_27_types_are_planted() -> None:
    assert set(PLANTED) == {rule.check for rule in omop_rules().rules} and len(PLANTED) == 27


def test_a_sound_database_passes(before: pl.DataFrame) -> None:
    assert set(before["status"]) == {"pass", "not applicable"}
    judged = before.filter(pl.col("status") == "pass")["check"]
    assert {rule.check for rule in omop_rules().rules} - set(judged) == set()


@pytest.mark.parametrize("check", list(PLANTED))
def test_a_planted_fault_is_found_there_and_nowhere_else(check: str, sound: Tables) -> None:
    plant, rule, also = PLANTED[check]
    if check == "plausibleAfterBirth":
        row = {"specimen_id": 1, "person_id": 1, "specimen_concept_id": 0, "specimen_type_concept_id": TYPE}
        sound = add_row("specimen", **row, specimen_date=dt.date(2022, 1, 9))(sound)
        sound = put("concept", [0], domain_id="Gender")(sound)
    results = evaluate(plant(sound), omop_rules(), as_of=AS_OF).results
    failed = set(results.filter(pl.col("status") == "fail")["rule"])
    allowed = {"specimen.specimen_concept_id.standardConceptRecordCompleteness"} if "specimen" in rule else set()
    assert rule in failed and failed - allowed == {rule} | also
    assert results.filter(pl.col("status") == "error").is_empty()


def test_counts_agree_with_independent_sql() -> None:
    """DuckDB counts violations and denominators anew, from the definitions, on a database with faults of many kinds."""
    tables = omop_database(PERSONS)
    for check in ("isForeignKey", "fkDomain", "plausibleBeforeDeath", "withinVisitDates", "plausibleGender"):
        tables = PLANTED[check][0](tables)
    for check in ("plausibleUnitConceptIds", "sourceValueCompleteness", "isPrimaryKey", "measurePersonCompleteness"):
        tables = PLANTED[check][0](tables)
    tables = put("measurement", [4, 9], measurement_date=dt.date(1930, 1, 1))(tables)
    db = duckdb.connect()
    for name, frame in tables.items():
        db.register(name, frame.to_arrow())
    sql = {
        "measurement.visit_occurrence_id.isForeignKey": """
            select count(*) filter (where m.visit_occurrence_id is not null and v.visit_occurrence_id is null), count(*)
            from measurement m left join visit_occurrence v using (visit_occurrence_id)""",
        "drug_exposure.drug_concept_id.fkDomain": """
            select count(*) filter (where c.domain_id <> 'Drug' and c.concept_id <> 0), count(*)
            from drug_exposure d left join concept c on c.concept_id = d.drug_concept_id""",
        "observation.observation_date.plausibleBeforeDeath": """
            select count(*) filter (where observation_date > death_date + interval 60 day), count(*)
            from observation join death using (person_id)""",
        "procedure_occurrence.procedure_date.withinVisitDates": """
            select count(*) filter (where procedure_date not between visit_start_date - interval 7 day
                                    and visit_end_date + interval 7 day), count(*)
            from procedure_occurrence join visit_occurrence using (visit_occurrence_id)""",
        "condition_occurrence.condition_concept_id.plausibleGender.194696": """
            select count(*) filter (where gender_concept_id <> 8532), count(*)
            from condition_occurrence join person using (person_id) where condition_concept_id = 194696""",
        "measurement.measurement_concept_id.plausibleUnitConceptIds.3000963": """
            select count(*) filter (where coalesce(unit_concept_id, -1) <> 8713), count(*)
            from measurement where measurement_concept_id = 3000963 and value_as_number is not null""",
        "procedure_occurrence.procedure_source_value.sourceValueCompleteness": """
            select count(distinct case when procedure_concept_id = 0 then procedure_source_value end),
                   count(distinct procedure_source_value) from procedure_occurrence""",
        "observation.observation_id.isPrimaryKey": """
            select coalesce(sum(n) filter (where n > 1), 0), sum(n)
            from (select count(*) n from observation group by observation_id)""",
        "observation_period.measurePersonCompleteness": """
            select count(*) filter (where person_id not in (select person_id from observation_period)), count(*)
            from person""",
        "measurement.measurement_date.plausibleAfterBirth": """
            select count(*) filter (where measurement_date < make_date(year_of_birth, coalesce(month_of_birth, 1),
                                    coalesce(day_of_birth, 1))), count(*)
            from measurement join person using (person_id)""",
        "measurement.measurement_date.plausibleValueLow": """
            select count(*) filter (where measurement_date < date '1950-01-01'), count(measurement_date)
            from measurement""",
    }
    results = evaluate(tables, omop_rules(), as_of=AS_OF).results
    ours = {r: (v, d) for r, v, d in results.select("rule", "violated", "denominator").iter_rows() if r in sql}
    theirs = {rule: tuple(int(n) for n in db.execute(query).fetchone()) for rule, query in sql.items()}
    assert ours == theirs
    assert all(violated > 0 for violated, _ in theirs.values())


def test_without_a_vocabulary_its_checks_do_not_apply(sound: Tables) -> None:
    bare = {**sound, "concept": cdm.empty("concept"), "concept_ancestor": cdm.empty("concept_ancestor")}
    results = evaluate(bare, omop_rules(), as_of=AS_OF).results
    by_rule = dict(results.select("rule", "status").iter_rows())
    for rule in ("measurement.unit_concept_id.isForeignKey", "drug_exposure.drug_concept_id.fkDomain"):
        assert by_rule[rule] == "not applicable"
    assert by_rule["measurement.person_id.isForeignKey"] == "pass"
    assert results.filter(pl.col("status").is_in(["fail", "error"])).is_empty()


def test_an_empty_table_of_data_is_no_excuse_for_its_references(sound: Tables) -> None:
    results = evaluate({**sound, "person": cdm.empty("person")}, omop_rules(), as_of=AS_OF).results
    row = results.filter(pl.col("rule") == "measurement.person_id.isForeignKey").row(0, named=True)
    assert (row["status"], row["percent"]) == ("fail", 100.0)


def test_nothing_at_all_fails_each_table_and_judges_no_field() -> None:
    results = evaluate({}, omop_rules(), as_of=AS_OF).results
    failed = results.filter(pl.col("status") == "fail")
    assert set(failed["check"]) == {"cdmTable"} and failed.height == 39
    assert set(results.filter(pl.col("check") != "cdmTable")["status"]) == {"not applicable"}
