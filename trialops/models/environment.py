"""The software a model was made with: what an inspector needs to make it again."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.models.record import plain

_LOCK = Path(__file__).resolve().parents[2] / "uv.lock"


@dataclass(frozen=True)
class Environment:
    """An environment lock.

    Attributes:
        python: Version of the interpreter.
        system: Operating system and machine, without a host name.
        requirements: Every installed distribution as ``name==version``, sorted.
        requirements_digest: SHA-256 of those lines.
        uv_lock: SHA-256 of the project's lock file; empty where the installation has none beside it.
        code_version: Version of the project's own sources.
    """

    python: str
    system: str
    requirements: tuple[str, ...]
    requirements_digest: str
    uv_lock: str
    code_version: str

    def as_dict(self) -> dict[str, Any]:
        """The lock as JSON values."""
        return plain(self)

    def tags(self) -> dict[str, str]:
        """What identifies it, short enough for a registry's tags."""
        return {
            "environment.python": self.python,
            "environment.requirements": self.requirements_digest,
            "environment.uv_lock": self.uv_lock or "none",
            "code_version": self.code_version,
        }

    def write(self, folder: Path) -> Path:
        """Write the requirements as a file pip can install from; returns it."""
        path = folder / "requirements.lock.txt"
        path.write_text("\n".join(self.requirements) + "\n", "utf-8")
        return path


def environment() -> Environment:
    """The lock of the running process."""
    from importlib.metadata import distributions

    from trialops.version import code_version

    lines = {f"{d.metadata['Name'].lower()}=={d.version}" for d in distributions() if d.metadata["Name"]}
    requirements = tuple(sorted(lines))
    return Environment(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        requirements=requirements,
        requirements_digest=hashlib.sha256("\n".join(requirements).encode()).hexdigest(),
        uv_lock=hashlib.sha256(_LOCK.read_bytes()).hexdigest() if _LOCK.exists() else "",
        code_version=code_version(),
    )
