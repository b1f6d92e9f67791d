"""DDL of the CDM on three databases, and tables loaded whole or not at all."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import duckdb
import polars as pl
import pytest
import sqlalchemy as sa

from tests.support.fhir_samples import encounter, measured, patient, tables
from trialops.errors import TrialOpsError
from trialops.standards import cdm, cdm_ddl, cdm_load, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build


@pytest.fixture(scope="module")
def made() -> dict[str, pl.DataFrame]:
    """Tables of two persons; the second visit names the first, a reference within one table."""
    resources = (
        patient(),
        patient("p2", address=[{"city": 'O"Hara, "x"', "country": ""}]),
        encounter("e1"),
        encounter("e2", day="2020-06-01"),
        measured(),
    )
    return dict(build(read_fhir(tables(*resources)), vocabulary.none()).tables)


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    return f"{request.param}:///{tmp_path}/research.db"


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """Rows of a query, by the database's own driver."""
    path = url.partition("///")[2]
    if url.startswith("duckdb"):
        with duckdb.connect(path, read_only=True) as connection:
            return [tuple(row) for row in connection.execute(statement).fetchall()]
    if url.startswith("sqlite"):
        return [tuple(row) for row in sqlite3.connect(path).execute(statement).fetchall()]
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement))]
    engine.dispose()
    return rows


@pytest.mark.parametrize("dialect", cdm_ddl.DIALECTS)
def test_ddl_has_every_table_field_and_key(dialect: str) -> None:
    text = "\n".join(cdm_ddl.ddl(dialect))
    assert text.count("CREATE TABLE") == 39
    assert text.count("PRIMARY KEY") == 28
    keys = 176 - (len(cdm_ddl.UNDECLARED) if dialect == "duckdb" else 0)
    assert text.count("REFERENCES") == keys
    assert text.count("NOT NULL") == 180


def test_tables_come_after_those_they_refer_to() -> None:
    order = cdm_ddl.creation_order()
    assert sorted(order) == sorted(cdm.spec())
    for place, name in enumerate(order):
        for field in cdm.table(name).fields:
            if field.foreign_table and (name, field.name) not in cdm_ddl.UNDECLARED:
                assert order.index(field.foreign_table) < place


def test_rows_arrive_as_they_are(url: str, made: dict[str, pl.DataFrame]) -> None:
    counts = cdm_load.load(url, made)
    assert set(counts) == set(cdm.spec())
    for name, frame in made.items():
        assert query(url, f"SELECT count(*) FROM {name}") == [(frame.height,)]
        assert counts[name] == frame.height
    found = query(url, "SELECT city, country_source_value, address_1 FROM location")
    assert found == [('O"Hara, "x"', "", None)]
    row = query(
        url,
        "SELECT m.value_as_number, CAST(m.measurement_date AS VARCHAR(10)), c.concept_name FROM measurement m "
        "JOIN concept c ON c.concept_id = m.unit_concept_id JOIN person p ON p.person_id = m.person_id",
    )
    assert row == [(5.5, "2020-05-01", "millimole per liter")]
    keys = {key for (key,) in query(url, "SELECT measurement_id FROM measurement")}
    assert keys == set(made["measurement"]["measurement_id"])


def test_keys_are_enforced(url: str, made: dict[str, pl.DataFrame]) -> None:
    cdm_load.load(url, made)
    bad = "INSERT INTO death (person_id, death_date) VALUES (42, '2020-01-01')"
    with pytest.raises((duckdb.ConstraintException, sqlite3.IntegrityError, sa.exc.IntegrityError)):
        if url.startswith("duckdb"):
            duckdb.connect(url.partition("///")[2]).execute(bad)
        elif url.startswith("sqlite"):
            connection = sqlite3.connect(url.partition("///")[2])
            connection.execute("PRAGMA foreign_keys = ON")
            with connection:
                connection.execute(bad)
        else:
            engine = sa.create_engine(url)
            with engine.begin() as writing:
                writing.execute(sa.text(bad))


def test_all_or_nothing(url: str, made: dict[str, pl.DataFrame]) -> None:
    """A value that only the database refuses, after other tables are in: nothing is left behind."""
    if url.startswith("sqlite"):
        pytest.skip("SQLite takes any integer")
    late = made["person"].with_columns(year_of_birth=pl.lit(2**40))
    assert cdm_ddl.creation_order().index("person") > cdm_ddl.creation_order().index("concept")
    with pytest.raises(TrialOpsError, match="refused the tables") as refused:
        cdm_load.load(url, {**made, "person": late})
    assert str(2**40) not in str(refused.value)
    there = query(url, "SELECT table_name FROM information_schema.tables WHERE table_schema IN ('main', 'public')")
    assert there == []


def test_an_interrupted_load_leaves_nothing(url: str, made: dict[str, pl.DataFrame]) -> None:
    def stop(message: str, fraction: float | None) -> None:
        if message == "loading person":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cdm_load.load(url, made, progress=stop)
    cdm_load.load(url, made)
    assert query(url, "SELECT count(*) FROM person") == [(2,)]


def test_a_full_target_is_kept_unless_told_otherwise(url: str, made: dict[str, pl.DataFrame]) -> None:
    cdm_load.load(url, made)
    fewer = {**made, "measurement": made["measurement"].clear()}
    with pytest.raises(TrialOpsError, match="holds 39 tables of the CDM already"):
        cdm_load.load(url, fewer)
    assert query(url, "SELECT count(*) FROM measurement") == [(1,)]
    cdm_load.load(url, fewer, replace=True)
    assert query(url, "SELECT count(*) FROM measurement") == [(0,)]


@pytest.mark.parametrize(
    ("table", "change", "rule"),
    [
        ("person", {"year_of_birth": None}, "required"),
        ("measurement", {"person_id": 1}, "refers to person"),
        ("measurement", {"unit_concept_id": 77}, "refers to concept"),
        ("location", {"state": "XYZ"}, "at most 2 characters"),
        ("person", {"person_id": 5}, "unique"),
        ("measurement", {"value_as_number": "high"}, "columns and types"),
    ],
)
def test_violations_are_found_before_the_database_is_touched(
    tmp_path: Path, made: dict[str, pl.DataFrame], table: str, change: dict[str, object], rule: str
) -> None:
    kinds = made[table].schema
    values = [
        pl.lit(value, None if isinstance(value, str) else kinds[name]).alias(name) for name, value in change.items()
    ]
    bad = {**made, table: made[table].with_columns(values)}
    assert rule in set(cdm_load.violations(bad)["rule"])
    target = tmp_path / "none.db"
    with pytest.raises(TrialOpsError, match="break the CDM's rules"):
        cdm_load.load(f"sqlite:///{target}", bad)
    assert not target.exists()


def test_a_schema_of_its_own(postgres_database: str, made: dict[str, pl.DataFrame]) -> None:
    cdm_load.load(postgres_database, made, schema="research")
    assert query(postgres_database, "SELECT count(*) FROM research.person") == [(2,)]


def test_an_unknown_database() -> None:
    with pytest.raises(TrialOpsError, match="kind 'oracle' is not supported"):
        cdm_load.load("oracle://x", {})
