"""The command that writes a case's form: who may, where to, what is in it, what the audit trail says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli_safety import safety
from tests.support.e2b_case import STAMP, full_case
from tests.support.homes import leave, live_in
from trialops.governance.audit import AuditTrail
from trialops.safety.case_content import content_digest, seal_content
from trialops.safety.case_form_lines import WITHHELD
from trialops.safety.e2b.writer import BatchHeader, MessageHeader, write_batch
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import INITIAL, Version
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.study import bind_study

PURPOSE = ["--purpose", "Medical review of the case"]


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registered case whose drug the case names, in a home below tmp_path."""
    live_in(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
    settings.cache_clear()
    run = Step("enter-case", {}, settings())
    bind_study(run.objects, "TRIALOPS01")
    register = CaseRegister(run.engine, "TRIALOPS01")
    number = register.open_case("0" * 64, country="US", sender="TESTSPONSOR", subject="P1", actor="tester")
    told = full_case()
    told = replace(told, drugs=(replace(told.drugs[0], blinded=False), told.drugs[1])).to_dict()
    content = {"case": told, "facts": {}, "edited": ""}
    register.add(
        Version(
            case=number,
            version=0,
            kind=INITIAL,
            digest=content_digest(told, {}),
            sealed=seal_content(run, content),
            aware="2026-02-20T00:00:00+00:00",
            basis="receipt",
            changed=(),
            facts={},
            rulings={},
            policy_digest="0" * 64,
            delivery="ab" * 32,
        ),
        actor="tester",
    )
    yield number
    leave()


def test_a_safety_physician_gets_the_blinded_form(case: str, tmp_path: Path) -> None:
    target = tmp_path / "review"
    done = CliRunner().invoke(safety, ["form", case, "--to", str(target), *PURPOSE])
    assert done.exit_code == 0, done.output
    (file,) = target.iterdir()
    assert file.name == f"{case}-1.html"
    page = unescape(file.read_text("utf-8"))
    assert "Myocardial infarction" in page
    assert WITHHELD in page
    assert "trioxanamine" not in page
    assert "Myocardial" not in done.output  # the terminal says where, not what
    entries = [each for each in AuditTrail(Step("look", {}, settings()).engine).events() if each.action == "case.form"]
    assert len(entries) == 1
    assert "Myocardial" not in json.dumps(vars(entries[0]), default=str)


def test_the_form_comes_as_pdf(case: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(safety, ["form", case, "--to", str(tmp_path / "review"), "--pdf", *PURPOSE])
    assert done.exit_code == 0, done.output
    (file,) = (tmp_path / "review").iterdir()
    assert file.read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize(
    "role", ["data engineer", "statistician (unblinded)", ""], ids=["engineer", "statistician", "none"]
)
def test_others_do_not_get_it(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", role)
    settings.cache_clear()
    done = CliRunner().invoke(safety, ["form", case, "--to", str(tmp_path / "review"), *PURPOSE])
    assert done.exit_code != 0
    assert not (tmp_path / "review").exists()


def test_nothing_is_written_below_the_home(case: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(safety, ["form", case, "--to", str(tmp_path / "home" / "forms"), *PURPOSE])
    assert done.exit_code != 0
    assert not (tmp_path / "home" / "forms").exists()


def test_a_case_that_is_not_there_is_said_so(case: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(safety, ["form", "US-TESTSPONSOR-9999", "--to", str(tmp_path / "review"), *PURPOSE])
    assert done.exit_code != 0
    assert not (tmp_path / "review").exists()


def test_messages_of_a_file_are_read_checked_and_shown(case: str, tmp_path: Path) -> None:
    told = full_case()
    told = replace(told, drugs=(replace(told.drugs[0], blinded=False), told.drugs[1]))
    header = BatchHeader("b", "123456789", "ZZFDA_PREMKT", STAMP)
    other = replace(told, report=replace(told.report, safety_report_id="US-TESTSPONSOR-0002"))
    messages = [(MessageHeader(f"m{n}", "123456789", "CDER_IND", STAMP), each) for n, each in enumerate((told, other))]
    source = tmp_path / "batch.xml"
    source.write_bytes(write_batch(header, messages))
    done = CliRunner().invoke(safety, ["read", str(source), "--to", str(tmp_path / "review"), *PURPOSE])
    assert done.exit_code == 0, done.output
    pages = {file.name: unescape(file.read_text("utf-8")) for file in (tmp_path / "review").iterdir()}
    assert set(pages) == {"message-1.html", "message-2.html"}
    assert "US-TESTSPONSOR-0002" in pages["message-2.html"]
    assert all(WITHHELD in page and "trioxanamine" not in page for page in pages.values())
    assert "US-TESTSPONSOR" not in done.output
    # A birth date that is not given to the day is one of FDA's reasons to reject: the count is not nothing.
    counts = [line.split()[1] for line in done.output.splitlines() if "message-" in line]
    assert len(counts) == 2
    assert all(int(count) >= 1 for count in counts)


def test_a_file_of_messages_is_not_read_for_others(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", "data engineer")
    settings.cache_clear()
    source = tmp_path / "batch.xml"
    header = BatchHeader("b", "s", "r", STAMP)
    source.write_bytes(write_batch(header, [(MessageHeader("m", "s", "r", STAMP), full_case())]))
    done = CliRunner().invoke(safety, ["read", str(source), "--to", str(tmp_path / "review"), *PURPOSE])
    assert done.exit_code != 0
    assert not (tmp_path / "review").exists()
