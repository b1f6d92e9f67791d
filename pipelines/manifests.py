"""The part of manifests/ that follows from the code: written by this module, compared by a test.

    python -m pipelines.manifests [--check]

* pipelines/: every pipeline of the catalogue in Kubernetes-native form;
* components/external-secrets: the secrets that components/ name;
* components/kserve, serving/, examples/canary: the runtime, and a rollout in each form KServe understands;
* components/ray, examples: a Ray cluster that stands by, and the job of a search;
* components/argo-events: what starts a pipeline, from the catalogue's triggers;
* overlays/*/image-fields.yaml: where kustomize finds images that are not in a container of a pod.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.alerts import DELIVERY_SECRET
from components.base import DEFAULT_IMAGE, RUN_AS, SECRETS_NAME
from pipelines.catalog import CATALOG, Entry
from pipelines.compile import ir_yaml, kubernetes_yaml, version_of

ROOT = Path(__file__).resolve().parent.parent / "manifests"
OVERLAYS = ("dev", "staging", "prod")
SERVER_IMAGE = "ghcr.io/trialops/trialops-server:0.1.0"
NAMESPACE = "trialops"
TASK = "withdrawal"
BUCKET = "s3://trialops-prod-lake/objects/models"
MARK = "# Made by python -m pipelines.manifests; not edited by hand.\n"

REQUIRED_SECRETS: Mapping[str, tuple[str, ...]] = {
    SECRETS_NAME: ("TRIALOPS_DATABASE_URL", "TRIALOPS_ONLINE_URL", "TRIALOPS_VAULT_KEY"),
    DELIVERY_SECRET: ("TRIALOPS_ALERTS_KEY",),
}
"""Keys without which a cluster with managed stores does not work, by Secret. What else a pod reads is taken where it is
there: tokens of servers, receivers of alerts, credentials where there is no workload identity."""

DELIVERED: Mapping[str, str] = {
    "new file": "^incoming/(sdtm|fhir|hl7)/(.*/)?COMPLETE$",
    "new adverse event": "^incoming/sdtm/(.*/)?COMPLETE$",
    "as data arrives": "^incoming/external/(.*/)?COMPLETE$",
}
"""Triggers that are the arrival of data: pattern of the object's key.

A delivery is many files and one event: whoever delivers ends with an empty object COMPLETE.
"""

ENDED: Mapping[str, str] = {"after training": "model_training", "evaluation passed": "model_evaluation"}
"""Triggers that are the end of a run: the pipeline whose run has succeeded."""

ASKED: Mapping[str, str] = {
    "data threshold": "the weekly run of the pipeline looks for itself whether enough is new",
    "drift verdict": "a request of the monitoring, taken up by the next scheduled run or `trialops triggers`",
    "alert raised": "the pipeline runs every minute",
    "message queued": "the pipeline runs every minute",
    "signature": "the approver starts the deployment again after signing",
    "on demand": "a person starts it",
}
"""Triggers that are no event of the cluster, and what happens instead."""


def generated() -> dict[str, bytes]:
    """Every generated file below manifests/, by path."""
    files: dict[str, bytes] = {}
    executors: set[str] = set()
    for entry in CATALOG:
        ir = ir_yaml(entry)
        text = kubernetes_yaml(entry, version_of(ir))
        files[f"pipelines/{entry.name}.yaml"] = MARK.encode() + text
        executors |= _executors(text)
    names = sorted(f"{entry.name}.yaml" for entry in CATALOG)
    files["pipelines/kustomization.yaml"] = _kustomization(names)
    fields = _yaml({"images": _image_fields(sorted(executors))})
    files |= {f"overlays/{overlay}/image-fields.yaml": fields for overlay in OVERLAYS}
    files["components/external-secrets/external-secret.yaml"] = _yaml(*external_secrets())
    files["components/argo-events/sensors.yaml"] = _yaml(*sensors())
    return files | _serving() | _ray()


def write(root: Path = ROOT, *, check: bool = False) -> list[str]:
    """Write what has changed, or with `check` only say what would; remove pipelines that are gone.

    Returns:
        Paths that were, or would be, changed.
    """
    wanted, changed = generated(), []
    for name, data in wanted.items():
        path = root / name
        if not path.exists() or path.read_bytes() != data:
            changed.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    for folder in ("pipelines", "examples", "serving"):
        for path in sorted((root / folder).rglob("*.yaml")):
            name = path.relative_to(root).as_posix()
            if name not in wanted:
                changed.append(name)
                if not check:
                    path.unlink()
    return sorted(changed)


def external_secrets() -> Iterator[dict[str, Any]]:
    """The secrets that pods read, fetched from the organisation's own store."""
    for name, required in REQUIRED_SECRETS.items():
        place = f"trialops/{name.removeprefix('trialops-')}"
        yield {
            "apiVersion": "external-secrets.io/v1",
            "kind": "ExternalSecret",
            "metadata": {"name": name},
            "spec": {
                "refreshInterval": "1h",
                "secretStoreRef": {"kind": "SecretStore", "name": "trialops"},
                "target": {"name": name, "creationPolicy": "Owner"},
                "dataFrom": [{"extract": {"key": place}}],
                # Named one by one, so that a key that is missing is an error of the synchronisation.
                "data": [{"secretKey": key, "remoteRef": {"key": place, "property": key}} for key in required],
            },
        }


