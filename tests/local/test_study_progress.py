"""Study progress as a person runs it: a trial with a planted site, two cuts, the commands, and who may see the arms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.intake import ingest_sdtm
from components.trial import monitor_sites
from tests.local.main_job import Home, states
from tests.support.bad_site import delivered, largest_site, spoil
from tests.support.homes import artifact, leave, live_in
from trialops.safety.leaks import leaks
from trialops.stores.objects import open_store
from trialops.synthetic import generate
from trialops.trial.study_file import SHIPPED

pytestmark = pytest.mark.slow
STEPS = {"ingest-sdtm", "monitor-sites", "follow-progress", "show-progress"}
STATISTICIAN = {"TRIALOPS_ROLE": "statistician (unblinded)"}
PURPOSE = "Interim look at retention by arm for the data monitoring board"


def _document(home: Home, step: str, artifact: str) -> dict[str, Any]:
    return dict(json.loads(home.output(home.run()["run_id"], step, artifact).read_text()))


def test_a_planted_site_is_found_and_the_cut_before_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "trial", subjects=240, sites=12, seed=4, formats=("sdtm",))
    source = tmp_path / "trial" / "sdtm"
    site = largest_site(source)
    stated = yaml.safe_load(SHIPPED.read_text())
    stated["protocol"]["planned_enrolment"] = 230
    stated["sites"] = {}
    for version in stated["safety"]["reference_safety_information"]:
        version["path"] = str(SHIPPED.parent / version["path"])  # the copy lies elsewhere
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(stated))
    home = Home(tmp_path / "home")

    # The week before, by the same steps in this process.
    live_in(home.path, monkeypatch, "week-before")
    out = {
        name: artifact(home.path, name, "week-before") for name in ("raw", "quarantine", "report", "scores", "findings")
    }
    ingest_sdtm.python_func(source=str(source), raw=out["raw"], quarantine=out["quarantine"], report=out["report"])
    given = {"study": str(tmp_path / "study.yaml"), "as_of": "2023-12-01"}
    monitored = {name: out[name] for name in ("raw", "scores", "findings", "report")}
    monitor_sites.python_func(**monitored, **given)
    leave()
    before = json.loads(Path(out["findings"].path).read_text())
    assert site not in before["flagged"] and not before["compared"]

    spoil(source, site)
    trial = delivered(source)
    given["as_of"] = "2024-01-10T12:00:00Z"
    asked = [f"{name}={value}" for name, value in {**given, "purpose": PURPOSE}.items()]
    options = [part for one in asked for part in ("--set", one)]
    done = home.trialops("run", "study_progress", "--source", str(source), *options, **STATISTICIAN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(home.run())) >= STEPS
    course = _document(home, "follow-progress", "progress")
    assert course["as_of"] == "2024-01-10" and course["planned"] == 230
    waiting = {m["name"]: m for m in course["milestones"]}["last_subject_in"]
    assert waiting["actual"] is None and waiting["forecast"] > "2024-01-10" and "Poisson-gamma" in waiting["basis"]
    after = _document(home, "monitor-sites", "findings")
    assert after["flagged"][0] == site and after["compared"]
    assert {"site": site, "label": "Adverse events reported late"} in after["worse"]
    assert after["reporting"] == [{"site": site, "verdict": "under-reporting"}]
    folder = home.path / "runs" / home.run()["run_id"] / "steps"
    record = json.loads((folder / "monitor-sites" / "record.json").read_text())
    assert record["decision"]["decision"] == "look" and record["decision"]["policy"] == after["policy"]["digest"]

    # Nobody and no arm on a page, in a record, a document or on the screen.
    written = [p for name in STEPS - {"ingest-sdtm"} for p in (folder / name).iterdir()]
    texts = [done.stdout, done.stderr, *(p.read_text() for p in written)]
    assert len(written) >= 3 + 3 + 2, "pages, records, documents"
    subjects = trial.table("DM")["USUBJID"].to_list()
    for text in texts:
        assert not any(subject in text for subject in subjects)
        assert leaks(text, trial) == []
    assert f"Site {site}" in "".join(texts) and "Retention by site" in "".join(texts)

    shown = home.trialops("trial", "sites", "--json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert told["as_of"] == "2024-01-10"
    flags = {(r["site"], r["indicator"]): r["flag"] for r in told["rows"]}
    assert flags[(site, "Adverse events reported late")] == "red" and set(flags.values()) <= {"red", "amber"}

    # The arms lie sealed, and are for the role that may see them.
    kept = open_store(str(home.path)).get(f"unblinded/retention_by_arm/{trial.study}.json")
    assert leaks(kept.decode(), trial) == []
    arms = home.trialops("trial", "retention", "--purpose", PURPOSE, **STATISTICIAN)
    assert arms.returncode == 0 and "log-rank" in arms.stdout and "TRX_Hi" in arms.stdout
    assert home.trialops("audit", "verify").returncode == 0
