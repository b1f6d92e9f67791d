"""Forward lineage, and the OpenLineage events made from step records."""

from __future__ import annotations

import datetime as dt
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.governance.lineage import downstream, users
from trialops.governance.openlineage import publish, run_uuid
from trialops.settings import settings
from trialops.stores import step
from trialops.stores.context import Step
from trialops.stores.refs import Snapshot


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def two_steps(home: Path) -> str:
    """A run in which features are made from a clean table; digest of the clean snapshot."""
    clean, features = artifact(home, "clean"), artifact(home, "features")
    with step("deidentify") as run:
        run.write(
            clean, {"LB": pl.DataFrame({"USUBJID": ["a", "b"], "LBDY": [1, 2], "LBSTRESN": [1.0, 2.0]})}, zone="clean"
        )
    with step("build-features") as run:
        run.read(clean)
        frame = pl.DataFrame({"subject_id": ["a"], "event_timestamp": [0], "created": [0], "alt_last": [1.0]})
        run.write(features, {"labs": frame}, zone="features")
    return str(clean.metadata["digest"])


def look() -> Step:
    return Step("look", {}, settings())


def test_the_way_forward(home: Path) -> None:
    digest = two_steps(home)
    objects = look().objects
    assert [r["step"] for r in users(objects, digest)] == ["build-features"]
    assert [r["step"] for r in downstream(objects, digest)] == ["build-features"]
    assert users(objects, "0" * 64) == []
    # The same step again, from something else: the old pointer names a record that no longer uses it.
    other = artifact(home, "other")
    with step("deidentify-again") as run:
        run.write(other, {"LB": pl.DataFrame({"USUBJID": ["c"]})}, zone="clean")
    with step("build-features") as run:
        run.read(other)
    assert users(objects, digest) == []


def events(home: Path) -> list[dict[str, Any]]:
    run = look()
    count, problem = publish(run.objects, run.lake, "run-1", pipeline="data_pipeline", study="T1")
    assert problem == ""
    lines = run.objects.get("runs/run-1/openlineage.ndjson").decode().splitlines()
    assert len(lines) == count
    return [json.loads(line) for line in lines]


def test_events_name_versions_rows_and_columns(home: Path) -> None:
    two_steps(home)
    found = events(home)
    assert [e["eventType"] for e in found] == ["START", "COMPLETE"] * 2
    for event in found:
        assert uuid.UUID(event["run"]["runId"]).version == 5
        assert dt.datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert event["schemaURL"].startswith("https://openlineage.io/spec/")
        assert event["run"]["facets"]["parent"]["run"]["runId"] == run_uuid("run-1")
        assert event["job"]["namespace"] == "trialops"
    made, built = found[1]["outputs"][0], found[3]
    assert (made["namespace"], made["name"]) == ("trialops/T1", "clean/lb")
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert {f["name"] for f in made["facets"]["schema"]["fields"]} == {"USUBJID", "LBDY", "LBSTRESN"}
    origin = made["facets"]["columnLineage"]["fields"]["LBDY"]["inputFields"]
    assert [(o["name"], o["field"]) for o in origin] == [("raw/lb", "LBDTC")]
    assert [i["name"] for i in built["inputs"]] == ["clean/lb"]
    assert built["inputs"][0]["facets"]["version"]["datasetVersion"] == made["facets"]["version"]["datasetVersion"]
    assert built["outputs"][0]["name"] == "features/labs"


def test_column_lineage_of_features_comes_from_their_definitions(home: Path) -> None:
    from trialops.features.definition_file import load

    wanted = load().columns("labs")
    features = artifact(home, "features")
    with step("build-features") as run:
        frame = pl.DataFrame({name: [1.0] for name in wanted}).with_columns(subject_id=pl.lit("a"))
        run.write(features, {"labs": frame}, zone="features")
    (output,) = events(home)[1]["outputs"]
    origins = output["facets"]["columnLineage"]["fields"]
    assert set(origins) == set(wanted)
    fields = {(o["name"], o["field"]) for one in origins.values() for o in one["inputFields"]}
    assert ("clean/lb", "LBSTRESN") in fields and ("clean/lb", "KNOWNDY") in fields


def test_a_failed_step_fails_without_quoting_data(home: Path) -> None:
    with pytest.raises(TrialOpsError), step("deidentify"):
        raise ValueError("subject 01-701-1015 was born on 1950-01-02")
    found = events(home)
    assert [e["eventType"] for e in found] == ["START", "FAIL"]
    assert "1015" not in json.dumps(found) and "ValueError" in json.dumps(found)


class Collector(BaseHTTPRequestHandler):
    """A lineage server that keeps what it is sent."""

    received: ClassVar[list[tuple[str, str, dict[str, Any]]]] = []
    status = 201

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, self.headers.get("Authorization", ""), body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def test_events_are_sent_where_a_server_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_steps(home)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "token")
    try:
        assert events(home) == [body for _, _, body in Collector.received]
        assert {(path, key) for path, key, _ in Collector.received} == {("/api/v1/lineage", "Bearer token")}
        Collector.status = 503
        run = look()
        _, problem = publish(run.objects, run.lake, "run-1", pipeline="p", study="T1")
        assert "HTTPStatusError" in problem
    finally:
        Collector.status = 201
        server.shutdown()
        server.server_close()
    run = look()
    _, problem = publish(run.objects, run.lake, "run-1", pipeline="p", study="T1")
    assert "ConnectError" in problem  # kept all the same
    assert run.objects.exists("runs/run-1/openlineage.ndjson")


def test_a_snapshot_reference_is_what_lineage_is_keyed_by(home: Path) -> None:
    digest = two_steps(home)
    reference = json.loads((home / "runs/run-1/artifacts/clean").read_text())
    assert Snapshot.from_dict(reference).digest == digest