def sensors() -> Iterator[dict[str, Any]]:
    """A sensor for what arrives and one for runs that have ended; each starts a Job that submits a pipeline."""
    arrivals, runs = [], []
    for entry in CATALOG:
        for trigger in entry.triggers:
            if trigger in DELIVERED:
                data = {"path": "body.Records.0.s3.object.key", "type": "string", "value": [DELIVERED[trigger]]}
                arrivals.append((entry, "trialops-deliveries", "delivered", data))
            elif trigger in ENDED:
                before = ENDED[trigger].replace("_", "-")
                data = {"path": "body.metadata.name", "type": "string", "value": [f"^{before}-[a-z0-9]+$"]}
                runs.append((entry, "trialops-runs", "ended", data))
    yield _sensor("trialops-deliveries", arrivals)
    yield _sensor("trialops-runs", runs)


def _sensor(name: str, started: list[tuple[Entry, str, str, dict[str, Any]]]) -> dict[str, Any]:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Sensor",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "serviceAccountName": "trialops-sensor",
                "metadata": {"labels": {"trialops/events": "sensor"}},
                "securityContext": {**_pod_security(RUN_AS)},
                "container": {
                    "securityContext": _locked(),
                    "resources": _size("50m", "64Mi", "250m", "256Mi"),
                },
            },
            "dependencies": [
                {"name": entry.kfp_name, "eventSourceName": source, "eventName": event, "filters": {"data": [data]}}
                for entry, source, event, data in started
            ],
            "triggers": [
                {
                    "retryStrategy": {"steps": 5, "duration": "10s", "factor": 2},
                    "template": {
                        "name": entry.kfp_name,
                        "conditions": entry.kfp_name,
                        "k8s": {"operation": "create", "source": {"resource": _starter(entry)}},
                    },
                }
                for entry, *_ in started
            ],
        },
    }


def _starter(entry: Entry) -> dict[str, Any]:
    submit = (
        'TRIALOPS_KFP_TOKEN="$(cat /var/run/secrets/kubeflow/pipelines/token)" exec trialops submit '
        f"{entry.name} --namespace {NAMESPACE} --ca /etc/kfp/ca.crt"
    )
    arguments = "".join(f" --set {name}={value}" for name, value in entry.arguments)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"start-{entry.kfp_name}-", "namespace": NAMESPACE},
        "spec": {
            "ttlSecondsAfterFinished": 86400,
            "activeDeadlineSeconds": 900,
            "backoffLimit": 3,
            "template": {
                "metadata": {"labels": {"trialops/events": "starter"}},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": "trialops-starter",
                    "automountServiceAccountToken": False,
                    "securityContext": {**_pod_security(RUN_AS)},
                    "containers": [
                        {
                            "name": "submit",
                            "image": DEFAULT_IMAGE,
                            "command": ["sh", "-c", submit + arguments],
                            "env": [
                                {
                                    "name": "KF_PIPELINES_ENDPOINT",
                                    "value": "https://ml-pipeline.kubeflow.svc.cluster.local:8888",
                                },
                                {"name": "HOME", "value": "/tmp"},
                            ],
                            "workingDir": "/tmp",
                            "resources": _size("100m", "256Mi", "500m", "1Gi"),
                            "securityContext": _locked(),
                            "volumeMounts": [
                                {"name": "tmp", "mountPath": "/tmp"},
                                {"name": "token", "mountPath": "/var/run/secrets/kubeflow/pipelines", "readOnly": True},
                                {"name": "ca", "mountPath": "/etc/kfp", "readOnly": True},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
                        {
                            "name": "token",
                            "projected": {
                                "sources": [
                                    {
                                        "serviceAccountToken": {
                                            "path": "token",
                                            "audience": "pipelines.kubeflow.org",
                                            "expirationSeconds": 3600,
                                        }
                                    }
                                ]
                            },
                        },
                        {"name": "ca", "configMap": {"name": "kfp-ca"}},
                    ],
                },
            },
        },
    }


