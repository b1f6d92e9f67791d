"""A home with a small trial run through intake, de-identification, gate and features: what corrections start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from tests.support.homes import Made, artifact, live_in
from tests.support.vaults import settle_vault
from trialops.intake.sdtm import read_folder
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.lake import Lake
from trialops.synthetic import generate

HEADER = "DOMAIN,USUBJID,RECORD,VARIABLE,OLD,NEW,REASON,BY,AT"


@dataclass
class CorrectionHome:
    """The home, its delivery, and the steps as the pipelines call them."""

    path: Path
    source: Path
    patch: pytest.MonkeyPatch
    runs: int = 0

    def begin(self) -> str:
        """Start another run."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        live_in(self.path, self.patch, run_id)
        return run_id

    def made(self, name: str) -> Made:
        return artifact(self.path, name, f"run-{self.runs}")

    def data_pipeline(self) -> dict[str, Made]:
        """Intake, de-identification, gate, features in one run."""
        from components.features import build_features
        from components.intake import ingest_sdtm
        from components.privacy import check_consent, deidentify
        from components.quality import quality_gate

        self.begin()
        names = ("raw", "quarantine", "permitted", "decisions", "clean", "withheld", "validated", "queries", "features")
        out = {name: self.made(name) for name in names}
        pages = [self.made(f"page-{n}") for n in range(5)]
        ingest_sdtm.python_func(str(self.source), out["raw"], out["quarantine"], pages[0])
        check_consent.python_func(out["raw"], out["permitted"], out["decisions"], pages[4], "TRIAL")
        deidentify.python_func(out["permitted"], out["clean"], out["withheld"], pages[1])
        assert quality_gate.python_func(out["clean"], out["validated"], out["queries"], pages[2]) == "pass"
        build_features.python_func(out["validated"], out["features"], pages[3])
        return out

    def correct(self, file: Path, *, apply: bool) -> tuple[str, dict[str, Made]]:
        """The correction pipeline's steps in one run: the decision, and the outputs."""
        from components.intake import ingest_sdtm
        from components.privacy import check_consent
        from components.quality import apply_corrections, decide_corrections, propose_corrections

        self.begin()
        names = (
            "raw",
            "quarantine",
            "permitted",
            "decisions",
            "proposal",
            "rejected",
            "corrected",
            "validated",
            "features",
        )
        out = {name: self.made(name) for name in names}
        pages = [self.made(f"page-{n}") for n in range(5)]
        ingest_sdtm.python_func(str(self.source), out["raw"], out["quarantine"], pages[0])
        check_consent.python_func(out["raw"], out["permitted"], out["decisions"], pages[4], "TRIAL")
        propose_corrections.python_func(out["permitted"], out["proposal"], out["rejected"], pages[1], str(file))
        decision = decide_corrections.python_func(out["proposal"], pages[2], apply=apply)
        apply_corrections.python_func(
            out["permitted"],
            out["proposal"],
            out["corrected"],
            out["validated"],
            out["features"],
            pages[3],
            decision=decision,
        )
        return decision, out

    def step(self, name: str = "look") -> Step:
        return Step(name, {}, settings())

    @property
    def lake(self) -> Lake:
        return self.step().lake

    def tables(self) -> dict[str, tuple[int, str]]:
        """Newest version and digest of every clean table and feature view."""
        found = {}
        for folder in sorted([*self.path.glob("lake/clean/*"), *self.path.glob("lake/features/*")]):
            name = f"{folder.parent.name}/{folder.name}"
            newest = self.lake.versions(name)[0]
            found[name] = (newest["version"], newest["digest"])
        return found

    def raw(self) -> dict[str, pl.DataFrame]:
        return read_folder(self.source).tables

    def file(self, *lines: str, name: str = "site-corrections.csv") -> Path:
        path = self.path / "incoming" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([HEADER, *lines]) + "\n", "utf-8")
        return path


def correction_home(folder: Path, patch: pytest.MonkeyPatch, *, subjects: int = 60) -> CorrectionHome:
    """A new home with its delivery; nothing has run yet."""
    generate(folder / "trial", subjects=subjects, sites=6, seed=3, formats=("sdtm",))
    home = folder / "home"
    settle_vault(home)
    return CorrectionHome(home, folder / "trial" / "sdtm", patch)
