"""The export steps: role and purpose, where a submission may go, and what the trail has of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.support import submissions
from tests.support.homes import Made, artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.intake.xport import Column, XportWriter
from trialops.regulatory.access import admit
from trialops.regulatory.submit import submit
from trialops.settings import settings
from trialops.stores.context import Step

PURPOSE = "Submission of the interim cut"
NOBODY = pl.DataFrame(schema={"file": pl.String, "reason": pl.String})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    live_in(tmp_path / "home", monkeypatch)
    monkeypatch.setenv("TRIALOPS_ROLE", "Regulatory Affairs")
    settings.cache_clear()
    yield tmp_path / "home"
    leave()


def step(name: str = "export-submission") -> Step:
    return Step(name, {}, settings())


@pytest.fixture
def raw(home: Path, tmp_path: Path) -> Made:
    """A sealed delivery: domains as tables, SUPPAE as a file alone."""
    given = submissions.tables()
    supp = given.pop("SUPPAE")
    path = tmp_path / "suppae.xpt"
    with XportWriter(path, "SUPPAE", "", [Column(c, "char", 40, "") for c in supp.columns]) as writer:
        writer.write(supp)
    made = artifact(home, "raw")
    del given["TS"]
    step("ingest-sdtm").seal(made, given, files={"suppae.xpt": path})
    return made


def events(run: Step) -> list[tuple[str, str]]:
    return [(e.action, e.reason) for e in run.trail.events()]


def test_a_submission_is_made_of_the_sealed_delivery(raw: Made, tmp_path: Path) -> None:
    run, target = step(), tmp_path / "out"
    aside = pl.DataFrame({"file": ["lb.xpt"] * 2, "reason": ["no result"] * 2})
    done = submit(run, raw, aside, target=str(target), purpose=PURPOSE, stamp="2026-02-03")
    assert done.findings == 0 and set(done.manifest["records"]) == {"AE", "DM", "LB", "SUPPAE"}
    assert done.manifest["created"] == "2026-02-03T00:00:00" and len(done.manifest["source"]) == 64
    guide = (target / "m5/datasets/t1/tabulations/sdtm/csdrg.html").read_text()
    assert "Set aside at intake, no result: 2 record(s)." in guide
    found = events(run)
    assert (
        ("access.allow", PURPOSE) in found and ("data.unseal", PURPOSE) in found and ("export.write", PURPOSE) in found
    )
    assert "T1-01-001" not in json.dumps(done.manifest) + str(done.page)
    # Nothing identifiable is left in the clear below the home.
    inside = b"".join(p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert b"T1-01-001" not in inside
    again = submit(run, raw, aside, target=str(target), purpose=PURPOSE, stamp="2026-02-03")
    assert again.digest == done.digest


@pytest.mark.parametrize("role", ["", "data engineer", "auditor", "statistician (blinded)"])
def test_a_role_that_may_not_is_refused_before_anything_is_read(
    raw: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", role)
    settings.cache_clear()
    run = step()
    with pytest.raises(TrialOpsError, match="may not use") as caught:
        submit(run, raw, NOBODY, target=str(tmp_path / "out"), purpose=PURPOSE)
    assert caught.value.where == "TRIALOPS_ROLE" and "regulatory affairs" in caught.value.fix
    assert [a for a, _ in events(run)] == ["data.seal", "access.refuse"]


def test_a_purpose_is_needed(raw: Made, tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="needs a purpose"):
        submit(step(), raw, NOBODY, target=str(tmp_path / "out"), purpose="because")


@pytest.mark.parametrize(("what", "role", "ok"), [
    ("submission", "approver", True), ("research", "data engineer", True), ("partner", "data steward", True),
    ("submission", "data steward", False), ("research", "auditor", False), ("partner", "ml engineer", False),
])  # fmt: skip
def test_kinds_of_export_have_roles_of_their_own(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: str, role: str, ok: bool
) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", role)
    settings.cache_clear()
    if ok:
        assert admit(step(), what, PURPOSE).role == role
        return
    with pytest.raises(TrialOpsError, match="may not use"):
        admit(step(), what, PURPOSE)


def test_an_export_nobody_knows(home: Path) -> None:
    with pytest.raises(TrialOpsError, match="no export called 'everything'") as caught:
        admit(step(), "everything", PURPOSE)
    assert "partner, research, submission" in caught.value.fix


def test_places_a_submission_may_not_go_to(raw: Made, home: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.doc").write_text("mine")
    for target, what in (("", "needs a folder"), (str(home / "x"), "below the platform's home"), (str(home), "below"),
                         (str(full), "holds other files")):  # fmt: skip
        with pytest.raises(TrialOpsError, match=what):
            submit(step(), raw, NOBODY, target=target, purpose=PURPOSE)
    assert (full / "thesis.doc").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "what"),
    [("colour: blue", "not known: colour"), ("- a", "not a mapping"), ("{", "cannot be read")],
)
def test_study_metadata_that_cannot_be_used(raw: Made, tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(TrialOpsError, match=what):
        submit(step(), raw, NOBODY, target=str(tmp_path / "o"), purpose=PURPOSE, study_metadata=str(path))


def test_study_metadata_reach_define_xml(raw: Made, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("description: A trial of something\nprotocol: P-1\nmeddra: '27.0'\nsdtmig: '3.4'\n")
    submit(step(), raw, NOBODY, target=str(tmp_path / "o"), purpose=PURPOSE, study_metadata=str(path))
    define = (tmp_path / "o/m5/datasets/t1/tabulations/sdtm/define.xml").read_text()
    for text in ("A trial of something", "<ProtocolName>P-1<", 'Version="27.0"', 'Version="3.4"'):
        assert text in define
    with pytest.raises(TrialOpsError, match="not an ISO 8601"):
        submit(step(), raw, NOBODY, target=str(tmp_path / "o"), purpose=PURPOSE, stamp="yesterday")


def test_a_delivery_that_keeps_no_files_still_submits_its_domains(home: Path, tmp_path: Path) -> None:
    made = artifact(home, "old")
    step("ingest-sdtm").seal(made, {"DM": submissions.tables()["DM"]})
    done = submit(step(), made, NOBODY, target=str(tmp_path / "o"), purpose=PURPOSE)
    assert done.manifest["records"] == {"DM": 3}
