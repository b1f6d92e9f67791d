"""Take out of a base image what installs or builds: pip, setuptools, wheel, ensurepip and their launchers.

A running image needs none of them, and a step that can install packages is a step whose content is not known.
"""

from __future__ import annotations

import shutil
import site
import sysconfig
from pathlib import Path

TOOLS = ("pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")
LIBRARY = ("ensurepip", "idlelib", "lib2to3", "turtledemo", "test")
PLACES = (Path("/usr/local/bin"), Path("/usr/bin"))
WHEELS = Path("/usr/share/python-wheels")
LAUNCHERS = ("pip", "wheel", "easy_install", "idle", "2to3", "pydoc")


def strip() -> list[Path]:
    """Remove them; returns what was removed."""
    library = Path(sysconfig.get_path("stdlib"))
    packages = {Path(sysconfig.get_path("purelib")), *map(Path, site.getsitepackages())}
    found = [library / name for name in LIBRARY]
    for folder in packages:
        found += [path for name in TOOLS for path in (*folder.glob(name), *folder.glob(f"{name}-*.dist-info"))]
    for folder in {Path(sysconfig.get_path("scripts")), *PLACES}:
        found += [path for name in LAUNCHERS for path in (*folder.glob(name), *folder.glob(f"{name}[0-9.-]*"))]
    found.append(WHEELS)
    removed = []
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.exists() or path.is_symlink():
            path.unlink()
        else:
            continue
        removed.append(path)
    return removed


if __name__ == "__main__":
    print("\n".join(f"removed {path}" for path in strip()))
