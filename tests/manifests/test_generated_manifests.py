"""What is generated is what the code says now, and kustomize changes images wherever they are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.base import DEFAULT_IMAGE
from pipelines import manifests
from pipelines.catalog import CATALOG
from pipelines.manifests import ASKED, DELIVERED, ENDED, SERVER_IMAGE, generated, main, sensors, write
from tests.manifests.conftest import MANIFESTS
from tests.support.crd_validator import load_all

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return generated()


@pytest.mark.slow
def test_the_repository_holds_what_the_code_says(files: dict[str, bytes]) -> None:
    stale = [name for name, data in files.items() if (MANIFESTS / name).read_bytes() != data]
    assert stale == [], "run: python -m pipelines.manifests"
    held = {
        path.relative_to(MANIFESTS).as_posix()
        for folder in ("pipelines", "examples", "serving")
        for path in (MANIFESTS / folder).rglob("*.yaml")
    }
    assert held <= set(files), "generated from something that is gone"


def test_writing_changes_what_is_stale_and_nothing_else(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifests, "generated", lambda: files)
    assert set(write(tmp_path)) == set(files)
    assert write(tmp_path) == []
    (tmp_path / "pipelines" / "gone.yaml").write_text("kind: Pipeline\n")
    (tmp_path / "components" / "ray" / "cluster.yaml").write_text("edited by hand\n")
    assert write(tmp_path, check=True) == ["components/ray/cluster.yaml", "pipelines/gone.yaml"]
    assert (tmp_path / "pipelines" / "gone.yaml").exists()
    assert len(write(tmp_path)) == 2
    assert not (tmp_path / "pipelines" / "gone.yaml").exists()
    monkeypatch.setattr(manifests, "write", lambda check: ["x.yaml"])
    assert main(["--check"]) == 1
    assert "x.yaml" in capsys.readouterr().out


def test_every_pipeline_is_there_in_kubernetes_form(files: dict[str, bytes]) -> None:
    for entry in CATALOG:
        pipeline, version = load_all(files[f"pipelines/{entry.name}.yaml"])
        assert (pipeline["kind"], pipeline["metadata"]["name"]) == ("Pipeline", entry.kfp_name)
        assert version["spec"]["pipelineName"] == entry.kfp_name
        assert re.fullmatch(rf"{entry.kfp_name}-v-[0-9a-f]{{12}}", version["metadata"]["name"])
        assert len(json.dumps(version)) < 262_144 * 0.9  # the annotation of kubectl apply holds a copy


def test_every_trigger_of_the_catalogue_is_an_event_or_says_what_happens_instead() -> None:
    triggers = {trigger for entry in CATALOG for trigger in entry.triggers}
    known = {*DELIVERED, *ENDED, *ASKED}
    assert triggers <= known, "say in pipelines/manifests.py what starts it on a cluster"
    assert not (set(DELIVERED) & set(ENDED)) and not ({*DELIVERED, *ENDED} & set(ASKED))


def test_a_delivery_starts_each_pipeline_that_waits_for_it() -> None:
    arrivals, runs = sensors()

    def started(sensor: dict[str, Any], path: str, value: str) -> set[str]:
        found = set()
        for dependency in sensor["spec"]["dependencies"]:
            (data,) = dependency["filters"]["data"]
            assert data["path"] == path
            if re.search(data["value"][0], value):
                (trigger,) = [
                    t for t in sensor["spec"]["triggers"] if t["template"]["conditions"] == dependency["name"]
                ]
                command = trigger["template"]["k8s"]["source"]["resource"]["spec"]["template"]["spec"]["containers"][0]
                found.add(re.search(r"trialops submit (\w+)", command["command"][-1])[1])  # type: ignore[index]
        return found

    key = "body.Records.0.s3.object.key"
    both = {"patient_data_ingestion", "adverse_event_monitoring"}
    assert started(arrivals, key, "incoming/sdtm/2026-03-01/COMPLETE") == both
    assert started(arrivals, key, "incoming/fhir/COMPLETE") == {"patient_data_ingestion"}
    assert started(arrivals, key, "incoming/external/lab/COMPLETE") == {"external_data_ingestion"}
    assert started(arrivals, key, "incoming/sdtm/2026-03-01/ae.xpt") == set()  # a delivery is one event, not thirteen
    assert started(arrivals, key, "elsewhere/incoming/sdtm/COMPLETE") == set()
    name = "body.metadata.name"
    assert started(runs, name, "model-training-x7k2p") == {"model_evaluation"}
    assert started(runs, name, "model-evaluation-x7k2p") == {"model_deployment"}
    assert started(runs, name, "data-quality-x7k2p") == set()


def images(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["image"]} if isinstance(node.get("image"), str) else set()
        return own.union(*(images(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(images(value) for value in node))
    return set()


@pytest.mark.slow
def test_an_overlay_names_the_image_once_for_everything(kubectl: str, tmp_path: Path) -> None:
    copied = tmp_path / "manifests"
    subprocess.run(["cp", "-r", str(MANIFESTS), str(copied)], check=True)
    overlay = copied / "overlays" / "prod" / "kustomization.yaml"
    document = yaml.safe_load(overlay.read_text())
    document["images"] = [
        {"name": image.partition(":")[0], "digest": DIGEST} for image in (DEFAULT_IMAGE, SERVER_IMAGE)
    ]
    overlay.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [kubectl, "kustomize", str(overlay.parent)], capture_output=True, text=True, check=True, timeout=60
    )
    own = {image for document in load_all(done.stdout) for image in images(document) if "ghcr.io/trialops/" in image}
    assert own == {f"{image.partition(':')[0]}@{DIGEST}" for image in (DEFAULT_IMAGE, SERVER_IMAGE)}


def test_overlays_name_the_images_that_are_built(rendered: Mapping[str, list[dict[str, Any]]]) -> None:
    built = {DEFAULT_IMAGE.partition(":")[0], SERVER_IMAGE.partition(":")[0]}
    for overlay in ("dev", "staging", "prod"):
        named = yaml.safe_load((MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text())["images"]
        assert {image["name"] for image in named} == built
        own = {image for document in rendered[overlay] for image in images(document) if "trialops" in image}
        assert {re.split(r"[:@]", image)[0] for image in own} <= built
    script = (MANIFESTS.parent / "docker" / "build.sh").read_text()
    assert all(name.rpartition("/")[2] in script for name in built)
