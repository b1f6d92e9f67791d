import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

import feature_repo
from tests.support.s3_server import s3
from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.definition_file import load
from trialops.features.training_set import publish, write_views
from trialops.features.views import ages, feature_views
from trialops.settings import settings
from trialops.stores.features import (
    OFFLINE,
    definitions,
    entity,
    load_feast,
    open_store,
    service_name,
    shipped_columns,
    shipped_keys,
)

__all__ = ["s3"]
REPO = Path(feature_repo.__file__).parent


SERVICE = service_name("withdrawal")


def test_definitions_are_made_in_one_place(tmp_path: Path) -> None:
    objects = definitions({name: tmp_path / f"{name}.parquet" for name in shipped_columns()})
    feast = load_feast()
    views = {o.name: o for o in objects if isinstance(o, feast.FeatureView)}
    services = [o for o in objects if isinstance(o, feast.FeatureService)]
    assert list(views) == list(shipped_columns())
    assert [s.name for s in services] == [SERVICE, f"{SERVICE}_on_day"] and f"withdrawal_v{load().version}" == SERVICE
    for name, view in views.items():
        assert tuple(f.name for f in view.features) == shipped_columns()[name]
        assert {str(f.dtype) for f in view.features} == {"Float64"}
        assert (view.batch_source.timestamp_field, view.batch_source.created_timestamp_column) == (
            "event_timestamp",
            "created",
        )
        assert tuple(c.name for c in view.entity_columns) == shipped_keys()[name]
    # A subject's model is asked about subjects: visits and sites have views and no place in its service.
    assert {len(k) for k in shipped_keys().values()} == {1, 2} and ("site_id",) in shipped_keys().values()
    asked = {p.name for p in services[0].feature_view_projections}
    assert asked == {name for name, keys in shipped_keys().items() if keys == ("subject_id",)}
    with pytest.raises(TrialOpsError, match="genes is not defined"):
        definitions({"genes": tmp_path / "genes.parquet"})
    with pytest.raises(TrialOpsError, match="dose is no join key"):
        entity("dose")
    assert definitions({}, {}, version=7)[-1].name == "withdrawal_v7"


