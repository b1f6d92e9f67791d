"""Thresholds of medical coding, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).parent / "coding_policy.yaml"


@dataclass(frozen=True)
class CodingPolicy:
    """See coding_policy.yaml; ``digest`` is the SHA-256 of the file."""

    version: int
    auto_score: float
    margin: float
    contradiction: float
    alias_score: float
    testcd_score: float
    loinc_weights: Mapping[str, float]
    term_score: float
    keep_candidates: int
    reviewers: int
    digest: str


@cache
def policy() -> CodingPolicy:
    """The policy beside this module."""
    import yaml

    data = PATH.read_bytes()
    return CodingPolicy(**yaml.safe_load(data), digest=hashlib.sha256(data).hexdigest())
