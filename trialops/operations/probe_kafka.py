"""Kafka: brokers, controller, partitions without a leader or with replicas out of step, lag of consumers in time.

Everything is read over Kafka's own protocol with the rights DESCRIBE on cluster, topics and groups and READ on the
topics whose lag is measured; no JMX. The client runs in a process of its own: librdkafka ends its process by an
assertion in rare races of its timers, and nothing else that was found may go with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding

if TYPE_CHECKING:
    from confluent_kafka.admin import ClusterMetadata

    from trialops.operations.probing import Ask

BROKERS = "Bring the brokers back that are down; read their logs and their disks' state."
CLIENT = "trialops-health"


@dataclass(frozen=True)
class Lag:
    """How far a group is behind in one partition.

    Attributes:
        group: Consumer group.
        topic: Topic.
        partition: Partition.
        records: Records not consumed yet.
        seconds: Age of the oldest of them; None where it holds no time or could not be read.
        lost: Whether records were deleted by retention before they were consumed.
    """

    group: str
    topic: str
    partition: int
    records: int
    seconds: float | None
    lost: bool = False


def probe(ask: Ask) -> Iterator[Finding]:
    """What a process of its own finds, as it finds it."""
    secret = ask.settings.kafka_config
    request = {
        "name": ask.name,
        "address": ask.address,
        "variable": ask.variable,
        "seconds": ask.seconds,
        "limits": dict(ask.limits),
        "now": ask.now.isoformat(),
        "config": secret.get_secret_value() if secret else "",
        "groups": ask.settings.kafka_groups,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    last = "reach"
    try:
        assert process.stdin is not None and process.stdout is not None
        with process.stdin as told:
            told.write(json.dumps(request))  # on a pipe: a password is on no command line
        for line in process.stdout:
            found = Finding(**json.loads(line))
            last = found.check
            yield found
        if process.wait() != 0:
            check = "reach" if last == "reach" else "consumer lag"
            detail = "the client ended before it had an answer"
            yield ask.say(check, "unknown", detail, asked="metadata and offsets", fix=BROKERS)
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Ask as the request on standard input says; one finding per line."""
    from trialops.operations.probing import Ask
    from trialops.settings import Settings

    told = json.loads(sys.stdin.read())
    values: dict[str, Any] = {"kafka_config": told["config"], "kafka_groups": told["groups"]}
    ask = Ask(
        told["name"],
        "kafka",
        told["address"],
        told["variable"],
        Settings(**values),
        told["seconds"],
        told["limits"],
        now=datetime.fromisoformat(told["now"]),
    )
    signal.alarm(int(ask.seconds * 10) + 10)  # whoever asked may have gone
    for found in find(ask):
        print(json.dumps(found.as_dict()), flush=True)
    sys.stdout.flush()
    os._exit(0)  # clients that still wait for a broker are not waited for


def find(ask: Ask) -> Iterator[Finding]:
    """Metadata of the cluster, then the lag of its consumer groups."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    config = connection(ask)
    try:
        admin = AdminClient(config)
        metadata = admin.list_topics(timeout=ask.seconds)
    except KafkaException as error:
        yield _refused(ask, "reach", error, "metadata")
        return
    yield from cluster_findings(ask, metadata)
    try:
        lags = measure_lag(ask, admin, metadata, config)
    except (KafkaException, TimeoutError) as error:
        if isinstance(error, KafkaException) and error.args[0].name() not in _NO_COORDINATOR:
            yield _refused(ask, "consumer lag", error, _LAG_ASKED)
            return
        detail = "the coordinator of a group does not answer"
        yield ask.say("consumer lag", "unknown", detail, asked=_LAG_ASKED, fix=BROKERS)
        return
    yield lag_finding(ask, lags)


def connection(ask: Ask) -> dict[str, Any]:
    """Librdkafka's properties: ours, then those of TRIALOPS_KAFKA_CONFIG (name=value, by line or semicolon)."""
    config: dict[str, Any] = {
        "bootstrap.servers": ask.address,
        "client.id": CLIENT,
        "socket.timeout.ms": int(ask.seconds * 1000),
        "socket.connection.setup.timeout.ms": int(max(1.0, ask.seconds) * 1000),
        "log_level": 0,  # what it would print to stderr comes back as an error
        "logger": _silent(),
    }
    given = ask.settings.kafka_config
    for line in (given.get_secret_value() if given else "").replace(";", "\n").splitlines():
        name, found, value = line.partition("=")
        if found:
            config[name.strip()] = value.strip()
    return config


