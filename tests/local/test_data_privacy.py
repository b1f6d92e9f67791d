"""data_privacy end to end on a synthesized trial: prepared step by step here, then run by kfp.local."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from components.features import build_features
from components.intake import ingest_sdtm
from components.privacy import deidentify
from tests.local.main_job import Home, states
from tests.support.homes import artifact, leave, live_in
from trialops.privacy import certificate
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.refs import TableRef
from trialops.synthetic import generate

pytestmark = pytest.mark.slow
STEPS = {"erase-subjects", "discover-pii", "assess-risk", "apply-retention", "maintain-audit-log", "notify"}


@dataclass(frozen=True)
class Prepared:
    """A home with a trial whose features are built, and the USUBJID of a subject in it."""

    home: Home
    key: str

    def newest(self, table: str) -> pl.DataFrame:
        lake = Step("look", {}, settings()).lake
        commit = lake.versions(table)[0]
        return lake.read(TableRef(table, commit["version"], commit["rows"], commit["digest"]))

    def privacy(self, *arguments: str) -> Result:
        from pipelines.cli import cli

        return CliRunner().invoke(cli, ["privacy", *arguments])


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("privacy")
    generate(folder / "trial", subjects=40, sites=3, seed=4, formats=("sdtm",))
    with pytest.MonkeyPatch.context() as patch:
        home = Home(folder / "home")
        live_in(home.path, patch, "run-0")
        raw, clean = artifact(home.path, "raw", "run-0"), artifact(home.path, "clean", "run-0")
        others = [artifact(home.path, f"other-{i}", "run-0") for i in range(6)]
        ingest_sdtm.python_func(str(folder / "trial" / "sdtm"), raw, others[0], others[1])
        deidentify.python_func(raw, clean, others[2], others[3])
        build_features.python_func(clean, others[4], others[5])
        look = Step("look", {}, settings())
        look.lake.mark_validated("clean", look.reference(clean), {"score": 100.0})
        key = sorted(Step("look", {}, settings()).unseal(raw)["DM"]["USUBJID"])[0]
        yield Prepared(home, key)
        leave()


def test_a_day_of_privacy(trial: Prepared) -> None:
    run = Step("look", {}, settings())
    subject = run.vault.pseudonym("subject", trial.key)
    tables = [t for t in run.lake.tables() if t.startswith("features/")]
    assert any(subject in trial.newest(t)["subject_id"] for t in tables)

    asked = trial.privacy("request", "--subject", trial.key, "--reason", "identity shown in person")
    assert asked.exit_code == 0 and trial.key not in asked.output
    refused = trial.privacy("request", "--subject", "01-999-9999", "--reason", "x")
    assert refused.exit_code == 2 and "01-999-9999" not in refused.output
    run.lake.write("partner/contacts", pl.DataFrame({"email": [f"p{i}@example.org" for i in range(20)]}))

    done = trial.home.trialops("run", "data_privacy", "--set", "mask=true")
    assert done.returncode == 0, done.stdout + done.stderr
    made = trial.home.run()
    assert set(states(made)) == STEPS and made["state"] == "succeeded"
    signed = json.loads(trial.home.output(made["run_id"], "erase-subjects", "certificates").read_text())
    assert [certificate.verify(c) for c in signed["certificates"]] == [True]
    assert signed["certificates"][0]["body"]["in_trial"] is True
    assert not any(subject in trial.newest(t)["subject_id"] for t in tables)
    assert subject in trial.newest("clean/dm")["USUBJID"]
    # Of all tables of the trial and the database only the one planted holds personal data.
    assert set(trial.newest("privacy/findings")["table"]) == {"partner/contacts"}
    record = json.loads((trial.home.path / "runs" / made["run_id"] / "steps/discover-pii/record.json").read_text())
    assert record["metrics"]["columns"] > 150
    # Forty subjects with age, sex, race and site: some are alone in their class.
    risk = json.loads(trial.home.output(made["run_id"], "assess-risk", "assessment").read_text())
    assert risk["verdict"] == "fail" and risk["risk"]["k"] < 11
    assert trial.newest("masked/partner_contacts").height == 20
    page = (trial.home.path / "runs" / made["run_id"] / "index.html").read_text()
    assert trial.key not in page and "@example.org" not in page
    assert "Art. 17(3)(d)" in page and "trial master file" in page and "New records by action" in page

    content = json.loads(trial.privacy("report", "--json").output)
    assert content["open requests"] == 0 and content["restricted subjects"] == 1
    assert [c["kind"] for c in content["certificates"]] == ["erasure"]
    listed = json.loads(trial.privacy("requests", "--json").output)
    assert [(r["state"], r["subject (pseudonym)"]) for r in listed] == [("executed", subject)]
    assert not any(trial.key in str(event) for event in run.trail.events())


def test_features_made_anew_leave_the_subject_out(trial: Prepared) -> None:
    """After the erasure above: the clean tables still hold the subject, features made of them do not."""
    run = Step("look", {}, settings())
    subject = run.vault.pseudonym("subject", trial.key)
    clean, out = Path(artifact(trial.home.path, "clean", "run-0").path), artifact(trial.home.path, "again", "run-0")
    made = artifact(trial.home.path, "clean", "run-0")
    assert clean.exists()
    build_features.python_func(made, out, artifact(trial.home.path, "page", "run-0"))
    assert not any(subject in f["subject_id"] for f in run.read(out).values())


def test_holds_and_milestones_by_command(trial: Prepared) -> None:
    placed = trial.privacy("hold", "--class", "derived data", "--reason", "inspection")
    assert placed.exit_code == 0
    number = placed.output.split()[1]
    assert number in trial.privacy("holds").output
    assert trial.privacy("release-hold", number, "--reason", "over").exit_code == 0
    assert number not in trial.privacy("holds").output
    assert trial.privacy("milestone", "end_of_trial", "2020-05-01", "--reason", "letter").exit_code == 0
    assert json.loads(trial.privacy("report", "--json").output)["milestones"] == {"end_of_trial": "2020-05-01"}
