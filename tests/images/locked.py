"""The modules below docker/, and what an image's requirements say."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

DOCKER = Path(__file__).resolve().parents[2] / "docker"


def script(name: str) -> ModuleType:
    """A script below docker/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def requirements(image: str) -> dict[str, str]:
    """Package and version of every line of an image's requirements files."""
    text = "\n".join(path.read_text() for path in sorted((DOCKER / "requirements").glob(f"{image}*.txt")))
    return dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", text, re.MULTILINE))


def images() -> dict[str, dict]:
    """docker/images.toml, without the tools that build."""
    found: dict[str, dict] = tomllib.loads((DOCKER / "images.toml").read_text())["images"]
    return {name: told for name, told in found.items() if told["dockerfile"]}


def closure_of(image: str) -> list[str]:
    """name==version of what an image installs on this kind of machine."""
    text = "\n".join(path.read_text() for path in sorted((DOCKER / "requirements").glob(f"{image}*.txt")))
    import platform

    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[platform.machine()]
    lines = re.findall(r"^([a-z0-9][a-z0-9.-]*)==(\S+)(.*)$", text, re.MULTILINE)
    return [f"{name}=={version}" for name, version, rest in lines if f"'{other}'" not in rest or "' or " in rest]
