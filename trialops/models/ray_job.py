"""A search as a KubeRay RayJob, or a cluster that stands by: the manifests, and a lint for what a schema lets through.

KubeRay's CRD has no list of submission modes and no rules between fields; the operator refuses such a job only when
it is there. `lint` says so before. Rules: KubeRay 1.7, RayJob validation.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from trialops.errors import TrialOpsError

GROUP, VERSION, PLURAL = "ray.io", "v1", "rayjobs"
SCHEME = "kuberay"
MODES = ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
RUN_AS = 10001
LABELS = {"app.kubernetes.io/part-of": "trialops", "app.kubernetes.io/component": "search"}
# KubeRay's own probes run wget, which the image does not have. The raylet of head and workers listens here.
RAYLET = "/tmp/ray/session_latest/sockets/raylet"
ALIVE = f"import socket; s = socket.socket(socket.AF_UNIX); s.settimeout(3); s.connect({RAYLET!r})"


@dataclass(frozen=True)
class Target:
    """Where and how large a Ray cluster for one search is.

    Attributes:
        namespace: Kubernetes namespace.
        image: Image of head and workers: the project's own.
        workers: Worker pods.
        cpu: CPUs of each pod, and so trials at a time in it.
        memory: Memory of each pod, as Kubernetes writes it.
        mode: How the job is submitted, one of `MODES`.
        queue: Kueue queue; empty for none.
        service_account: Service account of the pods; empty for the default.
        config_map: ConfigMap with the settings.
        secret: Secret with the credentials.
    """

    namespace: str
    image: str
    workers: int = 2
    cpu: int = 2
    memory: str = "4Gi"
    mode: str = "K8sJobMode"
    queue: str = ""
    service_account: str = ""
    config_map: str = "trialops-settings"
    secret: str = "trialops-secrets"


def parse_target(address: str) -> Target:
    """The target in an address like ``kuberay://namespace?image=registry/name:tag&workers=4&cpu=2&memory=8Gi``.

    Raises:
        TrialOpsError: No namespace or image, or a key is unknown.
    """
    parts = urlsplit(address)
    given = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    unknown = sorted(set(given) - set(Target.__dataclass_fields__) - {"namespace"})
    if parts.scheme != SCHEME or not parts.hostname or "image" not in given or unknown:
        raise TrialOpsError(
            "The address names no Ray cluster that could be made",
            where="TRIALOPS_RAY_ADDRESS",
            fix=f"Write {SCHEME}://NAMESPACE?image=IMAGE, with workers, cpu, memory, mode, queue as needed.",
        )
    fields: dict[str, Any] = {**given, "namespace": parts.hostname}
    fields |= {key: int(given[key]) for key in ("workers", "cpu") if key in given}
    return Target(**fields)


def ray_job(name: str, target: Target, command: Sequence[str], *, run_id: str, ray_version: str) -> dict[str, Any]:
    """The manifest of a job on a cluster of its own, which goes when the job is done.

    Args:
        name: Name of the job, a DNS label.
        target: Where, and how large.
        command: What runs on the head node.
        run_id: The run the job belongs to; its steps are recorded under it.
        ray_version: Version of Ray in the image.

    Returns:
        A `ray.io/v1` RayJob that `lint` has no complaint about.
    """
    queue = {"kueue.x-k8s.io/queue-name": target.queue} if target.queue else {}
    manifest: dict[str, Any] = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayJob",
        "metadata": {"name": name, "namespace": target.namespace, "labels": {**LABELS, **queue}},
        "spec": {
            "entrypoint": shlex.join(command),
            "submissionMode": target.mode,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 3600,
            "activeDeadlineSeconds": 4 * 3600,
            "backoffLimit": 0,  # the step tries again, and takes up the finished trials
            "suspend": bool(target.queue),  # Kueue lets it go
            "rayClusterSpec": _cluster_spec(target, run_id, ray_version),
        },
    }
    if target.mode == "K8sJobMode":
        submitter = _pod(target, run_id, "submitter", cpu="500m", memory="1Gi")
        submitter["spec"]["restartPolicy"] = "Never"
        manifest["spec"]["submitterPodTemplate"] = submitter
    return manifest


def ray_cluster(name: str, target: Target, *, ray_version: str) -> dict[str, Any]:
    """The manifest of a cluster that stands by for searches, joined by its address.

    Args:
        name: Name of the cluster, a DNS label.
        target: Where, and how large; `mode` and `queue` are a job's.
        ray_version: Version of Ray in the image.
    """
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "RayCluster",
        "metadata": {"name": name, "namespace": target.namespace, "labels": dict(LABELS)},
        "spec": _cluster_spec(target, "", ray_version),
    }


def _cluster_spec(target: Target, run_id: str, ray_version: str) -> dict[str, Any]:
    head = {"dashboard-host": "0.0.0.0", "num-cpus": str(target.cpu)}
    return {
        "rayVersion": ray_version,
        "headGroupSpec": {"rayStartParams": head, "template": _pod(target, run_id, "ray-head")},
        "workerGroupSpecs": [
            {
                "groupName": "trials",
                "replicas": target.workers,
                "minReplicas": target.workers,
                "maxReplicas": target.workers,
                "rayStartParams": {"num-cpus": str(target.cpu)},
                "template": _pod(target, run_id, "ray-worker"),
            }
        ],
    }


def _pod(target: Target, run_id: str, name: str, *, cpu: str = "", memory: str = "") -> dict[str, Any]:
    size = {"cpu": cpu or str(target.cpu), "memory": memory or target.memory}
    sources = [("configMapRef", target.config_map), ("secretRef", target.secret)]
    account = {"serviceAccountName": target.service_account} if target.service_account else {}
    run = [{"name": "TRIALOPS_RUN_ID", "value": run_id}] if run_id else []
    quiet = [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}, {"name": "HOME", "value": "/tmp"}]
    ends = name == "submitter"  # the others run until they are stopped
    return {
        "metadata": {"labels": dict(LABELS)},
        "spec": {
            **account,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": RUN_AS,
                "runAsGroup": RUN_AS,
                "fsGroup": RUN_AS,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": name,
                    "image": target.image,
                    "env": run + quiet,
                    "envFrom": [{kind: {"name": source, "optional": True}} for kind, source in sources],
                    "resources": {"requests": size, "limits": dict(size)},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    **({} if ends else {"readinessProbe": _probe(3), "livenessProbe": _probe(30)}),
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "20Gi"}}],
        },
    }


def _probe(failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["python", "-c", ALIVE]},
        "initialDelaySeconds": 10,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def lint(manifest: Mapping[str, Any]) -> list[str]:
    """What KubeRay's operator, or an auditor, would refuse though the schema does not.

    Args:
        manifest: A RayJob.

    Returns:
        One sentence per fault; empty where there is none.
    """
    spec = manifest.get("spec", {})
    mode, selector = spec.get("submissionMode", "K8sJobMode"), spec.get("clusterSelector")
    cluster, gone = spec.get("rayClusterSpec"), bool(spec.get("shutdownAfterJobFinishes"))
    interactive = mode == "InteractiveMode"
    faults = [
        (mode not in MODES, f"submissionMode {mode} is none of {', '.join(MODES)}"),
        (not interactive and not spec.get("entrypoint"), "there is no entrypoint"),
        (interactive and bool(spec.get("entrypoint")), "InteractiveMode takes no entrypoint"),
        (bool(selector) == bool(cluster), "exactly one of clusterSelector and rayClusterSpec must be given"),
        (bool(selector) and gone, "a shared cluster must not be shut down after the job"),
        (bool(cluster) and not gone and not interactive, "a cluster of its own is left running after the job"),
        (bool(spec.get("suspend")) and not gone, "a suspended job needs shutdownAfterJobFinishes"),
        (bool(spec.get("suspend")) and bool(selector), "a job on a shared cluster cannot be suspended"),
        (mode == "SidecarMode" and bool(selector), "SidecarMode needs a cluster of its own"),
        (bool(spec.get("ttlSecondsAfterFinished")) and not gone, "ttlSecondsAfterFinished needs a shutdown"),
        (
            "submitterPodTemplate" in spec and mode != "K8sJobMode",
            "submitterPodTemplate is read in K8sJobMode alone",
        ),
        (not spec.get("activeDeadlineSeconds"), "the job has no time limit"),
        (len(str(manifest.get("metadata", {}).get("name", ""))) > 47, "the name is longer than 47 characters"),
    ]
    return [text for met, text in faults if met] + [fault for pod in _pods(spec) for fault in _pod_faults(pod)]


def _pods(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    cluster = spec.get("rayClusterSpec") or {}
    groups = [cluster.get("headGroupSpec") or {}, *cluster.get("workerGroupSpecs", ())]
    templates = [group.get("template") for group in groups] + [spec.get("submitterPodTemplate")]
    return [template["spec"] for template in templates if template]


def _pod_faults(pod: Mapping[str, Any]) -> list[str]:
    faults = [] if (pod.get("securityContext") or {}).get("runAsNonRoot") else ["a pod may run as root"]
    for container in pod.get("containers", ()):
        size = container.get("resources") or {}
        if not size.get("limits") or size.get("limits") != size.get("requests"):
            faults.append(f"container {container['name']} has no equal requests and limits")
        if not (container.get("securityContext") or {}).get("readOnlyRootFilesystem"):
            faults.append(f"container {container['name']} may write to its root file system")
        if ":" not in str(container.get("image", "")).rpartition("/")[2]:
            faults.append(f"container {container['name']} names no image tag")
    return faults
