"""A copy of manifests/ that runs images of one build, by tags or digests that never move.

    python -m pipelines.release build/manifests --image ghcr.io/trialops/python-trialops:0.1.0-1f2e3d4c5b6a

The pipelines are compiled anew with the image: a PipelineVersion is final on the server, and its name follows what was
compiled, so that another image is another version and never a change of one that is there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from trialops.errors import TrialOpsError

_REFERENCE = re.compile(r"(?P<name>[\w.-]+(:\d+)?(/[\w.-]+)+)(:(?P<tag>[\w.-]+))?(@(?P<digest>sha256:[0-9a-f]{64}))?")


@dataclass(frozen=True)
class Image:
    """A reference to an image: its name, and the tag or digest that says which."""

    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> Image:
        """An image by tag or digest.

        Raises:
            TrialOpsError: It is no reference, or one that tells a different image tomorrow.
        """
        found = _REFERENCE.fullmatch(reference)
        if found is None or not (found["tag"] or found["digest"]) or found["tag"] == "latest":
            raise TrialOpsError(
                f"{reference} does not say which image it is",
                where="--image",
                fix="Name it with its tag or digest, as docker/build.sh prints it; a tag that moves is no name.",
            )
        return cls(found["name"], found["tag"] or "", found["digest"] or "")

    def entry(self, name: str) -> dict[str, str]:
        """What a kustomization says to have `name` replaced by this image."""
        which = {"digest": self.digest} if self.digest else {"newTag": self.tag}
        return {"name": name} | ({"newName": self.name} if self.name != name else {}) | which


def release(out: Path, image: str, server_image: str | None = None) -> list[Path]:
    """Write the copy; what was at `out` before is replaced as a whole.

    Args:
        out: Folder of the copy; parents are made.
        image: Image of every step, by tag or digest.
        server_image: Image of model servers; None: what the overlays name stays.

    Returns:
        The overlays of the copy.

    Raises:
        TrialOpsError: An image without tag or digest, `out` is something else, or the components were loaded already
            with another image.
    """
    import yaml

    steps = Image.parse(image)
    server = Image.parse(server_image) if server_image else None
    os.environ["TRIALOPS_IMAGE"] = image
    from components.base import DEFAULT_IMAGE, IMAGE
    from pipelines.manifests import OVERLAYS, ROOT, SERVER_IMAGE, write

    if ROOT in (out.resolve(), *out.resolve().parents):
        raise TrialOpsError("The copy may not lie in what it is made from", where=str(out), fix="Name another folder.")
    if out.exists() and not (out / "overlays").is_dir():
        raise TrialOpsError(f"{out} is there and is no copy of manifests", where=str(out), fix="Name another folder.")
    if image != IMAGE:
        raise TrialOpsError(
            f"Components are loaded with {IMAGE}", where="TRIALOPS_IMAGE", fix="Run it in a process of its own."
        )
    making = out.with_name(out.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(ROOT, making)
    write(making)
    named = DEFAULT_IMAGE.partition(":")[0]
    replaced = {named: steps} | ({SERVER_IMAGE.partition(":")[0]: server} if server else {})
    for overlay in OVERLAYS:
        path = making / "overlays" / overlay / "kustomization.yaml"
        document = yaml.safe_load(path.read_text())
        kept = [entry for entry in document["images"] if entry["name"] not in replaced]
        document["images"] = kept + [to.entry(name) for name, to in replaced.items()]
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        settings = making / "settings" / overlay / "settings.env"
        settings.write_text(settings.read_text().replace(DEFAULT_IMAGE, image))
    shutil.rmtree(out, ignore_errors=True)
    making.rename(out)
    return [out / "overlays" / overlay for overlay in OVERLAYS]


def main(argv: list[str] | None = None) -> int:
    """Write the copy and print its overlays; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.release", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the copy, for example build/manifests")
    parser.add_argument("--image", required=True, help="image of every step, by tag or digest")
    parser.add_argument("--server-image", help="image of model servers, by tag or digest")
    options = parser.parse_args(argv)
    try:
        overlays = release(options.out, options.image, options.server_image)
    except TrialOpsError as error:
        print(error, file=sys.stderr)
        return 1
    for path in overlays:
        print(f"kubectl apply -k {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
