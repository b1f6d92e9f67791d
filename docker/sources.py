"""What goes into an image, and the tag that follows from it. Standard library only: it also runs in a build.

    python docker/sources.py tag server --base python:3.11-slim-bookworm
    python docker/sources.py copy server /to/folder
    python docker/sources.py prune server /site-packages
    python docker/sources.py files server /unpacked /site-packages

A tag is the project's version and a digest of everything the image is made of, base image included: the same inputs
have the same tag, other inputs another one, so a tag never moves.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCRIPTS = ("sources.py", "sbom.py", "strip_base.py", "images.toml")
LEFT_OUT = {"__pycache__"}


def about(image: str) -> dict[str, Any]:
    """What docker/images.toml says of an image.

    Raises:
        SystemExit: There is none of that name.
    """
    images = tomllib.loads((HERE / "images.toml").read_text())["images"]
    if image not in images or not images[image]["dockerfile"]:
        raise SystemExit(
            f"there is no image {image}: {', '.join(name for name in images if images[name]['dockerfile'])}"
        )
    found: dict[str, Any] = images[image]
    return found


def sources(image: str) -> Iterator[Path]:
    """The files of the repository that an image holds, in order."""
    for name in about(image)["sources"]:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not LEFT_OUT & set(file.parts) and file.suffix != ".pyc":
                yield file


def version() -> str:
    """Version of the project."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def inputs_digest(image: str, base: str) -> str:
    """SHA-256 over the names and contents of all that an image is made of, and the reference of its base."""
    told = about(image)
    files = [*sources(image), ROOT / told["dockerfile"], *(ROOT / name for name in told.get("inputs", ()))]
    files += [HERE / name for name in SCRIPTS]
    files += sorted([*HERE.glob(f"requirements/{image}*.txt"), HERE / "requirements" / "build.txt"])
    total = hashlib.sha256(f"{base}\0".encode())
    for file in files:
        total.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def tag(image: str, base: str) -> str:
    """The image's immutable tag."""
    return f"{version()}-{inputs_digest(image, base)[:16]}"


def copy(image: str, target: Path) -> None:
    """Copy an image's sources to a folder, with what says which version of the project they are."""
    about_it = target / f"trialops-{version()}.dist-info" / "METADATA"
    about_it.parent.mkdir(parents=True)
    about_it.write_text(f"Metadata-Version: 2.1\nName: trialops\nVersion: {version()}\n")
    for file in sources(image):
        to = target / file.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, to)


def prune(image: str, packages: Path) -> None:
    """Remove what an image leaves out of the installed packages."""
    for pattern in about(image).get("drop", ()):
        for path in sorted(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()


def single_files(image: str, unpacked: Path, packages: Path) -> None:
    """Copy the files that are all an image keeps of some packages, and what says where they come from."""
    for name, files in about(image).get("files", {}).items():
        for info in sorted(unpacked.glob(f"{name}-*.dist-info")):
            shutil.copytree(info, packages / info.name)
        for file in files:
            (packages / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(unpacked / file, packages / file)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("tag", "version", "title", "description", "copy", "prune", "files"))
    parser.add_argument("image")
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--base", default="", help="reference of the base image")
    args = parser.parse_args(argv)
    if args.command == "tag":
        print(tag(args.image, args.base))
    elif args.command == "version":
        print(version())
    elif args.command in ("title", "description"):
        print(about(args.image)[args.command])
    else:
        {"copy": copy, "prune": prune, "files": single_files}[args.command](args.image, *args.folders)


if __name__ == "__main__":
    sys.exit(main())
