"""Time a cohort of five inclusion rules against hand-written SQL for the same cohort, and look at memory.

    python -m benchmarks.cohorts --persons 100000 --repeats 5
    python -m benchmarks.cohorts --persons 1000000 --repeats 3

The data are synthetic OMOP tables held in DuckDB: per person one observation period, on average 4 conditions, 6
exposures, 12 measurements and 4 visits. Both ways start from the same tables in the same database and give the same
members and dates (checked):

* `ours`: the cohort-expression JSON, read, compiled and run;
* `by_hand`: what an analyst would write for DuckDB, semi-joins where they do, every rule a filter on what is left.

They run in turn, so that a slow moment of the machine hits both. Prints one JSON object: sizes, seconds of each run,
the ratio of the medians, compile time alone, and peak memory of the process after each way's first run.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from typing import Any

import duckdb

from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.evaluate import CdmTables
from trialops.trial.cohorts.sql_cohort import compile_expression

DAYS = 1000
TABLES = {
    "person": """SELECT i AS person_id, CASE WHEN hash(i, 1) % 2 = 0 THEN 8507 ELSE 8532 END AS gender_concept_id,
        1930 + CAST(hash(i, 2) % 60 AS INTEGER) AS year_of_birth, 8527 AS race_concept_id, 0 AS ethnicity_concept_id
        FROM range({n}) t(i)""",
    "observation_period": """SELECT i AS observation_period_id, i AS person_id,
        DATE '2010-01-01' + CAST(hash(i, 3) % 100 AS INTEGER) AS observation_period_start_date,
        DATE '2010-01-01' + 500 + CAST(hash(i, 4) % 500 AS INTEGER) AS observation_period_end_date,
        0 AS period_type_concept_id FROM range({n}) t(i)""",
    "condition_occurrence": """SELECT i AS condition_occurrence_id, CAST(hash(i, 5) % {n} AS BIGINT) AS person_id,
        CAST(hash(i, 6) % 40 AS BIGINT) AS condition_concept_id,
        DATE '2010-01-01' + CAST(hash(i, 7) % {days} AS INTEGER) AS condition_start_date,
        CAST(NULL AS DATE) AS condition_end_date, CAST(NULL AS BIGINT) AS visit_occurrence_id
        FROM range(4 * {n}) t(i)""",
    "drug_exposure": """SELECT i AS drug_exposure_id, CAST(hash(i, 8) % {n} AS BIGINT) AS person_id,
        CAST(hash(i, 9) % 30 AS BIGINT) AS drug_concept_id,
        DATE '2010-01-01' + CAST(hash(i, 10) % {days} AS INTEGER) AS drug_exposure_start_date,
        DATE '2010-01-01' + CAST(hash(i, 10) % {days} + hash(i, 11) % 30 AS INTEGER) AS drug_exposure_end_date,
        CAST(NULL AS BIGINT) AS days_supply, CAST(0 AS BIGINT) AS drug_source_concept_id,
        CAST(NULL AS BIGINT) AS visit_occurrence_id FROM range(6 * {n}) t(i)""",
    "measurement": """SELECT i AS measurement_id, CAST(hash(i, 12) % {n} AS BIGINT) AS person_id,
        CAST(hash(i, 13) % 25 AS BIGINT) AS measurement_concept_id,
        DATE '2010-01-01' + CAST(hash(i, 14) % {days} AS INTEGER) AS measurement_date,
        CAST(hash(i, 15) % 100 AS DOUBLE) AS value_as_number, 40.0 AS range_high, 5.0 AS range_low,
        CAST(NULL AS BIGINT) AS visit_occurrence_id FROM range(12 * {n}) t(i)""",
    "visit_occurrence": """SELECT i AS visit_occurrence_id, CAST(hash(i, 16) % {n} AS BIGINT) AS person_id,
        9202 AS visit_concept_id, DATE '2010-01-01' + CAST(hash(i, 17) % {days} AS INTEGER) AS visit_start_date,
        DATE '2010-01-01' + CAST(hash(i, 17) % {days} AS INTEGER) AS visit_end_date FROM range(4 * {n}) t(i)""",
}


def _near(
    criterion: dict[str, Any], start: int | None, end: int | None, kind: int = 2, count: int = 1
) -> dict[str, Any]:
    def endpoint(days: int | None, side: int) -> dict[str, Any]:
        return {"Coeff": side} if days is None else {"Days": abs(days), "Coeff": 1 if days > 0 else -1}

    window = {"Start": endpoint(start, -1), "End": endpoint(end, 1)}
    return {"Criteria": criterion, "StartWindow": window, "Occurrence": {"Type": kind, "Count": count}}


def definition() -> dict[str, Any]:
    """First condition of a set after 100 days of observation; adults, exposed, high value, no other drug, visits."""

    def rule(name: str, *criteria: dict[str, Any], demographics: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        group = {"Type": "ALL", "CriteriaList": list(criteria), "DemographicCriteriaList": demographics or []}
        return {"name": name, "expression": {**group, "Groups": []}}

    sets = {1: [1, 2, 3, 4], 2: [5, 6, 7], 3: [8, 9], 4: [10, 11]}
    items = {n: [{"concept": {"CONCEPT_ID": c}} for c in concepts] for n, concepts in sets.items()}
    high = {"Measurement": {"CodesetId": 3, "RangeHighRatio": {"Op": "gt", "Value": 1}}}
    return {
        "ConceptSets": [{"id": n, "name": str(n), "expression": {"items": item}} for n, item in items.items()],
        "PrimaryCriteria": {
            "CriteriaList": [{"ConditionOccurrence": {"CodesetId": 1}}],
            "ObservationWindow": {"PriorDays": 100, "PostDays": 0},
            "PrimaryCriteriaLimit": {"Type": "First"},
        },
        "QualifiedLimit": {"Type": "First"},
        "ExpressionLimit": {"Type": "First"},
        "InclusionRules": [
            rule("18 to 75", demographics=[{"Age": {"Op": "bt", "Value": 18, "Extent": 75}}]),
            rule("exposed before", _near({"DrugExposure": {"CodesetId": 2}}, -365, 0)),
            rule("high value around", _near(high, -180, 180)),
            rule("no other drug before", _near({"DrugExposure": {"CodesetId": 4}}, -90, -1, 0, 0)),
            rule("two visits", _near({"VisitOccurrence": {}}, None, 0, 2, 2)),
        ],
        "EndStrategy": {"CustomEra": {"DrugCodesetId": 2, "GapDays": 30, "Offset": 0}},
        "CollapseSettings": {"CollapseType": "ERA", "EraPad": 0},
    }


BY_HAND = """
CREATE OR REPLACE TEMP TABLE entry AS
SELECT c.person_id, min(c.condition_start_date) AS day, any_value(o.observation_period_start_date) AS seen,
       any_value(o.observation_period_end_date) AS gone
