"""Feast's own commands with the guarded store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.online_stores import LABS, SPEC, VITALS, feast_read, rows
from trialops.errors import TrialOpsError
from trialops.features.online_config import feast_online_store
from trialops.features.study_time import DAY_ONE
from trialops.features.training_set import write_views
from trialops.stores.features import open_store
from trialops.stores.online import open_reader

GUARDED = "trialops.features.online_store.GuardedOnlineStore"


def test_materialize_and_push_through_feast_are_guarded(online_url: str, tmp_path: Path) -> None:
    frames = {"labs": rows(LABS, {"a": 5, "b": 9}, 10.0), "vitals": rows(VITALS, {"b": 3}, 70.0)}
    frames["labs"] = frames["labs"].with_columns(ast=pl.Series([None, 2.5]))
    store = open_store(
        tmp_path,
        write_views(frames, tmp_path / "views"),
        columns={view.name: view.columns for view in SPEC.views},
        online={"type": GUARDED, "url": online_url},
    )
    store.materialize(DAY_ONE - timedelta(days=1), DAY_ONE + timedelta(days=20))
    subjects = ["b", "a", "nobody"]
    with open_reader(online_url, SPEC) as reader:
        np.testing.assert_array_equal(feast_read(store, SPEC, subjects), reader.read(subjects).values)
        assert feast_read(store, SPEC, ["b"]).tolist() == [[13.0, 2.5, 15.0, 70.0]]
        store.push("late_labs", rows(LABS, {"a": 3, "b": 11}, 90.0).to_pandas())
        assert reader.read(["a", "b"]).values[:, 0].tolist() == [10.0, 93.0]
        # A fresh object reads what the first one wrote.
        assert feast_read(store, SPEC, ["a", "b"])[:, 0].tolist() == [10.0, 93.0]
    store.teardown()


def test_other_types_are_refused(tmp_path: Path) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    frames = {"labs": rows(LABS, {"a": 5})}
    store = open_store(
        tmp_path,
        write_views(frames, tmp_path / "views"),
        columns={"labs": LABS.columns},
        online={"type": GUARDED, "url": f"sqlite:///{tmp_path}/online.db"},
    )
    write = store._get_provider().online_store.online_write_batch
    view = store.get_feature_view("labs")
    key = EntityKey(join_keys=["subject_id"], entity_values=[Value(string_val="a")])
    number = EntityKey(join_keys=["subject_id"], entity_values=[Value(int64_val=4)])
    write(store.config, view, [], None)
    with pytest.raises(TrialOpsError, match="not Float64"):
        write(store.config, view, [(key, {"alt": Value(string_val="x")}, DAY_ONE, None)], None)
    with pytest.raises(TrialOpsError, match="not text"):
        write(store.config, view, [(number, {"alt": Value(double_val=1)}, DAY_ONE, None)], None)


def test_urls_become_feasts_configuration() -> None:
    assert feast_online_store("redis://h:1/2") == {"type": "redis", "connection_string": "h:1,db=2"}
    secured = feast_online_store("rediss://u:p%40ss@h?socket_timeout=3")
    assert secured["connection_string"] == "h:6379,db=0,username=u,password=p@ss,ssl=true,socket_timeout=3"
    found = feast_online_store("postgresql+psycopg://u:p%2F@h:6000/d?sslmode=require")
    assert (found["host"], found["port"], found["database"], found["user"]) == ("h", 6000, "d", "u")
    assert (found["password"], found["sslmode"], found["db_schema"]) == ("p/", "require", "public")
    assert feast_online_store("postgresql://u@/d?host=/run/pg")["host"] == "/run/pg"
    with pytest.raises(TrialOpsError, match="comma"):
        feast_online_store("redis://:a%2Cb@h:1/0")
    with pytest.raises(TrialOpsError, match="TCP"):
        feast_online_store("unix:///run/redis.sock")
