import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

import feature_repo
from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.training_set import write_views
from trialops.features.views import feature_views
from trialops.stores.features import OFFLINE, definitions, load_feast, open_store, shipped_columns

REPO = Path(feature_repo.__file__).parent


def test_definitions_are_made_in_one_place(tmp_path: Path) -> None:
    objects = definitions({name: tmp_path / f"{name}.parquet" for name in shipped_columns()})
    feast = load_feast()
    views = {o.name: o for o in objects if isinstance(o, feast.FeatureView)}
    services = [o for o in objects if isinstance(o, feast.FeatureService)]
    assert list(views) == list(shipped_columns()) and [s.name for s in services] == ["withdrawal_v1"]
    for name, view in views.items():
        assert tuple(f.name for f in view.features) == shipped_columns()[name]
        assert {str(f.dtype) for f in view.features} == {"Float64"}
        assert (view.batch_source.timestamp_field, view.batch_source.created_timestamp_column) == (
            "event_timestamp",
            "created",
        )
        assert [c.name for c in view.entity_columns] == ["subject_id"]
    with pytest.raises(TrialOpsError, match="genes is not defined"):
        definitions({"genes": tmp_path / "genes.parquet"})
    with pytest.raises(TrialOpsError, match="genes_y may not end in _y"):
        definitions({"genes": tmp_path / "genes.parquet"}, {"genes": ["genes_y"]})


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
        features=store.get_feature_service("withdrawal_v1"), entity_rows=[{"subject_id": subject}]
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
    if "redis" in str(profile["online_store"]):
        assert "skip_dedup" not in profile["online_store"]


@pytest.mark.slow
def test_feast_apply_takes_the_repository(trial: dict[str, pl.DataFrame], tmp_path: Path) -> None:
    write_views(feature_views(trial), tmp_path / "features" / "current")
    code = "from trialops.stores.features import load_feast; load_feast(); from feast.cli.cli import cli; cli()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(REPO), "apply"],
        env=os.environ | {"TRIALOPS_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPO.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
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
    assert [s.name for s in store.list_feature_services()] == ["withdrawal_v1"]
