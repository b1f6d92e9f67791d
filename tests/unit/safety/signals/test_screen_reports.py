"""The step and the command: tables, page, decision, comparison with the run before, batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from components.safety import screen_reports
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.safety.signals.measures import LABEL
from trialops.settings import settings
from trialops.stores.context import Step


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def spontaneous(reports: int, seed: int = 0, first: int = 0) -> pl.DataFrame:
    """Reports of 40 products and 60 events with their own ratios; P0 and E0 go together."""
    rng = np.random.default_rng(seed)
    own = np.exp(np.random.default_rng(99).normal(0, 1.0, (40, 60)))
    own[0, 0] *= 20
    own = (own / own.sum(axis=1, keepdims=True)).cumsum(axis=1)
    product = rng.integers(0, 40, reports)
    event = (own[product] < rng.random(reports)[:, None]).sum(axis=1)
    return pl.DataFrame(
        {
            "case": [f"C{first + i:06d}" for i in range(reports)],
            "drug": [f"P{p}" for p in product],
            "pt": [f"E{min(e, 59)}" for e in event],
            "sex": rng.choice(["F", "M"], reports),
        }
    )


COLUMNS = {"report_column": "case", "product_column": "drug", "event_column": "pt"}


def screened(home: Path, source: Path | str, name: str, **options: Any) -> tuple[str, pl.DataFrame, str]:
    pairs, report = artifact(home, f"{name}-pairs"), artifact(home, f"{name}-report")
    outcome = screen_reports.python_func(pairs, report, source=str(source), **{**COLUMNS, **options})
    return outcome, Step("look", {}, settings()).read_table(pairs), Path(report.path).read_text()


def test_a_screening_and_the_next_one(home: Path, tmp_path: Path) -> None:
    spontaneous(6_000).write_csv(tmp_path / "one.csv")
    outcome, pairs, page = screened(home, tmp_path / "one.csv", "first", strata="sex")
    assert outcome == "signals"
    top = pairs.sort("eb05", descending=True).row(0, named=True)
    assert (top["product"], top["event"]) == ("P0", "E0")
    assert LABEL in page
    assert "&lt;11" in page, "not said to be public"
    again, same, _ = screened(home, tmp_path / "one.csv", "second", strata="sex")
    assert (again, same.equals(pairs)) == (outcome, True)
    versions = Step("look", {}, settings()).lake.versions("signals/spontaneous")
    assert len(versions) == 1, "the same content is the same version"
    more = pl.concat(
        [spontaneous(6_000), pl.DataFrame({"case": [f"X{i}" for i in range(40)], "drug": "P3", "pt": "E9", "sex": "F"})]
    )
    more.write_csv(tmp_path / "two.csv")
    _, _, page = screened(home, tmp_path / "two.csv", "third", strata="sex", public=True)
    assert "&lt;11" not in page
    row = page[page.index("<td>P3</td>") :]
    assert "new" in row[: row.index("</tr>")]


def test_batches_by_the_step(home: Path, tmp_path: Path) -> None:
    parts = [spontaneous(5_000), spontaneous(60, 1, 5_000), spontaneous(900, 2, 5_060)]
    for number, part in enumerate(parts):
        part.write_parquet(tmp_path / f"{number}.parquet")
    options = {"continuous": True, "dataset": "flow"}
    outcome, first, page = screened(home, tmp_path / "0.parquet", "a", **options)
    assert outcome == "signals"
    assert "a full screening is due" in page
    (tmp_path / "gone.txt").write_text("C000001\nC000002\nnever seen\n")
    _, touched, page = screened(home, tmp_path / "1.parquet", "b", withdrawn=str(tmp_path / "gone.txt"), **options)
    assert 0 < touched.height <= 62 < first.height
    assert "Only pairs whose count changed were scored" in page
    _, whole, page = screened(home, tmp_path / "2.parquet", "c", **options)
    left = pl.concat(parts).filter(~pl.col("case").is_in(["C000001", "C000002"]))
    left.write_parquet(tmp_path / "all.parquet")
    _, wanted, _ = screened(home, tmp_path / "all.parquet", "d", dataset="once")
    assert whole.equals(wanted)


def test_no_source_is_said(home: Path) -> None:
    outcome, pairs, page = screened(home, "", "none")
    assert (outcome, pairs.height) == ("nothing given", 0)
    assert "No reports were given" in page


def test_misuse_is_refused(home: Path, tmp_path: Path) -> None:
    spontaneous(50).write_csv(tmp_path / "one.csv")
    with pytest.raises(TrialOpsError, match="continuous state holds all reports"):
        screened(home, tmp_path / "one.csv", "x", continuous=True, without="P0 => E0")
    with pytest.raises(TrialOpsError, match="list of withdrawn reports cannot be read"):
        screened(home, tmp_path / "one.csv", "y", continuous=True, withdrawn="nowhere.txt")
    outcome, pairs, page = screened(home, tmp_path / "one.csv", "z", dataset="tiny")
    assert outcome == "no EBGM"
    assert "too few for a prior" in page
    assert pairs["ebgm"].null_count() == pairs.height > 0


def test_the_command_writes_tables_and_a_page(home: Path, tmp_path: Path) -> None:
    from pipelines.cli import cli

    spontaneous(6_000).write_csv(tmp_path / "one.csv")
    names = ["--report", "case", "--product", "drug", "--event", "pt", "--strata", "sex"]
    command = ["safety", "screen", str(tmp_path / "one.csv"), *names, "--out", str(tmp_path / "out"), "--public"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "signals:" in done.output
    pairs = pl.read_parquet(tmp_path / "out" / "pairs.parquet")
    signals = pl.read_csv(tmp_path / "out" / "signals.csv")
    assert pairs.height > signals.height > 0
    assert signals.row(0, named=True)["product"] == "P0"
    assert LABEL in (tmp_path / "out" / "page.html").read_text()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"pairs.parquet", "signals.csv", "page.html"}
    removed = CliRunner().invoke(cli, [*command, "--without", "P0 => E0", "--no-ebgm"])
    assert removed.exit_code == 0, removed.output
    left = pl.read_parquet(tmp_path / "out" / "pairs.parquet")
    assert left.filter(product="P0", event="E0").is_empty()
    assert left["ebgm"].null_count() == left.height
