"""From a physician's release to an acknowledged report: the step, its page, its commands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from tests.support.e2b_messages import change, full
from tests.support.homes import artifact, leave, live_in
from tests.support.released_cases import Registered, told_case
from tests.support.report_gateway import TOKEN, Gateway, acknowledgement, running_gateway
from tests.support.safety_trial import STUDY, deliver, subject
from tests.support.safety_trial import trial as made_trial
from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.quality.queries import Queries
from trialops.safety.case_run import assess_cases, keep_delivery
from trialops.safety.clock_times import moment
from trialops.safety.e2b.mapping import case_of
from trialops.safety.e2b.outbox import Version, utc_text
from trialops.safety.e2b.reader import parse
from trialops.safety.e2b.values import read_values
from trialops.safety.hand_over import HandedOver, hand_over, look_back, message_number, outbox_of, write_report
from trialops.safety.hand_over_page import hand_over_page, numbers, standing
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import SENT, WITHDRAWN
from trialops.safety.release import ReleasedCase, prepare
from trialops.safety.safety_policy import safety_policy
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.trial.study_file import parse_study, study_file
from trialops.trial.tables import TrialTables

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PURPOSE = "Reporting of released cases"


class Desk(Registered):
    """A safety desk: what is released, a gateway, a clock."""

    def __init__(self, run: Step, gateway: Gateway) -> None:
        super().__init__(run)
        self.gateway, self.now = gateway, NOW

    def pass_(self) -> HandedOver:
        """One pass of the step."""
        study = study_file()
        return hand_over(self.run, self.register, study, safety_policy(study), clock=lambda: self.now, purpose=PURPOSE)

    def states(self) -> dict[str, str]:
        """State by message."""
        outbox = outbox_of(self.run, self.register.study, lambda: self.now)
        return {each.message_id: each.state for each in outbox.messages()}

    def acknowledge(self, key: str, **more: str) -> None:
        """The authority answers."""
        self.gateway.acknowledgements.setdefault(key, []).append(acknowledgement(key, **more))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk with an empty register."""
    with running_gateway() as gateway:
        monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
        monkeypatch.setenv("REGULATORY_REPORTING_API", gateway.url)
        monkeypatch.setenv("TRIALOPS_REGULATORY_TOKEN", TOKEN)
        live_in(tmp_path / "home", monkeypatch)
        yield Desk(Step("hand-over-reports", {}, settings()), gateway)
        leave()
        assert gateway.violations == []


