"""Every service the platform stands on, as real processes, for tests of what their faults look like."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import postgres
from tests.support.kafka_mock import MockKafka, mock_kafka
from tests.support.redis import redis_server
from trialops.operations.health import Finding
from trialops.operations.services import Policy, Survey, load_policy, survey
from trialops.serving.process import ServerProcess
from trialops.settings import Settings

Expected = dict[tuple[str, str], str]


@dataclass
class PostgreSQL:
    """A server that can be stopped and started again."""

    process: subprocess.Popen[bytes]
    url: str
    folder: Path

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Not running, for the length of a block."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        try:
            yield
        finally:
            self.process = subprocess.Popen(
                self.process.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder
            )
            postgres._wait(self.process, self.folder, self.folder / "server.log")


@dataclass
class Landscape:
    """Real services, their settings and the faults that are there without doing anything.

    Attributes:
        settings: Addresses of all of them.
        policy: The shipped services file.
        standing: (component, check) -> state of what is not healthy from the start.
    """

    settings: Settings
    policy: Policy
    kafka: MockKafka
    postgresql: PostgreSQL
    model: ServerProcess
    mlflow: Path
    folder: Path
    standing: Expected = field(default_factory=dict)

    def look(self, *, seconds: float = 10.0, **changed: Any) -> Survey:
        """Ask everything, with settings changed where given."""
        from trialops.stores.database import connect

        settings = self.settings.model_copy(update=changed)
        connect(settings.database).dispose()  # no connection from before the fault is at hand
        policy = replace(self.policy, check_seconds=seconds, service_seconds=seconds * 4)
        return survey(settings, policy, datetime.now(UTC))

    def wrong(self, *, seconds: float = 10.0, **changed: Any) -> Expected:
        """What is not healthy, besides what never is."""
        return self.beyond(self.look(seconds=seconds, **changed).findings)

    def beyond(self, findings: tuple[Finding, ...]) -> Expected:
        """What is not healthy among some findings, besides what never is."""
        found = not_healthy(findings)
        return {key: state for key, state in found.items() if self.standing.get(key) != state}


def not_healthy(findings: tuple[Finding, ...]) -> Expected:
    """(component, check) -> state of each finding that is not healthy."""
    return {(f.component, f.check): f.state for f in findings if f.state != "healthy"}


@contextmanager
def own_postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of its own."""
    binaries = postgres._binaries()
    if binaries is None:
        reason = "PostgreSQL's programs are not here"
        if os.environ.get("TRIALOPS_REQUIRE_POSTGRES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    process, url = postgres._start(folder, binaries)
    server = PostgreSQL(process, url, folder)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGINT)
        server.process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server on SQLite: registry.db and artifacts/ below a folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "artifacts").mkdir(parents=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/registry.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            assert process.poll() is None, "the MLflow server ended"
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def landscape(folder: Path, objects: str) -> Iterator[Landscape]:
    """Everything, healthy.

    Args:
        folder: For files.
        objects: Object store.
    """
    from tests.support.online_stores import rows
    from tests.unit.serving.toy_bundles import logistic
    from trialops.features.materialize import all_services
    from trialops.operations.probe_model import store_example
    from trialops.stores.database import connect, migrate
    from trialops.stores.objects import open_store
    from trialops.stores.online.writer import write_view
    from trialops.stores.run_log import finish_run, record_run

    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(mock_kafka())
        kafka.topic("deliveries", 3, 3)
        kafka.coordinator("intake", 1)
        now = datetime.now(UTC).timestamp()
        kafka.send("deliveries", 0, [now - 7200, now - 7000])
        kafka.commit("intake", "deliveries", 0, 2)
        host, port = stack.enter_context(redis_server())
        redis_url = f"redis://{host}:{port}/0"
        (service, *_) = all_services()
        write_view(redis_url, service, "labs", rows(service.view("labs"), {"a": 1}))
        database = stack.enter_context(own_postgresql())
        engine = connect(database.url)
        migrate(engine)
        record_run(engine, "run-1", "feature_engineering")
        finish_run(engine, "run-1", "succeeded")
        engine.dispose()
        mlflow = folder / "mlflow"
        mlflow_url = stack.enter_context(mlflow_server(mlflow))
        bundle = logistic()
        saved = bundle.save(folder / "bundle")
        store_example(open_store(objects), "withdrawal", "1", bundle)
        (folder / "served").mkdir()
        model = stack.enter_context(ServerProcess(saved, "withdrawal", "1", folder / "served"))
        settings = Settings(
            home=folder / "home",
            database_url=database.url,
            objects_url=objects,
            mlflow_uri=mlflow_url,
            online_url=redis_url,
            kafka_bootstrap=kafka.bootstrap,
            kafka_groups="intake",
            model_server_url=f"http://127.0.0.1:{model.port}",
        )
        made = Landscape(settings, load_policy(), kafka, database, model, mlflow, folder)
        # The mock brokers name a controller that there is none of: the one check that cannot be healthy here.
        made.standing = {("kafka", "controller"): "broken"}
        yield made
        engine.dispose()
