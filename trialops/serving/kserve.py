"""A rollout on KServe: the documents of each step, for each way KServe can split traffic.

KServe splits traffic and judges nothing. Which form works depends on its deployment mode and version:

* **knative**: ``predictor.canaryTrafficPercent``. The candidate is the newest revision, the share left goes to the one
  rolled out before. Ignored in Standard mode.
* **standard**: ``spec.canary[]``, KServe 0.20 and later.
* **httproute**: two InferenceServices and a Gateway API HTTPRoute with weights, KServe 0.16 to 0.19 in Standard mode.

None of them mirrors requests: at 0 % the candidate is up and gets none. The shadow step then asks it through an
address of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from trialops.errors import TrialOpsError

Document = dict[str, Any]
Mode = Literal["Knative", "Standard"]
API = "serving.kserve.io/v1beta1"
ROUTE_API = "gateway.networking.k8s.io/v1"
MODE_ANNOTATION = "serving.kserve.io/deploymentMode"
CONTAINER = "kserve-container"
RUNTIME = "trialops-server"
RUN_AS = 10001
LABEL = "app.kubernetes.io/managed-by"


@dataclass(frozen=True)
class Served:
    """A version as KServe serves it.

    Attributes:
        version: Model version.
        digest: Digest of its bundle, kept as an annotation of its pods.
        storage: URI of the bundle folder.
        replicas: Least number of pods.
    """

    version: str
    digest: str
    storage: str
    replicas: int = 1


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served.

    Attributes:
        name: Name of the InferenceService, a DNS label.
        namespace: Namespace.
        model: Name of the registered model, in the URL.
        gateway: Name of the Gateway (httproute).
        hostname: Host callers use (httproute).
        service_account: Service account of the pods, with whose credentials KServe fetches the bundle; empty for the
            namespace's default.
    """

    name: str
    namespace: str
    model: str
    gateway: str = "kserve-ingress-gateway"
    hostname: str = ""
    service_account: str = ""


@dataclass(frozen=True)
class Change:
    """What a step applies, and what it deletes: (kind, name)."""

    apply: tuple[Document, ...]
    delete: tuple[tuple[str, str], ...] = ()


class Strategy(Protocol):
    """The documents of each step; each call is complete, so that applying it again changes nothing."""

    def step(self, stable: Served, candidate: Served, percent: int) -> Change:
        """Candidate beside the stable version with a share of the traffic."""
        ...

    def promoted(self, stable: Served, candidate: Served) -> Change:
        """Candidate in the stable version's place."""
        ...

    def aborted(self, stable: Served, candidate: Served) -> Change:
        """All traffic on the stable version."""
        ...


def choose(endpoint: Endpoint, version: str, mode: Mode) -> Strategy:
    """The strategy for a cluster.

    Args:
        endpoint: Where the model is served.
        version: KServe's version, such as "0.18.1".
        mode: Its deployment mode.

    Raises:
        TrialOpsError: The version is not one, or older than 0.16.
    """
    found = re.match(r"v?(\d+)\.(\d+)", version)
    number = tuple(map(int, found.groups())) if found else (0, 0)
    if number < (0, 16):
        raise TrialOpsError(
            f"KServe {version!r} is older than 0.16, or no version",
            where=f"InferenceService {endpoint.name}",
            fix="Update KServe: before 0.16 the deployment modes have other names.",
        )
    if mode == "Knative":
        return KnativeCanary(endpoint)
    return StandardCanary(endpoint) if number >= (0, 20) else RouteWeights(endpoint)


def _model(endpoint: Endpoint, served: Served, *, named: bool = False) -> Document:
    model: Document = {
        "modelFormat": {"name": "trialops"},
        "runtime": RUNTIME,
        "protocolVersion": "v2",
        "storageUri": served.storage,
        "args": ["--name", endpoint.model, "--version", served.version],
    }
    # The published CRD asks for a container name below canary[].predictor.model, though not below predictor.model.
    return {"name": CONTAINER, **model} if named else model


def _pods(endpoint: Endpoint, served: Served) -> Document:
    pods: Document = {
        "annotations": {"trialops/bundle-digest": served.digest},
        "labels": {"trialops/version": served.version},
    }
    return {**pods, "serviceAccountName": endpoint.service_account} if endpoint.service_account else pods


def _service(endpoint: Endpoint, name: str, mode: Mode, spec: Document) -> Document:
    return {
        "apiVersion": API,
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": endpoint.namespace,
            "labels": {LABEL: "trialops"},
            "annotations": {MODE_ANNOTATION: mode},
        },
        "spec": spec,
    }


@dataclass(frozen=True)
class KnativeCanary:
    """The newest revision gets ``canaryTrafficPercent`` of the traffic."""

    endpoint: Endpoint

    def _document(self, served: Served, percent: int | None) -> Document:
        predictor: Document = {
            **_pods(self.endpoint, served),
            "minReplicas": served.replicas,
            "model": _model(self.endpoint, served),
        }
        if percent is not None:
            predictor["canaryTrafficPercent"] = percent
        return _service(self.endpoint, self.endpoint.name, "Knative", {"predictor": predictor})

    def step(self, stable: Served, candidate: Served, percent: int) -> Change:
        """The candidate as newest revision with a share."""
        return Change((self._document(candidate, percent),))

    def promoted(self, stable: Served, candidate: Served) -> Change:
        """Without a share, the newest revision has all traffic."""
        return Change((self._document(candidate, None),))

    def aborted(self, stable: Served, candidate: Served) -> Change:
        """Share 0 stays in the document until the next rollout.

        The stable predictor put back in its place would be a new revision; until that is ready, all traffic would go
        to the newest ready one, which is the candidate.
        """
        return Change((self._document(candidate, 0),))