def _silent() -> Any:
    import logging

    logger = logging.getLogger("trialops.kafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger


def cluster_findings(ask: Ask, metadata: ClusterMetadata) -> Iterator[Finding]:
    """What a cluster's metadata says; a partition with an error of its own counts as having no leader."""
    there = set(metadata.brokers)
    if not there:
        yield ask.say("reach", "broken", "the metadata names no broker", asked="metadata", fix=BROKERS)
        return
    yield ask.say("reach", "healthy", f"{len(there)} brokers answer", asked="metadata", value=len(there))
    controller = metadata.controller_id
    words = "no controller is known" if controller not in there else f"broker {controller} is the controller"
    yield ask.say(
        "controller", "healthy" if controller in there else "broken", words, asked="metadata",
        fix="Read the logs of the controllers (KRaft) or of ZooKeeper; topics and leaders cannot change until then.",
    )  # fmt: skip
    partitions = [
        (str(topic.topic), number, part)
        for topic in metadata.topics.values()
        for number, part in topic.partitions.items()
    ]
    absent = sorted({replica for _, _, part in partitions for replica in part.replicas} - there)
    yield ask.say(
        "brokers", "degraded" if absent else "healthy",
        f"brokers {', '.join(map(str, absent))} hold replicas and are gone" if absent else "no broker is missing",
        asked="metadata", value=len(absent), threshold=0, fix=BROKERS,
    )  # fmt: skip
    for check, state, without, words in (
        ("offline partitions", "broken", [p for p in partitions if p[2].leader not in there], "have no leader"),
        (
            "under-replicated partitions",
            "degraded",
            [p for p in partitions if len(set(p[2].isrs) & there) < len(p[2].replicas)],
            "have replicas out of step",
        ),
    ):
        named = f": {_named([p[:2] for p in without])}" if without else ""
        yield ask.say(
            check, state if without else "healthy",  # type: ignore[arg-type]
            f"{len(without)} of {len(partitions)} partitions {words}{named}", asked="metadata",
            value=len(without), threshold=0, fix=BROKERS,
        )  # fmt: skip


def _named(partitions: Sequence[tuple[str, int]], most: int = 5) -> str:
    shown = ", ".join(f"{topic}-{number}" for topic, number in sorted(partitions)[:most])
    return shown + (f" and {len(partitions) - most} more" if len(partitions) > most else "")


_NO_COORDINATOR = ("_TIMED_OUT", "_WAIT_COORD", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR")
_LAG_ASKED = "committed offsets of consumer groups, and the oldest record not consumed"


def measure_lag(ask: Ask, admin: Any, metadata: ClusterMetadata, config: Mapping[str, Any]) -> list[Lag]:
    """Lag of every group in every partition that it has committed an offset of.

    In time it is the age of the oldest record that was not consumed. The time of the last consumed one would call a
    group late whenever nothing was sent for a while.
    """
    from confluent_kafka import Consumer, TopicPartition

    until = time.monotonic() + ask.seconds * 2
    every = [
        TopicPartition(name, number)
        for name, topic in metadata.topics.items()
        if not name.startswith("__")
        for number in topic.partitions
    ][: int(ask.limits["partitions"])]
    lags: list[Lag] = []
    for group in _groups(ask, admin):
        # A consumer that subscribes to nothing joins no group: it only asks for the group's offsets.
        consumer = Consumer({**config, "group.id": group, "enable.auto.commit": False})
        try:
            for one in consumer.committed(every, timeout=ask.seconds):
                if one.offset >= 0 and time.monotonic() < until:
                    lags.append(_lag(ask, consumer, group, one))
        finally:
            consumer.close()
    return lags


def _ended(ask: Ask) -> float:
    """Longer than a request may take: a client is not given up while one of its requests is under way."""
    return ask.seconds * 2 + 1


def _groups(ask: Ask, admin: Any) -> list[str]:
    """The groups named in the settings, else all that the cluster lists."""
    if named := [name.strip() for name in ask.settings.kafka_groups.split(",") if name.strip()]:
        return named
    listed = admin.list_consumer_groups(request_timeout=ask.seconds).result(_ended(ask))
    if listed.errors and not listed.valid:
        from confluent_kafka import KafkaException

        raise KafkaException(listed.errors[0].args[0] if listed.errors[0].args else listed.errors[0])
    names = sorted(group.group_id for group in listed.valid if group.group_id != CLIENT)
    return names[: int(ask.limits["groups"])]


def _lag(ask: Ask, consumer: Any, group: str, committed: Any) -> Lag:
    from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, TopicPartition

    topic, number, offset = committed.topic, committed.partition, committed.offset
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ask.seconds)
    if offset >= high:
        return Lag(group, topic, number, 0, 0.0)
    consumer.assign([TopicPartition(topic, number, max(offset, low))])
    record = consumer.poll(ask.seconds)
    seconds = None
    if record is not None and record.error() is None:
        kind, milliseconds = record.timestamp()
        if kind != TIMESTAMP_NOT_AVAILABLE:
            seconds = max(0.0, ask.now.timestamp() - milliseconds / 1000)
    return Lag(group, topic, number, high - offset, seconds, lost=offset < low)


def lag_finding(ask: Ask, lags: Sequence[Lag]) -> Finding:
    """The group that is farthest behind, by name."""
    check, fix = "consumer lag", "Look at that consumer: is it running, does it fail on a record, is it too slow?"
    if not lags:
        return ask.say(check, "healthy", "no group has committed an offset", asked=_LAG_ASKED)
    if lost := [one for one in lags if one.lost]:
        where = _named([(f"{one.group} in {one.topic}", one.partition) for one in lost])
        return ask.say(check, "broken", f"records were deleted before they were consumed: {where}", asked=_LAG_ASKED,
                       fix="Read what was lost from its source again; lengthen the topic's retention.")  # fmt: skip
    unread = [one for one in lags if one.records and one.seconds is None]
    last = max((one for one in lags if one.seconds is not None), key=lambda one: one.seconds or 0.0, default=None)
    if last is None or (unread and not (last.seconds or 0.0) > ask.limits["lag"]):
        where = _named([(f"{one.group} in {one.topic}", one.partition) for one in unread])
        return ask.say(check, "unknown", f"the age of what waits could not be read: {where}", asked=_LAG_ASKED,
                       fix="Grant READ on the topic.")  # fmt: skip
    seconds = last.seconds or 0.0
    detail = f"{len({one.group for one in lags})} groups have consumed everything"
    if last.records:
        where = f"{last.group} in {last.topic}-{last.partition}"
        detail = f"the farthest behind is {where}: {last.records} records, the oldest of {seconds:.0f} s ago"
    return ask.judge(check, seconds, "lag", detail, broken="lag_broken", asked=_LAG_ASKED, fix=fix)


def _refused(ask: Ask, check: str, error: Any, asked: str) -> Finding:
    """What librdkafka's code says; where no broker could be spoken to, the address is tried by hand to say why."""
    code = error.args[0].name() if error.args and hasattr(error.args[0], "name") else ""
    if "AUTHENTICATION" in code or "AUTHORIZATION" in code:
        return ask.say(check, "broken", "access is refused", asked=asked,
                       fix="Correct TRIALOPS_KAFKA_CONFIG, or grant DESCRIBE and READ.")  # fmt: skip
    if code == "_UNSUPPORTED_FEATURE":
        return ask.say(check, "unknown", "the broker does not list its groups", asked=asked,
                       fix="Name them in TRIALOPS_KAFKA_GROUPS.")  # fmt: skip
    if code in ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_RESOLVE", "_SSL"):
        return ask.failed(check, _why(ask), asked=asked)
    return ask.say(check, "unknown", f"it could not be asked ({code})", asked=asked, fix=f"Check {ask.variable}.")


def _why(ask: Ask) -> Exception:
    """Librdkafka says no more than that it failed: the name, the port, or the protocol."""
    import socket

    error: Exception = TimeoutError("no answer")
    for server in ask.address.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            socket.create_connection((host, int(port or 9092)), timeout=ask.seconds).close()
            return TimeoutError("no answer")
        except OSError as met:
            error = met
    return error


if __name__ == "__main__":
    main()
