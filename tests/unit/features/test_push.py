"""Late rows: online at once, kept offline, never over anything newer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.homes import leave, live_in
from tests.support.online_stores import LABS, SPEC, VITALS, rows
from trialops.errors import TrialOpsError
from trialops.features.current import CHAIN
from trialops.features.materialize import latest, materialize
from trialops.features.push import BUILT, merged, push, pushed
from trialops.features.study_time import timestamp_of
from trialops.stores import step
from trialops.stores.online import open_reader
from trialops.stores.refs import Snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stores below a temporary folder."""
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def build(run: Any, frame: pl.DataFrame) -> None:
    """Make a frame the built features of the labs view."""
    ref = run.lake.write("features/labs", frame)
    run.lake.mark_validated(CHAIN, Snapshot({"labs": ref}), {"validated": ref.digest})


def read(url: str, *subjects: str) -> list[list[float]]:
    with open_reader(url, SPEC) as reader:
        return [row[:3] for row in reader.read(subjects).values.tolist()]


def parity(run: Any, url: str, built: pl.DataFrame) -> pl.DataFrame:
    """Online equals the newest row of the merged offline rows."""
    both = merged(run, SPEC, "labs", built)
    newest = latest(both.lazy(), SPEC.join_keys)
    online = read(url, *newest["subject_id"].to_list())
    np.testing.assert_allclose(online, newest.select(LABS.columns).to_numpy(), rtol=0, atol=1e-9, equal_nan=True)
    return both


def test_a_late_row_is_online_at_once_and_stays_when_older_rows_are_materialised(home: Path, online_url: str) -> None:
    built = rows(LABS, {"a": 10, "b": 10})
    with step("push") as run:
        build(run, built)
        materialize({"labs": built}, (SPEC,), online_url)
        late = rows(LABS, {"a": 12}, 90.0).drop("created").with_columns(ast=pl.lit(None, pl.Float64))
        done = push(run, (SPEC,), "labs", late, today=13, url=online_url)
        assert (done.view, done.online.written, done.table.rows) == ("labs", 1, 1)
        assert read(online_url, "a") == [pytest.approx([90.0, np.nan, 92.0], nan_ok=True)]
        again = materialize({"labs": built}, (SPEC,), online_url)
        assert (again[0].written, again[0].kept) == (1, 1)
        both = parity(run, online_url, built)
        assert both.height == 3 and both.columns[:3] == ["subject_id", "event_timestamp", "created"]
        # The clean data catch up with a later row: it counts.
        later = pl.concat([built, rows(LABS, {"a": 14}, 200.0)])
        materialize({"labs": merged(run, SPEC, "labs", later)}, (SPEC,), online_url)
        parity(run, online_url, later)
        assert read(online_url, "a") == [[200.0, 201.0, 202.0]]


def test_an_older_push_is_kept_offline_and_changes_nothing_online(home: Path, online_url: str) -> None:
    built = rows(LABS, {"a": 10})
    with step("push") as run:
        build(run, built)
        materialize({"labs": built}, (SPEC,), online_url)
        done = push(run, (SPEC,), "labs", rows(LABS, {"a": 8}, 50.0), today=30, url=online_url)
        assert (done.online.written, done.online.kept) == (0, 1)
        assert parity(run, online_url, built).height == 2
        assert read(online_url, "a") == [[0.0, 1.0, 2.0]]