def _serving() -> dict[str, bytes]:
    """The runtime, the first InferenceService of each form, and the steps of a rollout in each."""
    from trialops.serving.kserve import (
        Endpoint,
        KnativeCanary,
        RouteWeights,
        Served,
        StandardCanary,
        plan_documents,
        serving_runtime,
    )
    from trialops.serving.policy import load_policy

    endpoint = Endpoint(TASK, NAMESPACE, TASK, hostname=f"{TASK}.trialops.example", service_account="trialops-endpoint")
    first = Served("1", "0" * 64, f"{BUCKET}/{TASK}/1/bundle", replicas=2)
    second = Served("2", "1" * 64, f"{BUCKET}/{TASK}/2/bundle", replicas=1)
    files = {"components/kserve/runtime.yaml": _yaml(serving_runtime(NAMESPACE, SERVER_IMAGE))}
    for form, strategy in (
        ("knative", KnativeCanary(endpoint)),
        ("standard", StandardCanary(endpoint)),
        ("httproute", RouteWeights(endpoint)),
    ):
        # All traffic on the first version; Knative has no document for that but the first one itself.
        alone = strategy.promoted(second, first) if form == "knative" else strategy.aborted(first, second)
        files[f"serving/{form}/{TASK}.yaml"] = _yaml(*alone.apply)
        files[f"serving/{form}/kustomization.yaml"] = _kustomization([f"{TASK}.yaml"])
        plan = plan_documents(strategy, first, second, load_policy().steps_percent)
        files |= {f"examples/canary/{form}/{name}": (MARK + text).encode() for name, text in plan.items()}
    return files


def _ray() -> dict[str, bytes]:
    from importlib.metadata import version

    from trialops.models.ray_job import Target, ray_cluster, ray_job

    target = Target(NAMESPACE, DEFAULT_IMAGE, workers=2, cpu=2, memory="4Gi", service_account="trialops-models")
    ray_version = version("ray")
    command = ["python", "-m", "trialops.models.search_job", "searches/0123456789abcdef01234567"]
    job = ray_job("search-0123456789abcdef01234567", target, command, run_id="example", ray_version=ray_version)
    return {
        "components/ray/cluster.yaml": _yaml(ray_cluster("trialops-search", target, ray_version=ray_version)),
        "examples/search/rayjob.yaml": _yaml(job),
    }


def _executors(text: bytes) -> set[str]:
    import yaml

    (version,) = (item for item in yaml.load_all(text, yaml.CSafeLoader) if item["kind"] == "PipelineVersion")
    executors = version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"]
    return {name for name, executor in executors.items() if "container" in executor}


def _image_fields(executors: list[str]) -> list[dict[str, str]]:
    below = "spec/pipelineSpec/deploymentSpec/executors"
    fields = [{"kind": "PipelineVersion", "path": f"{below}/{name}/container/image"} for name in executors]
    for path in ("feastProjectDir/packaged/image", "services/onlineStore/server/image"):
        fields.append({"kind": "FeatureStore", "path": f"spec/{path}"})
    fields.append({"kind": "FeatureStore", "path": "spec/services/registry/local/server/image"})
    for kind in ("WorkflowTemplate", "Workflow"):
        fields.append({"kind": kind, "path": "spec/templates[]/container/image"})
    return fields


def _pod_security(user: int) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _locked() -> dict[str, Any]:
    return {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def _size(cpu: str, memory: str, most_cpu: str, most_memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": most_cpu, "memory": most_memory}}


def _kustomization(resources: list[str]) -> bytes:
    return _yaml(
        {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(resources)}
    )


def _yaml(*documents: dict[str, Any]) -> bytes:
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes what is there twice twice: kustomize reads no references between documents."""

        def ignore_aliases(self, data: Any) -> bool:
            """Nothing is a reference."""
            return True

    return (MARK + yaml.dump_all(documents, Dumper=Plain, sort_keys=False, width=110)).encode()


def main(argv: list[str] | None = None) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.manifests", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 where something would change")
    options = parser.parse_args(argv)
    changed = write(check=options.check)
    for name in changed:
        print(name)
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
