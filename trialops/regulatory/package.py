"""A folder that travels: every file with its size and digests, written whole or not at all, checked by anyone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

MANIFEST = "manifest.json"
CHECKSUMS = "checksums-md5.txt"
FORMAT = "trialops-package/1"


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file of a package."""

    path: str
    text: str


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into that takes its name only when the block succeeds; an earlier one is replaced."""
    staged = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(target)
    staged.replace(target)


def seal_folder(folder: Path, facts: Mapping[str, Any]) -> str:
    """Write the checksums and the manifest of a folder; returns the SHA-256 of the manifest.

    Args:
        folder: The folder, complete but for these two files.
        facts: What the manifest says beside the files; JSON values.
    """
    md5 = [f"{_digest(path, 'md5')}  {name}\n" for name, path in _files(folder) if name not in (MANIFEST, CHECKSUMS)]
    (folder / CHECKSUMS).write_text("".join(md5), "utf-8")
    files = {
        name: {"bytes": path.stat().st_size, "sha256": _digest(path, "sha256")}
        for name, path in _files(folder)
        if name != MANIFEST
    }
    document = {"format": FORMAT, **facts, "files": files}
    data = (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
    (folder / MANIFEST).write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a package and its SHA-256.

    Raises:
        TrialOpsError: There is none, or it is not one of ours.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        document = json.loads(data)
        if document["format"] != FORMAT or not isinstance(document["files"], dict):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise TrialOpsError(
            "The folder is not a package: its manifest is missing or damaged",
            where=str(path),
            fix="Give the folder that holds manifest.json.",
        ) from None
    return document, hashlib.sha256(data).hexdigest()


def verify_folder(folder: Path, *, expected: str = "") -> list[Problem]:
    """Compare every file of a package with its manifest.

    Args:
        folder: The package.
        expected: SHA-256 the manifest must have, where it is known from elsewhere (the audit trail): without it a
            changed file can hide behind a changed manifest.

    Returns:
        What does not hold, by path; empty where everything does.
    """
    document, digest = read_manifest(folder)
    problems = []
    if expected and digest != expected:
        problems.append(Problem(MANIFEST, "the manifest is not the one that was written"))
    present = dict(_files(folder))
    present.pop(MANIFEST, None)
    for name in sorted(set(present) - set(document["files"])):
        problems.append(Problem(name, "the file is not part of the package"))
    for name, facts in sorted(document["files"].items()):
        path = present.get(name)
        if path is None:
            problems.append(Problem(name, "the file is missing"))
        elif path.stat().st_size != facts["bytes"]:
            problems.append(Problem(name, f"the file has {path.stat().st_size} bytes instead of {facts['bytes']}"))
        elif _digest(path, "sha256") != facts["sha256"]:
            problems.append(Problem(name, "the content has changed"))
    return problems


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = [(p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file() or p.is_symlink()]
    return sorted(found)


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()
