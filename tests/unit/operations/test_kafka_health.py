"""Kafka's metadata and lag, with what mock brokers cannot show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.kafka_mock import MockKafka, mock_kafka
from trialops.operations.health import Finding
from trialops.operations.probe_kafka import Lag, cluster_findings, lag_finding
from trialops.operations.probing import Ask, ask_all
from trialops.operations.services import load_policy
from trialops.settings import Settings

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass
class Partition:
    """A partition as confluent_kafka tells of it."""

    leader: int
    replicas: list[int]
    isrs: list[int]


@dataclass
class Topic:
    """A topic as confluent_kafka tells of it."""

    topic: str
    partitions: dict[int, Partition]


@dataclass
class Metadata:
    """A cluster's metadata as confluent_kafka tells of it."""

    brokers: dict[int, Any]
    controller_id: int
    topics: dict[str, Topic] = field(default_factory=dict)


def asking(bootstrap: str = "broker:9092", **settings: Any) -> Ask:
    return Ask("kafka", "kafka", bootstrap, "X", Settings(**settings), 5.0, load_policy().thresholds["kafka"], now=NOW)


def cluster(*partitions: Partition, brokers: tuple[int, ...] = (1, 2, 3), controller: int = 1) -> dict[str, Finding]:
    topics = {"deliveries": Topic("deliveries", dict(enumerate(partitions)))}
    metadata: Any = Metadata(dict.fromkeys(brokers), controller, topics)
    return {found.check: found for found in cluster_findings(asking(), metadata)}


def states(found: dict[str, Finding]) -> dict[str, str]:
    return {check: one.state for check, one in found.items() if one.state != "healthy"}


WHOLE = Partition(1, [1, 2, 3], [1, 2, 3])


def test_a_whole_cluster() -> None:
    found = cluster(WHOLE, WHOLE)
    assert states(found) == {}
    assert set(found) == {"reach", "controller", "brokers", "offline partitions", "under-replicated partitions"}


def test_a_replica_out_of_step() -> None:
    found = cluster(WHOLE, Partition(1, [1, 2, 3], [1, 2]))
    assert states(found) == {"under-replicated partitions": "degraded"}
    assert found["under-replicated partitions"].detail.endswith(": deliveries-1")
    assert found["under-replicated partitions"].value == 1


def test_no_leader() -> None:
    found = cluster(WHOLE, Partition(-1, [1, 2, 3], [1, 2, 3]))
    assert states(found) == {"offline partitions": "broken"}


def test_a_broker_that_is_gone_and_led() -> None:
    found = cluster(Partition(3, [1, 3], [1, 3]), brokers=(1, 2))
    assert states(found) == {
        "brokers": "degraded",
        "offline partitions": "broken",
        "under-replicated partitions": "degraded",
    }


@pytest.mark.parametrize("controller", [-1, 0, 9])
def test_no_controller(controller: int) -> None:
    assert states(cluster(WHOLE, controller=controller)) == {"controller": "broken"}


def test_lag_in_time() -> None:
    late = Lag("intake", "deliveries", 0, 3, 1000.0)
    found = lag_finding(asking(), [Lag("intake", "deliveries", 1, 0, 0.0), late])
    assert (found.state, found.value, found.threshold) == ("degraded", 1000.0, 900.0)
    assert "intake in deliveries-0: 3 records, the oldest of 1000 s ago" in found.detail
    assert lag_finding(asking(), [Lag("intake", "deliveries", 0, 3, 4000.0)]).state == "broken"
    assert lag_finding(asking(), [Lag("intake", "deliveries", 0, 3, 10.0)]).state == "healthy"


def test_lag_that_cannot_be_read_is_unknown() -> None:
    blind = Lag("intake", "deliveries", 0, 3, None)
    assert lag_finding(asking(), [blind, Lag("other", "x", 0, 0, 0.0)]).state == "unknown"
    assert lag_finding(asking(), [blind, Lag("other", "x", 0, 2, 5000.0)]).state == "broken"


def test_records_deleted_before_they_were_consumed() -> None:
    found = lag_finding(asking(), [Lag("intake", "deliveries", 0, 3, 10.0, lost=True)])
    assert found.state == "broken" and "deleted before they were consumed: intake in deliveries-0" in found.detail


def test_lag_over_the_protocol() -> None:
    """Half an hour old and not consumed: what was sent, committed and is waiting is read from brokers."""
    with mock_kafka(1) as brokers:
        found = {one.check: one for one in _over(brokers)}
    assert found["consumer lag"].state == "degraded" and found["consumer lag"].value == pytest.approx(1800, abs=1)
    assert "2 records" in found["consumer lag"].detail


def _over(brokers: MockKafka) -> list[Finding]:
    brokers.topic("deliveries", 1, 1)
    start = NOW.timestamp() - 3600
    brokers.send("deliveries", 0, [start, start + 1800, start + 3590])
    brokers.commit("intake", "deliveries", 0, 1)
    return ask_all([asking(brokers.bootstrap, kafka_groups="intake")], seconds=20)


def test_properties_of_the_settings_come_last() -> None:
    from trialops.operations.probe_kafka import connection

    config = connection(asking(kafka_config="security.protocol=SASL_SSL; sasl.password=s3cret\nclient.id=mine"))
    assert config["security.protocol"] == "SASL_SSL" and config["sasl.password"] == "s3cret"
    assert config["client.id"] == "mine"
