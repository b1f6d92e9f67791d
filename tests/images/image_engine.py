"""The images that were built, and a container of one under the rules a cluster sets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "components": "python-trialops",
    "server": "trialops-server",
    "report_function": "trialops-report-function",
}
RESTRICTED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
"""Pod Security restricted, as far as an engine knows it; the user is the image's own."""
SCRATCH = ("--tmpfs=/tmp:mode=1777", "--volume=/var/lib/trialops")
"""What may be written to: /tmp, and a volume of its own that has the image folder's owner."""


def missing(reason: str) -> Any:
    """Skip for a reason; fail where images are required."""
    if os.environ.get("TRIALOPS_REQUIRE_IMAGES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Engine:
    """docker or podman, and the references of what was built."""

    command: str
    folder: Path

    def __call__(self, *arguments: str, check: bool = True, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        done = subprocess.run([self.command, *arguments], capture_output=True, text=True, timeout=seconds)
        assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done

    @property
    def restricted(self) -> tuple[str, ...]:
        """Options of a container that may do as little as possible."""
        # Podman adds folders in memory to a read-only root, /var/tmp among them; a cluster does not.
        return (*RESTRICTED, "--read-only-tmpfs=false") if self.command.endswith("podman") else RESTRICTED

    def reference(self, image: str) -> str:
        """Name and tag of an image."""
        return (self.folder / f"{image}.ref").read_text().strip()

    def bill(self, image: str) -> Path:
        """The bill of materials beside an image."""
        return self.folder / f"{NAMES[image]}-{self.reference(image).rsplit(':', 1)[1]}.cdx.json"

    def inspect(self, image: str) -> dict[str, Any]:
        """What the engine says of an image."""
        found: dict[str, Any] = json.loads(self("image", "inspect", self.reference(image)).stdout)[0]
        return found

    def run(
        self, image: str, *command: str, options: Sequence[str] = (), entrypoint: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A command in a container: restricted, without a network, gone afterwards."""
        more = [f"--entrypoint={entrypoint}"] if entrypoint else []
        options = [*self.restricted, "--network=none", *SCRATCH, *options, *more]
        return self("run", "--rm", *options, self.reference(image), *command, check=check)

    @contextmanager
    def started(self, image: str, *command: str, options: Sequence[str] = ()) -> Iterator[Started]:
        """A container in the background, restricted; removed afterwards."""
        name = f"trialops-test-{uuid.uuid4().hex[:12]}"
        begun = time.perf_counter()
        self("run", "--detach", f"--name={name}", *self.restricted, *options, self.reference(image), *command)
        try:
            yield Started(self, name, begun)
        finally:
            self("rm", "--force", "--volumes", name, check=False)


@dataclass(frozen=True)
class Started:
    """A container that runs, and when its start was asked for (perf_counter)."""

    engine: Engine
    name: str
    begun: float

    def port(self, inside: int) -> int:
        """Where a port of the container is on loopback."""
        return int(self.engine("port", self.name, f"{inside}/tcp").stdout.split(":")[-1])

    def logs(self) -> str:
        """What it has said."""
        done = self.engine("logs", self.name)
        return done.stdout + done.stderr

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self.engine("stop", "--time=20", self.name)
        return int(self.engine("inspect", "--format={{.State.ExitCode}}", self.name).stdout)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine with all three images built; skipped where they are not."""
    folder = Path(os.environ.get("TRIALOPS_IMAGES", ROOT / "build" / "images"))
    if not all((folder / f"{image}.ref").exists() for image in NAMES):
        missing(f"no images in {folder}: build them with docker/build.sh")
    command = os.environ.get("ENGINE", "")
    if not command:
        docker = subprocess.run(["docker", "info"], capture_output=True) if shutil.which("docker") else None
        command = "docker" if docker is not None and docker.returncode == 0 else shutil.which("podman") or ""
    if not command:
        missing("neither a docker daemon nor podman is here")
    found = Engine(command, folder)
    for image in NAMES:
        if found("image", "inspect", found.reference(image), check=False).returncode != 0:
            missing(f"{found.reference(image)} is not built: docker/build.sh {image}")
    return found
