"""The Kubernetes API: how it is reached, and what nodes, pods and their metrics say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding, State
from trialops.operations.reach import trouble

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from trialops.settings import Settings

COMPONENT = "kubernetes"
SECONDS = 10.0
PRESSURE = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
WAITING = ("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "CreateContainerError")


def configured(settings: Settings) -> bool:
    """Whether there is a cluster to ask: an address in the settings, or a pod's own service account."""
    return bool(settings.kubernetes_url or os.environ.get("KUBERNETES_SERVICE_HOST"))


def open_client(settings: Settings) -> ApiClient:
    """A client of the API: at the address of the settings (`kubectl proxy`), or by the pod's service account."""
    from kubernetes import client, config

    if settings.kubernetes_url:
        chosen = client.Configuration()
        chosen.host = settings.kubernetes_url.rstrip("/")
    else:
        chosen = client.Configuration()
        config.load_incluster_config(client_configuration=chosen)
    chosen.retries = 0
    return client.ApiClient(chosen)


def fetch(api: ApiClient, path: str, *, seconds: float = SECONDS) -> Any:
    """One GET as plain JSON, within a time limit.

    Raises:
        kubernetes.client.ApiException: The API refuses.
        urllib3.exceptions.HTTPError: It cannot be reached.
    """
    import json

    answer = api.call_api(
        path, "GET", auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True,
        _request_timeout=seconds,
    )  # fmt: skip
    return json.loads(answer.data)


def refused(component: str, check: str, error: Exception, asked: str) -> Finding:
    """What an error of the client says."""
    status = getattr(error, "status", None)
    if status in (401, 403):
        fix = "Bind the service account to a role that may get and list it."
        return Finding(component, check, "unknown", f"the API refuses access (HTTP {status})", fix=fix, asked=asked)
    if status == 404:
        fix = "Install what serves it, or correct the name."
        return Finding(component, check, "unknown", "the API has no such resource", fix=fix, asked=asked)
    if status:
        return Finding(
            component, check, "unknown", f"the API answers HTTP {status}", fix="Ask who runs it.", asked=asked
        )
    met = trouble(error, SECONDS)
    return Finding(component, check, met.state, met.detail, fix=met.fix, asked=asked)


