"""OMOP tables into three kinds of database: all or nothing, compared after loading."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from tests.support.omop_database import omop_database
from trialops.errors import TrialOpsError
from trialops.regulatory import research_database
from trialops.regulatory.research_database import check_target, export_cdm, read_table, research_page


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    return f"{request.param}:///{tmp_path}/research.db"


def test_every_table_arrives(target: str) -> None:
    tables = omop_database(12)
    done = export_cdm(target, tables)
    assert {d.table: d.sent for d in done} == {n: f.height for n, f in tables.items()} and all(d.equal for d in done)
    for name, frame in tables.items():
        assert read_table(target, name).sort(pl.all()).equals(frame.sort(pl.all())), name
    page = research_page(done, target, "Research on adverse events")
    assert page.verdict is not None and page.verdict.tone == "good"


def test_a_second_export_needs_replace_and_changes_nothing_without(target: str) -> None:
    export_cdm(target, omop_database(12))
    with pytest.raises(TrialOpsError, match="already"):
        export_cdm(target, omop_database(5))
    assert read_table(target, "person").height == 12
    export_cdm(target, omop_database(5), replace=True)
    assert read_table(target, "person").height == 5


def test_a_broken_key_leaves_the_target_as_it_was(target: str) -> None:
    export_cdm(target, omop_database(5))
    broken = omop_database(12)
    broken["person"] = broken["person"].head(6)
    with pytest.raises(TrialOpsError, match="break the CDM"):
        export_cdm(target, broken, replace=True)
    assert read_table(target, "person").height == 5


def test_a_row_lost_or_changed_on_the_way_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = research_database.load

    def lossy(url: str, tables: dict[str, pl.DataFrame], **how: object) -> dict[str, int]:
        changed = {n: f.tail(-1) if n == "observation" else f for n, f in tables.items()}
        changed["measurement"] = changed["measurement"].with_columns(pl.col("value_as_number") + 1e-9)
        return honest(url, changed, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(research_database, "load", lossy)
    with pytest.raises(
        TrialOpsError, match="2 table.s. in the database are not what was sent: measurement, observation"
    ):
        export_cdm(f"sqlite:///{tmp_path}/r.db", omop_database(12))


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("postgresql+psycopg://me:secret@localhost/x", "holds a password"),
        ("postgresql+psycopg://me@db.example/x", "encrypted only"),
        ("postgresql+psycopg://me@db.example/x?sslmode=prefer", "encrypted only"),
        ("not a url", "not a database URL"),
        ("", "not a database URL"),
    ],
)
def test_a_target_that_may_not_be_used_is_refused(url: str, what: str) -> None:
    with pytest.raises(TrialOpsError, match=what) as caught:
        check_target(url)
    assert "secret" not in str(caught.value)


def test_targets_that_may_be_used() -> None:
    for url in ("sqlite:////data/r.db", "postgresql+psycopg://me@localhost/x", "duckdb:////data/r.db",
                "postgresql+psycopg://me@db.example/x?sslmode=verify-full"):  # fmt: skip
        check_target(url)


def test_nothing_to_export_is_said_so(tmp_path: Path) -> None:
    empty = {n: f.clear() for n, f in omop_database(5).items()}
    with pytest.raises(TrialOpsError, match="no OMOP rows"):
        export_cdm(f"sqlite:///{tmp_path}/r.db", empty)
