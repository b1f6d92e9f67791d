"""A Kafka cluster for tests: librdkafka's own mock brokers, which speak the protocol on loopback ports.

They live in a process of their own (python -m tests.support.kafka_mock BROKERS), which takes commands by line.
What they cannot show: replicas out of step (the ISR is always all replicas), a controller (the metadata names broker 0,
which there is none of), the list of consumer groups.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class MockKafka:
    """The cluster.

    Attributes:
        bootstrap: Its brokers, host:port separated by commas; numbered from 1.
    """

    process: subprocess.Popen[str]
    bootstrap: str

    def _tell(self, *words: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "0\n", f"the mock brokers refused {words}"

    def topic(self, name: str, partitions: int, replicas: int) -> None:
        """Create a topic."""
        self._tell("topic_create", name, partitions, replicas)

    def leader(self, topic: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition; -1 takes its leader away."""
        self._tell("partition_set_leader", topic, partition, broker)

    def coordinator(self, group: str, broker: int) -> None:
        """Make a broker the coordinator of a group; the mock moves none by itself when a broker goes."""
        self._tell("coordinator_set", "group", group, broker)

    @contextmanager
    def down(self, brokers: Sequence[int]) -> Iterator[None]:
        """Brokers that are gone for the length of a block."""
        for broker in brokers:
            self._tell("broker_set_down", broker)
        try:
            yield
        finally:
            for broker in brokers:
                self._tell("broker_set_up", broker)

    def send(self, topic: str, partition: int, times: Sequence[float]) -> None:
        """Send a record for each time (seconds since 1970)."""
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for time in times:
            producer.produce(topic, b"x", partition=partition, timestamp=int(time * 1000))
        assert producer.flush(20) == 0

    def commit(self, group: str, topic: str, partition: int, offset: int) -> None:
        """Say that a group has consumed a partition up to an offset."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group, "log_level": 0})
        try:
            consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)
        finally:
            consumer.close()


@contextmanager
def mock_kafka(brokers: int = 3) -> Iterator[MockKafka]:
    """A cluster of mock brokers, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.kafka_mock", str(brokers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield MockKafka(process, process.stdout.readline().strip())
    finally:
        process.stdin.close()  # it ends with its input
        process.kill()
        process.wait()


def _serve(brokers: int) -> None:
    import confluent_kafka

    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library: Any = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    error = ctypes.create_string_buffer(512)
    client = ctypes.c_void_p(library.rd_kafka_new(0, ctypes.c_void_p(library.rd_kafka_conf_new()), error, 512))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, brokers))
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        arguments = [int(word) if word.lstrip("-").isdigit() else word.encode() for word in words]
        print(getattr(library, f"rd_kafka_mock_{command}")(cluster, *arguments), flush=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
