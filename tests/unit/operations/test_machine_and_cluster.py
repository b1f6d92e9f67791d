"""This machine and the cluster: use against thresholds, nodes, pods, InferenceServices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.kubernetes_api import Cluster, Schemas, cluster
from trialops.alerts.thresholds import load_thresholds
from trialops.operations.cluster import look, node_findings, pod_findings, quantity
from trialops.operations.health import Finding
from trialops.operations.machine import Use, limit_of, machine_findings, measure
from trialops.operations.probing import Ask, ask_all
from trialops.settings import Settings

MEMINFO = "MemTotal:       8000000 kB\nMemFree:         100000 kB\nMemAvailable:   2000000 kB\n"


def fake(folder: Path, **files: str) -> Path:
    """Files as the kernel shows them."""
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def memory(tmp_path: Path, **cgroup: str) -> Use:
    proc = fake(tmp_path / "proc", meminfo=MEMINFO)
    uses = measure(tmp_path, proc=proc, cgroup=fake(tmp_path / "cgroup", **cgroup))
    return next(use for use in uses if use.resource == "memory")


def test_memory_of_the_machine(tmp_path: Path) -> None:
    use = memory(tmp_path)
    assert (use.whose, use.share) == ("machine", 0.75)
    assert memory(tmp_path, memory_dot_max="max\n", memory_dot_current="5\n", memory_dot_stat="").whose == "machine"


def test_the_limit_of_a_container_comes_first(tmp_path: Path) -> None:
    files = {
        "memory_dot_max": "1000\n",
        "memory_dot_current": "900\n",
        "memory_dot_stat": "anon 1\ninactive_file 300\n",
    }
    use = memory(tmp_path, **files)
    assert (use.whose, use.share) == ("container", 0.6)


def test_a_system_that_does_not_say_is_unknown(tmp_path: Path) -> None:
    uses = measure(tmp_path, proc=tmp_path / "nothing", cgroup=tmp_path / "nothing")
    found = {one.check: one for one in machine_findings(uses, load_thresholds())}
    assert found["memory"].state == "unknown" and found["disk"].state in ("healthy", "degraded")


def test_the_thresholds_are_those_of_the_one_file() -> None:
    thresholds = load_thresholds()
    assert {limit_of(thresholds, name) for name in ("cpu", "memory", "disk")} == {0.8}
    uses = [Use("cpu", 1.7, 2), Use("memory", 81, 100), Use("disk", 80, 100)]
    found = {one.check: one for one in machine_findings(uses, thresholds)}
    assert {name: one.state for name, one in found.items()} == {
        "cpu": "degraded",
        "memory": "degraded",
        "disk": "healthy",
    }
    assert (found["memory"].value, found["memory"].threshold) == (0.81, 0.8)


def test_this_machine_can_be_measured(tmp_path: Path) -> None:
    uses = {use.resource: use for use in measure(tmp_path / "not" / "there")}
    assert set(uses) == {"cpu", "memory", "disk"}
    assert 0 < uses["memory"].share < 1 and 0 < uses["disk"].share <= 1 and uses["cpu"].of >= 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", 0.25),
        ("2", 2.0),
        ("16Gi", 16 * 2**30),
        ("512Ki", 2**19),
        ("100M", 1e8),
        ("1500000n", 0.0015),
        ("1e3", 1000),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


# -- the cluster -------------------------------------------------------------------------------------------------


def node(name: str, ready: str = "True", **conditions: str) -> dict[str, Any]:
    listed = [{"type": "Ready", "status": ready}, *({"type": k, "status": v} for k, v in conditions.items())]
    return {
        "metadata": {"name": name},
        "status": {"conditions": listed, "allocatable": {"cpu": "4", "memory": "16Gi"}},
    }


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Running", **status}}


def waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"ready": False, "state": {"waiting": {"reason": reason}}}]}


def used(name: str, cpu: str, mem: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "usage": {"cpu": cpu, "memory": mem}}


class Core:
    """Answers of the API's lists by path; 404 where there is none."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]] | int] = {}


