"""Reading and writing online features, on each store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.online_stores import LABS, SPEC, VITALS, feast_read, feast_store, rows
from trialops.errors import TrialOpsError
from trialops.stores.online import FeatureServiceSpec, ViewSpec, entity_services, from_definitions, open_reader
from trialops.stores.online.spec import NEVER
from trialops.stores.online.vector import MatrixPlan, ahead
from trialops.stores.online.writer import open_writer, write_view

DAY_US = 86_400_000_000
DAY_ONE_US = 946_684_800_000_000


def write(url: str, spec: FeatureServiceSpec = SPEC, **frames: pl.DataFrame) -> None:
    with open_writer(url, spec) as writer:
        for view, frame in frames.items():
            writer.write(view, frame)


def test_what_was_written_is_read(online_url: str) -> None:
    frame = rows(LABS, {"b": 3, "a": 9}).with_columns(
        ast=pl.Series([None, -0.0]), alt=pl.Series([float("nan"), 1e-300])
    )
    write(online_url, labs=frame, vitals=rows(VITALS, {"a": 4, "c": 5}, 70.0))
    with open_reader(online_url, SPEC) as reader:
        reader.ping()
        found = reader.read(["a", "nobody", "b", "c", "a"])
    nan = np.nan
    expected = [[1e-300, -0.0, 5, 70], [nan] * 4, [nan, nan, 2, nan], [nan, nan, nan, 71], [1e-300, -0.0, 5, 70]]
    np.testing.assert_array_equal(found.values, expected)
    days = (found.event_us - DAY_ONE_US) // DAY_US
    assert days[0].tolist() == [9, 4] and days[2, 0] == 3 and days[3, 1] == 5
    assert found.event_us[2, 1] == found.event_us[3, 0] == NEVER
    assert (found.event_us[1] == NEVER).all()
    assert found.found.tolist() == [True, False, True, True, True]
    assert not found.expired.any()


def test_a_missing_subject_is_not_found_and_feast_does_not_see_it_either(online_url: str, tmp_path: Path) -> None:
    frames = {"labs": rows(LABS, {"a": 1}), "vitals": rows(VITALS, {"a": 1})}
    store = feast_store(online_url, SPEC, frames, tmp_path / "feast")
    write(online_url, SPEC, **frames)
    with open_reader(online_url, SPEC) as reader:
        found = reader.read(["nobody"])
    assert not found.found[0] and np.isnan(found.values).all()
    assert np.isnan(feast_read(store, SPEC, ["nobody"])).all()


def test_feast_reads_what_was_written_here(online_url: str, tmp_path: Path) -> None:
    frames = {"labs": rows(LABS, {"a": 1, "b": 40}), "vitals": rows(VITALS, {"b": 3, "Ω ß": 4})}
    frames["labs"] = frames["labs"].with_columns(ast=pl.Series([None, 2.5]))
    store = feast_store(online_url, SPEC, frames, tmp_path / "feast")
    write(online_url, SPEC, **frames)
    subjects = ["b", "Ω ß", "a"]
    with open_reader(online_url, SPEC) as reader:
        np.testing.assert_array_equal(feast_read(store, SPEC, subjects), reader.read(subjects).values)
    assert feast_read(store, SPEC, ["b"]).tolist() == [[3.0, 2.5, 5.0, 0.0]]


def test_what_feast_materialised_and_pushed_is_read_here(online_url: str, tmp_path: Path) -> None:
    frames = {"labs": rows(LABS, {"a": 1, "b": 40}, 5.0), "vitals": rows(VITALS, {"b": 3, "c": 4})}
    frames["labs"] = frames["labs"].with_columns(ast=pl.Series([None, 2.5]))
    store = feast_store(online_url, SPEC, frames, tmp_path / "feast")
    from datetime import timedelta

    from trialops.features.study_time import DAY_ONE

    store.materialize(DAY_ONE - timedelta(days=1), DAY_ONE + timedelta(days=50))
    store.write_to_online_store("labs", rows(LABS, {"a": 2}, 90.0).to_pandas())
    with open_reader(online_url, SPEC) as reader:
        found = reader.read(["a", "b", "c", "d"])
        np.testing.assert_array_equal(found.values, feast_read(store, SPEC, ["a", "b", "c", "d"]))
    assert found.values[0].tolist()[:3] == [90, 91, 92]
    assert (found.event_us[:, 0] - DAY_ONE_US)[:2].tolist() == [2 * DAY_US, 40 * DAY_US]
    assert found.found.tolist() == [True, True, True, False]


def test_an_older_row_never_replaces_a_newer_one(online_url: str) -> None:
    first = write_view(online_url, SPEC, "labs", rows(LABS, {"a": 9, "b": 9}, 100.0))
    assert (first.subjects, first.written, first.kept) == (2, 2, 0)
    older = write_view(online_url, SPEC, "labs", rows(LABS, {"a": 8, "b": 10, "c": 1}, 0.0))
    assert (older.subjects, older.written, older.kept) == (3, 2, 1)
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(["a", "b", "c"]).values[:, 0].tolist() == [100, 3, 6]
    # A correction that became known on the same day replaces what was there.
    assert write_view(online_url, SPEC, "labs", rows(LABS, {"a": 9}, 7.0)).written == 1
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(["a"]).values[0, 0] == 7


def test_times_before_1970_and_far_ahead_are_ordered_too(online_url: str) -> None:
    steps = [(-20_000, 1.0, 1.0), (-19_999, 2.0, 2.0), (-20_001, 3.0, 2.0), (-5, 4.0, 4.0), (20_000, 5.0, 5.0)]
    write_view(online_url, SPEC, "labs", rows(LABS, {"a": 1}))
    for day, value, expected in [*steps, (-10_958, 6.0, 5.0), (-10_957, 7.0, 5.0)]:  # around 1970
        write_view(online_url, SPEC, "vitals", rows(VITALS, {"a": day}, value))
        with open_reader(online_url, SPEC) as reader:
            found = reader.read(["a"])
        assert found.values[0, 3] == expected
    assert found.event_us[0, 1] == DAY_ONE_US + 20_000 * DAY_US


def test_a_null_replaces_a_value(online_url: str) -> None:
    write_view(online_url, SPEC, "vitals", rows(VITALS, {"a": 1}, 60.0))
    write_view(online_url, SPEC, "vitals", rows(VITALS, {"a": 2}).with_columns(pulse=pl.lit(None, pl.Float64)))
    with open_reader(online_url, SPEC) as reader:
        found = reader.read(["a"])
    assert np.isnan(found.values[0, 3]) and found.found[0]


def test_only_the_newest_row_of_a_subject_is_written(online_url: str) -> None:
    frame = pl.concat([rows(VITALS, {"a": day, "b": -day}, float(day)) for day in (3, 7, 5)])
    assert write_view(online_url, SPEC, "vitals", frame).subjects == 2
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(["a", "b"]).values[:, 3].tolist() == [7.0, 4.0]


def test_of_two_rows_of_one_time_the_one_created_last_is_written(online_url: str) -> None:
    late = rows(VITALS, {"a": 3}, 2.0).with_columns(pl.col("created").dt.offset_by("1d"))
    write_view(online_url, SPEC, "vitals", pl.concat([late, rows(VITALS, {"a": 3}, 1.0)]))
    with open_reader(online_url, SPEC) as reader:
        assert reader.read(["a"]).values[0, 3] == 2.0


def test_values_past_their_time_to_live_are_gone_on_that_day(online_url: str) -> None:
    write(online_url, labs=rows(LABS, {"a": 0, "b": 5}), vitals=rows(VITALS, {"a": 0}, 60.0))
    with open_reader(online_url, SPEC) as reader:
        on_last_day = reader.read(["a", "b"], study_day=31)
        after = reader.read(["a", "b"], study_day=32)
        each = reader.read(["a", "a"], study_day=np.array([32, 31]))
        without = reader.read(["a"])
    assert not on_last_day.expired.any() and on_last_day.values[0, 0] == 0
    assert after.expired.tolist() == [[True, False], [False, False]]
    assert np.isnan(after.values[0, :3]).all() and after.values[0, 3] == 60 and after.values[1, 0] == 3
    assert after.found.all() and after.event_us[0, 0] == DAY_ONE_US
    assert each.expired[:, 0].tolist() == [True, False]
    assert not without.expired.any()


def test_reading_nobody_and_many(online_url: str) -> None:
    names = {f"S{number:05d}": number % 50 for number in range(6001)}
    written = write_view(online_url, SPEC, "vitals", rows(VITALS, names))
    assert written.written == 6001
    write_view(online_url, SPEC, "labs", rows(LABS, {"S00000": 0}))
    with open_reader(online_url, SPEC) as reader:
        assert reader.read([]).values.shape == (0, 4)
        found = reader.read(list(names))
    np.testing.assert_array_equal(found.values[:, 3], np.arange(6001))
    assert found.found.all()


def test_progress_is_told(online_url: str) -> None:
    told: list[tuple[str, float]] = []
    names = {f"S{number:05d}": 1 for number in range(6000)}
    write_view(online_url, SPEC, "vitals", rows(VITALS, names), lambda *what: told.append(what))
    assert len(told) > 1 and told[-1] == ("vitals", 1.0)
    assert [share for _, share in told] == sorted(share for _, share in told)


def test_threads_share_a_reader(online_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    write(online_url, labs=rows(LABS, {"a": 1}), vitals=rows(VITALS, {f"S{n}": 1 for n in range(200)}))
    with open_reader(online_url, SPEC) as reader, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: reader.read([f"S{n}"]).values[0, 3], list(range(200)) * 3))
    assert answers == [float(n) for n in range(200)] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("ast"), "ast is missing"),
        (lambda f: f.drop("event_timestamp"), "event_timestamp is missing"),
        (lambda f: f.with_columns(subject_id=pl.lit(None, pl.String)), "1 rows have no subject_id"),
        (lambda f: f.with_columns(event_timestamp=pl.col("event_timestamp").dt.replace_time_zone(None)), "type"),
        (lambda f: f.with_columns(alt=pl.lit("x")), "alt has another type"),
    ],
)
def test_a_frame_that_cannot_be_written_is_refused(change: object, message: str, tmp_path: Path) -> None:
    frame = change(rows(LABS, {"SECRET-1": 1}))  # type: ignore[operator]
    with pytest.raises(TrialOpsError, match=message) as error:
        write_view(f"sqlite:///{tmp_path}/o.db", SPEC, "labs", frame)
    assert "SECRET" not in str(error.value)


def test_sqlite_says_that_it_cannot_tell_fractions_of_a_second(tmp_path: Path) -> None:
    frame = rows(VITALS, {"a": 1}).with_columns(pl.col("event_timestamp").dt.offset_by("1ms"))
    with pytest.raises(TrialOpsError, match="fraction"):
        write_view(f"sqlite:///{tmp_path}/o.db", SPEC, "vitals", frame)


def test_fractions_of_a_second_count(redis_url: str, postgres_database: str) -> None:
    frame = rows(VITALS, {"a": 1}, 1.0)
    for url in (redis_url, postgres_database):
        for ms, value in ((5, 5.0), (3, 3.0), (6, 6.0), (5, 5.0)):
            later = frame.with_columns(pl.col("event_timestamp").dt.offset_by(f"{ms}ms"), pulse=pl.lit(value))
            write_view(url, SPEC, "vitals", later)
        write_view(url, SPEC, "labs", rows(LABS, {"a": 1}))
        with open_reader(url, SPEC) as reader:
            found = reader.read(["a"])
        assert found.values[0, 3] == 6.0
        assert found.event_us[0, 1] == DAY_ONE_US + DAY_US + 6000


def test_a_store_that_was_never_written_says_so(tmp_path: Path, postgres_database: str) -> None:
    for url in (f"sqlite:///{tmp_path}/none.db", postgres_database):
        with open_reader(url, SPEC) as reader:
            with pytest.raises(TrialOpsError, match="holds no features"):
                reader.ping()
            with pytest.raises(TrialOpsError, match="holds no features"):
                reader.read(["a"])
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "url", ["redis://:s3cret@127.0.0.1:1/0", "postgresql://u:s3cret@127.0.0.1:1/d?connect_timeout=2"]
)
def test_a_store_that_does_not_answer_says_so_without_the_password(url: str) -> None:
    with open_reader(url, SPEC, seconds=1.0) as reader, pytest.raises(TrialOpsError, match="not answer") as error:
        reader.read(["SECRET-1"])
    assert "s3cret" not in str(error.value) and "SECRET-1" not in str(error.value)


@pytest.mark.parametrize("url", ["mysql://x", "redis", "", "dynamodb://t"])
def test_another_kind_of_store_is_refused(url: str) -> None:
    with pytest.raises(TrialOpsError, match="no kind"):
        open_reader(url, SPEC)
    with pytest.raises(TrialOpsError, match="no kind"):
        open_writer(url, SPEC)


def test_a_broken_connection_is_replaced(redis_url: str) -> None:
    import redis

    write(redis_url, labs=rows(LABS, {"a": 1}), vitals=rows(VITALS, {"a": 1}, 60.0))
    with open_reader(redis_url, SPEC) as reader, redis.Redis.from_url(redis_url) as admin:
        reader.read(["a"])
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert reader.read(["a"]).values[0, 3] == 60.0


def test_another_type_of_key_is_an_error_and_the_connection_stays_good(redis_url: str) -> None:
    import redis

    from trialops.stores.online.layout import redis_keys

    write(redis_url, labs=rows(LABS, {"a": 1}), vitals=rows(VITALS, {"a": 1}, 60.0))
    with open_reader(redis_url, SPEC) as reader, redis.Redis.from_url(redis_url) as admin:
        admin.set(redis_keys(["bad"], ["subject_id"], "trialops")[0], "x")
        with pytest.raises(TrialOpsError, match="refused"):
            reader.read(["a", "bad", "a"])
        assert reader.read(["a"]).values[0, 3] == 60.0


def test_ages_and_order_are_made_for_the_model(online_url: str) -> None:
    frame = rows(LABS, {"a": 20, "b": 3}).with_columns(labs_last_day=pl.Series([21.0, -2.0]))
    write(online_url, labs=frame, vitals=rows(VITALS, {"a": 1}, 60.0))
    with open_reader(online_url, SPEC) as reader:
        found = reader.read(["a", "b", "nobody"])
    features = ["pulse", "days_since_labs", "ast"]
    plan = MatrixPlan(SPEC, features)
    matrix = plan(found, np.array([25, 4, 1]))
    # There is no day 0: from day -2 to day 4 are five days.
    np.testing.assert_array_equal(matrix, [[60, 4, 1], [np.nan, 5, 4], [np.nan] * 3])
    assert ahead(found, 10).tolist() == [[True, False], [False, False], [False, False]]
    with pytest.raises(TrialOpsError, match="day 0"):
        plan(found, 0)
    with pytest.raises(TrialOpsError, match="2 study days"):
        plan(found, np.array([1, 2]))
    with pytest.raises(TrialOpsError, match="unknown_feature"):
        MatrixPlan(SPEC, ["unknown_feature"])


def test_a_narrowed_service_reads_only_what_a_model_needs(online_url: str) -> None:
    write(online_url, labs=rows(LABS, {"a": 1}), vitals=rows(VITALS, {"a": 1}, 60.0))
    narrow = SPEC.narrowed(["ast", "days_since_labs"])
    assert narrow.columns == ("ast", "labs_last_day") and [v.name for v in narrow.views] == ["labs"]
    with open_reader(online_url, narrow) as reader:
        assert reader.read(["a"]).values.tolist() == [[1.0, 2.0]]
    with pytest.raises(TrialOpsError, match="bmi"):
        SPEC.narrowed(["bmi"])


def test_views_of_visits_have_keys_of_two_parts(online_url: str) -> None:
    spec = FeatureServiceSpec(
        "subject_visit", "trialops", 1, (ViewSpec("visits", ("delay",)),), {}, ("subject_id", "visit")
    )
    frame = rows(spec.views[0], {"a": 1, "b": 2, "c": 3}).with_columns(visit=pl.Series(["1", "1", "2"]))
    newer = frame.tail(1).with_columns(pl.col("event_timestamp").dt.offset_by("2d"), delay=pl.lit(9.0))
    with open_writer(online_url, spec) as writer:
        assert writer.write("visits", pl.concat([newer, frame])).written == 3
        assert writer.write("visits", frame).kept == 1
    with open_reader(online_url, spec) as reader:
        reader.ping()
        found = reader.read([("c", "2"), ("a", "2"), ("a", "1")])
    np.testing.assert_array_equal(found.values[:, 0], [9, np.nan, 0])
    assert found.found.tolist() == [True, False, True]


def test_a_specification_keeps_its_digest() -> None:
    assert FeatureServiceSpec.from_json(SPEC.to_json()) == SPEC
    assert SPEC.digest == FeatureServiceSpec.from_dict(SPEC.as_dict()).digest
    other = FeatureServiceSpec(
        SPEC.name, SPEC.project, SPEC.version, (LABS, ViewSpec("vitals", ("pulse",), 1)), SPEC.ages
    )
    assert other.digest != SPEC.digest
    with pytest.raises(TrialOpsError, match="altered"):
        FeatureServiceSpec.from_dict(SPEC.as_dict() | {"version": 2})
    for text in ("[]", "{}", "not json", '{"views": 3}'):
        with pytest.raises(TrialOpsError):
            FeatureServiceSpec.from_json(text)


def test_the_shipped_definitions_give_a_service_over_all_features() -> None:
    from trialops.features.definition_file import load

    definitions, spec = load(), from_definitions()
    assert spec.name == f"withdrawal_v{definitions.version}"
    held = set(spec.columns) | set(spec.ages)
    assert set(definitions.features) <= held
    entities = {service.join_keys: service for service in entity_services()}
    assert set(entities) == {definitions.join_keys(name) for name in definitions.entity_views}
    assert {v.name for s in entities.values() for v in s.views} == set(definitions.entity_views)
    assert all(source.partition(".")[2] in spec.view(source.partition(".")[0]).columns for source in spec.ages.values())


def test_reading_needs_no_feast_and_no_frames() -> None:
    script = """
import sys
from trialops.stores.online import open_reader
import trialops.stores.online.vector, trialops.stores.online.sqlite, trialops.stores.online.redis
import redis, numpy
heavy = "feast kfp mlflow pandas polars pyarrow duckdb sklearn scipy sqlalchemy pydantic mmh3 google.protobuf".split()
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
