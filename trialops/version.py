"""Which code ran: a digest of the project's own sources, for lineage and for the cache."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("trialops", "components", "feature_repo")
_KINDS = {".py", ".yaml", ".yml", ".html", ".css", ".sql", ".json", ".typ"}


@lru_cache(maxsize=1)
def code_version() -> str:
    """First 16 hexadecimal digits of a SHA-256 over the sources that steps run and the locked dependencies.

    ``TRIALOPS_CODE_VERSION`` overrides it: an image sets the commit it was built from.
    """
    stated = os.environ.get("TRIALOPS_CODE_VERSION")
    if stated:
        return stated
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((_ROOT / package).rglob("*")):
            if path.suffix in _KINDS and "__pycache__" not in path.parts:
                total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    lock = _ROOT / "uv.lock"
    if lock.exists():
        total.update(lock.read_bytes())
    return total.hexdigest()[:16]