@pytest.fixture
def core() -> Iterator[tuple[Core, Settings]]:
    """A Kubernetes API that lists nodes, pods and metrics over HTTP, and settings that point at it."""
    held = Core()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer a list."""
            import json

            found = held.lists.get(self.path, 404)
            status = found if isinstance(found, int) else 200
            data = json.dumps({"items": found} if status == 200 else {"kind": "Status", "code": status}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield held, Settings(kubernetes_url=f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()


NODES, PODS, METRICS = "/api/v1/nodes", "/api/v1/namespaces/trialops/pods", "/apis/metrics.k8s.io/v1beta1/nodes"


def looked(settings: Settings) -> dict[str, Finding]:
    return {one.check: one for one in look(settings, limit=0.8)}


def test_a_healthy_cluster(core: tuple[Core, Settings]) -> None:
    held, settings = core
    held.lists = {
        NODES: [node("a"), node("b")],
        PODS: [pod("p")],
        METRICS: [used("a", "1", "4Gi"), used("b", "3", "2Gi")],
    }
    found = looked(settings)
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(
        ("nodes", "pods", "node cpu", "node memory"), "healthy"
    )
    assert (found["node cpu"].value, found["node cpu"].detail) == (0.75, "the most used node is b, at 75%")


def test_a_full_node_and_stuck_pods(core: tuple[Core, Settings]) -> None:
    held, settings = core
    held.lists = {
        NODES: [node("a", MemoryPressure="True"), node("b")],
        PODS: [
            pod("crashes", **waiting("CrashLoopBackOff")),
            pod(
                "waits",
                phase="Pending",
                conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
            ),
            pod("killed", containerStatuses=[{"ready": False, "lastState": {"terminated": {"reason": "OOMKilled"}}}]),
            pod("starts", **waiting("ContainerCreating")),
            pod("done", phase="Succeeded", **waiting("CrashLoopBackOff")),
        ],
        METRICS: [used("a", "500m", "15Gi")],
    }
    found = looked(settings)
    assert found["nodes"].state == "degraded" and "a (MemoryPressure)" in found["nodes"].detail
    assert found["pods"].state == "broken" and found["pods"].value == 3
    assert "crashes (CrashLoopBackOff), killed (OOMKilled), waits (Unschedulable)" in found["pods"].detail
    assert found["node memory"].state == "degraded" and found["node cpu"].state == "healthy"


def test_a_silent_node_is_unknown() -> None:
    (found,) = node_findings([node("a"), node("b", ready="Unknown")])
    assert found.state == "unknown" and "nothing is heard of b" in found.detail
    (found,) = node_findings([node("a", ready="False")])
    assert found.state == "broken"
    (found,) = node_findings([])
    assert found.state == "unknown"
    (found,) = pod_findings([])
    assert found.state == "healthy"


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_api_that_refuses_is_unknown(core: tuple[Core, Settings], status: int) -> None:
    held, settings = core
    held.lists = {NODES: status, PODS: status, METRICS: status}
    assert {one.state for one in looked(settings).values()} == {"unknown"}


def test_without_a_metrics_server_nothing_is_wrong(core: tuple[Core, Settings]) -> None:
    held, settings = core
    held.lists = {NODES: [node("a")], PODS: []}
    assert set(looked(settings)) == {"nodes", "pods"}


# -- KServe ------------------------------------------------------------------------------------------------------


def service(ready: str | None, **status: Any) -> dict[str, Any]:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready, "reason": "RevisionFailed"}]
    return {"metadata": {"generation": 2}, "status": {"conditions": conditions, "observedGeneration": 2, **status}}


@pytest.fixture
def kserve(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Ask]]:
    """The API with InferenceServices, and the question."""
    schemas = Schemas()
    schemas.kinds["serving.kserve.io", "v1beta1", "inferenceservices"] = "InferenceService"
    with cluster(schemas) as held:
        settings = Settings(kubernetes_url=held.url)
        yield held, Ask("kserve", "kserve", "models/withdrawal", "TRIALOPS_INFERENCE_SERVICES", settings)


@pytest.mark.parametrize(
    ("document", "state", "words"),
    [
        (service("True"), "healthy", "it is ready"),
        (service("False"), "broken", "RevisionFailed"),
        (service("Unknown"), "unknown", "not said yet"),
        (service(None), "unknown", "not said yet"),
        (service("True", observedGeneration=1), "unknown", "newest change"),
        (None, "broken", "no such InferenceService"),
    ],
    ids=["ready", "not ready", "unknown", "no condition", "older generation", "missing"],
)
def test_inference_services(
    kserve: tuple[Cluster, Ask], document: dict[str, Any] | None, state: str, words: str
) -> None:
    held, asked = kserve
    if document is not None:
        held.objects["inferenceservices", "models", "withdrawal"] = document
    (found,) = ask_all([asked], seconds=20)
    assert (found.component, found.check, found.state) == ("kserve", "service withdrawal", state)
    assert words in found.detail
