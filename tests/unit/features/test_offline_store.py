"""The offline store behind Feast's interface: which rows come back, with what, from where."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.support.histories import feast_store, feast_view
from tests.support.s3_server import s3
from trialops.errors import TrialOpsError
from trialops.features import offline_store_prepared as preparation
from trialops.features.offline_store_files import Place
from trialops.features.offline_store_prepared import Source, prepared
from trialops.stores.features import load_feast

__all__ = ["s3"]
DAY = datetime(2000, 1, 1, tzinfo=UTC)


def day(n: float) -> datetime:
    return DAY + timedelta(days=n)


def rows(*listed: tuple[Any, ...], keys: tuple[str, ...] = ("subject_id",)) -> pl.DataFrame:
    """Feature rows: keys, event day, created day, alt."""
    columns = [*keys, "event_timestamp", "created", "alt"]
    frame = pl.DataFrame([dict(zip(columns, row, strict=True)) for row in listed], infer_schema_length=None)
    moment = pl.Datetime("us", "UTC")
    return frame.with_columns(
        pl.Series([day(d) for d in frame[c]], dtype=moment).alias(c) for c in ("event_timestamp", "created")
    )


LABS = rows(("a", 1, 1, 10.0), ("a", 5, 5, 50.0), ("a", 5, 30, 51.0), ("b", 20, 20, 200.0))


def types(**keys: str) -> dict[str, Any]:
    feast = load_feast()
    return {name: getattr(feast.types, kind) for name, kind in (keys or {"subject_id": "String"}).items()}


def labs_store(folder: Path, frame: pl.DataFrame = LABS, ttl: timedelta | None = None, **options: Any) -> Any:
    folder.mkdir(exist_ok=True)
    frame.write_parquet(folder / "labs.parquet")
    keys = {c: "Int64" if t.is_integer() else "String" for c, t in frame.schema.items() if c.endswith(("_id", "visit"))}
    return feast_store(folder, feast_view("labs", str(folder / "labs.parquet"), types(**keys), ["alt"], ttl), **options)


def asked(*pairs: tuple[Any, Any], key: str = "subject_id") -> pd.DataFrame:
    return pd.DataFrame({key: [p[0] for p in pairs], "event_timestamp": [p[1] for p in pairs]})


def alts(store: Any, entities: pd.DataFrame | str, **how: Any) -> list[float | None]:
    found: list[float | None] = (
        store.get_historical_features(entities, features=["labs:alt"], **how).to_arrow()["alt"].to_pylist()
    )
    return found


@pytest.mark.parametrize("how", [{}, {"filter_by_created_timestamp": True}, {"filter_by_created_timestamp": False}])
def test_a_later_correction_never_leaks(tmp_path: Path, how: dict[str, bool]) -> None:
    entities = asked(("a", day(6)), ("a", day(29)), ("a", day(30)))
    assert alts(labs_store(tmp_path), entities, **how) == [50.0, 50.0, 51.0]


def test_every_entity_row_comes_back_in_its_place(tmp_path: Path) -> None:
    entities = asked(
        ("b", day(25)), ("b", day(19)), ("zz", day(9)), ("a", day(2)), ("a", day(2)), ("a", day(9)), (None, day(9))
    ).assign(label=range(7), site="s")
    entities.index = pd.Index([5, 5, 4, 3, 2, 1, 0])
    kept = entities.copy()
    job = labs_store(tmp_path, ttl=timedelta(days=3)).get_historical_features(entities, features=["labs:alt"])
    got = job.to_df()
    assert list(got.columns) == ["subject_id", "event_timestamp", "label", "site", "alt"]
    assert got["label"].tolist() == list(range(7)) and got["subject_id"].tolist()[:6] == ["b", "b", "zz", "a", "a", "a"]
    # In order: past its time to live, before it happened, unknown, known twice, past again, no key.
    assert job.to_arrow()["alt"].to_pylist() == [None, None, None, 10.0, 10.0, None, None]
    pd.testing.assert_frame_equal(entities, kept)  # the caller's frame is left alone
    assert job.metadata.min_event_timestamp == day(2) and set(job.metadata.keys) == {"subject_id", "label", "site"}


def test_time_to_live_ends_after_its_last_instant(tmp_path: Path) -> None:
    store = labs_store(tmp_path, ttl=timedelta(days=3))
    entities = asked(("b", day(23)), ("b", day(23) + timedelta(microseconds=1)))
    assert alts(store, entities) == [200.0, None]


def test_moments_in_any_form(tmp_path: Path) -> None:
    store = labs_store(tmp_path)
    instant = pd.Timestamp(day(5))
    assert alts(store, asked(("a", instant.tz_localize(None)))) == [50.0]  # naive: UTC
    assert alts(store, asked(("a", instant.tz_convert("America/New_York")))) == [50.0]
    early = instant.tz_convert("Asia/Tokyo") - pd.Timedelta(1, "ns")
    assert alts(store, asked(("a", early))) == [10.0]  # one nanosecond before it
    assert alts(store, asked(("a", "2000-01-06T01:00:00+01:00"))) == [50.0]
    for unit in ("s", "ms", "us", "ns"):
        entities = asked(("a", instant), ("a", instant - pd.Timedelta(1, "s")))
        entities["event_timestamp"] = entities["event_timestamp"].dt.as_unit(unit)
        assert alts(store, entities) == [50.0, 10.0]
    got = store.get_historical_features(asked(("a", instant.tz_convert("Asia/Tokyo"))), features=["labs:alt"]).to_df()
    assert str(got["event_timestamp"].dt.tz) == "UTC" and got["event_timestamp"][0] == instant


@pytest.mark.parametrize("kind", ["ns", "naive", "date", "ms"])
def test_times_of_features_in_any_form(tmp_path: Path, kind: str) -> None:
    cast: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "ns": lambda c: c.dt.cast_time_unit("ns"),
        "ms": lambda c: c.dt.cast_time_unit("ms"),
        "naive": lambda c: c.dt.replace_time_zone(None),
        "date": lambda c: c.dt.date(),
    }
    frame = LABS.with_columns(cast[kind](pl.col("event_timestamp", "created")))
    store = labs_store(tmp_path, frame)
    entities = asked(("a", day(4.9)), ("a", day(5)), ("a", day(31)), ("b", day(20)))
    assert alts(store, entities) == [10.0, 50.0, 51.0, 200.0]
    if kind != "date":  # Feast itself cannot materialise dates; nanoseconds its own engine cannot
        store.materialize(day(-1), day(60))
        assert store.get_online_features(["labs:alt"], [{"subject_id": "a"}]).to_dict()["alt"] == [51.0]


def test_keys_are_text_numbers_or_pairs(tmp_path: Path) -> None:
    numbers = LABS.with_columns(pl.col("subject_id").replace_strict({"a": 1, "b": 2}, return_dtype=pl.Int32))
    store = labs_store(tmp_path / "int", numbers)
    assert alts(store, asked((1, day(6)), (2, day(21)), (3, day(21)))) == [50.0, 200.0, None]
    gaps = asked((1, day(6)), (None, day(6)), (2**40, day(6)))
    assert gaps["subject_id"].dtype == float and alts(store, gaps) == [50.0, None, None]
    with pytest.raises(TrialOpsError, match="subject_id of the entity rows is") as caught:
        alts(store, asked(("1", day(6))))
    assert "feature view labs" in caught.value.where
    visits = rows(("a", "1", 1, 1, 1.0), ("a", "2", 2, 2, 2.0), ("b", "1", 1, 1, 3.0), keys=("subject_id", "visit"))
    store = labs_store(tmp_path / "visits", visits)
    entities = asked(("a", day(9)), ("a", day(9)), ("b", day(9)), ("b", day(9))).assign(visit=["1", "2", "1", "2"])
    assert alts(store, entities.assign(subject_id=entities["subject_id"].astype("category"))) == [1.0, 2.0, 3.0, None]
    with pytest.raises(TrialOpsError, match="no column visit"):
        alts(store, asked(("a", day(9))))


def test_several_views_and_their_names(tmp_path: Path) -> None:
    feast = load_feast()
    LABS.write_parquet(tmp_path / "labs.parquet")
    site = LABS.rename({"subject_id": "site_id"}).with_columns(pl.col("alt") + 1000)
    site.write_parquet(tmp_path / "sites.parquet")
    objects = feast_view("labs", str(tmp_path / "labs.parquet"), types(), ["alt"])
    objects += feast_view("sites", str(tmp_path / "sites.parquet"), types(site_id="String"), ["alt"])
    store = feast_store(tmp_path, objects)
    entities = asked(("a", day(6)), ("zz", day(21))).assign(site_id=["b", "b"])
    job = store.get_historical_features(entities, features=["labs:alt", "sites:alt"], full_feature_names=True)
    assert job.to_arrow().select(["labs__alt", "sites__alt"]).to_pydict() == {
        "labs__alt": [50.0, None],
        "sites__alt": [None, 1200.0],
    }
    with pytest.raises(TrialOpsError, match="would be named alt"):
        alts(store, entities.assign(alt=1))
    # The same view for two columns of the entity rows.
    labs = next(o for o in objects if o.name == "labs")
    twice = [labs.with_name("own"), labs.with_name("other").with_join_key_map({"subject_id": "partner"})]
    store.apply(feast.FeatureService(name="pairs", features=twice))
    got = store.get_historical_features(
        asked(("a", day(6))).assign(partner=["b"], event_timestamp=day(22)),
        features=store.get_feature_service("pairs"),
        full_feature_names=True,
    ).to_arrow()
    assert (got["own__alt"].to_pylist(), got["other__alt"].to_pylist()) == ([50.0], [200.0])


def test_columns_renamed_by_the_source_views_of_everybody_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    native = LABS.rename({"alt": "ALT", "subject_id": "USUBJID", "event_timestamp": "LBDTC"})
    native[:2].write_parquet(folder / "0.parquet")
    native[2:].write_parquet(folder / "1.parquet")
    (folder / ".hidden.parquet").write_bytes(b"no parquet")
    mapping = {"ALT": "alt", "USUBJID": "subject_id", "LBDTC": "event_timestamp"}
    objects = feast_view("labs", str(folder), types(), ["alt"], field_mapping=mapping)
    store = feast_store(tmp_path, objects)
    entities = asked(("a", day(6)), ("a", day(31)), ("b", day(31)))
    assert alts(store, entities) == [50.0, 51.0, 200.0]
    native.with_columns(pl.lit("a").alias("USUBJID"), pl.lit(999.0).alias("ALT"))[:1].write_parquet(
        folder / "2.parquet"
    )
    assert alts(store, asked(("a", day(2)))) == [999.0]  # the same times further down: a file was added

    LABS.drop("subject_id").write_parquet(tmp_path / "trial.parquet")
    feast = load_feast()
    source = feast.FileSource(
        name="trial_source", path=str(tmp_path / "trial.parquet"), timestamp_field="event_timestamp"
    )
    view = feast.FeatureView(
        name="labs", entities=[], schema=[feast.Field(name="alt", dtype=feast.types.Float64)], source=source
    )
    store = feast_store(tmp_path / "everybody", [source, view])
    assert alts(store, asked(("x", day(6)), ("y", day(21)), ("y", day(0)))) == [51.0, 200.0, None]


def test_entity_rows_by_query(tmp_path: Path) -> None:
    store = labs_store(tmp_path)
    pl.DataFrame({"who": ["a", "b"], "moment": [day(6), day(21)]}).write_parquet(tmp_path / "asked.parquet")
    query = f"SELECT who AS subject_id, moment AS event_timestamp FROM '{tmp_path}/asked.parquet' ORDER BY who"
    assert alts(store, query) == [50.0, 200.0]
    with pytest.raises(TrialOpsError, match="query for entity rows") as caught:
        alts(store, "SELECT 'secret-17'::INT")
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None
    with pytest.raises(TrialOpsError, match="without entity rows"):
        store.get_historical_features(features=["labs:alt"], start_date=day(0), end_date=day(9))


@pytest.mark.parametrize("singleton", [True, False])
def test_on_demand_views_see_what_they_see_online(tmp_path: Path, singleton: bool) -> None:
    feast = load_feast()
    LABS.write_parquet(tmp_path / "labs.parquet")
    objects = feast_view("labs", str(tmp_path / "labs.parquet"), types(), ["alt"])
    request = feast.RequestSource(name="asked", schema=[feast.Field(name="dose", dtype=feast.types.Float64)])

    def per_dose(inputs: dict[str, Any]) -> dict[str, Any]:
        if isinstance(inputs["alt"], list):
            return {"per_dose": [a / d if a is not None else None for a, d in zip(inputs["alt"], inputs["dose"])]}  # noqa: B905
        return {"per_dose": None if inputs["alt"] is None else inputs["alt"] / inputs["dose"]}

    view = feast.on_demand_feature_view.on_demand_feature_view(
        sources=[objects[-1], request],
        schema=[feast.Field(name="per_dose", dtype=feast.types.Float64)],
        mode="python",
        singleton=singleton,
    )(per_dose)
    store = feast_store(tmp_path, [*objects, request, view])
    entities = asked(("a", day(6)), ("zz", day(6)), ("b", day(40))).assign(dose=[2.0, 2.0, 4.0])
    job = store.get_historical_features(entities, features=["per_dose:per_dose"])
    assert job.to_arrow()["per_dose"].to_pylist() == [25.0, None, 50.0]
    nobody = store.get_historical_features(entities[1:2], features=["per_dose:per_dose"]).to_arrow()
    assert str(nobody["per_dose"].type) == "double"  # also where no value tells the type
    full = store.get_historical_features(entities, features=["labs:alt", "per_dose:per_dose"], full_feature_names=True)
    assert full.to_arrow()["per_dose__per_dose"].to_pylist() == [25.0, None, 50.0]
    with pytest.raises(TrialOpsError, match="no column dose"):
        store.get_historical_features("SELECT 'a' AS subject_id, now() AS event_timestamp", ["per_dose:per_dose"])


def only(folder: Path) -> Path:
    (made,) = folder.glob(".labs.asof-*.parquet")
    return made


def test_the_prepared_file_is_made_once_and_again_when_the_source_changes(tmp_path: Path) -> None:
    store, entities = labs_store(tmp_path), asked(("a", day(31)))
    source = tmp_path / "labs.parquet"
    LABS.write_parquet(source, compression="uncompressed")
    assert alts(store, entities) == [51.0]
    first = only(tmp_path).stat()
    assert alts(store, entities) == [51.0] and only(tmp_path).stat().st_mtime_ns == first.st_mtime_ns
    before = source.stat()
    changed = LABS.with_columns(alt=pl.col("alt").replace(51.0, 77.0))
    changed.write_parquet(source, compression="uncompressed")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that keeps times would
    assert source.stat().st_size == before.st_size
    assert alts(store, entities) == [77.0] and len(list(tmp_path.glob(".labs.asof-*.parquet"))) == 1
    only(tmp_path).write_bytes(only(tmp_path).read_bytes()[:100])  # what cannot be read is made again
    assert alts(store, entities) == [77.0]
    assert sorted(p.name for p in tmp_path.glob("*.partial")) == []


def test_prepared_files_may_lie_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "prepared"
    store = labs_store(tmp_path / "read", prepared_location=str(elsewhere))
    assert alts(store, asked(("a", day(31)))) == [51.0]
    assert len(list(elsewhere.glob("*-labs.asof-*.parquet"))) == 1
    assert [p.name for p in (tmp_path / "read").glob("*.parquet")] == ["labs.parquet"]
    (tmp_path / "file").write_text("")
    blocked = labs_store(tmp_path / "blocked", prepared_location=str(tmp_path / "file" / "below"))
    with pytest.raises(TrialOpsError, match="cannot be written") as caught:
        alts(blocked, asked(("a", day(31))))
    assert "prepared_location" in caught.value.fix


def test_a_source_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(Place(str(tmp_path / "labs.parquet")), ("subject_id",), "event_timestamp", "created")
    LABS.write_parquet(tmp_path / "labs.parquet")
    reduce, changes = preparation.reduced, [1]

    def busy(asked_for: Source) -> pl.DataFrame:
        found = reduce(asked_for)
        if changes.pop():
            changes.append(len(changes))
            LABS.with_columns(alt=pl.lit(1.0)).write_parquet(tmp_path / "labs.parquet")
        return found

    monkeypatch.setattr(preparation, "reduced", busy)
    assert set(prepared(source).scan().collect()["alt"]) == {1.0}

    def always(asked_for: Source) -> pl.DataFrame:
        found = reduce(asked_for)
        LABS.with_columns(alt=pl.lit(np.random.default_rng().random())).write_parquet(tmp_path / "labs.parquet")
        return found

    LABS.write_parquet(tmp_path / "labs.parquet")
    monkeypatch.setattr(preparation, "reduced", always)
    with pytest.raises(TrialOpsError, match="changed three times"):
        prepared(source)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    wrong = [
        (LABS.drop("created"), "created is missing"),
        (LABS.with_columns(created=pl.lit("2000")), "created is String, not a timestamp"),
        (LABS.with_columns(subject_id=pl.lit(1.5)), "key subject_id is Float64"),
    ]
    for i, (frame, message) in enumerate(wrong):
        frame.write_parquet(tmp_path / f"{i}.parquet")
        source = Source(Place(str(tmp_path / f"{i}.parquet")), ("subject_id",), "event_timestamp", "created")
        with pytest.raises(TrialOpsError, match=message) as caught:
            prepared(source)
        assert f"{i}.parquet" in caught.value.where
    with pytest.raises(TrialOpsError, match="does not exist"):
        prepared(Source(Place(str(tmp_path / "none.parquet")), ("subject_id",), "event_timestamp", "created"))
    feast = load_feast()
    LABS.drop("alt").write_parquet(tmp_path / "labs.parquet")
    objects = feast_view("labs", str(tmp_path / "labs.parquet"), types(), ["alt"])
    with pytest.raises(TrialOpsError, match="feature alt is not in the file"):
        alts(feast_store(tmp_path / "a", objects), asked(("a", day(31))))
    untimed = feast_view("labs", str(tmp_path / "0.parquet"), types(), ["alt"])
    with pytest.raises(TrialOpsError, match="created is missing"):
        store = feast_store(tmp_path / "c", [])
        store._get_provider().validate_data_source(store.config, untimed[-2])
    delta = feast.data_format.DeltaFormat()
    objects = feast_view("labs", str(tmp_path / "delta"), types(), ["alt"], file_format=delta)
    with pytest.raises(TrialOpsError, match="reads parquet"):
        alts(feast_store(tmp_path / "b", objects), asked(("a", day(31))))


def test_what_is_materialised_is_what_feasts_own_engine_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    listed = [
        (f"s{rng.integers(30)}", float(rng.integers(40)), float(i) / 1000 + 50, float(rng.normal())) for i in range(400)
    ]
    frame = rows(*listed)
    answers = []
    for name, kind in (("ours", {}), ("theirs", {"offline": "duckdb"})):
        store = labs_store(tmp_path / name, frame, **kind)
        store.materialize(day(3), day(35))
        subjects = [{"subject_id": f"s{i}"} for i in range(31)]
        answers.append(store.get_online_features(["labs:alt"], subjects).to_dict()["alt"])
    assert answers[0] == answers[1] and sum(a is not None for a in answers[0]) == 30
    tied = labs_store(tmp_path / "tied", rows(("a", 1, 1, 1.0), ("a", 1, 1, 2.0), ("a", 1, 0, 3.0)))
    tied.materialize(day(0), day(9))
    assert tied.get_online_features(["labs:alt"], [{"subject_id": "a"}]).to_dict()["alt"] == [2.0]
    assert alts(tied, asked(("a", day(9)))) == [2.0]  # the tie is settled alike


def test_a_training_set_is_kept_and_read_back(tmp_path: Path) -> None:
    feast = load_feast()
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    store = labs_store(tmp_path)
    entities = asked(("a", day(6)), ("b", day(21)))
    job = store.get_historical_features(entities, features=["labs:alt"])
    storage = SavedDatasetFileStorage(str(tmp_path / "kept.parquet"))
    store.create_saved_dataset(job, name="kept", storage=storage)
    assert sorted(store.get_saved_dataset("kept").to_df()["alt"]) == [50.0, 200.0]
    with pytest.raises(feast.errors.SavedDatasetLocationAlreadyExists):
        job.persist(storage)


def test_a_push_of_other_columns_is_refused_and_no_row_is_lost(tmp_path: Path) -> None:
    from trialops.features.offline_store import AsofOfflineStore

    store = labs_store(tmp_path)
    view = store.get_feature_view("labs")
    with pytest.raises(TrialOpsError, match="other columns"):
        AsofOfflineStore.offline_write_batch(store.config, view, LABS.drop("alt").to_arrow(), None)
    seen: list[int] = []
    AsofOfflineStore.offline_write_batch(store.config, view, LABS[:1].to_arrow(), seen.append)
    assert seen == [1] and pl.read_parquet(tmp_path / "labs.parquet").equals(pl.concat([LABS, LABS[:1]]))


@pytest.mark.slow
def test_the_same_store_on_s3(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Source, prepared file, push, materialise and saved data sets on S3."""
    import boto3

    feast = load_feast()
    url = f"{s3}/features/labs.parquet"
    place = Place(url)
    place.write(LABS)
    objects = feast_view("labs", url, types(), ["alt"])
    push = feast.PushSource(name="late", batch_source=objects[-2])
    objects[-1] = feast.FeatureView(
        name="labs", entities=[objects[0]], schema=objects[-1].schema, source=push, ttl=timedelta(0)
    )
    store = feast_store(tmp_path, [*objects[:-1], push, objects[-1]])
    entities = asked(("a", day(6)), ("a", day(31)), ("zz", day(31)))
    assert alts(store, entities) == [50.0, 51.0, None]
    bucket = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")

    def stored() -> dict[str, str]:
        found = bucket.list_objects_v2(Bucket="trial", Prefix="home/features/")["Contents"]
        return {item["Key"]: item["ETag"] for item in found}

    before = stored()
    assert len(before) == 2 and alts(store, entities) == [50.0, 51.0, None] and stored() == before
    late = rows(("a", 7, 40, 70.0)).to_pandas()
    store.push("late", late, to=feast.data_source.PushMode.ONLINE_AND_OFFLINE)
    assert alts(store, asked(("a", day(39)), ("a", day(40)))) == [51.0, 70.0]
    store.materialize(day(-1), day(60))
    assert store.get_online_features(["labs:alt"], [{"subject_id": "a"}]).to_dict()["alt"] == [70.0]
    # Someone else wrote the object between reading and writing: nothing is lost, nothing overwritten.
    tag = place.entity_tag()
    place.write(pl.concat([LABS, LABS]))
    assert place.write(LABS[:1], after=tag) is False and place.scan().collect().height == 2 * LABS.height
    folder = Place(f"{s3}/features/parts")
    for i in range(2):
        Place(f"{s3}/features/parts/{i}.parquet").write(LABS[2 * i : 2 * i + 2])
    assert folder.scan().collect().equals(LABS)
    with pytest.raises(TrialOpsError, match="does not exist"):
        Place(f"{s3}/features/none.parquet").fingerprint()
    # By endpoint of the source instead of the environment.
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    objects = feast_view("labs", url, types(), ["alt"], s3_endpoint_override=endpoint)
    assert alts(feast_store(tmp_path / "endpoint", objects), asked(("a", day(6)))) == [50.0]
