"""trial_enrollment end to end on a synthesized trial: run twice on two days, read by the roles that may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from components.intake import ingest_sdtm
from components.trial import evaluate_eligibility
from tests.local.main_job import Home, states
from tests.support.homes import Made, artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.intake.sdtm import read_folder
from trialops.safety.blinding import leaks
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.synthetic import generate
from trialops.trial.eligibility_record import evaluations
from trialops.trial.tables import TrialTables

pytestmark = pytest.mark.slow
STUDY = "TRIALOPS01"
PURPOSE = ("--purpose", "End-to-end test of enrolment")


@dataclass(frozen=True)
class Enrolled:
    """A home in which enrolment was judged in July, in this process, and in September, by kfp.local.

    Attributes:
        home: The home.
        source: The delivery.
        raw: The sealed delivery of the first evaluation.
    """

    home: Home
    source: Path
    raw: Made

    def judge(self, name: str, as_of: str, study: str = "") -> dict[str, object]:
        """The eligibility step in this process; its summary."""
        out = [artifact(self.home.path, f"{name}-{part}", "run-0") for part in ("judged", "summary", "report")]
        evaluate_eligibility.python_func(self.raw, *out, study=study, as_of=as_of)
        found: dict[str, object] = json.loads(Path(out[1].path).read_text())
        return found

    def document(self, step: str, name: str) -> dict[str, object]:
        """An output of the run by kfp.local."""
        found: dict[str, object] = json.loads(self.home.output(self.home.run()["run_id"], step, name).read_text())
        return found


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolled]:
    folder = tmp_path_factory.mktemp("enrolment")
    generate(folder / "trial", subjects=90, sites=4, seed=4, formats=("sdtm",))
    source = folder / "trial" / "sdtm"
    with pytest.MonkeyPatch.context() as patch:
        home = Home(folder / "home")
        live_in(home.path, patch, "run-0")
        out = [artifact(home.path, name, "run-0") for name in ("raw", "quarantine", "intake")]
        ingest_sdtm.python_func(source=str(source), raw=out[0], quarantine=out[1], report=out[2])
        made = Enrolled(home, source, out[0])
        made.judge("first", "2023-07-01")
        done = home.trialops("run", "trial_enrollment", "--source", str(source), "--set", "as_of=2023-09-01")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    leave()


def command(*arguments: str, role: str = "data manager") -> Result:
    from pipelines.cli import cli

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIALOPS_ROLE", role)
        settings.cache_clear()
        done = CliRunner().invoke(cli, ["trial", *arguments])
    settings.cache_clear()
    return done


def test_the_run_counts_and_seals(trial: Enrolled) -> None:
    assert set(states(trial.home.run())) == {"ingest-sdtm", "evaluate-eligibility", "report-enrolment", "notify"}
    figures = trial.document("report-enrolment", "figures")
    assert figures["reconciles"] and figures["queries"] == {} and figures["target"] == 850
    dm = read_folder(trial.source).tables["DM"]
    funnel = figures["funnel"]
    assert isinstance(funnel, dict)
    consented = dm.filter(pl.col("RFICDTC") <= "2023-09-01").height
    assert funnel["consented"] == consented and funnel["randomised"] + funnel["screen_failure"] <= consented
    assert isinstance(figures["forecast"], dict) and figures["forecast"]["expected"] > "2023-09-01"
    judged = trial.document("evaluate-eligibility", "summary")
    assert judged["criteria"] == 12 and judged["as_of"] == "2023-09-01"


def test_a_repeated_evaluation_is_the_same_and_is_kept_once(trial: Enrolled) -> None:
    again = trial.judge("again", "2023-09-01")
    assert again == trial.document("evaluate-eligibility", "summary") and again["changed_subjects"] != 0
    objects = Step("look", {}, settings()).objects
    known = evaluations(objects, "eligibility", STUDY)
    assert [item.basis["cut"] for item in known] == ["2023-07-01", "2023-09-01"]
    assert sum(known[1].counts.values()) > sum(known[0].counts.values())
    assert len(evaluations(objects, "enrolment", STUDY)) == 1


def test_nobody_and_no_arm_is_told_in_the_clear(trial: Enrolled) -> None:
    tables = read_folder(trial.source).tables
    whole = TrialTables(STUDY, tables, "")
    subjects = tables["DM"]["USUBJID"].to_list()
    run = trial.home.path / "runs" / trial.home.run()["run_id"]
    for step in ("evaluate-eligibility", "report-enrolment"):
        files = [p for p in (run / "steps" / step).rglob("*") if p.is_file()]
        assert files
        for path in files:
            text = path.read_text(errors="replace")
            assert not any(subject in text for subject in subjects), path.name
            assert not leaks(text, whole), path.name
    page = (run / "index.html").read_text()
    assert "Consented (n =" in page and "Poisson-gamma model" in page and "What is missing" in page


def test_the_roles_that_may_read_who_and_why(trial: Enrolled, tmp_path: Path) -> None:
    refused = command("eligibility", *PURPOSE, role="clinical operations")
    assert refused.exit_code == 2 and "may not use this" in refused.output
    short = command("eligibility", "--purpose", "why")
    assert short.exit_code == 2 and "needs a purpose" in short.output
    out = tmp_path / "undecided.csv"
    done = command("eligibility", *PURPOSE, "--verdict", "undecided", "--out", str(out))
    assert done.exit_code == 0, done.output
    waiting = pl.read_csv(out, infer_schema=False)
    assert waiting.height and set(waiting["verdict"]) == {"cannot be decided yet"}
    assert waiting["open"].str.contains("INCL02").any(), "who failed screening has no medical history"
    subject = waiting["USUBJID"][0]
    one = command("eligibility", *PURPOSE, "--subject", subject)
    assert one.exit_code == 0 and "no MH rows of the subject up to screening" in one.output
    moved = command("eligibility", *PURPOSE, "--changed", "--limit", "3")
    assert moved.exit_code == 0 and "new subject" in moved.output
    inside = command("eligibility", *PURPOSE, "--out", str(trial.home.path / "x.csv"))
    assert inside.exit_code == 2 and "below the platform's home" in inside.output
    events = [e.action for e in Step("look", {}, settings()).trail.events()]
    assert {"access.refuse", "access.allow", "eligibility.show"} <= set(events)


def test_by_arm_is_for_the_unblinded_alone(trial: Enrolled, tmp_path: Path) -> None:
    out = tmp_path / "flow.svg"
    blinded = command("consort", *PURPOSE, "--out", str(out))
    assert blinded.exit_code == 0 and "Placebo" not in out.read_text() and "Discontinued (n =" in out.read_text()
    refused = command("consort", *PURPOSE, "--by-arm", "--out", str(tmp_path / "no.svg"))
    assert refused.exit_code == 2 and not (tmp_path / "no.svg").exists()
    shown = command("consort", *PURPOSE, "--by-arm", "--out", str(out), role="statistician (unblinded)")
    assert shown.exit_code == 0 and "Placebo" in out.read_text()


def test_queries_reach_the_sites_under_pseudonyms(trial: Enrolled) -> None:
    from trialops.quality.queries import Queries

    known = Queries(Step("look", {}, settings()).engine, STUDY).table()
    subjects = set(read_folder(trial.source).tables["DM"]["USUBJID"])
    asked = trial.document("evaluate-eligibility", "summary")["queries"]
    assert isinstance(asked, dict)
    waiting = known.filter(pl.col("rule").str.starts_with("ELIG") & pl.col("state").is_in(["open", "reopened"]))
    assert waiting.height == sum(asked.values()) > 0
    assert not subjects & set(waiting["subject"]) and set(waiting["domain"]) == {"IE"}


def test_criteria_of_another_protocol_are_refused(trial: Enrolled, tmp_path: Path) -> None:
    rule = "{id: A, kind: inclusion, text: t, reference: r, rule: {age: {above: 1}}}"
    (tmp_path / "criteria.yaml").write_text(f"protocol: OTHER\nversion: 1\ncriteria: [{rule}]\n")
    study = tmp_path / "study.yaml"
    study.write_text(
        "protocol: {number: TRIALOPS01, title: t, planned_enrolment: 10, blinded: true}\n"
        "eligibility: {criteria: criteria.yaml}\n"
    )
    with pytest.raises(TrialOpsError, match="The criteria are of protocol OTHER"):
        trial.judge("wrong", "2023-09-01", str(study))


def test_a_study_without_criteria_is_counted_all_the_same(trial: Enrolled, tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text("protocol: {number: TRIALOPS01, title: t, planned_enrolment: 10, blinded: true}\n")
    assert trial.judge("bare", "2023-09-01", str(study)) == {"study": STUDY, "criteria": 0}