def test_stores_in_two_folders_do_not_see_each_other(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    views = feature_views(trial)
    paths = write_views(views, tmp_path / "one")
    first = open_store(tmp_path / "one", paths)
    second = open_store(tmp_path / "two", {"labs": paths["labs"]})
    assert len(first.list_feature_views()) == len(views)
    assert [v.name for v in second.list_feature_views()] == ["labs"]
    assert first.config.offline_store.type == OFFLINE


def test_online_values_are_those_of_the_last_row(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    views = feature_views(trial)
    store = open_store(tmp_path, write_views(views, tmp_path))
    start, end = study_time.timestamp_of(-60), study_time.timestamp_of(400)
    store.materialize(start, end)
    subject = views["labs"]["subject_id"][0]
    answer = store.get_online_features(
        features=store.get_feature_service(SERVICE), entity_rows=[{"subject_id": subject}]
    ).to_dict()
    last = views["labs"].filter(pl.col("subject_id") == subject)[-1]
    for name in ("alt", "creatinine_uln_ratio", "labs_last_day"):
        assert answer[name] == [last[name][0]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="does not exist") as caught:
        open_store(tmp_path, {"labs": tmp_path / "labs.parquet"})
    assert "labs" in caught.value.where


def test_type_checks_are_put_back_after_the_import() -> None:
    import typeguard

    load_feast()

    @typeguard.typechecked
    def strict(x: int) -> int:
        return x

    with pytest.raises(typeguard.TypeCheckError):
        strict("1")


@pytest.mark.parametrize("name", ["feature_store.yaml", "profiles/cluster.yaml", "profiles/serving.yaml"])
def test_profiles_agree_where_they_must(name: str) -> None:
    profile = yaml.safe_load((REPO / name).read_text())
    assert (profile["project"], profile["entity_key_serialization_version"]) == ("trialops", 3)
    if name != "profiles/serving.yaml":
        assert profile["offline_store"]["type"] == OFFLINE  # others leak corrections or drop subjects without features
    # Feast's SQL stores let an older push replace a newer value.
    assert profile["online_store"]["type"] == "trialops.features.online_store.GuardedOnlineStore"


def test_ages_through_feast_are_those_of_training(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    """The same numbers online, in historical retrieval and from `ages`, before day 1 and after."""
    store = open_store(tmp_path, write_views(feature_views(trial), tmp_path))
    names = list(load().ages)
    store.materialize(study_time.timestamp_of(-60), study_time.timestamp_of(400))
    subjects = sorted(trial["DM"]["USUBJID"].unique())[:12]
    asked = [f"study_ages:{age}" for age in names]
    days = list(dict.fromkeys(load().ages.values()))
    for day in (-3, 1, 40):
        rows = pl.DataFrame({"subject_id": subjects, "study_day": day}).with_columns(
            pl.lit(study_time.timestamp_of(day)).dt.cast_time_unit("us").alias("event_timestamp")
        )
        job = store.get_historical_features(rows.to_pandas(), features=asked)
        held = pl.DataFrame(pl.from_arrow(job.to_arrow()))
        want = ages(held.select(days), load(), day).select(names)
        assert held.select(names).equals(want)
        if day == 40:
            assert want["days_since_labs"].null_count() < len(subjects)
    services = store.get_feature_service(f"{SERVICE}_on_day")
    answer = store.get_online_features(
        features=services, entity_rows=[{"subject_id": s, "study_day": 400} for s in subjects]
    ).to_dict()
    online = pl.DataFrame({d: pl.Series(answer[d], dtype=pl.Float64) for d in days})
    want = ages(online, load(), 400).select(names)
    assert pl.DataFrame({n: pl.Series(answer[n], dtype=pl.Float64) for n in names}).equals(want)
    assert want["days_since_visit"].null_count() == 0


def test_a_late_result_is_pushed_and_known_from_its_receipt(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    """A push reaches the online store at once, and history from the day it was received: not before."""
    feast = load_feast()
    views = feature_views(trial)
    store = open_store(tmp_path, write_views(views, tmp_path))
    subject = views["labs"]["subject_id"][0]
    last = views["labs"].filter(pl.col("subject_id") == subject)["event_timestamp"][-1]
    store.materialize(study_time.timestamp_of(-60), study_time.timestamp_of(400))
    asked = pl.DataFrame(
        {"subject_id": [subject] * 3, "event_timestamp": [last, last.replace(year=2001), last.replace(year=2003)]}
    )
    before = store.get_historical_features(asked.to_pandas(), features=["labs:alt"]).to_df()
    row = (
        views["labs"]
        .filter(pl.col("subject_id") == subject)[-1]
        .with_columns(
            pl.lit(last.replace(year=2001)).cast(pl.Datetime("us", "UTC")).alias("event_timestamp"),
            pl.lit(last.replace(year=2002)).cast(pl.Datetime("us", "UTC")).alias("created"),
            alt=pl.lit(777.0),
        )
    )
    store.push("late_labs", row.to_pandas(), to=feast.data_source.PushMode.ONLINE_AND_OFFLINE)
    after = store.get_historical_features(asked.to_pandas(), features=["labs:alt"]).to_df()
    assert after["alt"].tolist()[:2] == before["alt"].tolist()[:2] and after["alt"][2] == 777.0
    answer = store.get_online_features(features=["labs:alt"], entity_rows=[{"subject_id": subject}]).to_dict()
    assert answer["alt"] == [777.0]


def feast_apply(environment: dict[str, str], *options: str) -> None:
    """Run `feast apply` on the repository, in a process of its own."""
    code = "from trialops.stores.features import load_feast; load_feast(); from feast.cli.cli import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(REPO), *options, "apply"],
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=REPO.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_cluster_profile_runs_on_s3_postgresql_and_redis(
    trial: dict[str, pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    s3: str,
    postgres_database: str,
    redis_url: str,
) -> None:
    """Published to S3, applied to a registry in PostgreSQL, materialised to Redis, asked through Feast's interface."""
    stores = {
        "TRIALOPS_HOME": str(tmp_path),
        "TRIALOPS_OBJECTS_URL": s3,
        "TRIALOPS_ONLINE_URL": redis_url,
        "FEAST_REGISTRY_URL": postgres_database,
    }
    for name, value in stores.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    views = feature_views(trial)
    assert publish({"labs": views["labs"]}) == {"labs": f"{s3}/features/current/labs.parquet"}
    settings.cache_clear()
    feast_apply(stores, "-f", str(REPO / "profiles" / "cluster.yaml"))
    store = load_feast().FeatureStore(repo_path=str(REPO), fs_yaml_file=REPO / "profiles" / "cluster.yaml")
    last = views["labs"].group_by("subject_id", maintain_order=True).last()
    asked = last.select("subject_id", pl.lit(study_time.timestamp_of(500)).alias("event_timestamp"))
    got = store.get_historical_features(asked.to_pandas(), features=["labs:alt"]).to_arrow()
    assert got["alt"].to_pylist() == last["alt"].to_list()
    store.materialize(study_time.timestamp_of(-60), study_time.timestamp_of(400), ["labs"])
    rows = [{"subject_id": s} for s in last["subject_id"]]
    assert store.get_online_features(["labs:alt"], rows).to_dict()["alt"] == last["alt"].to_list()
    store.registry.teardown()


@pytest.mark.slow
def test_feast_apply_takes_the_repository(
    trial: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a fresh home; what it registered then answers questions about subjects, visits and sites."""
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    settings.cache_clear()
    views = feature_views(trial, entities=("subject", "subject_visit", "site"))
    assert publish(views)["labs"] == str(tmp_path / "features" / "current" / "labs.parquet")
    settings.cache_clear()
    feast_apply({"TRIALOPS_HOME": str(tmp_path)})
    feast = load_feast()
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="trialops",
            provider="local",
            registry=str(tmp_path / "features" / "registry.db"),
            entity_key_serialization_version=3,
            offline_store={"type": OFFLINE},
            online_store={"type": "sqlite", "path": str(tmp_path / "features" / "online.db")},
        )
    )
    assert sorted(v.name for v in store.list_feature_views()) == sorted(shipped_columns())
    assert [v.name for v in store.list_on_demand_feature_views()] == ["study_ages"]
    assert {s.name for s in store.list_feature_services()} == {SERVICE, f"{SERVICE}_on_day"}
    assert {e.name for e in store.list_entities()} >= {"subject", "visit", "site"}
    assert "late_labs" in {s.name for s in store.list_data_sources()}
    visits = views["visit_findings"]
    asked = visits.select("subject_id", "visit").unique(maintain_order=True)[:20]
    asked = asked.with_columns(
        pl.lit(study_time.timestamp_of(500)).cast(pl.Datetime("us", "UTC")).alias("event_timestamp")
    )
    name = shipped_columns()["visit_findings"][0]
    got = store.get_historical_features(asked.to_pandas(), features=[f"visit_findings:{name}"]).to_arrow()
    for row in pl.DataFrame(pl.from_arrow(got)).to_dicts():
        of_visit = visits.filter(pl.col("subject_id") == row["subject_id"], pl.col("visit") == row["visit"])
        assert row[name] == of_visit[name][-1]