def test_nothing_released_is_nothing_to_do_for_any_role(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    done = desk.pass_()
    assert standing(done) == "nothing to hand over" and desk.gateway.requests == []


def test_from_release_to_acknowledgement(desk: Desk) -> None:
    case, number = desk.version()
    digest = desk.release(case, number)
    done = desk.pass_()
    key = message_number(Version(case, 1))
    assert (done.queued, done.sent.sent, standing(done)) == ([key], [key], "all handed over")
    assert done.balance.counts == {"waiting": 0, "sent": 1, "acknowledged": 0, "rejected": 0, "superseded": 0}
    values = read_values(parse(desk.gateway.bodies[key]))
    assert (values.first("N.1.2"), values.first("C.1.1")) == (key, case)
    assert (values.first("N.1.5"), values.first("N.1.4")) == ("20260105090000+0000", "ZZFDA_PREMKT")
    # Its clock runs until the authority has taken it, and ends at the time it was sent.
    (message,) = done.messages
    assert message.due.startswith("2026-01-18") and message.detail["receipt"]
    assert not [a for a in desk.register.actions()[case] if a.action == SENT]
    desk.now += timedelta(hours=5)
    assert desk.pass_().queued == []
    desk.acknowledge(key)
    after = desk.pass_()
    assert after.balance.counts["acknowledged"] == 1 and desk.register.released() == []
    (sent,) = [a for a in desk.register.actions()[case] if a.action == SENT]
    assert sent.moment.startswith("2026-01-05T09:00") and sent.detail["message"] == key
    assert desk.pass_().balance.counts["acknowledged"] == 1 and desk.gateway.taken == {key: 1}
    signed = outbox_of(desk.run, desk.register.study, lambda: NOW).history(key)[0].detail["signed"]
    assert signed == digest


def test_a_release_without_a_valid_signature_sends_nothing(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number)
    other, number = desk.version("e2")
    desk.register.act(
        other, "released", version=number, authority="FDA", reason="By hand",
        detail={"digest": "0" * 64, "signature": "none", "kind": "serious"}, actor="doc",
    )  # fmt: skip
    with pytest.raises(TrialOpsError, match="not covered by an approval"):
        desk.pass_()
    assert desk.gateway.requests == [] and desk.states() == {}


def test_what_was_queued_before_goes_although_a_later_release_cannot_be_read(desk: Desk) -> None:
    desk.gateway.faults = ["status:503"]
    case, number = desk.version()
    desk.release(case, number)
    desk.pass_()
    other, number = desk.version("e2")
    digest = desk.release(other, number)
    desk.run.objects.delete(f"safety/unblinded/{digest}")
    desk.now += timedelta(hours=1)
    with pytest.raises(KeyError):
        desk.pass_()
    assert desk.gateway.taken == {message_number(Version(case, 1)): 1}


def test_two_passes_at_once_queue_a_release_once(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number)
    passes = [threading.Thread(target=desk.pass_) for _ in range(3)]
    for each in passes:
        each.start()
    for each in passes:
        each.join()
    assert list(desk.gateway.taken.values()) == [1] and list(desk.states().values()) == ["sent"]


def _lacking() -> Any:
    """A case that FDA would reject: the reporter's country is missing."""
    return case_of(
        change(full(), ("drop", "C.1.11.1", "C.1.11.2"), ("set", "FDA.C.5.5a", "999999"), ("drop", "C.2.r.3"))
    )


def test_a_report_that_would_be_rejected_is_stopped_and_asked_about(desk: Desk) -> None:
    case, number = desk.version()
    told = told_case(case)
    bad = replace(told, reporters=_lacking().reporters)
    desk.release(case, number, bad)
    done = desk.pass_()
    key = message_number(Version(case, 1))
    assert done.stopped == {key: ["R0019 C.2.r.3 C.2.r 1"]} and desk.gateway.requests == []
    assert standing(done) == "reports rejected" and done.balance.counts["rejected"] == 1
    known = Queries(desk.run.engine, desk.register.study)
    (query,) = known.table().rows(named=True)
    assert (query["rule"], query["priority"], query["record"]) == ("SUB01", "critical", f"{case} version 1")
    assert "R0019" in query["message"]
    assert desk.pass_().stopped == done.stopped and desk.states() == {key: "rejected"}
    # The corrected version goes out, takes over the due time, and answers the query.
    _, number = desk.version()
    desk.release(case, number)
    after = desk.pass_()
    assert after.sent.sent == [message_number(Version(case, 2))]
    assert after.messages[1].due.startswith("2026-01-18")
    assert after.balance.counts == {"waiting": 0, "sent": 1, "acknowledged": 0, "rejected": 0, "superseded": 1}
    assert known.table().rows(named=True)[0]["state"] == "closed"


def test_what_only_a_person_can_add_stops_a_report(desk: Desk) -> None:
    case, number = desk.version()
    told = told_case(case)
    reactions = tuple(replace(each, term=None) for each in told.reactions)
    desk.release(case, number, replace(told, reactions=reactions))
    (faults,) = desk.pass_().stopped.values()
    assert faults == ["INCOMPLETE: E.i.2.1b a reaction has no MedDRA code"]


def test_a_first_report_may_not_amend_and_a_later_one_may(desk: Desk) -> None:
    case, number = desk.version()
    amended = told_case(case, amendment="amendment", amendment_reason="Corrected onset")
    desk.release(case, number, amended)
    assert [fault.split()[0] for fault in next(iter(desk.pass_().stopped.values()))] == ["R0101"]
    _, number = desk.version()
    desk.release(case, number)
    desk.pass_()
    _, number = desk.version()
    desk.release(case, number, amended)
    assert desk.pass_().sent.sent == [message_number(Version(case, 3))]


def test_a_rejection_by_the_authority_is_asked_about_and_its_clock_runs_on(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number)
    desk.pass_()
    key = message_number(Version(case, 1))
    desk.acknowledge(key, code="CR", text="R0105: FDA.C.5.5a is invalid")
    done = desk.pass_()
    assert standing(done) == "reports rejected" and done.balance.counts["rejected"] == 1
    (query,) = Queries(desk.run.engine, desk.register.study).table().rows(named=True)
    assert query["rule"] == "SUB02" and "R0105" in query["message"] and "is invalid" not in query["message"]
    assert not [a for a in desk.register.actions()[case] if a.action == SENT]


def test_a_release_taken_back_is_not_sent(desk: Desk) -> None:
    desk.gateway.faults = ["status:503"]
    for event in ("e1", "e2"):
        case, number = desk.version(event)
        desk.release(case, number)
    settings_without = settings().model_copy(update={"regulatory_reporting_api": ""})
    desk.run.settings, kept = settings_without, desk.run.settings
    held = desk.pass_()
    assert standing(held) == "reports held" and len(held.queued) == 2
    desk.run.settings = kept
    desk.register.act(case, WITHDRAWN, version=1, authority="FDA", reason="New information", actor="doc")
    done = desk.pass_()
    assert desk.states()[message_number(Version(case, 1))] == "superseded"
    assert len(done.sent.failed) == 1 and standing(done) == "reports wait"


def test_a_role_that_may_not_send_leaves_everything_waiting(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    case, number = desk.version()
    desk.release(case, number)
    desk.run.settings = settings().model_copy(update={"role": "data engineer"})
    done = desk.pass_()
    assert not done.allowed and desk.states() == {} and standing(done) == "reports held"
    assert "may not send" in render(hand_over_page(done, "UTC"))


def test_other_authorities_are_left_to_a_person(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number, authority="EU")
    done = desk.pass_()
    assert done.elsewhere == [Version(case, 1, "EU")] and desk.states() == {}
    assert "no verified receiver" in render(hand_over_page(done, "UTC"))
    sent = ("sent", case, "--authority", "EU", "--message", "EV-1")
    assert "in the future" in _call(*sent, "--at", "2999-01-01", fails=True)
    assert "sent to EU" in _call(*sent, "--at", "2026-01-06T10:00:00Z")
    (action,) = [each for each in desk.register.actions()[case] if each.action == SENT]
    assert (action.authority, action.moment[:16], action.detail["message"]) == ("EU", "2026-01-06T10:00", "EV-1")
    assert desk.pass_().elsewhere == []
    assert "No release of this case" in _call(*sent, "--at", "2026-01-06", fails=True)


def test_a_report_for_another_authority_is_written_for_the_person_who_sends_it(desk: Desk, tmp_path: Path) -> None:
    case, number = desk.version()
    given = ("write", case, "--authority", "EU", "--to", str(tmp_path / "out"))
    assert "No release of this case waits for EU" in _call(*given, fails=True)
    digest = desk.release(case, number, authority="EU")
    assert "bytes in" in _call(*given)
    (file,) = (tmp_path / "out").iterdir()
    values = read_values(parse(file.read_bytes()))
    # The same number each time: what is sent twice by mistake is one report to its receiver.
    assert values.first("N.1.2") == message_number(Version(case, 1, "EU")) and values.first("C.1.1") == case
    assert (values.first("N.1.4"), values.first("N.2.r.3")) == ("EVHUMAN", "EVCTMPROD")
    assert not [element for element in values if element.startswith("FDA.")]
    assert case_of(values) is not None
    read = [each for each in desk.run.trail.events() if each.action == "report.read"]
    assert [(each.object, each.version) for each in read] == [(str(Version(case, 1, "EU")), digest)]
    inside = (*given[:-1], str(tmp_path / "home" / "reports"))
    assert "below the platform's home" in _call(*inside, fails=True)


def test_the_page_holds_case_ids_and_no_content(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number)
    page = render(hand_over_page(desk.pass_(), "America/New_York"))
    assert case in page and "2026-01-17 23:59" in page
    for content in ("TRX-101", "AB", "10027940", "SPONSOR-1"):
        assert f">{content}<" not in page
    assert "W0008" in page  # what cannot be checked is said
    assert numbers(desk.pass_())["released"] == 1


def test_the_component_shows_a_page_and_returns_the_standing(desk: Desk, tmp_path: Path) -> None:
    from components.safety import hand_over_reports

    case, number = desk.version(aware=utc_text(datetime.now(UTC)))
    desk.release(case, number)
    report = artifact(tmp_path / "home", "report")
    assert hand_over_reports.python_func(report=report) == "all handed over"
    page = Path(report.path).read_text()
    assert message_number(Version(case, 1)) in page and "all handed over" in page
    assert hand_over_reports.python_func(report=report, as_of="2026-01-05") == "all handed over"
    assert len(desk.gateway.taken) == 1


def test_looking_back_changes_nothing(desk: Desk) -> None:
    case, number = desk.version()
    desk.release(case, number)
    done = look_back(desk.run, desk.register, NOW)
    assert done.balance.counts["waiting"] == 1 and desk.states() == {} and desk.gateway.requests == []


@pytest.mark.parametrize("fatal", [False, True])
def test_a_case_made_of_sdtm_rows_and_unblinded_passes_every_rule(desk: Desk, fatal: bool) -> None:
    row = {"AEDECOD": "SYNCOPE", "AETERM": "Fainting", "AESER": "Y", "AESHOSP": "Y", "AEREL": "POSSIBLE"}
    row |= {"AESDTH": "Y", "AEOUT": "FATAL"} if fatal else {}
    made = made_trial([{"subject": 3, **row, "AELLTCD": 10042772.0}, {"subject": 2}])
    measured = [("HEIGHT", 165.25, "cm"), ("WEIGHT", 71.456789, "kg")]
    vitals = pl.DataFrame(
        [
            {"USUBJID": subject(3), "VSTESTCD": test, "VSSTRESN": value, "VSSTRESU": unit, "VSDTC": "2023-01-02"}
            for test, value, unit in measured
        ]
    )
    raw, trial = deliver(desk.run, TrialTables(made.study, {**made.tables, "VS": vitals}, made.source))
    keep_delivery(desk.run, raw, trial)
    sender = {**study_file().sender, "identifier": "SPONSOR"}
    stated = parse_study({**STUDY, "sender": _plain(sender)})
    register = CaseRegister(desk.run.engine, trial.study)
    at = moment("2024-06-01T12:00:00Z")
    assess_cases(desk.run, trial, stated, safety_policy(stated), now=at, received=at)
    (case,) = register.cases()
    prepared = prepare(desk.run, register, stated, case, purpose=PURPOSE)
    released = ReleasedCase(case, 1, "FDA", "serious", prepared.digest, prepared.told)
    data, faults = write_report(released, stated, "fda_ind_cder", at, initial=True)
    assert faults == []
    values = read_values(parse(data))
    assert values.first("G.k.2.2") == "Verum" and "Suspected" in values.texts("G.k.9.i.2.r.3")
    assert (values.first("D.4"), values.first("D.3")) == ("165", "71.5")  # as many digits as E2B has
    assert (values.first("E.i.3.2a") == "true") == fatal == bool(values.nulls("D.9.1"))


def _plain(value: Any) -> Any:
    return {key: _plain(item) for key, item in value.items()} if hasattr(value, "items") else value


# -- commands ------------------------------------------------------------------------------------------------------


def _call(*arguments: str, fails: bool = False) -> str:
    from pipelines.cli import cli

    result = CliRunner().invoke(cli, ["safety", "reports", *arguments, "--purpose", PURPOSE])
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_commands_list_send_acknowledge_and_reconcile(desk: Desk, tmp_path: Path) -> None:
    case, number = desk.version()
    desk.release(case, number)
    desk.gateway.faults = ["status:503"]
    desk.now = datetime.now(UTC) - timedelta(hours=1)
    desk.pass_()
    key = message_number(Version(case, 1))
    assert json.loads(_call("list", "--json", "--waiting"))[0]["message_id"] == key
    assert "failed" in _call("list") and "status 503" in _call("history", key)
    assert "sent          1" in _call("send")
    assert "sent          1" in _call("reconcile")
    desk.gateway.messages.clear()
    assert "the gateway does not have it" in _call("reconcile", fails=True)
    assert "problem" not in _call("reconcile", "--offline")
    good, bad = tmp_path / "good.ack", tmp_path / "bad.ack"
    good.write_bytes(acknowledgement(key))
    bad.write_bytes(b"<html/>")
    output = _call("acks", str(good), str(bad), fails=True)
    assert "good.ack: applied" in output and "bad.ack: quarantined" in output
    assert json.loads(_call("reconcile", "--offline", "--json"))["counts"]["acknowledged"] == 1
    assert desk.register.released() == []
    _call("get", key, "--to", str(tmp_path / "out"))
    (file,) = (tmp_path / "out").iterdir()
    assert read_values(parse(file.read_bytes())).first("C.1.1") == case
    assert "home" in _call("get", key, "--to", str(tmp_path / "home" / "x"), fails=True)


def test_commands_are_for_roles_that_may(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_ROLE", "data engineer")
    settings.cache_clear()
    for command in (("list",), ("send",), ("reconcile",), ("history", "x")):
        assert "may not use this" in _call(*command, fails=True)


def test_doctor_looks_at_the_gateway(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.doctor import examine

    def found() -> tuple[str, str]:
        (check,) = [check for check in examine(tmp_path / "home") if check.name == "regulatory_api"]
        return check.state, check.found

    assert found() == ("ok", "127.0.0.1, answers")
    monkeypatch.setenv("REGULATORY_REPORTING_API", (tmp_path / "gate way").as_uri())
    assert found()[0] == "unused"
    (tmp_path / "gate way" / "outbox").mkdir(parents=True)
    (tmp_path / "gate way" / "outbox" / "a.xml").touch()
    assert found() == ("ok", f"{tmp_path / 'gate way'}, 1 reports wait to be picked up")
    for wrong in ("http://gateway.example.org", "http://127.0.0.1:1"):
        monkeypatch.setenv("REGULATORY_REPORTING_API", wrong)
        assert found()[0] == "broken"
