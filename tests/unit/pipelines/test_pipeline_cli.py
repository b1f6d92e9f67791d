"""The command line: lists, errors with remedies, exit codes."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from pipelines import catalog, cli, progress
from pipelines.catalog import CATALOG, Entry, find, load
from pipelines.doctor import Check, examine
from pipelines.engine import Row
from pipelines.graph import Planned
from pipelines.parameters import pairs
from pipelines.runs import RunFolder
from trialops.errors import TrialOpsError
from trialops.settings import settings

TOY = Entry("toy_chain", "Toy chain", "toys", "toy_pipelines", None, (), "tester", "none")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path / "home"))
    settings.cache_clear()

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli.cli, list(arguments))

    yield run
    settings.cache_clear()


def test_pipelines(call: Callable[..., Result]) -> None:
    shown = call("pipelines")
    assert shown.exit_code == 0
    for entry in CATALOG:
        assert entry.name in shown.output and entry.title in shown.output
        assert entry.schedule is None or entry.schedule in shown.output
    listed = json.loads(call("pipelines", "--json").output)
    assert [item["name"] for item in listed] == [entry.name for entry in CATALOG]


def test_one_pipeline_shows_its_parameters_and_steps(call: Callable[..., Result]) -> None:
    shown = call("pipelines", "data-export").output
    assert "--set what=" in shown and "submission, research or partner." in shown
    assert shown.index("--set what=") < shown.index("--set agreement="), "what must be given comes first"
    assert "Steps: Admit export, Ingest SDTM" in shown
    told = json.loads(call("pipelines", "data_export", "--json").output)
    assert told["parameters"]["what"]["required"] and told["parameters"]["dataset"]["default"] == "clean"
    wanted = " ".join(call("run", "data_export").stderr.replace("│", " ").split())
    assert "needs a value for purpose, what" in wanted and "--set what=... submission, research or partner." in wanted


def test_unknown_pipeline(call: Callable[..., Result]) -> None:
    found = call("run", "scheduled-retrainin")
    assert found.exit_code == 2
    assert "There is no pipeline called 'scheduled-retrainin'" in found.stderr
    assert "Did you mean scheduled_retraining?" in found.stderr
    assert call("run", "x", "--set", "rows").exit_code == 2


def test_find_and_load() -> None:
    assert find("data-pipeline") is find("data_pipeline")
    with pytest.raises(TrialOpsError, match="its module does not exist"):
        load(Entry("nowhere", "N", "toys", "pipelines.toys.nowhere", None, (), "t", "none"))
    with pytest.raises(TrialOpsError, match="holds no KFP pipeline"):
        load(Entry("find", "N", "toys", "pipelines.catalog", None, (), "t", "none"))
    with pytest.raises(TrialOpsError, match="is 'toy-chain', not 'other'"):
        import toy_pipelines

        toy_pipelines.other = toy_pipelines.toy_chain
        load(Entry("other", "N", "toys", "toy_pipelines", None, (), "t", "none"))


def test_run_list_and_exit_codes(call: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "find", lambda name: TOY)
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "crash-count").touch()
    failed = call("run", "toy_chain", "--set", f"marks={marks}", "--set", "rows=2")
    assert failed.exit_code == 1
    assert "ValueError: the toy step crashed on request" in failed.output
    (marks / "crash-count").unlink()
    resumed = call("run", "toy_chain", "--resume")
    assert resumed.exit_code == 0 and "reused   Make rows" in resumed.output
    (run,) = json.loads(call("runs", "--json").output)
    assert run["state"] == "succeeded" and run["reused"] == 1 and run["run"] in call("runs").output
    wrong = call("run", "toy_chain", "--source", str(marks))
    assert wrong.exit_code == 2 and "has no parameter 'source'" in wrong.stderr
    assert call("run", "toy_chain", "--source", str(tmp_path / "none")).exit_code == 2


def test_unexpected_error_withholds_its_message(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Entry:
        raise ValueError("subject 01-701-1015")

    monkeypatch.setattr(cli, "find", broken)
    found = call("run", "anything")
    assert found.exit_code == 1
    assert "Unexpected ValueError in test_pipeline_cli.py" in found.stderr and "1015" not in found.stderr


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Result]) -> None:
    for name in ("FHIR_ENDPOINT", "CLINICAL_DB_HOST", "REGULATORY_REPORTING_API", "LAB_SYSTEM_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    states = {check.name: check.state for check in examine(home)}
    assert states["home"] == "ok" and states["fhir_api"] == states["clinical_db"] == "unused"
    assert {"lake", "database", "vault", "audit trail", "mlflow"} <= set(states)
    assert {"hipaa_compliance", "lab_system", "regulatory_api"} <= set(states)
    assert not home.exists(), "looking changes nothing"
    assert call("doctor").exit_code == 0

    (home / "vault").mkdir(parents=True)
    key = home / "vault" / "master.key"
    key.write_bytes(b"0" * 32)
    key.chmod(0o644)
    (home / "mlflow.db").write_text("not a database, but long enough to be read as one" * 30)
    monkeypatch.setenv("LAB_SYSTEM_ENDPOINT", "mllp://127.0.0.1:9")
    monkeypatch.setenv("FHIR_ENDPOINT", "http://fhir.example.org/r4")
    checks = {check.name: check for check in examine(home)}
    assert checks["vault"].broken and "master.key" in checks["vault"].found and "chmod" in checks["vault"].fix
    assert checks["mlflow"].broken and checks["lab_system"].found == "unreachable: ConnectionRefusedError"
    assert checks["fhir_api"].found == "the connection is not encrypted"
    shown = call("doctor")
    assert shown.exit_code == 1 and "chmod -R go-rwx" in shown.output
    monkeypatch.setenv("DATA_RETENTION_DAYS", "1")
    assert examine(home)[-1].broken and "DATA_RETENTION_DAYS" in examine(home)[-1].found


def test_audit(call: Callable[..., Result], tmp_path: Path) -> None:
    absent = call("audit", "verify")
    assert absent.exit_code == 2 and "There is no audit trail yet" in absent.stderr
    from trialops.governance.audit import AuditTrail
    from trialops.stores.database import connect, migrate

    home = Path(os.environ["TRIALOPS_HOME"])
    home.mkdir()
    engine = connect(settings().database)
    migrate(engine)
    for number in range(3):
        facts = {"actor": "tester", "action": "write", "object": f"clean/t{number}"}
        AuditTrail(engine).append(**facts, run_id=f"r{number}")
    verified = call("audit", "verify")
    assert verified.exit_code == 0 and "3 records" in verified.output
    assert "warning: no anchors" in verified.stderr
    warned = {check.name: check for check in examine(home)}["audit trail"]
    assert warned.state == "warning" and "trialops audit anchor" in warned.fix
    assert call("audit", "anchor").exit_code == 0
    verified = call("audit", "verify")
    assert "1 anchors" in verified.output and verified.stderr == ""
    assert {check.name: check.state for check in examine(home)}["audit trail"] == "ok"
    assert "clean/t2" in call("audit", "list").output
    assert "clean/t2" not in call("audit", "list", "--run", "r1").output
    out = tmp_path / "trail.jsonl"
    assert call("audit", "export", "--out", str(out)).exit_code == 0
    assert [json.loads(line)["seq"] for line in out.read_text().splitlines()] == [1, 2, 3]
    tamper(engine, "UPDATE audit_events SET actor = 'someone else' WHERE seq = 2")
    broken = call("audit", "verify")
    assert broken.exit_code == 1 and "from record 2" in broken.stderr
    assert {check.name: check.state for check in examine(home)}["audit trail"] == "broken"
    vouched = call("audit", "anchor")
    assert vouched.exit_code == 2 and "not anchored" in vouched.stderr


def tamper(engine: Engine, statement: str) -> None:
    """Change the trail as somebody with the database file can: without its triggers."""
    with engine.begin() as connection:
        for (trigger,) in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_events'"
        ).all():
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        connection.exec_driver_sql(statement)


def test_records_cut_off_the_end_are_missed(call: Callable[..., Result]) -> None:
    from trialops.governance.audit import AuditTrail
    from trialops.stores.database import connect, migrate

    home = Path(os.environ["TRIALOPS_HOME"])
    home.mkdir()
    engine = connect(settings().database)
    migrate(engine)
    for number in range(5):
        AuditTrail(engine).append(actor="tester", action="write", object=f"clean/t{number}")
    assert call("audit", "anchor").exit_code == 0
    tamper(engine, "DELETE FROM audit_events WHERE seq > 3")
    found = call("audit", "verify")
    assert found.exit_code == 1 and "records 4 to 5 were cut off the end" in found.stderr
    assert {check.name: check.state for check in examine(home)}["audit trail"] == "broken"
    engine.dispose()
    for file in home.glob("trialops.db*"):
        file.unlink()
    gone = call("audit", "verify")
    assert gone.exit_code == 2 and "newest anchor was written at record 5" in gone.stderr
    check = {check.name: check for check in examine(home)}["audit trail"]
    assert check.broken and "record 5" in check.found


def test_pairs() -> None:
    assert pairs(("a=1", "b=x=y", "c=")) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(TrialOpsError, match="gives a twice"):
        pairs(("a=1", "a=2"))


def test_live_table(tmp_path: Path) -> None:
    from rich.console import Console

    view = progress.LiveView(open(os.devnull, "w"))  # noqa: SIM115 - closed with the process
    rows = {
        "b@0": Row("b@0", "b", "Count [1]", state="reused", from_run="r0"),
        "b@1": Row("b@1", "b", "Count [2]", state="running", message="half way", fraction=0.5),
    }
    plan = [Planned("a", "Make [rows]", False), Planned("b", "Count", False)]
    view.begin(RunFolder(tmp_path, "r1"), catalog.CATALOG[0], plan, rows)
    view.stop()
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(view._table())
    text = console.export_text()
    assert "Make [rows]" in text and "waiting" in text
    assert "from run r0" in text and "50%  half way" in text
    assert "Count [1]" in text and text.count("Count") == 2


def test_sign(call: Callable[..., Result]) -> None:
    from trialops.stores.database import connect, migrate

    Path(os.environ["TRIALOPS_HOME"]).mkdir()
    migrate(connect(settings().database))
    phrase = "correct horse battery staple 42"
    enrolled = call("audit", "enrol", "--user", "asha", "--name", "Asha Rao", "--passphrase", phrase)
    assert enrolled.exit_code == 0, enrolled.output
    record = ("--kind", "model", "--record", "withdrawal/1", "--digest", "a" * 64, "--meaning", "approved")
    signed = call("audit", "sign", "--user", "asha", "--passphrase", phrase, *record)
    assert signed.exit_code == 0 and "Asha Rao" in signed.output, signed.output
    refused = call("audit", "sign", "--user", "asha", "--passphrase", "not the right one at all", *record)
    assert refused.exit_code == 2 and phrase not in refused.output
    assert "sign" in call("audit", "list").output
    verified = call("audit", "verify")
    assert verified.exit_code == 0 and "2 anchors" in verified.output, "each signature and enrolment is anchored"


def test_nobody_enrols_himself(call: Callable[..., Result]) -> None:
    from trialops.stores.database import connect, migrate

    Path(os.environ["TRIALOPS_HOME"]).mkdir()
    migrate(connect(settings().database))
    phrase, other = "correct horse battery staple 42", "difference engine number 2"
    enrol = ("audit", "enrol", "--passphrase")
    assert call(*enrol, phrase, "--user", "asha", "--name", "Asha Rao").exit_code == 0
    alone = call(*enrol, other, "--user", "ben", "--name", "Ben Ito")
    assert alone.exit_code == 2 and "--by" in alone.stderr
    by = (*enrol, other, "--user", "ben", "--name", "Ben Ito", "--by", "asha")
    assert call(*by, "--by-passphrase", "not the right one at all").exit_code == 2
    asked = CliRunner().invoke(cli.cli, list(by), input=f"{phrase}\n")
    assert asked.exit_code == 0 and "Passphrase of asha" in asked.output and phrase not in asked.output
    assert "--by" in call("audit", "enrol", "--help").output


def test_doctor_and_the_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Result]) -> None:
    from trialops.stores.vault import open_vault

    home = tmp_path / "home"
    vault = open_vault(settings())

    def found() -> Check:
        return {check.name: check for check in examine(home)}["vault"]

    assert found().state == "ok" and vault.id in found().found
    revision = next((home / "vault" / "keyring").iterdir())
    revision.chmod(0o644)
    assert found().broken and revision.name in found().found
    revision.chmod(0o600)
    monkeypatch.setenv("TRIALOPS_VAULT_KEY", base64.b64encode(b"k" * 32).decode())
    assert found().broken and "does not open" in found().found
    monkeypatch.delenv("TRIALOPS_VAULT_KEY")
    monkeypatch.setenv("TRIALOPS_OBJECTS_URL", "s3://bucket/prefix")
    assert found().broken and "TRIALOPS_VAULT_KEY" in found().fix
