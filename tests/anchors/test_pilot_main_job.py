"""The main job on the CDISC pilot: the dossier's figures are the published ones, the verdict is what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.local.main_job import Home

pytestmark = pytest.mark.slow


def test_files_to_dossier(anchors: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    source = anchors / "cdiscpilot01" / "sdtm"
    done = home.trialops("run", "scheduled_retraining", "--source", str(source), "--set", "trials=4")
    assert done.returncode == 0, done.stdout + done.stderr
    run = home.run()
    dossier = home.output(run["run_id"], "release-dossier", "dossier")

    trial = json.loads((dossier / "trial.json").read_text())
    assert (trial["subjects"], trial["randomised"], trial["screen_failures"], trial["sites"]) == (306, 254, 52, 17)
    assert sorted(trial["arms"].values()) == [84, 84, 86]
    assert (trial["completed"], trial["discontinued"]) == (110, 144)
    assert trial["reasons"]["ADVERSE EVENT"] == 92

    judged = json.loads((dossier / "evaluation.json").read_text())
    model, against = judged["model"], judged["against_baseline"]
    assert model["auroc"]["low"] <= model["auroc"]["value"] <= model["auroc"]["high"]
    assert against["difference"]["low"] <= against["difference"]["value"] <= against["difference"]["high"]
    assert (model["verdict"] == "better than chance") == (model["auroc"]["low"] > 0.5)
    decision = json.loads((dossier / "decision.json").read_text())
    if model["verdict"] != "better than chance":
        assert decision["decision"]["action"] == "reject"
        assert json.loads((dossier / "release.json").read_text())["champion"] == "none"
    page = (home.path / "runs" / run["run_id"] / "index.html").read_text()
    assert model["verdict"].capitalize() in page

    quarantined = json.loads((home.path / "runs" / run["run_id"] / "steps/ingest-sdtm/record.json").read_text())
    assert quarantined["metrics"]["quarantined"] == 0
    assert home.trialops("audit", "verify").returncode == 0
