"""A generated trial shared by the tests of this folder, and readers that do not use the generator's code."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

from trialops.synthetic import Summary, generate

DOMAINS = ("DM", "AE", "DS", "EX", "LB", "VS", "CM", "MH", "SV", "SUPPDM")


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    frame, _ = pyreadstat.read_xport(str(path), encoding=encoding)
    return frame


@pytest.fixture(scope="session")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("trial")
    return out, generate(out, subjects=250, sites=6, seed=11)


@pytest.fixture(scope="session")
def tables(trial: tuple[Path, Summary]) -> dict[str, pd.DataFrame]:
    return {name: read(trial[0] / "sdtm" / f"{name.lower()}.xpt") for name in DOMAINS}
