"""Every pipeline of the catalogue: compiled structure, signature, hardening, and the Kubernetes form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import checks
import jsonschema
import pytest
import yaml

from pipelines import catalog
from pipelines.catalog import CATALOG, Entry
from pipelines.compile import SIZE_LIMIT, compile_all, ir_yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDEN = HERE / "golden"
UPDATE = os.environ.get("TRIALOPS_UPDATE_GOLDEN") == "1"
PER_ENTRY = pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)


def compare(path: Path, present: Any) -> None:
    """Compare with a stored snapshot, or store it when asked to."""
    text = yaml.safe_dump(present, sort_keys=True, width=110)
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"no snapshot {path.name}: look at the change and run 'make golden-update'"
    assert path.read_text() == text, f"{path.name} changed: look at the difference and run 'make golden-update'"


@PER_ENTRY
def test_structure(entry: Entry) -> None:
    compare(GOLDEN / f"{entry.name}.yaml", checks.structure(ir_yaml(entry)))


@PER_ENTRY
def test_signature(entry: Entry) -> None:
    signature = checks.signature(ir_yaml(entry))
    compare(GOLDEN / f"{entry.name}.signature.yaml", signature)
    described = dict(entry.parameters)
    assert set(described) <= set(signature), "the catalogue describes a parameter that the pipeline does not have"
    for name, facts in signature.items():
        scheduled = entry.schedule is not None or bool(entry.triggers)
        started = "defaultValue" in facts or facts.get("isOptional") or name in dict(entry.arguments)
        assert not scheduled or started, (
            f"{name} has neither default nor argument: a schedule could not start {entry.name}"
        )


@PER_ENTRY
def test_hardened(entry: Entry) -> None:
    ir = ir_yaml(entry)
    assert checks.unhardened(ir) == []
    assert checks.guessed_conditions(ir) == []
    assert len(ir) <= SIZE_LIMIT


@PER_ENTRY
def test_kubernetes_form(entry: Entry, tmp_path: Path, anchors: Path) -> None:
    (compiled,) = compile_all(tmp_path, [entry.name])
    schemas = {}
    for path in (anchors / "crds" / "kubeflow-pipelines").glob("pipelines.kubeflow.org_*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        (version,) = [item for item in definition["versions"] if item["name"] == "v2beta1"]
        schemas[definition["names"]["kind"]] = checks.closed(version["schema"]["openAPIV3Schema"])
    manifests = list(yaml.safe_load_all(compiled.kubernetes.read_text()))
    assert [manifest["kind"] for manifest in manifests] == ["Pipeline", "PipelineVersion"]
    for manifest in manifests:
        assert manifest["apiVersion"] == "pipelines.kubeflow.org/v2beta1"
        jsonschema.Draft202012Validator(schemas[manifest["kind"]]).validate(manifest)
    pipeline, version = manifests
    assert version["spec"]["pipelineName"] == pipeline["metadata"]["name"] == entry.kfp_name
    assert len(version["metadata"]["name"]) <= 63
    spec, platform = checks.documents(compiled.ir.read_bytes())
    assert version["spec"]["pipelineSpec"] == spec and version["spec"].get("platformSpec", {}) == platform


def test_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.compile import compile_all; "
        "compile_all(Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "12345"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=environment, cwd=tmp_path)
    compile_all(tmp_path / "here")
    here = {path.relative_to(tmp_path / "here"): path.read_bytes() for path in (tmp_path / "here").rglob("*.yaml")}
    there = {path.relative_to(tmp_path / "there"): path.read_bytes() for path in (tmp_path / "there").rglob("*.yaml")}
    assert len(here) == 2 * len(CATALOG) and here == there


def test_catalogue_and_files_agree() -> None:
    # argo holds the one workflow that is no pipeline of Kubeflow's.
    folders = [
        path for path in (ROOT / "pipelines").iterdir() if (path / "__init__.py").exists() and path.name != "argo"
    ]
    files = {
        f"pipelines.{folder.name}.{path.stem}"
        for folder in folders
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }
    listed = {entry.module for entry in CATALOG}
    assert listed - files == set(), "entries of the catalogue without a module"
    assert files - listed == set(), "pipeline modules without an entry in the catalogue"
    for entry in CATALOG:
        assert entry.module == f"pipelines.{entry.category}.{entry.name}"
        assert catalog.load(entry).pipeline_spec.pipeline_info.name == entry.kfp_name
    if UPDATE:
        for path in GOLDEN.glob("*.yaml"):
            if path.name.split(".")[0] not in {entry.name for entry in CATALOG}:
                path.unlink()
    stored = {path.name.split(".")[0] for path in GOLDEN.glob("*.yaml")}
    assert stored == {entry.name for entry in CATALOG}, "snapshots and catalogue differ"


def test_catalogue_is_in_order() -> None:
    assert [(entry.category, entry.name) for entry in CATALOG] == sorted((e.category, e.name) for e in CATALOG)
    for entry in CATALOG:
        assert entry.schedule is None or len(entry.schedule.split()) == 5
        assert entry.title and entry.owner and entry.alert_policy
