"""The published schemas of Define-XML 2.1 and Dataset-JSON 1.1, for tests alone; nothing of them is shipped.

They are data files of two wheels on the package index: odmlib (MIT) carries the XML schemas, cdisc-rules-engine (MIT)
the JSON schemas. The wheels are not installed, only unpacked: the second needs another Python. Each is pinned by
version and SHA-256 and kept in a cache folder, so a machine fetches them once.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("TRIALOPS_SCHEMA_CACHE", Path.home() / ".cache" / "trialops" / "schemas"))
WHEELS = {
    "odmlib": ("0.2.1", "0aa801c7670b524244a78d8e9209e66a9f41eab5858f1e45b3bfe34eba5dc702"),
    "cdisc-rules-engine": ("0.17.1", "83fc96c5531f771d7033127102168dd9b34367c607626fef9bf2148232b5e2c5"),
}


def _unpacked(name: str) -> Path:
    """The unpacked wheel; the test is skipped, or fails where the anchors are required, when it cannot be had."""
    version, digest = WHEELS[name]
    wheel = CACHE / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    target = CACHE / f"{name}-{version}"
    if not wheel.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            + ["--python-version", "3.12", "--disable-pip-version-check", "-d", str(CACHE), f"{name}=={version}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode or not wheel.exists():
            message = f"{name} {version} cannot be fetched from the package index: its schemas are not checked"
            if os.environ.get("TRIALOPS_REQUIRE_ANCHORS") == "1":
                pytest.fail(message)
            pytest.skip(message)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == digest, f"{wheel.name} is not the file that was pinned"
    if not target.exists():
        staged = target.with_name(f".{target.name}.{os.getpid()}")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(staged, [n for n in archive.namelist() if "schema" in n])
        try:
            staged.rename(target)
        except OSError:  # another test process was first
            assert target.exists()
    return target


def define_schema() -> Path:
    """The Define-XML 2.1 XML schema, with ODM 1.3.2 beside it."""
    return _unpacked("odmlib") / "odmlib" / "schemas" / "define" / "2.1" / "define2-1-0.xsd"


def dataset_json_schema() -> Path:
    """The JSON schema of a Dataset-JSON 1.1 file."""
    return _unpacked("cdisc-rules-engine") / "resources" / "schema" / "dataset.schema.json"


def dataset_ndjson_schema() -> Path:
    """The JSON schema of the first line of a Dataset-JSON 1.1 NDJSON file."""
    return _unpacked("cdisc-rules-engine") / "resources" / "schema" / "dataset-ndjson-schema.json"
