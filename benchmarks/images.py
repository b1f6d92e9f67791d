"""Sizes and start times of the images that docker/build.sh made.

    python -m benchmarks.images --repeats 7

The model server is started from its own image (candidate) and from the component image, which can serve the same bundle
(baseline), in turn. Measured are the seconds from asking the engine for a container to the first "ready" over HTTP, and
from SIGTERM to the end. Of the component image: the seconds of a container that does nothing, of one that imports what
every step imports, and of one that starts the command line. Sizes are the engine's, the base's apart; --archive adds
those of gzipped archives. Resident memory is that of the server's process once it is ready. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from trialops.models.bundle import Bundle

RESTRICTED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs=/tmp:mode=1777")
IMAGES = ("components", "server", "report_function")
BASE = os.environ.get("BASE", "docker.io/library/python:3.11-slim-bookworm")


def logistic(folder: Path) -> Path:
    """A bundle to serve; the model has no part in what is measured."""
    names = ("age", "weight", "visits")
    Bundle(
        name="withdrawal",
        kind="logistic",
        features=names,
        threshold=0.5,
        task={"name": "withdrawal"},
        training={"table": "t", "version": 1, "digest": "0" * 64, "rows": 1},
        created_by="benchmark",
        params={"C": 1.0},
        fill=dict.fromkeys(names, 0.0),
        centre=(0.0,) * 3,
        scale=(1.0,) * 3,
        coefficients=(0.1, 0.2, 0.3),
        intercept=0.0,
    ).save(folder)
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


class Engine:
    """docker or podman, and what was built."""

    def __init__(self, folder: Path) -> None:
        told = os.environ.get("ENGINE", "")
        docker = shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0
        self.command = told or ("docker" if docker else shutil.which("podman") or "docker")
        self.references = {image: (folder / f"{image}.ref").read_text().strip() for image in IMAGES}

    def __call__(self, *arguments: str) -> str:
        """Output of a command."""
        done = subprocess.run([self.command, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def size(self, reference: str) -> float:
        """Megabytes of an image."""
        return round(int(json.loads(self("image", "inspect", reference))[0]["Size"]) / 1e6, 1)

    def archive(self, reference: str) -> float:
        """Megabytes of what a registry would hold, about: the image's archive, gzipped."""
        with tempfile.TemporaryFile() as file:
            save = subprocess.Popen(
                [self.command, "save", reference], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            with gzip.open(file, "wb", compresslevel=6) as packed:
                shutil.copyfileobj(save.stdout, packed)  # type: ignore[arg-type]
            return round(file.seek(0, os.SEEK_END) / 1e6, 1)

    def serve(self, image: str, bundle: Path) -> dict[str, float]:
        """Seconds until ready and to leave, and resident megabytes, of one server."""
        name, begun = f"trialops-bench-{uuid.uuid4().hex[:8]}", time.perf_counter()
        words = ["run", "--detach", f"--name={name}", *RESTRICTED, "--publish=127.0.0.1::8080"]
        words += [f"--volume={bundle}:/mnt/models:ro", "--env=TRIALOPS_SERVE_HOST=0.0.0.0", "--entrypoint=python3"]
        self(*words, self.references[image], "-m", "trialops.serving.server")
        try:
            port = self("port", name, "8080/tcp").strip().rsplit(":", 1)[1]
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1) as answer:
                        if answer.status == 200:
                            break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.005)
            ready = time.perf_counter() - begun
            status = self("exec", name, "cat", "/proc/1/status")
            memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
            asked = time.perf_counter()
            self("stop", "--time=20", name)
            return {"ready": ready, "stop": time.perf_counter() - asked, "memory_mb": memory / 1024}
        finally:
            subprocess.run([self.command, "rm", "--force", name], capture_output=True)

    def once(self, image: str, *command: str) -> float:
        """Seconds of one container from start to end."""
        begun = time.perf_counter()
        words = ["run", "--rm", *RESTRICTED, "--network=none", "--volume=/var/lib/trialops", "--entrypoint", command[0]]
        self(*words, self.references[image], *command[1:])
        return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, default=Path("build/images"), help="what docker/build.sh wrote")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--archive", action="store_true", help="also pack each image (minutes)")
    args = parser.parse_args()
    engine = Engine(args.images)
    base = engine.size(BASE)
    found: dict[str, Any] = {"base_mb": base, "images": {}}
    for image, reference in engine.references.items():
        size = engine.size(reference)
        found["images"][image] = {"reference": reference, "mb": size, "over_base_mb": round(size - base, 1)}
        if args.archive:
            found["images"][image]["gzip_mb"] = engine.archive(reference)
    if args.archive:
        found["base_gzip_mb"] = engine.archive(BASE)
    served: dict[str, list[dict[str, float]]] = {"server": [], "components": []}
    once: dict[str, list[float]] = {"nothing": [], "step": [], "command": []}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        bundle = logistic(Path(folder) / "bundle")
        for _ in range(args.repeats):
            for image, runs in served.items():
                runs.append(engine.serve(image, bundle))
            once["nothing"].append(engine.once("components", "true"))
            once["step"].append(engine.once("components", "python3", "-c", "import kfp.dsl.executor, trialops.stores"))
            once["command"].append(engine.once("components", "trialops", "--help"))
    median = statistics.median
    for image, runs in served.items():
        found[f"serve_{image}"] = {key: round(median(run[key] for run in runs), 3) for key in runs[0]}
    pairs = zip(served["components"], served["server"], strict=True)
    found["ready_components_to_server"] = round(median(a["ready"] / b["ready"] for a, b in pairs), 2)
    found["container_seconds"] = {name: round(median(times), 3) for name, times in once.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
