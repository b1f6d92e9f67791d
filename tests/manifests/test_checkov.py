"""checkov over every overlay and over the pods inside custom resources: nothing fails without a written reason."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.pod_templates import PodTemplate, pod_templates
from tests.support.tools import tool

REASONS = yaml.safe_load((Path(__file__).parent / "checkov.yaml").read_text())
CUSTOM = ("RayCluster", "RayJob", "ServingRuntime", "WorkflowTemplate", "Sensor")


@pytest.fixture(scope="module")
def checkov() -> str:
    return tool("checkov", "checkov")


def extracted(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pods of custom resources as pods and jobs, which checkov knows."""
    return [_known(pod) for document in documents if document["kind"] in CUSTOM for pod in pod_templates(document)]


def _known(pod: PodTemplate) -> dict[str, Any]:
    metadata = {"name": re.sub(r"[^a-z0-9]+", "-", pod.owner.lower()), "namespace": "trialops"}
    # As the platform's own pods: KFP and Argo mount a token only where a step reports through the API.
    spec = {"automountServiceAccountToken": False, **_core(pod.spec)}
    if pod.long_running:
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    job = {"template": {"spec": {"restartPolicy": "Never", **spec}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job}


def _core(spec: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        "securityContext", "containers", "initContainers", "volumes", "automountServiceAccountToken",
        "serviceAccountName", "restartPolicy",
    }  # fmt: skip
    return {key: value for key, value in spec.items() if key in known and value}


@pytest.mark.slow
def test_nothing_fails_without_a_written_reason(
    checkov: str, rendered: Mapping[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    pods = [pod for name in ("dev", "prod") for pod in extracted(rendered[name])]
    assert len(pods) > 10
    for name, documents in {"dev": rendered["dev"], "prod": rendered["prod"], "pods": pods}.items():
        kept = [d for d in documents if d["kind"] != "PipelineVersion"]  # checkov has no check for it
        (tmp_path / f"{name}.yaml").write_text(yaml.dump_all(kept, Dumper=yaml.CSafeDumper))
    # A seeded fault, so that a run that looks at nothing does not pass.
    bad = {"name": "a", "image": "a:latest", "securityContext": {"privileged": True}}
    seeded = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "seeded"}, "spec": {"containers": [bad]}}
    (tmp_path / "seeded.yaml").write_text(yaml.safe_dump(seeded))
    command = [checkov, "--framework", "kubernetes", "-d", str(tmp_path), "--skip-download", "--compact", "--quiet"]
    done = subprocess.run([*command, "-o", "json"], capture_output=True, text=True, timeout=250, check=False)
    report = json.loads(done.stdout)
    report = report[0] if isinstance(report, list) else report
    failed = report["results"]["failed_checks"]
    assert report["summary"]["parsing_errors"] == 0
    assert {"CKV_K8S_16", "CKV_K8S_14"} <= {f["check_id"] for f in failed if "seeded" in f["resource"]}

    needed, unexplained = set(), []
    for check in failed:
        if "seeded" in check["resource"]:
            continue
        reason = REASONS["failed"].get(check["check_id"])
        only = (reason or {}).get("resources")
        if reason is None or (only and not any(check["resource"].endswith(name) for name in only)):
            unexplained.append(f"{check['check_id']} {check['check_name']}: {check['resource']}")
        needed.add(check["check_id"])
    assert unexplained == []
    assert needed == set(REASONS["failed"]), "a reason is not needed any more"
    assert all(len(entry["reason"]) > 60 for entry in REASONS["failed"].values())
