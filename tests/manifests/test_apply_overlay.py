"""The dev overlay applied to an API server that enforces the schemas: by kubectl and by the official client, twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, watch
from kubernetes.client import ApiException

from tests.manifests.conftest import MANIFESTS
from tests.support.crd_validator import load_all
from tests.support.kubernetes_api import Cluster, Schemas, cluster

Documents = list[dict[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[str]]
GIVEN = ("trialops", "trialops-features", "kubeflow")


@pytest.fixture(scope="module")
def schemas(anchors: Path) -> Schemas:
    return Schemas(anchors / "crds", core=True)


@pytest.fixture
def held(schemas: Schemas) -> Iterator[Cluster]:
    with cluster(schemas) as found:
        yield found


@pytest.fixture
def api(held: Cluster) -> client.ApiClient:
    configuration = client.Configuration()
    configuration.host = held.url
    return client.ApiClient(configuration)


@pytest.fixture
def run(held: Cluster, kubectl: str, tmp_path: Path) -> Run:
    """kubectl against the API, with no cache but its own."""

    def call(*arguments: str, ok: bool = True, data: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [kubectl, f"--server={held.url}", f"--cache-dir={tmp_path}/cache", *arguments]
        done = subprocess.run(
            command, input=data, capture_output=True, text=True, timeout=120, check=False,
            env={"HOME": str(tmp_path), "KUBECONFIG": "/dev/null", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stderr[-3000:]
        return done

    return call


def versions(held: Cluster) -> dict[tuple[str, str, str], str]:
    return {key: document["metadata"]["resourceVersion"] for key, document in held.objects.items()}


def space(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


@pytest.mark.slow
def test_kubectl_applies_the_overlay_and_the_second_time_changes_nothing(
    held: Cluster, run: Run, rendered: Mapping[str, Documents], tmp_path: Path
) -> None:
    run("create", "--validate=false", "-f", "-", data=json.dumps(space("kubeflow")))  # KFP is a prerequisite
    first = run("apply", "--validate=false", "-k", str(MANIFESTS / "overlays" / "dev"))
    assert len(first.stdout.splitlines()) == len(rendered["dev"])
    assert {line.rpartition(" ")[2] for line in first.stdout.splitlines()} == {"created"}
    before = versions(held)
    kinds = {document["kind"] for document in held.objects.values()}
    assert {d["kind"] for d in rendered["dev"]} <= kinds

    whole = tmp_path / "dev.yaml"
    whole.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered["dev"]}))
    second = run("apply", "--validate=false", "-f", str(whole))
    moved = [line for line in second.stdout.splitlines() if not line.endswith(" unchanged")]
    # kubectl always sends a budget's selector, which replaces itself, and a list that the server has filled up with
    # defaults. The server finds nothing new in them: no object has another version.
    assert moved == [
        "poddisruptionbudget.policy/trialops-model-server configured",
        "raycluster.ray.io/trialops-search configured",
    ]
    assert versions(held) == before

    # One setting changed by hand is set back, and nothing else moves.
    key = ("deployments", "trialops", "trialops-alerts")
    run("-n", "trialops", "patch", "deployment", "trialops-alerts", "--type=merge", "-p", '{"spec":{"replicas":7}}')
    third = run("apply", "--validate=false", "-f", str(whole))
    assert {line for line in third.stdout.splitlines() if not line.endswith(" unchanged")} == {
        "deployment.apps/trialops-alerts configured",
        *moved,
    }
    assert held.objects[key]["spec"]["replicas"] == 1
    assert {k for k, v in versions(held).items() if before.get(k) != v} == {key}

    shown = run("-n", "kubeflow", "get", "pipelineversions.pipelines.kubeflow.org", "-o", "name")
    assert len(shown.stdout.splitlines()) == sum(d["kind"] == "PipelineVersion" for d in rendered["dev"])


def apply(api: client.ApiClient, documents: Documents, manager: str = "trialops", force: bool = True) -> list[int]:
    """Server-side apply of documents by the official client; the statuses."""
    codes = []
    served: dict[tuple[str, str], str] = {}
    for document in documents:
        version, kind, metadata = document["apiVersion"], document["kind"], document["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if (version, kind) not in served:
            found = api.call_api(base, "GET", response_type="object", _return_http_data_only=True)
            served |= {
                (version, entry["kind"]): entry["name"] for entry in found["resources"] if "/" not in entry["name"]
            }
        inside = f"/namespaces/{metadata['namespace']}" if metadata.get("namespace") else ""
        _, code, _ = api.call_api(
            f"{base}{inside}/{served[version, kind]}/{metadata['name']}",
            "PATCH",
            query_params=[("fieldManager", manager), ("force", "true" if force else "false")],
            header_params={"Content-Type": "application/apply-patch+yaml"},
            body=document,
            response_type="object",
        )
        codes.append(code)
    return codes


def test_the_client_applies_the_overlay_server_side(
    held: Cluster, api: client.ApiClient, rendered: Mapping[str, Documents]
) -> None:
    # One pipeline stands for all, whose documents are large; kubectl has applied every one.
    kept = [d for d in rendered["dev"] if d["kind"] != "PipelineVersion" or "model-training" in d["metadata"]["name"]]
    documents = sorted(kept, key=lambda d: d["kind"] != "Namespace")
    assert set(apply(api, [space("kubeflow"), *documents])) == {201}
    before = versions(held)
    assert set(apply(api, documents)) == {200}
    assert versions(held) == before
    assert len(before) == len(documents) + 3  # and the namespaces that were there


def test_what_a_schema_refuses_is_refused(run: Run, rendered: Mapping[str, Documents]) -> None:
    run("create", "--validate=false", "-f", "-", data=json.dumps(space("trialops")))
    (ray,) = [d for d in rendered["dev"] if d["kind"] == "RayCluster"]
    run("apply", "--validate=false", "-f", "-", data=json.dumps(ray))
    wrong = '{"spec":{"workerGroupSpecs":"two"}}'
    done = run("-n", "trialops", "patch", "raycluster", "trialops-search", "--type=merge", "-p", wrong, ok=False)
    assert done.returncode != 0 and "workerGroupSpecs" in done.stderr
    lost = run("apply", "--validate=false", "-f", "-", data=json.dumps({**ray, "spec": {"rayVersion": "1"}}), ok=False)
    assert lost.returncode != 0 and "headGroupSpec" in lost.stderr


def test_a_namespace_comes_first(api: client.ApiClient) -> None:
    with pytest.raises(ApiException) as refused:
        client.CoreV1Api(api).create_namespaced_config_map("nowhere", {"metadata": {"name": "a"}})
    assert refused.value.status == 404


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    found = client.CoreV1Api(api)
    found.create_namespace(space("t"))
    return found


def entry(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"a": "1"},
    }  # fmt: skip


def test_conflicts_names_and_changes_of_versions(core: client.CoreV1Api) -> None:
    made = core.create_namespaced_config_map("t", entry("one"))
    with pytest.raises(ApiException) as again:
        core.create_namespaced_config_map("t", entry("one"))
    assert (again.value.status, json.loads(again.value.body)["reason"]) == (409, "AlreadyExists")
    body = entry("x")
    body["metadata"] = {"generateName": "run-"}
    first, second = (core.create_namespaced_config_map("t", body).metadata.name for _ in range(2))
    assert first != second and first.startswith("run-")
    stale = {**entry("one"), "metadata": {"name": "one", "resourceVersion": made.metadata.resource_version}}
    newer = core.replace_namespaced_config_map("one", "t", {**stale, "data": {"a": "2"}})
    assert newer.metadata.resource_version != made.metadata.resource_version
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("one", "t", {**stale, "data": {"a": "3"}})
    assert (conflict.value.status, json.loads(conflict.value.body)["reason"]) == (409, "Conflict")
    same = core.patch_namespaced_config_map("one", "t", {"data": {"a": "2"}})
    assert same.metadata.resource_version == newer.metadata.resource_version
    with pytest.raises(ApiException) as invalid:
        core.create_namespaced_config_map("t", {**entry("two"), "data": {"a": 1}})
    assert invalid.value.status == 422


def test_selectors_and_pages(core: client.CoreV1Api) -> None:
    for number in range(7):
        core.create_namespaced_config_map("t", entry(f"m{number}", odd=str(number % 2), n=str(number)))

    def found(**query: Any) -> list[str]:
        return [item.metadata.name for item in core.list_namespaced_config_map("t", **query).items]

    assert found(label_selector="odd=1") == ["m1", "m3", "m5"]
    assert found(label_selector="odd!=1,n in (0, 2)") == ["m0", "m2"]
    assert found(label_selector="n notin (0,1,2,3,4)") == ["m5", "m6"]
    assert found(label_selector="!odd") == []
    assert found(field_selector="metadata.name=m4") == ["m4"]
    page = core.list_namespaced_config_map("t", limit=3)
    names, sizes = [i.metadata.name for i in page.items], [len(page.items)]
    assert page.metadata.remaining_item_count == 4
    while page.metadata._continue:
        page = core.list_namespaced_config_map("t", limit=3, _continue=page.metadata._continue)
        names += [i.metadata.name for i in page.items]
        sizes.append(len(page.items))
    assert (sizes, names) == ([3, 3, 1], [f"m{n}" for n in range(7)])


def test_watching_sees_each_change_once_and_too_old_a_version_is_an_error(
    held: Cluster, core: client.CoreV1Api
) -> None:
    start = core.list_namespaced_config_map("t").metadata.resource_version
    core.create_namespaced_config_map("t", entry("one"))
    core.patch_namespaced_config_map("one", "t", {"data": {"a": "2"}})
    core.patch_namespaced_config_map("one", "t", {"data": {"a": "2"}})  # no change, no event
    core.delete_namespaced_config_map("one", "t")

    def events(version: str, **query: Any) -> list[tuple[str, str]]:
        stream = watch.Watch().stream(
            core.list_namespaced_config_map, "t", resource_version=version, timeout_seconds=1, **query
        )
        return [(event["type"], event["raw_object"].get("data", {}).get("a", "")) for event in stream]

    assert events(start) == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]
    marked = list(held.watch(
        "/api/v1/namespaces/t/configmaps", {"resourceVersion": start, "allowWatchBookmarks": "true"}, 0.1
    ))  # fmt: skip
    assert marked[-1]["type"] == "BOOKMARK"
    newest = int(marked[-1]["object"]["metadata"]["resourceVersion"])
    assert newest >= int(marked[-2]["object"]["metadata"]["resourceVersion"])
    held.forget()
    with pytest.raises(ApiException) as gone:
        events(start)
    assert gone.value.status == 410


def test_a_status_is_written_apart_from_the_object(
    api: client.ApiClient, core: client.CoreV1Api, schemas: Schemas
) -> None:
    custom = client.CustomObjectsApi(api)
    (job,) = load_all((MANIFESTS / "examples/search/rayjob.yaml").read_bytes())
    place = ("ray.io", "v1", "t", "rayjobs")
    name = job["metadata"]["name"]
    job["metadata"]["namespace"] = "t"
    made = custom.create_namespaced_custom_object(*place, {**job, "status": {"jobStatus": "SUCCEEDED"}})
    assert "status" not in made
    told = custom.patch_namespaced_custom_object_status(*place, name, {"status": {"jobStatus": "RUNNING"}})
    assert told["status"]["jobStatus"] == "RUNNING"
    assert told["metadata"]["generation"] == made["metadata"]["generation"]
    kept = custom.patch_namespaced_custom_object(
        *place, name, {"spec": {"ttlSecondsAfterFinished": 60}, "status": {"jobStatus": "FAILED"}}
    )
    assert (kept["spec"]["ttlSecondsAfterFinished"], kept["status"]["jobStatus"]) == (60, "RUNNING")
    assert kept["metadata"]["generation"] == made["metadata"]["generation"] + 1
    with pytest.raises(ApiException) as refused:
        custom.patch_namespaced_custom_object_status(*place, name, {"status": {"jobStatus": 5}})
    assert refused.value.status == 422
    changed = api.call_api(
        f"/apis/ray.io/v1/namespaces/t/rayjobs/{name}",
        "PATCH",
        header_params={"Content-Type": "application/json-patch+json"},
        body=[{"op": "replace", "path": "/spec/backoffLimit", "value": 2}],
        response_type="object",
        _return_http_data_only=True,
    )
    assert changed["spec"]["backoffLimit"] == 2


def test_two_who_apply_have_fields_of_their_own(api: client.ApiClient, core: client.CoreV1Api) -> None:
    def config(**data: str) -> Documents:
        return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "t"}, "data": data}]

    apply(api, config(a="1", b="1"), "one")
    apply(api, config(c="1"), "two")
    assert core.read_namespaced_config_map("m", "t").data == {"a": "1", "b": "1", "c": "1"}
    with pytest.raises(ApiException) as disputed:
        apply(api, config(a="2"), "two", force=False)
    assert disputed.value.status == 409 and "data.a (one)" in disputed.value.body
    apply(api, config(a="1"), "one")  # no longer asks for b
    assert core.read_namespaced_config_map("m", "t").data == {"a": "1", "c": "1"}
    apply(api, config(a="2", c="1"), "two")
    assert core.read_namespaced_config_map("m", "t").data == {"a": "2", "c": "1"}
