"""data_privacy end to end on a synthesized trial, through the command line and kfp.local."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.local.main_job import Home, states
from trialops.privacy import certificate
from trialops.settings import Settings
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import TableRef
from trialops.stores.vault import open_vault
from trialops.synthetic import generate

pytestmark = pytest.mark.slow
STEPS = {"erase-subjects", "discover-pii", "apply-retention", "maintain-audit-log", "notify"}


def newest(lake: Lake, table: str) -> pl.DataFrame:
    commit = lake.versions(table)[0]
    return lake.read(TableRef(table, commit["version"], commit["rows"], commit["digest"]))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with one trial prepared."""
    folder = tmp_path_factory.mktemp("privacy")
    generate(folder / "trial", subjects=40, sites=3, seed=4, formats=("sdtm",))
    home = Home(folder / "home")
    done = home.trialops("run", "data_pipeline", "--source", str(folder / "trial" / "sdtm"))
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def test_a_day_of_privacy(home: Home) -> None:
    settings = Settings(home=home.path)
    objects = open_store(settings.objects)
    lake, vault = Lake(settings.lake, objects), open_vault(settings, objects)
    raw = json.loads(home.output(home.run()["run_id"], "ingest-sdtm", "raw").read_text())
    from trialops.stores.sealed import unseal

    key = sorted(unseal(raw, vault=vault, objects=objects)["DM"]["USUBJID"])[0]
    subject = vault.pseudonym("subject", key)
    tables = [t for t in lake.tables() if t.startswith("features/")]
    assert any(subject in newest(lake, t)["subject_id"] for t in tables)

    asked = home.trialops("privacy", "request", "--subject", key, "--reason", "identity shown in person")
    assert asked.returncode == 0 and key not in asked.stdout + asked.stderr
    refused = home.trialops("privacy", "request", "--subject", "01-999-9999", "--reason", "x")
    assert refused.returncode == 2 and "01-999-9999" not in refused.stderr
    lake.write("partner/contacts", pl.DataFrame({"email": [f"p{i}@example.org" for i in range(20)]}))

    done = home.trialops("run", "data_privacy", "--set", "mask=true")
    assert done.returncode == 0, done.stdout + done.stderr
    run = home.run()
    assert set(states(run)) == STEPS and run["state"] == "succeeded"
    signed = json.loads(home.output(run["run_id"], "erase-subjects", "certificates").read_text())["certificates"]
    assert len(signed) == 1 and certificate.verify(signed[0]) and signed[0]["body"]["in_trial"] is True
    assert not any(subject in newest(lake, t)["subject_id"] for t in tables)
    assert subject in newest(lake, "clean/dm")["USUBJID"]
    # Of all tables of the run only the one planted holds personal data.
    assert set(newest(lake, "privacy/findings")["table"]) == {"partner/contacts"}
    assert newest(lake, "masked/partner_contacts").height == 20
    page = (home.path / "runs" / run["run_id"] / "index.html").read_text()
    assert key not in page and "@example.org" not in page and "Erasure requests" in page and "Retention" in page

    report = home.trialops("privacy", "report", "--json")
    content = json.loads(report.stdout)
    assert content["open requests"] == 0 and content["restricted subjects"] == 1
    assert [c["kind"] for c in content["certificates"]] == ["erasure"]
    assert home.trialops("audit", "verify").returncode == 0


def test_holds_and_milestones_by_command(home: Home) -> None:
    placed = home.trialops("privacy", "hold", "--class", "derived data", "--reason", "inspection")
    assert placed.returncode == 0
    number = placed.stdout.split()[1]
    assert number in home.trialops("privacy", "holds").stdout
    assert home.trialops("privacy", "release-hold", number, "--reason", "over").returncode == 0
    assert number not in home.trialops("privacy", "holds").stdout
    done = home.trialops("privacy", "milestone", "end_of_trial", "2020-05-01", "--reason", "letter")
    assert done.returncode == 0
    assert json.loads(home.trialops("privacy", "report", "--json").stdout)["milestones"] == {
        "end_of_trial": "2020-05-01"
    }


def test_discovery_is_quiet_on_the_files_of_the_source(home: Home) -> None:
    """The tables of the trial as they are after de-identification: columns looked at, none reported."""
    record = json.loads(next(home.path.glob("runs/*/steps/discover-pii/record.json")).read_text())
    assert record["metrics"]["columns"] > 150 and record["metrics"]["findings"] == 1
