"""Late rows from a file, through the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from tests.support.homes import leave, live_in
from trialops.errors import TrialOpsError
from trialops.features.materialize import all_services
from trialops.features.push_file import read_push
from trialops.features.study_time import timestamp_of
from trialops.settings import settings
from trialops.stores.online import open_reader

SERVICE = all_services()[0]
LABS = SERVICE.view("labs").columns

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stores below a temporary folder."""
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def table(**more: object) -> pl.DataFrame:
    columns = {"subject_id": ["007", "008"], "study_day": [5, -2], **{c: [1.5, None] for c in LABS}, **more}
    return pl.DataFrame(columns)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_goes_online(kind: str, home: Path, tmp_path: Path) -> None:
    from pipelines.cli_features import features

    path = tmp_path / f"late.{kind}"
    getattr(table(today=[6, 3]), f"write_{kind}")(path)
    # Help options as the parent command hands them down: click keeps those it makes first.
    told = CliRunner().invoke(features, ["push", "labs", str(path)], catch_exceptions=False, **HELP)
    assert "2 rows kept; online 2 written, 0 were newer" in told.output
    with open_reader(settings().online, SERVICE) as reader:
        found = reader.read(["007", "008"])
    place = SERVICE.columns.index(LABS[0])
    assert found.values[0, place] == 1.5 and found.found.all()
    assert found.event_us.max(axis=1).tolist() == [timestamp_of(d).timestamp() * 1e6 for d in (5, -2)]
    again = CliRunner().invoke(features, ["push", "labs", str(path), "--today", "4"], **HELP)
    assert isinstance(again.exception, TrialOpsError) and "1 of 2 rows lie in the future" in again.exception.what


@pytest.mark.parametrize(
    ("frame", "today", "message"),
    [
        (table(), None, "today is missing"),
        (table().drop("study_day"), 9, "study_day is missing"),
        (table(study_day=[0, 3]), 9, "no study day"),
        (table(study_day=[1.5, 3.0]), 9, "no study day"),
        (table(subject_id=["SECRET", "SECRET"], today=[5, 6]), None, "two present days"),
    ],
)
def test_a_file_that_cannot_be_taken(frame: pl.DataFrame, today: int | None, message: str, tmp_path: Path) -> None:
    frame.write_parquet(tmp_path / "late.parquet")
    with pytest.raises(TrialOpsError, match=message) as error:
        read_push(tmp_path / "late.parquet", today)
    assert "SECRET" not in str(error.value)


def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "late.csv"
    path.write_text('subject_id,study_day\nSECRET,1,2,3,"\n')
    with pytest.raises(TrialOpsError, match="cannot be read") as error:
        read_push(path, 9)
    assert "SECRET" not in str(error.value)
