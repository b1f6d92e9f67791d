"""Fixtures of the serving tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trialops.models.bundle import Bundle


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Bundle, str], Path]:
    """Writes a bundle below tmp_path."""
    return lambda bundle, name: bundle.save(tmp_path / name)


@pytest.fixture
def rows() -> np.ndarray:
    """200 rows of three features, one value in ten missing."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(200, 3))
    x[rng.random(x.shape) < 0.1] = np.nan
    return x
