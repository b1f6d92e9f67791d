"""The pods that objects stand for, also inside custom resources, and what a restricted cluster asks of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")
LONG_RUNNING = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "RayCluster", "RayJob", "ServingRuntime")
WORKFLOWS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
"""Kinds of volumes that the restricted standard allows."""


@dataclass(frozen=True)
class PodTemplate:
    """A pod that some controller makes of an object.

    Attributes:
        kind: Kind of the object.
        owner: Kind, name and place within it.
        spec: The pod's specification, as far as the object says it.
        long_running: Whether its containers run until they are stopped.
        labels: Labels of the pod.
        namespace: Namespace of the object.
    """

    kind: str
    owner: str
    spec: Mapping[str, Any]
    long_running: bool
    labels: Mapping[str, str]
    namespace: str


def pod_templates(document: Mapping[str, Any]) -> Iterator[PodTemplate]:
    """Every pod an object stands for."""
    kind, spec = str(document.get("kind")), document.get("spec") or {}
    name = document.get("metadata", {}).get("name") or document.get("metadata", {}).get("generateName", "")
    namespace = document.get("metadata", {}).get("namespace", "")

    def pod(place: str, template: Mapping[str, Any], *, long_running: bool | None = None) -> PodTemplate:
        labels = (template.get("metadata") or {}).get("labels") or {}
        runs = kind in LONG_RUNNING if long_running is None else long_running
        return PodTemplate(kind, f"{kind}/{name} {place}".strip(), template.get("spec") or {}, runs, labels, namespace)

    if kind == "Pod":
        yield pod("", document)
    elif kind in WORKLOADS:
        yield pod("", spec["template"])
    elif kind == "CronJob":
        yield pod("", spec["jobTemplate"]["spec"]["template"])
    elif kind in WORKFLOWS:
        inner = spec.get("workflowSpec", {}) if kind == "CronWorkflow" else spec
        for template in inner.get("templates", ()):
            yield from (pod(place, made) for place, made in _workflow_pods(inner, template))
    elif kind in ("RayCluster", "RayJob", "RayService", "RayCronJob"):
        inner = spec.get("jobTemplate", {}).get("spec", spec) if kind == "RayCronJob" else spec
        cluster = inner.get("rayClusterSpec") or inner.get("rayClusterConfig") or inner
        yield pod("head", cluster["headGroupSpec"]["template"], long_running=True)
        for group in cluster.get("workerGroupSpecs", ()):
            yield pod(f"group {group['groupName']}", group["template"], long_running=True)
        if "submitterPodTemplate" in inner:
            yield pod("submitter", inner["submitterPodTemplate"], long_running=False)
    elif kind in ("ServingRuntime", "ClusterServingRuntime"):
        yield pod("", {"spec": spec}, long_running=True)
    elif kind == "InferenceService":
        predictors = [spec["predictor"], *(entry["predictor"] for entry in spec.get("canary", ()))]
        for number, predictor in enumerate(predictors):
            if "containers" in predictor:
                yield pod(f"predictor {number}", {"spec": predictor}, long_running=True)
    elif kind == "FeatureStore":
        yield pod("", {"spec": _feature_store_pod(spec)}, long_running=True)
    elif kind in ("Sensor", "EventSource"):
        template = spec.get("template") or {}
        own = {**template, "containers": [{"name": "main", "image": "operator:1", **template.get("container", {})}]}
        # Argo Events makes its own probes.
        yield pod("own", {"metadata": template.get("metadata"), "spec": own}, long_running=False)
        for trigger in spec.get("triggers", ()):
            resource = trigger["template"].get("k8s", {}).get("source", {}).get("resource")
            for found in pod_templates(resource or {}):
                yield PodTemplate(
                    found.kind, f"{kind}/{name} {found.owner}", found.spec, False, found.labels, namespace
                )
    elif kind == "EventBus":
        stream = spec["jetstream"]
        parts = ("containerTemplate", "metricsContainerTemplate", "reloaderContainerTemplate")
        containers = [{"name": part, "image": "operator:1", **stream[part]} for part in parts]
        made = {"spec": {"securityContext": stream["securityContext"], "containers": containers}}
        yield pod("", made, long_running=False)
    elif kind == "PipelineVersion":
        yield from (pod(place, made, long_running=False) for place, made in _pipeline_pods(spec))


def _workflow_pods(inner: Mapping[str, Any], template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    main = [dict(template[key], name="main") for key in ("container", "script") if key in template]
    main += list((template.get("containerSet") or {}).get("containers", ()))
    if not main:
        return
    defaults = inner.get("templateDefaults") or {}
    spec = {
        "securityContext": template.get("securityContext") or inner.get("securityContext") or {},
        "serviceAccountName": template.get("serviceAccountName") or inner.get("serviceAccountName"),
        "containers": [{**(defaults.get("container") or {}), **item} for item in main],
        "initContainers": list(template.get("initContainers", ())) + list(template.get("sidecars", ())),
        "volumes": list(inner.get("volumes", ())) + list(template.get("volumes", ())),
    }
    yield f"template {template['name']}", {"metadata": inner.get("podMetadata") or {}, "spec": spec}


def _feature_store_pod(spec: Mapping[str, Any]) -> dict[str, Any]:
    services = spec.get("services") or {}
    servers = {
        "online": (services.get("onlineStore") or {}).get("server"),
        "offline": (services.get("offlineStore") or {}).get("server"),
        "registry": ((services.get("registry") or {}).get("local") or {}).get("server"),
        "ui": services.get("ui"),
    }
    probes = {"readinessProbe": "the operator's", "livenessProbe": "the operator's"}
    containers = [{"name": name, **probes, **server} for name, server in servers.items() if server]
    return {
        "securityContext": services.get("securityContext") or {},
        "containers": containers,
        "volumes": services.get("volumes", ()),
        "serviceAccountName": "made by the operator",
    }


def _pipeline_pods(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pods of a compiled pipeline: what KFP's launcher is told, and the context its compiler adds to every step."""
    platform = spec.get("platformSpec") or {}
    places = platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for name, executor in spec["pipelineSpec"]["deploymentSpec"]["executors"].items():
        if "container" not in executor:
            continue
        given, place = executor["container"], places.get(name, {})
        asked = given.get("resources", {})
        size = {
            "requests": {"cpu": asked.get("resourceCpuRequest"), "memory": asked.get("resourceMemoryRequest")},
            "limits": {"cpu": asked.get("resourceCpuLimit"), "memory": asked.get("resourceMemoryLimit")},
        }
        context = place.get("securityContext", {})
        user = {key: int(context[key]) for key in ("runAsUser", "runAsGroup") if key in context}
        added = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {
            "name": "main", "image": given["image"], "resources": size,
            "securityContext": {**added, **context, **user},
        }  # fmt: skip
        yield name, {"spec": {"containers": [container], "serviceAccountName": "the run's"}}


