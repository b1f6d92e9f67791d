"""What the online store answers is what a point-in-time join at the present answers, for every feature and store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trialops.features.definition_file import load
from trialops.features.materialize import materialize
from trialops.features.study_time import timestamp_of
from trialops.features.training_set import point_in_time
from trialops.features.views import ages, feature_views
from trialops.stores.online import entity_services, from_definitions, open_reader
from trialops.stores.online.spec import FeatureServiceSpec
from trialops.stores.online.vector import MatrixPlan

DEFINITIONS = load()
SERVICE = from_definitions(DEFINITIONS)
SERVICES = (SERVICE, *entity_services(DEFINITIONS))
NOW = 400
ALL = ("subject", "subject_visit", "site")
Frames = Mapping[str, pl.DataFrame]


def corrected(trial: Frames) -> dict[str, pl.DataFrame]:
    """The trial after more corrections: every third subject's newest laboratory record changed, some days later."""
    lb = trial["LB"]
    newest = lb.sort("KNOWNDY", maintain_order=True).unique("USUBJID", keep="last", maintain_order=True)
    chosen = newest.sort("USUBJID").gather_every(3)
    known = pl.col("KNOWNDY") + 5
    late = chosen.with_columns(
        KNOWNDY=pl.when(known == 0).then(1).otherwise(known).cast(lb.schema["KNOWNDY"]), LBSTRESN=pl.col("LBSTRESN") * 3
    )
    return {**trial, "LB": pl.concat([lb, late.select(lb.columns)])}


def placed(trial: Frames) -> dict[str, pl.DataFrame]:
    """The trial with the day of the data cut, without which sites have no clock."""
    cut = pl.Series("CUTDY", [56 + 28 * (number % 5) for number in range(trial["DM"].height)], dtype=pl.Int32)
    return {**trial, "DM": trial["DM"].with_columns(cut)}


def filled(views: Frames) -> dict[str, pl.DataFrame]:
    """Views in which every feature has values: those the trial has no records for are drawn."""
    rng = np.random.default_rng(11)
    found = {}
    for name, frame in views.items():
        if frame.is_empty():
            frame = (
                views["vitals"]
                .select("subject_id", "event_timestamp", "created")
                .with_columns(pl.lit(None, pl.Float64).alias(c) for c in DEFINITIONS.columns(name))
            )
        for column in DEFINITIONS.columns(name):
            if frame[column].null_count() == frame.height:
                drawn = rng.normal(100.0, 20.0, frame.height)
                drawn = drawn.round() if column in DEFINITIONS.ages.values() else drawn  # days are whole
                drawn[rng.random(frame.height) < 0.2] = np.nan
                frame = frame.with_columns(pl.Series(column, drawn).fill_nan(None))
        found[name] = frame
    return found


@pytest.fixture(scope="session")
def built(trial: Frames) -> dict[str, pl.DataFrame]:
    """Views of every entity."""
    return filled(feature_views(placed(trial), DEFINITIONS, entities=ALL))


@pytest.fixture(scope="session")
def built_later(trial: Frames) -> dict[str, pl.DataFrame]:
    """The same after more corrections."""
    return filled(feature_views(placed(corrected(trial)), DEFINITIONS, entities=ALL))


def offline(views: Frames, subjects: list[str], workdir: Path) -> np.ndarray:
    """Every feature and age of every subject as of the present, by the join that training sets are made with."""
    moments = pl.DataFrame({"subject_id": subjects}).with_columns(
        event_timestamp=pl.lit(timestamp_of(NOW)).cast(pl.Datetime("us", "UTC"))
    )
    found = point_in_time({v.name: views[v.name] for v in SERVICE.views}, moments, workdir)
    found = ages(found, DEFINITIONS, NOW).select("subject_id", *SERVICE.columns, *SERVICE.ages)
    assert found["subject_id"].to_list() == sorted(subjects)
    return found.drop("subject_id").to_numpy().astype(float)


def online(url: str, subjects: list[str]) -> np.ndarray:
    """The same from the online store."""
    with open_reader(url, SERVICE) as reader:
        rows = reader.read(sorted(subjects))
    return MatrixPlan(SERVICE, (*SERVICE.columns, *SERVICE.ages))(rows, NOW)


def newest(
    frame: pl.DataFrame, service: FeatureServiceSpec, columns: tuple[str, ...]
) -> dict[tuple[str, ...], list[float]]:
    """Key -> values of its newest row, found one row after the other."""
    found: dict[tuple[str, ...], tuple[tuple[object, object], list[float]]] = {}
    for row in frame.iter_rows(named=True):
        key = tuple(row[k] for k in service.join_keys)
        rank = (row["event_timestamp"], row["created"])
        if key not in found or rank >= found[key][0]:
            found[key] = (rank, [np.nan if row[c] is None else row[c] for c in columns])
    return {key: values for key, (_, values) in found.items()}