def look(settings: Settings, *, limit: float) -> list[Finding]:
    """Conditions of nodes and pods, and how much of the nodes' processors and memory is used.

    Args:
        settings: Where the cluster is, and in which namespace we live.
        limit: Share of a resource from which its use counts against a node.
    """
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    namespace, found = settings.namespace, []
    nodes: list[dict[str, Any]] = []
    with open_client(settings) as api:
        for check, path in (
            ("nodes", "/api/v1/nodes"),
            ("pods", f"/api/v1/namespaces/{namespace}/pods"),
            ("node metrics", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ):
            try:
                items = fetch(api, path)["items"]
            except (ApiException, HTTPError, OSError, ValueError, KeyError) as error:
                missing = check == "node metrics" and getattr(error, "status", None) == 404
                if not missing:  # without metrics-server nothing is wrong, and nothing is known of the nodes' use
                    found.append(refused(COMPONENT, check, error, f"GET {path}"))
                continue
            if check == "nodes":
                nodes = items
                found += node_findings(items)
            elif check == "pods":
                found += pod_findings(items)
            else:
                found += use_findings(nodes, items, limit)
    return found


def _conditions(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {c["type"]: c for c in (document.get("status") or {}).get("conditions") or []}


def node_findings(nodes: list[dict[str, Any]]) -> Iterator[Finding]:
    """Ready and without pressure; a node whose kubelet is silent has the status Unknown."""
    asked = "GET /api/v1/nodes"
    if not nodes:
        yield Finding(COMPONENT, "nodes", "unknown", "no node is listed", fix="Check the role's rights.", asked=asked)
        return
    bad: list[str] = []
    silent: list[str] = []
    for node in nodes:
        name, conditions = node["metadata"]["name"], _conditions(node)
        ready = conditions.get("Ready", {}).get("status", "Unknown")
        pressing = [kind for kind in PRESSURE if conditions.get(kind, {}).get("status") == "True"]
        if ready == "Unknown":
            silent.append(name)
        elif ready != "True" or pressing:
            bad.append(f"{name} ({', '.join(pressing) or 'not ready'})")
    working = len(nodes) - len(bad) - len(silent)
    state: State = "healthy" if working == len(nodes) else "unknown" if silent and not bad else "degraded"
    if bad and not working:
        state = "broken"
    words = f"{working} of {len(nodes)} nodes are ready" + (f"; {', '.join(bad[:5])}" if bad else "")
    words += f"; nothing is heard of {', '.join(silent[:5])}" if silent else ""
    fix = "" if state == "healthy" else "kubectl describe node: conditions and events; make room, or drain it."
    yield Finding(COMPONENT, "nodes", state, words, float(working), float(len(nodes)), fix, asked)


def pod_findings(pods: list[dict[str, Any]]) -> Iterator[Finding]:
    """Pods that do not start, restart again and again, were killed for memory, or wait for a place."""
    asked = "GET pods of the namespace"
    stuck: dict[str, str] = {}
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            continue
        scheduled = _conditions(pod).get("PodScheduled", {})
        if scheduled.get("status") == "False":
            stuck[name] = str(scheduled.get("reason", "Unschedulable"))
        for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = (container.get("state") or {}).get("waiting") or {}
            ended = (container.get("lastState") or {}).get("terminated") or {}
            if waiting.get("reason") in WAITING:
                stuck[name] = waiting["reason"]
            elif ended.get("reason") == "OOMKilled" and not container.get("ready"):
                stuck[name] = "OOMKilled"
    words = ", ".join(f"{name} ({reason})" for name, reason in sorted(stuck.items())[:5])
    fix = "kubectl describe pod: events; kubectl logs --previous." if stuck else ""
    yield Finding(
        COMPONENT, "pods", "broken" if stuck else "healthy",
        f"{len(stuck)} of {len(pods)} pods cannot work: {words}" if stuck else f"{len(pods)} pods, none is stuck",
        float(len(stuck)), 0.0, fix, asked,
    )  # fmt: skip


def use_findings(nodes: list[dict[str, Any]], used: list[dict[str, Any]], limit: float) -> Iterator[Finding]:
    """Use of each node against what it can allocate; the highest is named."""
    room = {node["metadata"]["name"]: node["status"]["allocatable"] for node in nodes}
    for resource in ("cpu", "memory"):
        shares = {
            one["metadata"]["name"]: quantity(one["usage"][resource])
            / quantity(room[one["metadata"]["name"]][resource])
            for one in used
            if one["metadata"]["name"] in room
        }
        asked = "GET /apis/metrics.k8s.io/v1beta1/nodes"
        if not shares:
            yield Finding(COMPONENT, f"node {resource}", "unknown", "the metrics name no node", asked=asked,
                          fix="Read the log of metrics-server.")  # fmt: skip
            continue
        name, share = max(shares.items(), key=lambda item: (item[1], item[0]))
        state: State = "degraded" if share > limit else "healthy"
        fix = "Add nodes, or lower requests." if state != "healthy" else ""
        words = f"the most used node is {name}, at {share:.0%}"
        yield Finding(COMPONENT, f"node {resource}", state, words, round(share, 4), limit, fix, asked)


_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "Ki": 2.0**10,
          "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}  # fmt: skip


def quantity(text: str) -> float:
    """A quantity as Kubernetes writes it ("250m", "16Gi", "1e3") as a number.

    Raises:
        ValueError: It is none.
    """
    for ending in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(ending):
            return float(text[: -len(ending)]) * _UNITS[ending]
    return float(text)