def test_of_one_day_the_push_stands_until_the_clean_data_say_something_new(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    built = rows(LABS, {"a": 10, "b": 10})
    with step("push") as run:
        build(run, built)
        materialize({"labs": built}, (SPEC,), url)
        push(run, (SPEC,), "labs", rows(LABS, {"a": 10}, 50.0), today=30, url=url)
        # Built again without news of that day, for example because of another subject.
        other = built.with_columns(alt=pl.when(pl.col("subject_id") == "b").then(7.0).otherwise("alt"))
        build(run, other)
        materialize({"labs": merged(run, SPEC, "labs", other)}, (SPEC,), url)
        assert read(url, "a", "b") == [[50.0, 51.0, 52.0], [7.0, 4.0, 5.0]]
        news = other.with_columns(alt=pl.when(pl.col("subject_id") == "a").then(8.0).otherwise("alt"))
        build(run, news)
        materialize({"labs": merged(run, SPEC, "labs", news)}, (SPEC,), url)
        assert read(url, "a") == [[8.0, 1.0, 2.0]]
        parity(run, url, news)


def test_a_row_that_was_not_built_before_gives_way_to_one_that_is(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    with step("push") as run:
        push(run, (SPEC,), "labs", rows(LABS, {"a": 10}, 50.0), today=30, url=url)  # before anything was built
        assert pushed(run, "labs")[BUILT].to_list() == [""]  # type: ignore[index]
        assert parity(run, url, rows(LABS, {}).clear()).height == 1
        built = rows(LABS, {"a": 10}, 1.0)
        assert merged(run, SPEC, "labs", built)["alt"].to_list() == [1.0]


def test_the_same_push_again_changes_nothing_and_the_last_of_a_day_counts(home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    first, second = rows(LABS, {"a": 10}, 1.0), rows(LABS, {"a": 10}, 2.0)
    with step("push") as run:
        for frame in (first, first, second, first):
            push(run, (SPEC,), "labs", frame, today=30, url=url)
        assert len([table for table in run.lake.tables() if table.startswith("pushed/labs/")]) == 2
        assert parity(run, url, first.clear())["alt"].to_list() == [1.0] == [read(url, "a")[0][0]]


def test_pushes_at_once_lose_nothing(home: Path, online_url: str) -> None:
    def one(number: int) -> None:
        push(
            run, (SPEC,), "labs", rows(LABS, {f"S{number}": 5, "all": number}, float(number)), today=90, url=online_url
        )

    with step("push") as run:
        assert run.trail and run.lake  # opened before threads share them
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(one, range(1, 13)))
        both = parity(run, online_url, rows(LABS, {"a": 1}).clear())
    assert both.filter(pl.col("subject_id") != "all").height == 12
    assert both.filter(pl.col("subject_id") == "all")["event_timestamp"].n_unique() == 12


def refused(frame: pl.DataFrame, today: int | Mapping[str, int], tmp_path: Path) -> TrialOpsError:
    url = f"sqlite:///{tmp_path}/online.db"
    with step("push") as run:
        with pytest.raises(TrialOpsError) as error:
            push(run, (SPEC,), "labs", frame, today=today, url=url)
        assert run.lake.tables() == []
    assert not Path(f"{tmp_path}/online.db").exists()
    assert "SECRET" not in str(error.value)
    return error.value


def test_the_future_is_refused(home: Path, tmp_path: Path) -> None:
    frame = rows(LABS, {"SECRET-1": 10, "SECRET-2": 3})  # ordinal 10 is study day 11
    assert "1 of 2 rows lie in the future" in refused(frame, 10, tmp_path).what
    assert "1 of 2 rows lie in the future" in refused(frame, {"SECRET-1": 10, "SECRET-2": 4}, tmp_path).what
    assert "1 of 2 rows lie in the future" in refused(frame, {"SECRET-1": 11}, tmp_path).what  # today is not known
    late = frame.with_columns(created=pl.lit(timestamp_of(12)).cast(pl.Datetime("us", "UTC")))
    assert "2 of 2 rows lie in the future" in refused(late, 11, tmp_path).what
    with step("push") as run:
        push(run, (SPEC,), "labs", frame, today={"SECRET-1": 11, "SECRET-2": 4}, url=f"sqlite:///{tmp_path}/o.db")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("ast"), "ast is missing"),
        (lambda f: f.with_columns(bmi=1.0), "bmi is not of this view"),
        (lambda f: f.clear(), "holds no rows"),
        (lambda f: f.with_columns(subject_id=pl.lit(None, pl.String)), "1 of 1 rows lack"),
        (lambda f: f.with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC"))), "1 of 1 rows lack"),
        (lambda f: f.with_columns(event_timestamp=pl.lit("2000-01-01")), "no time in UTC"),
        (lambda f: f.with_columns(pl.col("created").dt.offset_by("-1d")), "before they happened"),
        (lambda f: f.with_columns(alt=pl.lit("SECRET")), "alt is no number"),
        (lambda f: f.with_columns(alt=pl.lit(float("inf"))), "infinite"),
        (lambda f: f.with_columns(subject_id=pl.lit(1)), "not text"),
    ],
)
def test_what_cannot_be_taken_is_refused_as_a_whole(change: Any, message: str, home: Path, tmp_path: Path) -> None:
    assert message in refused(change(rows(LABS, {"SECRET-1": 1})), 30, tmp_path).what


def test_a_view_of_no_service_is_refused(home: Path, tmp_path: Path) -> None:
    with step("push") as run, pytest.raises(TrialOpsError, match="no feature service"):
        push(run, (SPEC,), "other", rows(VITALS, {"a": 1}), today=1, url=f"sqlite:///{tmp_path}/o.db")


def register(run: Any, subject: str, action: str) -> None:
    from trialops.privacy import requests

    reason = "restriction requested, Art. 18 GDPR"
    requests.append(run.engine, "R-1", action, "restriction", run.settings.study, subject, actor="dpo", reason=reason)


def test_restricted_subjects_take_no_part_and_leave_the_online_store(home: Path) -> None:
    from trialops.features.definition_file import load
    from trialops.features.engineering import services, to_online

    definitions = load()
    (service, *_) = services(definitions)
    view = service.view("labs")
    with step("push") as run:
        url = run.settings.online
        push(run, (service,), "labs", rows(view, {"a": 3, "b": 3}), today=9, url=url)
        register(run, "a", "received")
        register(run, "a", "restricted")
        both = merged(run, service, "labs", rows(view, {"b": 1}))
        assert both["subject_id"].unique().to_list() == ["b"]
        to_online({"labs": both}, run, definitions)
        with open_reader(url, service) as reader:
            assert reader.read(["a", "b"]).found.tolist() == [False, True]
        register(run, "a", "lifted")
        assert merged(run, service, "labs", rows(view, {"b": 1}))["subject_id"].n_unique() == 2


def test_an_erased_subject_is_gone_from_pushes_and_the_others_stay(home: Path, tmp_path: Path) -> None:
    from trialops.privacy.erasure_reach import erase_rows, versions_with

    url = f"sqlite:///{tmp_path}/online.db"
    with step("push") as run:
        push(run, (SPEC,), "labs", rows(LABS, {"a": 3, "b": 3}), today=9, url=url)
        push(run, (SPEC,), "labs", rows(LABS, {"a": 4}), today=9, url=url)
        found = versions_with(run.lake, ["pushed/*"], "a")
        assert len(erase_rows(run.lake, found, "a", {"reason": "test"}, run_id="r")) == 2
        both = merged(run, SPEC, "labs", rows(LABS, {}))
        assert both["subject_id"].to_list() == ["b"]


def test_a_push_is_in_the_audit_trail_without_values(home: Path, tmp_path: Path) -> None:
    with step("push") as run:
        push(run, (SPEC,), "labs", rows(LABS, {"P-1": 1}, 77.0), today=5, url=f"sqlite:///{tmp_path}/o.db")
        (event,) = [e for e in run.trail.events() if e.action == "features.push"]
    assert event.detail == {"rows": 1, "written": 1, "kept": 0} and event.object == "labs"
