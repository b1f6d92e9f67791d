"""Folders as values: a digest over their files, and replacement in one go."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from trialops.errors import TrialOpsError


def folder_digest(folder: Path) -> str:
    """SHA-256 over relative file names and contents, in name order."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(path.relative_to(folder).as_posix().encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def replace_folder(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source``; a reader sees the old folder or the new one, never half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(source, staged)
    if target.exists():
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    staged.replace(target)


def outside_home(target: str, home: Path, *, what: str) -> Path:
    """A folder that files in the clear may be written to.

    Args:
        target: What the person gave.
        home: The platform's home, resolved.
        what: What is to be written, for the error ("A submission").

    Raises:
        TrialOpsError: None was given, or it lies below the home.
    """
    if not target.strip():
        raise TrialOpsError(
            f"{what} needs a folder to go to",
            where="target",
            fix="Give --set target=FOLDER, a place that may hold identifiable data.",
        )
    place = Path(target).resolve()
    if place == home or home in place.parents:
        raise TrialOpsError(
            f"{what} may not be written below the platform's home: nothing identifiable lies there in the clear",
            where="target",
            fix="Choose a folder outside it that may hold identifiable data.",
        )
    return place
