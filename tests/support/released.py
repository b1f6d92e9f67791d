"""A home in which a model is in use: the main job on a small trial, and its model made the champion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home
from tests.support.homes import leave, live_in
from trialops.models.bundle import Bundle
from trialops.models.evidence_store import get_evidence, put_evidence
from trialops.stores import step
from trialops.stores.context import Step
from trialops.synthetic import generate

TASK = "withdrawal"
TRIAL: dict[str, Any] = {"subjects": 500, "sites": 10, "seed": 1, "formats": ("sdtm",)}


@dataclass(frozen=True)
class Released:
    """A home with a champion.

    Attributes:
        home: The home.
        source: Folder of its trial's SDTM files.
        run_id: The main job's run.
        version: Version of the champion.
        bundle: The champion.
    """

    home: Home
    source: Path
    run_id: str
    version: str
    bundle: Bundle

    @contextmanager
    def step(self, name: str = "test", run_id: str = "test-run") -> Iterator[Step]:
        """A step of a run in this home, in this process."""
        with pytest.MonkeyPatch.context() as patch:
            live_in(self.home.path, patch, run_id)
            try:
                with step(name) as run:
                    yield run
            finally:
                leave()


def release(folder: Path, source: Path | None = None) -> Released:
    """Run the main job on a small trial and make its model the champion, whatever the gate says of so small a trial.

    Args:
        folder: Where the home is made.
        source: SDTM files; by default those of a trial that is generated here.
    """
    if source is None:
        generate(folder / "trial", **TRIAL)
        source = folder / "trial" / "sdtm"
    home = Home(folder / "home")
    done = home.trialops("run", "scheduled_retraining", "--source", str(source), "--set", "trials=2")
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = home.run()["run_id"]
    model = home.output(run_id, "search-model", "model")
    bundle = Bundle.load(model)
    released = Released(home, source, run_id, "1", bundle)
    with released.step() as run:
        evaluation = json.loads(home.output(run_id, "evaluate-model", "evaluation").read_text())
        if "evaluation" not in get_evidence(run, TASK, "1"):
            put_evidence(run, TASK, "1", {"evaluation": evaluation})
        if run.registry.by_alias(TASK, "champion") is None:
            decided: dict[str, Any] = {"reason": "for a test", "decision": {}, "actor": "tester", "run_id": "test-run"}
            run.registry.promote(TASK, "1", expected_from=None, engine=run.engine, **decided)
    return released
