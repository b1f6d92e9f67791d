"""Faults of real services: the right part is named, and what cannot be reached is never healthy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis

from tests.support.landscape import Landscape, landscape
from tests.support.redis import redis_server
from tests.support.s3_server import s3
from tests.unit.serving.toy_bundles import logistic
from trialops.operations.health import by_component, exit_code
from trialops.serving.process import ServerProcess

__all__ = ["s3"]
pytestmark = pytest.mark.slow  # the servers take some seconds to start


@pytest.fixture(scope="module")
def parts(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Landscape]:
    """All services, healthy."""
    with landscape(tmp_path_factory.mktemp("landscape"), s3) as made:
        yield made


def direct(parts: Landscape) -> redis.Redis:
    """Redis, to break it."""
    return redis.Redis.from_url(parts.settings.online_url)


def test_everything_is_healthy_to_begin_with(parts: Landscape) -> None:
    looked = parts.look()
    assert parts.wrong() == {}
    states = by_component(looked.findings)
    assert set(states) == {"postgresql", "object store", "mlflow", "feast", "redis", "kafka", "model server"}
    assert {name for name, state in states.items() if state != "healthy"} == {"kafka"}
    assert set(looked.unused) == {"sqlite", "spark", "kserve"}
    assert all(found.asked and not found.fix for found in looked.findings if found.state == "healthy")


def test_a_look_leaves_nothing_behind(parts: Landscape) -> None:
    import httpx

    from trialops.stores.objects import open_store

    before = list(open_store(parts.settings.objects).list("health"))
    keys = direct(parts).dbsize()
    parts.look()
    assert list(open_store(parts.settings.objects).list("health")) == before == ["health/examples/withdrawal.json"]
    assert direct(parts).dbsize() == keys
    models = httpx.get(f"{parts.settings.mlflow_uri}/api/2.0/mlflow/registered-models/search", timeout=20).json()
    assert not models.get("registered_models")
    assert not [path for path in (parts.mlflow / "artifacts").rglob("*") if path.is_file()]
    with psycopg.connect(parts.postgresql.url.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM health_states").fetchone() == (0,)


# -- the faults --------------------------------------------------------------------------------------------------


@contextmanager
def kafka_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    with parts.kafka.down([1, 2, 3]):
        yield {}


@contextmanager
def kafka_broker_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    for partition in range(3):
        parts.kafka.leader("deliveries", partition, 1)
    with parts.kafka.down([3]):
        yield {}


@contextmanager
def kafka_coordinator_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    parts.kafka.coordinator("intake", 3)
    try:
        with parts.kafka.down([3]):
            yield {}
    finally:
        parts.kafka.coordinator("intake", 1)


@contextmanager
def kafka_without_leader(parts: Landscape) -> Iterator[dict[str, Any]]:
    parts.kafka.leader("deliveries", 1, -1)
    try:
        yield {}
    finally:
        parts.kafka.leader("deliveries", 1, 1)


@contextmanager
def kafka_consumer_late(parts: Landscape) -> Iterator[dict[str, Any]]:
    parts.kafka.commit("intake", "deliveries", 0, 1)  # the other record is two hours old
    try:
        yield {}
    finally:
        parts.kafka.commit("intake", "deliveries", 0, 2)


@contextmanager
def mlflow_registry_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    file = parts.mlflow / "registry.db"
    file.rename(parts.mlflow / "away.db")
    try:
        yield {}
    finally:
        file.unlink(missing_ok=True)
        (parts.mlflow / "away.db").rename(file)


@contextmanager
def mlflow_artifacts_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    folder = parts.mlflow / "artifacts"
    folder.rename(parts.mlflow / "away")
    folder.write_text("a file where the folder was")
    try:
        yield {}
    finally:
        folder.unlink()
        (parts.mlflow / "away").rename(folder)


@contextmanager
def postgresql_stopped(parts: Landscape) -> Iterator[dict[str, Any]]:
    with parts.postgresql.stopped():
        yield {}


@contextmanager
def postgresql_read_only(parts: Landscape) -> Iterator[dict[str, Any]]:
    with psycopg.connect(parts.postgresql.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        try:
            yield {}
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")


@contextmanager
def postgresql_full(parts: Landscape) -> Iterator[dict[str, Any]]:
    from trialops.stores.database import connect

    connect(parts.postgresql.url).dispose()
    held: list[Any] = []
    try:
        for _ in range(3):  # a connection given up is free a moment later
            with pytest.raises(psycopg.OperationalError):
                while True:
                    held.append(psycopg.connect(parts.postgresql.url.replace("+psycopg", "")))
            time.sleep(0.1)
        yield {}
    finally:
        for connection in held:
            connection.close()


@contextmanager
def redis_stopped(parts: Landscape) -> Iterator[dict[str, Any]]:
    with redis_server() as (host, port):
        pass
    yield {"online_url": f"redis://{host}:{port}/0"}


@contextmanager
def redis_full(parts: Landscape) -> Iterator[dict[str, Any]]:
    client = direct(parts)
    client.config_set("maxmemory", 1_000_000)
    try:
        yield {}
    finally:
        client.config_set("maxmemory", 0)


@contextmanager
def redis_replica(parts: Landscape) -> Iterator[dict[str, Any]]:
    client = direct(parts)
    client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield {}
    finally:
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def model_server_frozen(parts: Landscape) -> Iterator[dict[str, Any]]:
    os.kill(parts.model.pid, signal.SIGSTOP)
    try:
        yield {}
    finally:
        os.kill(parts.model.pid, signal.SIGCONT)


@contextmanager
def model_server_wrong_model(parts: Landscape) -> Iterator[dict[str, Any]]:
    folder = parts.folder / "other"
    folder.mkdir(exist_ok=True)
    other = logistic((0.1, 0.2, 0.3)).save(folder / "bundle")
    with ServerProcess(other, "withdrawal", "2", folder) as server:
        yield {"model_server_url": f"http://127.0.0.1:{server.port}"}


@contextmanager
def model_server_without_the_model(parts: Landscape) -> Iterator[dict[str, Any]]:
    folder = parts.folder / "unnamed"
    folder.mkdir(exist_ok=True)
    with ServerProcess(parts.folder / "bundle", "dropout", "1", folder) as server:
        yield {"model_server_url": f"http://127.0.0.1:{server.port}"}


@contextmanager
def bucket_gone(parts: Landscape) -> Iterator[dict[str, Any]]:
    yield {"objects_url": "s3://gone/home"}


@contextmanager
def bucket_closed(parts: Landscape) -> Iterator[dict[str, Any]]:
    import httpx

    url = os.environ["AWS_ENDPOINT_URL"]
    httpx.post(f"{url}/moto-api/reset-auth", content=b"0", timeout=20)  # from now on accounts are checked
    try:
        yield {}
    finally:
        httpx.post(f"{url}/moto-api/reset-auth", content=b"inf", timeout=20)


FAULTS = {
    "kafka gone": (kafka_gone, {("kafka", "reach"): "unknown"}),
    "kafka broker gone": (
        kafka_broker_gone,
        {("kafka", "brokers"): "degraded", ("kafka", "under-replicated partitions"): "degraded"},
    ),
    "kafka coordinator gone": (
        kafka_coordinator_gone,
        {
            ("kafka", "brokers"): "degraded",
            ("kafka", "under-replicated partitions"): "degraded",
            ("kafka", "consumer lag"): "unknown",
        },
    ),
    "kafka without leader": (kafka_without_leader, {("kafka", "offline partitions"): "broken"}),
    "kafka consumer late": (kafka_consumer_late, {("kafka", "consumer lag"): "broken"}),
    "mlflow registry gone": (mlflow_registry_gone, {("mlflow", "registry"): "broken"}),
    "mlflow artifacts gone": (mlflow_artifacts_gone, {("mlflow", "artifacts"): "broken"}),
    "postgresql stopped": (
        postgresql_stopped,
        {("postgresql", "reach"): "unknown", ("feast", "freshness"): "unknown"},
    ),
    "postgresql read-only": (postgresql_read_only, {("postgresql", "write and read"): "broken"}),
    "postgresql full": (
        postgresql_full,
        {("postgresql", "reach"): "broken", ("feast", "freshness"): "unknown"},
    ),
    "redis stopped": (redis_stopped, {("redis", "reach"): "unknown", ("feast", "reach"): "unknown"}),
    "redis full": (
        redis_full,
        {("redis", "memory"): "broken", ("redis", "write and read"): "broken", ("feast", "sentinel"): "broken"},
    ),
    "redis replica": (
        redis_replica,
        {("redis", "role"): "broken", ("redis", "write and read"): "broken", ("feast", "sentinel"): "broken"},
    ),
    "model server frozen": (model_server_frozen, {("model server", "reach"): "unknown"}),
    "model server wrong model": (model_server_wrong_model, {("model server", "answer of withdrawal"): "broken"}),
    "model server without it": (model_server_without_the_model, {("model server", "model withdrawal"): "broken"}),
    "bucket gone": (
        bucket_gone,
        {("object store", "reach"): "broken", ("model server", "answer"): "unknown"},
    ),
    "bucket closed": (
        bucket_closed,
        {("object store", "reach"): "broken", ("model server", "answer"): "unknown"},
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, parts: Landscape) -> None:
    fault, expected = FAULTS[name]
    with fault(parts) as changed:
        findings = parts.look(seconds=4.0, **changed).findings
        assert parts.beyond(findings) == expected
        assert exit_code(findings) != 0
        assert all(found.fix for found in findings if found.state != "healthy")


def test_and_afterwards_all_is_healthy_again(parts: Landscape) -> None:
    assert parts.wrong() == {}
