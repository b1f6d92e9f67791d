"""Requirements of the images, out of uv.lock: exact versions with the digests of the wheels that fit.

    python docker/locked.py            writes docker/requirements/<image>.txt
    python docker/locked.py --check    says what is out of date, and exits with 1

An image gets the packages that docker/images.toml names and what they need in turn, in the versions of the lock. No
version is resolved anew, and what is not in the lock cannot get in.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PROJECT = "trialops"
ENVIRONMENT = {
    "python_version": "3.11",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
"""Of the images; machine and patch release are set where they are asked for."""
RELEASES = ("3.11.0", "3.11.99")
"""A base image may be of any release between: what either of them needs is installed."""
_INTERPRETERS = re.compile(r"-(?:py3|py2\.py3|py311|cp311|cp3(?:[2-9]|10)-abi3|cp311-abi3)[-.]")


class Lock:
    """A lock file: its packages by name."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.packages: dict[str, dict[str, Any]] = {p["name"]: p for p in tomllib.load(file)["package"]}

    def closure(self, roots: Sequence[str], machine: str) -> set[str]:
        """Names of the packages, and of all they need on this machine (the project itself left out).

        Raises:
            SystemExit: A package is not in the lock.
        """
        return set().union(*(self._closure(roots, machine, release) for release in RELEASES))

    def _closure(self, roots: Sequence[str], machine: str, release: str) -> set[str]:
        environment = {**ENVIRONMENT, "platform_machine": machine, "python_full_version": release}
        open_, seen = [(r.name, frozenset(r.extras)) for r in map(Requirement, roots)], set()
        while open_:
            name, extras = open_.pop()
            if (name, extras) in seen:
                continue
            seen.add((name, extras))
            package = self.packages.get(name)
            if package is None:
                raise SystemExit(f"{name} is not in uv.lock")
            needed = list(package.get("dependencies", ()))
            for extra in extras:
                needed += package.get("optional-dependencies", {}).get(extra, ())
            for one in needed:
                if "marker" not in one or Marker(one["marker"]).evaluate({**environment, "extra": ""}):
                    open_.append((one["name"], frozenset(one.get("extra", ()))))
        return {name for name, _ in seen} - {PROJECT}

    def wheels(self, name: str, platforms: Sequence[str]) -> list[dict[str, Any]]:
        """The wheels of a package that can be installed in an image."""
        return [wheel for wheel in self.packages[name].get("wheels", ()) if _fits(wheel["url"], platforms)]

    def requirement(self, name: str, platforms: Sequence[str], condition: str = "") -> str:
        """One line of a requirements file: version and digests of the wheels that fit, or of the source."""
        package = self.packages[name]
        files = self.wheels(name, platforms) or [package["sdist"]]
        digests = sorted({file["hash"] for file in files})
        marker = f" ; {condition}" if condition else ""
        return " \\\n".join([f"{name}=={package['version']}{marker}", *(f"    --hash={digest}" for digest in digests)])


def _fits(url: str, platforms: Sequence[str]) -> bool:
    file = url.rsplit("/", 1)[-1]
    machine = file.endswith("-any.whl") or (
        "linux" in file and "musl" not in file and any(p in file for p in platforms)
    )
    return machine and bool(_INTERPRETERS.search(file))


def requirements(image: str, content: Mapping[str, Any], lock: Lock) -> dict[str, str]:
    """The requirements files of an image, by name.

    ``<image>.txt`` is installed from wheels alone. ``<image>-source.txt`` lists what has no wheel that fits: it
    is built by what the first has installed. ``<image>-files.txt`` is what single files are kept of.
    """
    platforms, about = content["platforms"], content["images"][image]
    by_machine = {machine: lock.closure(about["packages"], machine) for machine in platforms}
    found: dict[str, list[str]] = {"": [], "-source": [], "-files": []}
    for name in sorted(set().union(*by_machine.values())):
        on = [machine for machine in platforms if name in by_machine[machine]]
        condition = "" if len(on) == len(platforms) else " or ".join(f"platform_machine == '{m}'" for m in on)
        part = "" if lock.wheels(name, platforms) else "-source"
        found[part].append(lock.requirement(name, platforms, condition))
    found["-files"] = [lock.requirement(name, platforms) for name in sorted(about.get("files", {}))]
    head = f"# Made by docker/locked.py from uv.lock and docker/images.toml ({image})."
    return {f"{image}{part}.txt": "\n".join([head, *lines]) + "\n" for part, lines in found.items() if lines}


def outputs() -> dict[Path, str]:
    """Every file and what it should hold."""
    content, lock = tomllib.loads((HERE / "images.toml").read_text()), Lock(ROOT / "uv.lock")
    folder = HERE / "requirements"
    return {
        folder / name: text for image in content["images"] for name, text in requirements(image, content, lock).items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare; exit with 1 where a file is out of date")
    check = parser.parse_args(argv).check
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    if not check:
        for path in stale:
            path.parent.mkdir(exist_ok=True)
            path.write_text(outputs()[path])
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: python docker/locked.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
