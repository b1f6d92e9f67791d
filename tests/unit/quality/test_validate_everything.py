"""validate_data over what the pipelines really leave: clean SDTM, de-identified FHIR, and the OMOP tables of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from components.intake import ingest_fhir, ingest_sdtm
from components.privacy import deidentify, deidentify_fhir
from components.quality import validate_data
from components.standards import standardize
from tests.support.homes import Made, artifact, leave, live_in
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate

SOURCES = [
    f"{domain}-SOURCE-{what}"
    for domain, kinds in (("LB", ("MISSING", "EXTRA", "VALUE")), ("VS", ("MISSING", "VALUE")), ("AE", ("MISSING",)))
    for what in kinds
]


@pytest.fixture(params=["strict", "limited"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", request.param)
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


@pytest.mark.slow
def test_fhir_agrees_with_sdtm_and_omop_has_no_fatal_finding(home: Path, tmp_path: Path) -> None:
    generate(tmp_path / "trial", subjects=16, sites=2, seed=8, formats=("sdtm", "fhir"))
    names = ("raw", "clean", "raw-fhir", "clean-fhir", "omop", "results", "findings")
    out = {name: artifact(home, name) for name in names}

    def other(*names: str) -> list[Made]:
        return [artifact(home, name) for name in names]

    ingest_sdtm.python_func(str(tmp_path / "trial"), out["raw"], *other("q1", "p1"))
    deidentify.python_func(out["raw"], out["clean"], *other("w1", "p2"))
    ingest_fhir.python_func(str(tmp_path / "trial"), out["raw-fhir"], *other("q2", "p3"))
    deidentify_fhir.python_func(out["raw-fhir"], out["clean-fhir"], *other("w2", "p4"))
    standardize.python_func(out["omop"], *other("o", "p5"), clean=out["clean"], clean_fhir=out["clean-fhir"])
    validate_data.python_func(out["raw"], out["clean"], out["results"], out["findings"], *other("p6"))
    results = Step("look", {}, settings()).read_table(out["results"])
    assert results.filter(pl.col("status") == "error").is_empty()
    verified = results.filter(pl.col("rule").is_in(SOURCES))
    assert verified.height == len(SOURCES)
    assert verified["denominator"].min() > 0 and verified["violated"].sum() == 0  # type: ignore[operator]
    omop = results.filter(pl.col("book") == "OMOP")
    assert omop.filter(pl.col("status") == "pass").height > 500
    assert omop.filter((pl.col("status") == "fail") & (pl.col("severity") == "fatal")).is_empty()