FROM condition_occurrence c JOIN observation_period o USING (person_id)
WHERE c.condition_concept_id IN (1, 2, 3, 4) AND c.condition_start_date
      BETWEEN o.observation_period_start_date + 100 AND o.observation_period_end_date
GROUP BY c.person_id;
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT e.* FROM entry e JOIN person p USING (person_id)
WHERE year(e.day) - p.year_of_birth BETWEEN 18 AND 75
AND EXISTS (SELECT 1 FROM drug_exposure d WHERE d.person_id = e.person_id AND d.drug_concept_id IN (5, 6, 7)
            AND d.drug_exposure_start_date BETWEEN greatest(e.day - 365, e.seen) AND e.day)
AND EXISTS (SELECT 1 FROM measurement m WHERE m.person_id = e.person_id AND m.measurement_concept_id IN (8, 9)
            AND m.value_as_number > m.range_high
            AND m.measurement_date BETWEEN greatest(e.day - 180, e.seen) AND least(e.day + 180, e.gone))
AND NOT EXISTS (SELECT 1 FROM drug_exposure d WHERE d.person_id = e.person_id AND d.drug_concept_id IN (10, 11)
                AND d.drug_exposure_start_date BETWEEN greatest(e.day - 90, e.seen) AND e.day - 1);
CREATE OR REPLACE TEMP TABLE visited AS
SELECT e.* FROM chosen e JOIN visit_occurrence v ON v.person_id = e.person_id
AND v.visit_start_date BETWEEN e.seen AND e.day GROUP BY ALL HAVING count(*) >= 2;
CREATE OR REPLACE TEMP TABLE eras AS
SELECT person_id, min(s) AS era_start, max(e) AS era_end FROM (
  SELECT *, sum(begins) OVER (PARTITION BY person_id ORDER BY s, e ROWS UNBOUNDED PRECEDING) AS island FROM (
    SELECT person_id, drug_exposure_start_date AS s, drug_exposure_end_date AS e,
      CASE WHEN drug_exposure_start_date <= max(drug_exposure_end_date) OVER (PARTITION BY person_id ORDER BY
        drug_exposure_start_date, drug_exposure_end_date ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) + 30
      THEN 0 ELSE 1 END AS begins
    FROM drug_exposure SEMI JOIN visited USING (person_id) WHERE drug_concept_id IN (5, 6, 7)))
GROUP BY person_id, island;
CREATE OR REPLACE TEMP TABLE by_hand AS
SELECT v.person_id, v.day AS start_date,
       least(any_value(v.gone), coalesce(min(r.era_end), DATE '9999-01-01')) AS end_date
FROM visited v LEFT JOIN eras r ON r.person_id = v.person_id AND v.day BETWEEN r.era_start AND r.era_end
GROUP BY v.person_id, v.day;
"""


def database(persons: int) -> duckdb.DuckDBPyConnection:
    """The tables, native in DuckDB; the other tables a criterion may name are empty."""
    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    for name, query in TABLES.items():
        connection.execute(f"CREATE TABLE {name} AS {query.format(n=persons, days=DAYS)}")
    return connection


def peak_mb() -> float:
    """Largest memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    """Run both ways in turn and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    connection = database(arguments.persons)
    rows = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in TABLES}
    peaks = {"tables": peak_mb()}
    tables = CdmTables({}, connection=connection)
    seconds: dict[str, list[float]] = {"by_hand": [], "ours": []}
    compiling: list[float] = []
    for repeat in range(arguments.repeats):
        started = time.perf_counter()
        connection.execute(BY_HAND)
        expected = connection.sql("SELECT * FROM by_hand ORDER BY person_id").pl()
        seconds["by_hand"].append(time.perf_counter() - started)
        if repeat == 0:
            peaks["by_hand"] = peak_mb()
        started = time.perf_counter()
        found = tables.evaluate(read_expression(definition()))
        seconds["ours"].append(time.perf_counter() - started)
        if repeat == 0:
            peaks["ours"] = peak_mb()
        if not found.members.equals(expected.select(found.members.columns)):
            raise SystemExit("the two ways differ")
        started = time.perf_counter()
        expression = read_expression(definition())
        compile_expression(expression, {item.id: frozenset((1,)) for item in expression.concept_sets})
        compiling.append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "persons": arguments.persons,
        "rows": rows,
        "members": found.members.height,
        "index_events": found.marked.height,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "ratio": round(medians["ours"] / medians["by_hand"], 2),
        "compile_seconds": round(statistics.median(compiling), 5),
        "peak_mb_after": peaks,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
