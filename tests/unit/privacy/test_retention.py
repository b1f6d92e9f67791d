"""Retention by record class: what is due when, holds, audit windows, milestones, disposal and its certificate."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from components.privacy import apply_retention
from tests.support.homes import artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.privacy import certificate, holds
from trialops.privacy.retention import (
    RecordClass,
    default_retention_policy,
    dispose,
    due_day,
    milestones,
    parse,
    plan,
    record_milestone,
)
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.lake import IntegrityError

FLOOR = 2555
#: Tomorrow: what a test writes is then written on or before this day, also when midnight passes meanwhile.
TODAY = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)
LATER = TODAY + dt.timedelta(days=365 * 9)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    live_in(tmp_path / "home", monkeypatch)
    yield Step("retention", {}, settings())
    leave()


def filled(run: Step) -> None:
    run.lake.write("features/labs", pl.DataFrame({"subject_id": ["a", "b"]}))
    run.lake.write("features/labs", pl.DataFrame({"subject_id": ["b"]}))
    run.lake.write("clean/dm", pl.DataFrame({"USUBJID": ["a", "b"]}))
    run.objects.put("runs/r1/steps/s/record.json", b"{}")
    run.objects.put("privacy/requests.json", b"{}")
    run.objects.put("strange/thing.json", b"{}")


def states(run: Step, today: dt.date) -> dict[str, str]:
    found = plan(run.lake, run.objects, run.engine, today=today)
    return {r.name if r.version is None else f"{r.name}@{r.version}": r.state for r in found}


def test_the_shipped_policy_says_what_the_rules_say() -> None:
    classes = {c.name: c for c in default_retention_policy().classes}
    assert classes["trial master file"].rules == (("end_of_trial", 25), ("approval_or_discontinuation", 2))
    assert classes["HIPAA documentation"].rules == (("created", 6),)
    assert not classes["audit trail"].dispose
    assert all(c.basis for c in classes.values())
    policy = default_retention_policy()
    for name, table, kind in (
        ("clean/dm", True, "trial master file"),
        ("features/labs", True, "derived data"),
        ("raw/v/files/x", False, "trial master file"),
        ("audit/anchors/1.json", False, "audit trail"),
        ("privacy/certificates/x.json", False, "audit trail"),
        ("subjects/p/contact", False, "subject data outside the trial record"),
    ):
        found = policy.class_of(name, table=table)
        assert found is not None and found.name == kind
    assert policy.class_of("strange/thing", table=False) is None
    with pytest.raises(TrialOpsError, match="no usable rule"):
        parse({"version": 1, "audit_window_days": 1, "classes": [{"name": "x", "basis": "y"}]})


def test_the_latest_end_and_the_floor_count() -> None:
    one = RecordClass("x", "", (), (), (("end_of_trial", 25), ("approval_or_discontinuation", 2)), True, False)
    made = dt.date(2020, 2, 29)
    assert due_day(one, made, {"end_of_trial": dt.date(2021, 1, 1)}, FLOOR) is None
    reached = {"end_of_trial": dt.date(2021, 1, 1), "approval_or_discontinuation": dt.date(2045, 6, 1)}
    assert due_day(one, made, reached, FLOOR) == dt.date(2047, 6, 1)
    short = RecordClass("x", "", (), (), (("created", 6),), True, False)
    assert due_day(short, made, {}, 0) == dt.date(2026, 3, 1)  # 29 February, six years later
    assert due_day(short, made, {}, FLOOR) == made + dt.timedelta(days=FLOOR)
    assert due_day(RecordClass("x", "", (), (), (), False, False), made, {}, 0) is None


def test_what_is_due_and_what_stays(run: Step) -> None:
    filled(run)
    assert set(states(run, TODAY).values()) == {"kept"}
    found = states(run, LATER)
    assert found["features/labs@0"] == "due" and found["features/labs@1"] == "kept"  # the newest stays
    assert found["runs/r1/steps/s/record.json"] == "due" and found["privacy/requests.json"] == "due"
    assert found["clean/dm@0"] == "kept"  # the trial has not ended
    assert "strange/thing.json" not in found
    end = TODAY - dt.timedelta(days=365 * 30)
    for name in ("end_of_trial", "approval_or_discontinuation"):
        record_milestone(run.objects, name, end, actor="sponsor", reason="letter of the sponsor")
    assert milestones(run.objects)["end_of_trial"] == end
    assert states(run, TODAY)["clean/dm@0"] == "kept"  # written today: the floor
    assert states(run, LATER)["clean/dm@0"] == "due"
    with pytest.raises(TrialOpsError, match="milestone needs"):
        record_milestone(run.objects, "launch", end, actor="sponsor", reason="x")


def test_a_hold_keeps_and_its_release_frees(run: Step) -> None:
    filled(run)
    hold = holds.place(
        run.engine, record_class="derived data", object="features/*", actor="counsel", reason="litigation 12"
    )
    assert states(run, LATER)["features/labs@0"] == "held"
    assert states(run, LATER)["runs/r1/steps/s/record.json"] == "due"
    with pytest.raises(TrialOpsError, match="no such legal hold"):
        holds.release(run.engine, "other", actor="counsel", reason="over")
    with pytest.raises(TrialOpsError, match="needs a reason"):
        holds.place(run.engine, record_class="*", object="*", actor="counsel", reason=" ")
    holds.release(run.engine, hold.hold, actor="counsel", reason="settled")
    assert holds.active(run.engine) == []
    assert states(run, LATER)["features/labs@0"] == "due"
    actions = [e.action for e in AuditTrail(run.engine).events()]
    assert actions == ["hold.place", "hold.release"]


def test_holds_are_append_only(run: Step) -> None:
    import sqlalchemy as sa

    holds.place(run.engine, record_class="*", object="*", actor="counsel", reason="inspection")
    for statement in ("DELETE FROM legal_holds", "UPDATE legal_holds SET reason = 'x'"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), run.engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_what_was_used_lately_stays(run: Step) -> None:
    filled(run)
    run.audit("data.read", "features", tables={"labs": "features/labs@0"})
    near = [r for r in plan(run.lake, run.objects, run.engine, today=TODAY, floor_days=0) if r.name == "features/labs"]
    assert [r.state for r in near] == ["kept", "kept"]
    policy = default_retention_policy()
    quick = type(policy)(
        policy.version,
        365,
        tuple(
            type(c)(c.name, c.basis, c.lake, c.objects, (("created", 0),), c.dispose, c.newest)
            if c.name == "derived data"
            else c
            for c in policy.classes
        ),
    )
    records = plan(run.lake, run.objects, run.engine, today=TODAY, policy=quick, floor_days=0)
    assert [r.state for r in records if r.name == "features/labs"] == ["in use", "kept"]


def test_disposal_is_written_first_and_looks_at_holds_again(run: Step) -> None:
    filled(run)
    records = plan(run.lake, run.objects, run.engine, today=LATER)
    holds.place(run.engine, record_class="run records", object="*", actor="counsel", reason="inspection")
    gone = dispose(records, run.lake, run.objects, run.engine, actor="steward")
    assert {r.name for r in gone} == {"features/labs", "privacy/requests.json"}
    assert run.objects.exists("runs/r1/steps/s/record.json")
    events = [e for e in AuditTrail(run.engine).events() if e.action == "retention.dispose"]
    assert [(e.object, e.actor) for e in events] == [(r.name, "steward") for r in gone]
    from trialops.stores.refs import TableRef

    old = run.lake.versions("features/labs")[-1]
    with pytest.raises(IntegrityError):
        run.lake.read(TableRef("features/labs", old["version"], old["rows"], old["digest"]))
    assert run.lake.disposed("features/labs", 0)


def test_component_dry_run_and_real_run(run: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(run)
    home = settings().home
    made, page = artifact(home, "certificate"), artifact(home, "report")
    due = apply_retention.python_func(made, page, True, LATER.isoformat())
    assert due == 3 and json.loads(Path(made.path).read_text())["dry_run"] is True
    assert run.objects.exists("privacy/requests.json")
    assert "dry run" in Path(page.path).read_text()
    with pytest.raises(TrialOpsError, match="day to come"):
        apply_retention.python_func(made, page, False, LATER.isoformat())
    assert apply_retention.python_func(made, page, False, "") == 0


def test_certificates_are_signed_and_altered_ones_are_found(run: Step) -> None:
    signed = certificate.issue("retention", {"records": [["a", "b"]]}, vault=run.vault, objects=run.objects)
    again = certificate.issue("erasure", {"request": "r"}, vault=run.vault, objects=run.objects)
    assert certificate.verify(signed) and certificate.verify(again) and signed["key"] == again["key"]
    assert len(certificate.stored(run.objects)) == 2
    forged = {**signed, "body": {**signed["body"], "records": []}}
    assert not certificate.verify(forged)
    run.objects.put(f"{certificate.PREFIX}/{signed['digest']}.json", json.dumps(forged).encode())
    with pytest.raises(TrialOpsError, match="altered"):
        certificate.stored(run.objects)