def faults(template: PodTemplate) -> list[tuple[str, str]]:
    """What a restricted cluster, or an auditor, would refuse: (name of the check, where and what)."""
    spec, found = template.spec, []
    pod = spec.get("securityContext") or {}
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            found.append(("host", f"{template.owner}: {key}"))
    for volume in spec.get("volumes") or ():
        kinds = set(volume) - {"name"}
        if not kinds <= VOLUMES:
            found.append(("volumes", f"{template.owner}: volume {volume['name']} is a {', '.join(kinds)}"))
        if "emptyDir" in volume and not (volume["emptyDir"] or {}).get("sizeLimit"):
            found.append(("emptyDir", f"{template.owner}: volume {volume['name']} has no size limit"))
    mounted = {volume["name"] for volume in spec.get("volumes") or ()}
    containers = list(spec.get("containers") or ())
    if not containers:
        found.append(("containers", f"{template.owner}: no container"))
    for container in [*containers, *(spec.get("initContainers") or ())]:
        where = f"{template.owner} container {container.get('name')}"
        found += [(check, f"{where}: {text}") for check, text in _container_faults(container, pod)]
        if container in containers and template.long_running:
            for probe in ("readinessProbe", "livenessProbe"):
                if not container.get(probe):
                    found.append(("probes", f"{where}: no {probe}"))
        claims = {"data"} if template.kind == "StatefulSet" else set()
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in mounted | claims:
                found.append(("mounts", f"{where}: no volume {mount['name']}"))
    return found


def _container_faults(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    own = container.get("securityContext") or {}
    both = {**pod, **own}
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot", "may run as root"
    if not isinstance(both.get("runAsUser"), int) or both["runAsUser"] == 0:
        yield "runAsUser", "names no user"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation", "may gain privileges"
    if own.get("privileged"):
        yield "privileged", "is privileged"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem", "may write to its root file system"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "capabilities", "keeps capabilities"
    if (both.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        yield "seccompProfile", "has no seccomp profile"
    size = container.get("resources") or {}
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if not (size.get(kind) or {}).get(resource):
                yield "resources", f"has no {resource} in {kind}"
    if not immutable(str(container.get("image", ""))):
        yield "image", f"image {container.get('image')!r} is neither a digest nor a full version"


def immutable(image: str) -> bool:
    """Whether an image is named by digest, or by a tag that is a full version."""
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return True
    tag = image.rpartition("/")[2].partition(":")[2]
    return bool(re.fullmatch(r"v?\d+\.\d+(\.\d+)?([-.][A-Za-z0-9.-]+)?", tag)) or image == "operator:1"