def check(url: str, views: Frames, workdir: Path) -> None:
    subjects = views["demographics"]["subject_id"].unique().to_list()
    theirs, ours = offline(views, subjects, workdir), online(url, subjects)
    assert theirs.shape[1] == len(SERVICE.columns) + len(SERVICE.ages) > 80
    # A comparison of nothing with nothing would hold too.
    assert np.isfinite(theirs).any(axis=0).all()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, equal_nan=True)
    for service in SERVICES[1:]:
        with open_reader(url, service) as reader:
            for view in service.views:
                expected = newest(views[view.name], service, view.columns)
                keys = list(expected)
                found = reader.read(keys if len(service.join_keys) > 1 else [key[0] for key in keys])
                place = service.columns.index(view.columns[0])
                np.testing.assert_allclose(
                    found.values[:, place : place + len(view.columns)], list(expected.values()), rtol=0, atol=1e-9
                )
                assert len(keys) > 3


def test_online_equals_offline_also_after_corrections(
    online_url: str, built: Frames, built_later: Frames, tmp_path: Path
) -> None:
    first = materialize(built, SERVICES, online_url)
    assert all(done.written == done.rows > 0 and done.kept == 0 for done in first)
    check(online_url, built, tmp_path / "first")
    changed = online(online_url, built["labs"]["subject_id"].unique().to_list())
    materialize(built_later, SERVICES, online_url)
    check(online_url, built_later, tmp_path / "later")
    after = online(online_url, built["labs"]["subject_id"].unique().to_list())
    assert not np.array_equal(changed, after, equal_nan=True)


def test_materialising_again_changes_nothing(redis_url: str, built: Frames) -> None:
    import redis

    materialize(built, SERVICES, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        before = {key: client.hgetall(key) for key in client.scan_iter()}
        materialize(built, SERVICES, redis_url)
        assert {key: client.hgetall(key) for key in client.scan_iter()} == before and before


def test_only_what_was_known_by_a_study_day_is_taken(tmp_path: Path, built: Frames) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    done = materialize({"labs": built["labs"]}, SERVICES, url, until_day=20)
    with open_reader(url, SERVICE.narrowed(["labs_last_day"])) as reader:
        subjects = built["labs"]["subject_id"].unique().to_list()
        rows = reader.read(subjects)
    assert done[0].until == timestamp_of(20)
    assert rows.event_us.max() <= timestamp_of(20).timestamp() * 1e6
    early = built["labs"].filter(pl.col("event_timestamp") <= timestamp_of(20), pl.col("created") <= timestamp_of(20))
    assert rows.found.sum() == early["subject_id"].n_unique() == done[0].rows < built["labs"].height


def test_feasts_registry_knows_the_interval_and_its_sdk_reads(built: Frames, tmp_path: Path) -> None:
    from tests.support.online_stores import feast_read, feast_store

    url = f"sqlite:///{tmp_path}/online.db"
    frames = {view.name: built[view.name] for view in SERVICE.views}
    store = feast_store(url, SERVICE, frames, tmp_path / "feast")
    paths = {name: tmp_path / "feast" / "views" / f"{name}.parquet" for name in frames}
    told: list[float] = []
    for _ in range(2):
        materialize(paths, SERVICES, url, until_day=NOW, store=store, progress=lambda _, share: told.append(share))
    labs = store.get_feature_view("labs")
    assert [interval[1] for interval in labs.materialization_intervals] == [timestamp_of(NOW)]
    assert labs.materialization_intervals[0][0] <= built["labs"]["event_timestamp"].min()
    subjects = sorted(built["demographics"]["subject_id"].unique())
    np.testing.assert_array_equal(
        feast_read(store, SERVICE, subjects), online(url, subjects)[:, : len(SERVICE.columns)]
    )
    assert told[-1] == 1.0


def test_a_view_of_no_service_is_refused(tmp_path: Path, built: Frames) -> None:
    from trialops.errors import TrialOpsError

    url = f"sqlite:///{tmp_path}/online.db"
    with pytest.raises(TrialOpsError, match="belongs to no feature service"):
        materialize({"other": built["labs"]}, SERVICES, url)
    with pytest.raises(TrialOpsError, match="is missing"):
        materialize({"labs": built["labs"].drop("created")}, SERVICES, url)
