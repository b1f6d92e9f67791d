"""Bill of materials of an image: CycloneDX 1.6 JSON out of what is installed, not out of what was asked for.

    python docker/sbom.py --name trialops-server --version 0.1.0-… --packages /opt/trialops/… > sbom.cdx.json

Python packages come from their metadata, Debian packages from dpkg's status, Python itself from the interpreter. There
is no time and no random number in it: the same image content has the same bill. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

STATUS = Path("/var/lib/dpkg/status")
RELEASE = Path("/etc/os-release")
_REQUIRED = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def normal(name: str) -> str:
    """A package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def python_components(folders: Sequence[Path]) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """Installed Python packages by normal name: the component, and the names it requires."""
    found: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for one in distributions(path=[str(folder) for folder in folders]):
        name = one.metadata["Name"]
        purl = f"pkg:pypi/{normal(name)}@{quote(one.version, safe='')}"
        component = {"type": "library", "bom-ref": purl, "name": name, "version": one.version, "purl": purl}
        if licences := _licences(one):
            component["licenses"] = licences
        found[normal(name)] = component, sorted(_required(one))
    return found


def _required(one: Distribution) -> Iterator[str]:
    for text in one.requires or ():
        match = _REQUIRED.match(text)
        if match and "extra ==" not in text.partition(";")[2]:
            yield normal(match[1])


def _licences(one: Distribution) -> list[dict[str, Any]]:
    """The licence as the package states it: an SPDX expression, else its classifiers or its short field."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    classified = [text.rsplit(" :: ", 1)[-1] for text in one.metadata.get_all("Classifier", []) if "License ::" in text]
    named = classified or [text for text in [(one.metadata.get("License") or "").strip()] if 0 < len(text) <= 80]
    return [{"license": {"name": name}} for name in sorted(set(named)) if "\n" not in name]


def debian_components(status: Path = STATUS, release: Path = RELEASE) -> list[dict[str, Any]]:
    """Installed Debian packages; none where there is no dpkg."""
    if not status.exists():
        return []
    about = (
        dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line) if release.exists() else {}
    )
    distribution = f"debian-{about.get('VERSION_ID', '').strip(chr(34))}"
    found = []
    for block in status.read_text(errors="replace").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if fields.get("Status", "").endswith(" installed"):
            version, name = fields["Version"], fields["Package"]
            purl = f"pkg:deb/debian/{quote(name, safe='')}@{quote(version, safe='')}"
            purl += f"?arch={fields.get('Architecture', 'all')}&distro={distribution}"
            found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return found


def bill(name: str, version: str, folders: Sequence[Path], *, base: str = "", debian: bool = True) -> dict[str, Any]:
    """The document.

    Args:
        name: Name of the image.
        version: Its immutable tag.
        folders: Where Python packages are installed.
        base: Reference of the base image.
        debian: List the Debian packages of this system too.
    """
    packages = python_components(folders)
    interpreter = platform.python_version()
    purl = f"pkg:generic/python@{interpreter}"
    python = {"type": "platform", "bom-ref": purl, "name": "python", "version": interpreter, "purl": purl}
    components = [component for component, _ in packages.values()] + [python] + (debian_components() if debian else [])
    root = {"type": "container", "bom-ref": f"{name}@{version}", "name": name, "version": version}
    if base:
        root["properties"] = [{"name": "trialops:base", "value": base}]
    depends = [
        {
            "ref": component["bom-ref"],
            "dependsOn": sorted({packages[other][0]["bom-ref"] for other in required if other in packages}),
        }
        for component, required in packages.values()
    ]
    depends.append({"ref": root["bom-ref"], "dependsOn": sorted({component["bom-ref"] for component in components})})
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": sorted(components, key=lambda component: component["bom-ref"]),
        "dependencies": sorted(depends, key=lambda entry: entry["ref"]),
    }
    content = json.dumps(document, sort_keys=True)
    return {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}", **document}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the bill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--base", default="")
    parser.add_argument("--packages", type=Path, nargs="+", required=True)
    args = parser.parse_args(argv)
    print(json.dumps(bill(args.name, args.version, args.packages, base=args.base), indent=1, sort_keys=True))


if __name__ == "__main__":
    sys.exit(main())
