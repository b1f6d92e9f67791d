"""What documents name is there: accounts, settings, secrets, the pods that a selector means; and who may do what."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from components.alerts import DELIVERY_SECRET
from components.base import CONFIG_VARIABLES, SECRET_VARIABLES, SECRETS_NAME, SETTINGS_CONFIG_MAP
from pipelines.manifests import REQUIRED_SECRETS
from tests.manifests.conftest import MANIFESTS
from tests.support.pod_templates import pod_templates
from trialops.settings import Settings

Documents = list[dict[str, Any]]
Rendered = Mapping[str, Documents]
OVERLAYS = ("dev", "staging", "prod")

OPERATORS = {
    "workflows.argoproj.io/workflow": "Argo, on every pod of a workflow, KFP's runs included",
    "ray.io/cluster": "KubeRay, on head and workers",
    "serving.kserve.io/inferenceservice": "KServe, on the pods of an InferenceService",
    "feast.dev/name": "the Feast operator",
    "batch.kubernetes.io/job-name": "the Job controller",
    "eventbus-name": "Argo Events, on the pods of an EventBus",
    "k8s-app": "CoreDNS",
}
"""Labels that others put on pods, and who."""

ELSEWHERE = {
    "kubeflow", "kube-system", "monitoring", "kuberay-system", "envoy-gateway-system", "istio-system",
    "knative-serving", "kserve",
}  # fmt: skip
"""Namespaces of what the prerequisites install."""

EITHER = {"trialops-model-server", "trialops-objects", "trialops-database", "trialops-redis", "trialops-mlflow"}
"""An overlay has these as pods, or KServe and managed stores in their place; the dev overlay has all of them."""

GIVEN = {
    ("Secret", "trialops-dev-stores"): "manifests/cluster/secrets.sh",
    ("Secret", "trialops-feast"): "manifests/cluster/secrets.sh in dev",
    ("Secret", SECRETS_NAME): "manifests/cluster/secrets.sh in dev",
    ("Secret", DELIVERY_SECRET): "manifests/cluster/secrets.sh in dev",
    ("ConfigMap", "kfp-ca"): "a prerequisite of Argo Events: the authority of KFP's certificate",
}
"""What no overlay holds, and where it comes from."""


def of(documents: Documents, *kinds: str) -> Documents:
    return [document for document in documents if document["kind"] in kinds]


def names(documents: Documents, kind: str) -> set[tuple[str, str]]:
    return {(d["metadata"].get("namespace", ""), d["metadata"]["name"]) for d in of(documents, kind)}


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for asked in selector.get("matchExpressions") or ():
        value = labels.get(asked["key"])
        met = {
            "Exists": value is not None,
            "DoesNotExist": value is None,
            "In": value in asked.get("values", ()),
            "NotIn": value not in asked.get("values", ()),
        }[asked["operator"]]
        if not met:
            return False
    return True


def keys_of(selector: Mapping[str, Any]) -> set[str]:
    return set(selector.get("matchLabels") or {}) | {e["key"] for e in selector.get("matchExpressions") or ()}


def pods_of(documents: Documents) -> list[tuple[str, Mapping[str, str]]]:
    found = [
        (d["metadata"].get("namespace", ""), template.labels)
        for d in documents
        for template in pod_templates(d)
        if template.labels
    ]
    return found + [("trialops", {"trialops/events": "starter"})] if of(documents, "Sensor") else found


# -- selectors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_means_pods_that_are_there(rendered: Rendered, overlay: str) -> None:
    documents = rendered[overlay]
    pods = pods_of(documents)

    def means_something(selector: Mapping[str, Any], namespace: str) -> bool:
        if not keys_of(selector) or keys_of(selector) & set(OPERATORS):
            return True
        if overlay != "dev" and (selector.get("matchLabels") or {}).get("app.kubernetes.io/name") in EITHER:
            return True
        return any(space == namespace and matches(selector, labels) for space, labels in pods)

    lost = []
    for document in documents:
        namespace, name = document["metadata"].get("namespace", ""), document["metadata"]["name"]
        if document["kind"] == "Service" and not means_something(
            {"matchLabels": document["spec"]["selector"]}, namespace
        ):
            lost.append(f"Service {name}")
        if document["kind"] in ("PodDisruptionBudget", "NetworkPolicy", "PodMonitor"):
            selector = document["spec"].get("selector") or document["spec"].get("podSelector") or {}
            if not means_something(selector, namespace):
                lost.append(f"{document['kind']} {name}: {selector}")
        if document["kind"] == "NetworkPolicy":
            rules = [*(document["spec"].get("ingress") or ()), *(document["spec"].get("egress") or ())]
            for peer in [peer for rule in rules for peer in [*rule.get("from", ()), *rule.get("to", ())]]:
                space = peer.get("namespaceSelector")
                selector = peer.get("podSelector")
                if space is None and selector is not None and not means_something(selector, namespace):
                    lost.append(f"NetworkPolicy {name}: peer {selector}")
                if space is not None:
                    value = (space.get("matchLabels") or {}).get("kubernetes.io/metadata.name")
                    spaces = {value} if value else set(space["matchExpressions"][0]["values"])
                    assert spaces <= ELSEWHERE | {"trialops", "trialops-features"}, name
        if document["kind"] == "ServiceMonitor":
            services = [d for d in of(documents, "Service") if d["metadata"].get("namespace") == namespace]
            found = [s for s in services if matches(document["spec"]["selector"], s["metadata"].get("labels", {}))]
            ports = {endpoint["port"] for endpoint in document["spec"]["endpoints"]}
            if not any(ports <= {port["name"] for port in service["spec"]["ports"]} for service in found):
                lost.append(f"ServiceMonitor {name}")
    assert lost == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_of_services_are_ports_of_their_pods(rendered: Rendered, overlay: str) -> None:
    for service in of(rendered[overlay], "Service"):
        (template,) = [
            t
            for d in of(rendered[overlay], "Deployment", "StatefulSet")
            for t in pod_templates(d)
            if matches({"matchLabels": service["spec"]["selector"]}, t.labels)
        ]
        offered = {port["name"] for c in template.spec["containers"] for port in c.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= offered


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_denied_in_both_directions_and_every_hole_is_named(rendered: Rendered, overlay: str) -> None:
    by_space: dict[str, Documents] = defaultdict(list)
    for policy in of(rendered[overlay], "NetworkPolicy"):
        by_space[policy["metadata"]["namespace"]].append(policy)
    assert set(by_space) == {"trialops", "trialops-features"}
    for policies in by_space.values():
        (deny,) = [p for p in policies if p["metadata"]["name"] == "default-deny"]
        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for policy in policies:
            rules = {"Ingress": policy["spec"].get("ingress", []), "Egress": policy["spec"].get("egress", [])}
            assert {kind for kind, given in rules.items() if given} <= set(policy["spec"]["policyTypes"])
            for rule in [*rules["Ingress"], *rules["Egress"]]:
                peers = rule.get("from") or rule.get("to")
                assert peers, f"{policy['metadata']['name']}: a rule without peers is open to everybody"
                # Only Ray's own pods talk over ports that nobody knows before.
                assert rule.get("ports") or "ray.io/cluster" in str(peers) or "eventbus-name" in str(peers)
                for peer in peers:
                    block = peer.get("ipBlock")
                    if block and block["cidr"] == "0.0.0.0/0":
                        assert "169.254.0.0/16" in block["except"], "the node's metadata address is reachable"


# -- settings and secrets -------------------------------------------------------------------------------------


def read_by_steps(documents: Documents) -> tuple[set[str], dict[str, set[str]]]:
    """Keys that compiled steps read from the ConfigMap, and from each Secret."""
    settings: set[str] = set()
    secrets: dict[str, set[str]] = defaultdict(set)
    for version in of(documents, "PipelineVersion"):
        for place in version["spec"]["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            for entry in place.get("configMapAsEnv", ()):
                assert entry["configMapName"] == SETTINGS_CONFIG_MAP
                settings |= {pair["configMapKey"] for pair in entry["keyToEnv"]}
            for entry in place.get("secretAsEnv", ()):
                secrets[entry["secretName"]] |= {pair["secretKey"] for pair in entry["keyToEnv"]}
    return settings, secrets


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_those_that_steps_read(rendered: Rendered, overlay: str) -> None:
    maps = [d for d in of(rendered[overlay], "ConfigMap") if d["metadata"]["name"] == SETTINGS_CONFIG_MAP]
    assert {d["metadata"]["namespace"] for d in maps} == (
        {"trialops", "kubeflow"} if overlay == "dev" else {"trialops"}
    )
    read, _ = read_by_steps(rendered[overlay])
    assert read >= set(CONFIG_VARIABLES)
    own = {f"TRIALOPS_{name.upper()}" for name in Settings.model_fields}
    for given in maps:
        left_out = read - set(given["data"])
        comment = (MANIFESTS / "settings" / overlay / "settings.env").read_text().partition("TRIALOPS_PROFILE=")[0]
        assert {name for name in left_out if not re.search(rf"\b{name}\b", comment)} == set()
        assert set(given["data"]) <= read | own | {"AWS_ALLOW_HTTP"}
        assert all(isinstance(value, str) for value in given["data"].values())


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_make_a_cluster_profile(rendered: Rendered, overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = next(d for d in of(rendered[overlay], "ConfigMap") if d["metadata"]["name"] == SETTINGS_CONFIG_MAP)["data"]
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as secret:
        secret.setenv("TRIALOPS_VAULT_KEY", "A" * 43 + "=")
        secret.setenv("TRIALOPS_ONLINE_URL", "rediss://store.trialops.example:6379/0")
        if overlay != "dev":
            secret.setenv("TRIALOPS_DATABASE_URL", "postgresql+psycopg://u@db.trialops.example/trialops")
        found = Settings.model_validate({})
    assert found.profile == "cluster"
    assert found.hipaa_compliance_mode == "strict"
    assert found.lake.startswith("s3://")
    if overlay != "dev":
        plain = {name for name, value in data.items() if value.startswith("http://")}
        assert plain <= {"TRIALOPS_ALERTMANAGER_URL"}  # alerts hold no subject data, and stay in the cluster


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_external_secrets_bring_what_steps_read(rendered: Rendered, overlay: str) -> None:
    _, read = read_by_steps(rendered[overlay])
    assert read[SECRETS_NAME] >= set(SECRET_VARIABLES)
    secrets = {d["metadata"]["name"]: d for d in of(rendered[overlay], "ExternalSecret")}
    assert set(read) == set(REQUIRED_SECRETS) == set(secrets) - {"trialops-feast"}
    described = (MANIFESTS / "README.md").read_text()
    for name, keys in read.items():
        spec = secrets[name]["spec"]
        required = {entry["secretKey"] for entry in spec["data"]}
        assert required == set(REQUIRED_SECRETS[name]) <= keys
        assert spec["target"]["name"] == name
        # The rest is taken as it is in the same entry of the store; the README says what may be there.
        assert {entry["extract"]["key"] for entry in spec["dataFrom"]} == {e["remoteRef"]["key"] for e in spec["data"]}
        assert {key for key in keys if f"`{key}`" not in described} == set()


def test_no_secret_is_in_the_repository(rendered: Rendered) -> None:
    for documents in rendered.values():
        assert of(documents, "Secret") == []
    suspicious = re.compile(r"(?i)(password|secret|token)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{12,}")
    for file in MANIFESTS.rglob("*"):
        if file.suffix in (".yaml", ".env", ".sql") and "pipelines" not in file.parts:
            assert not suspicious.search(file.read_text("utf-8")), file


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_key_that_is_named_is_there(rendered: Rendered, overlay: str) -> None:
    documents = rendered[overlay]
    held: dict[tuple[str, str], set[str]] = {}
    for d in of(documents, "ConfigMap"):
        held["ConfigMap", d["metadata"]["name"]] = set(d.get("data") or {}) | set(d.get("binaryData") or {})
    for d in of(documents, "ExternalSecret"):
        held["Secret", d["spec"]["target"]["name"]] = {entry["secretKey"] for entry in d["spec"]["data"]}
    for name, keys in read_by_steps(documents)[1].items():
        if ("Secret", name) in held:
            held["Secret", name] |= keys  # optional ones, taken where the store has them
    script = (MANIFESTS / "cluster" / "secrets.sh").read_text()
    missing = []
    for document in documents:
        if document["kind"] in ("PipelineVersion", "ExternalSecret", "SecretStore"):
            continue
        for node in walk(document):
            for field, kind in (
                ("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret"), ("configMapRef", "ConfigMap"),
                ("secretRef", "Secret"), ("configMap", "ConfigMap"),
            ):  # fmt: skip
                given = node.get(field)
                if not isinstance(given, dict) or "name" not in given or given.get("optional"):
                    continue
                place, key = (kind, given["name"]), given.get("key") or node.get("secretKeyName")
                if place in held:
                    if key and key not in held[place]:
                        missing.append(f"{document['kind']}: {place} has no {key}")
                elif place not in GIVEN:
                    missing.append(f"{document['kind']}: there is no {place}")
                elif kind == "Secret":
                    assert given["name"] in script and (not key or key in script), (place, key)
    assert missing == []


# -- who may what ---------------------------------------------------------------------------------------------


def rules(documents: Documents) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in of(documents, "Role", "ClusterRole"):
        for rule in role["rules"]:
            yield role["metadata"]["name"], rule


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_role_has_a_wildcard_or_can_look_around_in_secrets(rendered: Rendered, overlay: str) -> None:
    for name, rule in rules(rendered[overlay]):
        for field in ("apiGroups", "resources", "verbs"):
            assert rule.get(field) and not any("*" in value for value in rule[field]), (name, rule)
        assert not set(rule["verbs"]) & {"escalate", "bind", "impersonate", "deletecollection"}, name
        if "secrets" in rule["resources"]:
            assert set(rule["verbs"]) == {"get"} and rule.get("resourceNames"), name
        assert not {"pods/exec", "pods/attach", "serviceaccounts/token", "nodes/proxy"} & set(rule["resources"]), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_binding_binds_what_is_there(rendered: Rendered, overlay: str) -> None:
    documents = rendered[overlay]
    accounts = names(documents, "ServiceAccount")
    used = set()
    for binding in of(documents, "RoleBinding", "ClusterRoleBinding"):
        kind, space = binding["roleRef"]["kind"], binding["metadata"].get("namespace", "")
        assert ((space if kind == "Role" else ""), binding["roleRef"]["name"]) in names(documents, kind)
        used.add((kind, binding["roleRef"]["name"]))
        for subject in binding["subjects"]:
            if subject["kind"] == "ServiceAccount" and subject["namespace"] == "kubeflow":
                assert overlay == "dev" and subject["name"] == "pipeline-runner"  # KFP's own
            elif subject["kind"] == "ServiceAccount":
                assert (subject["namespace"], subject["name"]) in accounts
            else:
                assert subject["kind"] == "Group" and subject["name"].startswith("trialops:")
    assert {(d["kind"], d["metadata"]["name"]) for d in of(documents, "Role", "ClusterRole")} == used


def bound(documents: Documents, account: str) -> dict[str, set[str]]:
    """Verbs by resource of a service account."""
    held = {
        (b["roleRef"]["kind"], b["roleRef"]["name"])
        for b in of(documents, "RoleBinding", "ClusterRoleBinding")
        if any(s["kind"] == "ServiceAccount" and s["name"] == account for s in b["subjects"])
    }
    found: dict[str, set[str]] = defaultdict(set)
    for role in of(documents, "Role", "ClusterRole"):
        if (role["kind"], role["metadata"]["name"]) in held:
            for rule in role["rules"]:
                for resource in rule["resources"]:
                    found[resource] |= set(rule["verbs"])
    return found


VERBS = {"get": "get", "create": "create", "replace": "update", "delete": "delete", "list": "list", "patch": "patch"}


@pytest.mark.parametrize(
    ("account", "source", "resources"),
    [
        ("trialops-models", "trialops/models/search_job.py", {"rayjobs"}),
        ("trialops-serving", "trialops/serving/kserve_traffic.py", {"inferenceservices", "httproutes"}),
    ],
)
def test_a_component_may_do_what_its_code_does_and_no_more(
    rendered: Rendered, account: str, source: str, resources: set[str]
) -> None:
    code = (MANIFESTS.parent / source).read_text()
    called = {VERBS[verb] for verb in re.findall(r"\b(\w+)_namespaced_custom_object\(", code)}
    may = bound(rendered["prod"], account)
    step = set(bound(rendered["prod"], "trialops-data"))
    assert set(may) - step == resources
    assert all(may[resource] == called for resource in resources)


def test_health_may_list_what_it_asks_for(rendered: Rendered) -> None:
    may = bound(rendered["prod"], "trialops-operations")
    assert may["nodes"] == {"list"} and may["pods"] == {"get", "list"} and may["inferenceservices"] == {"get"}


def test_an_account_without_an_api_has_no_token(rendered: Rendered) -> None:
    for name in OVERLAYS:
        for account in of(rendered[name], "ServiceAccount"):
            assert isinstance(account.get("automountServiceAccountToken"), bool), account["metadata"]["name"]
            if account["automountServiceAccountToken"]:
                assert bound(rendered[name], account["metadata"]["name"]), account["metadata"]["name"]
        for document in of(rendered[name], "Deployment", "StatefulSet"):
            spec = document["spec"]["template"]["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert (document["metadata"]["namespace"], spec["serviceAccountName"]) in names(
                rendered[name], "ServiceAccount"
            )


def test_every_component_has_an_account(rendered: Rendered) -> None:
    areas = ("data", "models", "serving", "safety", "regulatory", "operations", "transfer", "alerts")
    for name in OVERLAYS:
        assert {("trialops", f"trialops-{area}") for area in areas} <= names(rendered[name], "ServiceAccount")


def test_the_catalogues_roles_differ_where_the_trial_needs_it(rendered: Rendered) -> None:
    roles = {d["metadata"]["name"]: d["rules"] for d in of(rendered["prod"], "ClusterRole")}
    people = {
        "data-engineer", "ml-engineer", "statistician-blinded", "statistician-unblinded", "safety-physician",
        "auditor", "approver",
    }  # fmt: skip
    assert {f"trialops-{name}" for name in people} <= set(roles)

    def verbs(role: str, resource: str) -> set[str]:
        return {v for rule in roles[f"trialops-{role}"] if resource in rule["resources"] for v in rule["verbs"]}

    assert "readArtifact" not in verbs("statistician-blinded", "runs")
    assert verbs("statistician-blinded", "pods/log") == set()
    assert "readArtifact" in verbs("statistician-unblinded", "runs")
    reading = {"get", "list", "watch", "readArtifact"}
    for role in ("auditor", "approver", "safety-physician", "statistician-blinded", "statistician-unblinded"):
        assert {verb for rule in roles[f"trialops-{role}"] for verb in rule["verbs"]} <= reading
    for role in people:
        assert verbs(role, "secrets") == set()
        assert not verbs(role, "inferenceservices") & {"create", "update", "patch", "delete"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_account_a_pod_names_is_there(rendered: Rendered, overlay: str) -> None:
    accounts = names(rendered[overlay], "ServiceAccount")
    priorities = {name for _, name in names(rendered[overlay], "PriorityClass")}
    for document in rendered[overlay]:
        if document["kind"] in ("PipelineVersion", "FeatureStore", "EventBus"):
            continue
        for template in pod_templates(document):
            account = template.spec.get("serviceAccountName")
            if account:
                assert (template.namespace, account) in accounts, template.owner
            if "priorityClassName" in template.spec:
                assert template.spec["priorityClassName"] in priorities