@dataclass(frozen=True)
class StandardCanary:
    """One entry of ``spec.canary[]`` with its own predictor beside the stable one."""

    endpoint: Endpoint

    def _predictor(self, served: Served) -> Document:
        return {
            "name": _label(served.version),
            **_pods(self.endpoint, served),
            "minReplicas": served.replicas,
            "model": _model(self.endpoint, served, named=True),
        }

    def _document(self, spec: Document) -> Document:
        return _service(self.endpoint, self.endpoint.name, "Standard", spec)

    def step(self, stable: Served, candidate: Served, percent: int) -> Change:
        """The candidate as canary; it may not have more replicas than the stable predictor, nor scaling of its own."""
        if candidate.replicas > stable.replicas:
            raise TrialOpsError(
                f"the canary asks for {candidate.replicas} replicas, the stable predictor has {stable.replicas}",
                where=f"InferenceService {self.endpoint.name}",
                fix="KServe allows a canary at most as many as the stable predictor.",
            )
        canary = {"trafficPercent": percent, "predictor": self._predictor(candidate)}
        return Change((self._document({"predictor": self._predictor(stable), "canary": [canary]}),))

    def promoted(self, stable: Served, candidate: Served) -> Change:
        """The canary's name on the stable predictor, and the entry gone: KServe then keeps its pods."""
        return Change((self._document({"predictor": self._predictor(candidate), "canary": []}),))

    def aborted(self, stable: Served, candidate: Served) -> Change:
        """No entry."""
        return Change((self._document({"predictor": self._predictor(stable), "canary": []}),))


@dataclass(frozen=True)
class RouteWeights:
    """An InferenceService for each version and a route with weights between them."""

    endpoint: Endpoint

    def _name(self, served: Served) -> str:
        return f"{self.endpoint.name}-{_label(served.version)}"

    def _services(self, *versions: Served) -> list[Document]:
        return [
            _service(
                self.endpoint,
                self._name(served),
                "Standard",
                {
                    "predictor": {
                        **_pods(self.endpoint, served),
                        "minReplicas": served.replicas,
                        "model": _model(self.endpoint, served, named=True),
                    }
                },
            )
            for served in versions
        ]

    def _route(self, *weights: tuple[Served, int]) -> Document:
        spec: Document = {
            "parentRefs": [{"name": self.endpoint.gateway}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/v2"}}],
                    "backendRefs": [
                        {"name": f"{self._name(served)}-predictor", "port": 80, "weight": weight}
                        for served, weight in weights
                    ],
                }
            ],
        }
        if self.endpoint.hostname:
            spec["hostnames"] = [self.endpoint.hostname]
        return {
            "apiVersion": ROUTE_API,
            "kind": "HTTPRoute",
            "metadata": {
                "name": self.endpoint.name,
                "namespace": self.endpoint.namespace,
                "labels": {LABEL: "trialops"},
            },
            "spec": spec,
        }

    def step(self, stable: Served, candidate: Served, percent: int) -> Change:
        """Both services, and the route's weights."""
        route = self._route((stable, 100 - percent), (candidate, percent))
        return Change((*self._services(stable, candidate), route))

    def promoted(self, stable: Served, candidate: Served) -> Change:
        """All weight on the candidate; the stable service stays up at weight 0, for a rollback."""
        return Change((*self._services(stable, candidate), self._route((candidate, 100), (stable, 0))))

    def aborted(self, stable: Served, candidate: Served) -> Change:
        """All weight on the stable service, then the candidate's is deleted."""
        return Change(
            (*self._services(stable), self._route((stable, 100))), (("InferenceService", self._name(candidate)),)
        )


def serving_runtime(namespace: str, image: str) -> Document:
    """The runtime all strategies name: the project's model server in its own image.

    Args:
        namespace: Namespace.
        image: Image of the model server.
    """
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME, "namespace": namespace, "labels": {LABEL: "trialops"}},
        "spec": {
            "supportedModelFormats": [{"name": "trialops", "version": "1", "autoSelect": True}],
            "protocolVersions": ["v2"],
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image,
                    "command": ["python", "-m", "trialops.serving.server"],
                    "args": ["--bundle", "/mnt/models", "--host", "0.0.0.0", "--port", "8080", "--drain", "10"],
                    "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": 8080}},
                    "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": 8080}},
                    "resources": {
                        "requests": {"cpu": "1", "memory": "1Gi"},
                        "limits": {"cpu": "1", "memory": "1Gi"},
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "runAsNonRoot": True,
                        "runAsUser": RUN_AS,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }


def plan_documents(strategy: Strategy, stable: Served, candidate: Served, percents: tuple[int, ...]) -> dict[str, str]:
    """Every document of a rollout as YAML by file name, for the dossier and for review before it is applied."""
    import yaml

    changes = {
        f"step-{k:02d}-{percent}.yaml": strategy.step(stable, candidate, percent) for k, percent in enumerate(percents)
    }
    changes |= {"promote.yaml": strategy.promoted(stable, candidate), "abort.yaml": strategy.aborted(stable, candidate)}
    return {name: yaml.safe_dump_all(change.apply, sort_keys=True) for name, change in changes.items()}


def _label(version: str) -> str:
    label = "v" + re.sub(r"[^a-z0-9-]", "-", version.lower())
    return label[:40].rstrip("-")
