"""A trial that was in progress when it came here: reports its former system has sent end their clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.homes import leave, live_in
from tests.support.safety_trial import deliver, subject, trial
from trialops.errors import TrialOpsError
from trialops.safety.case_run import assess_cases, case_clocks
from trialops.safety.case_versions import authorities_of
from trialops.safety.clocks import OPEN
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import AWARE, SENT
from trialops.safety.safety_policy import safety_policy
from trialops.safety.taken_over import COLUMNS, TakenOver, take_over
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.study import bind_study
from trialops.trial.study_file import study_file

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PURPOSE = "The trial was run elsewhere until now"
SERIOUS = {"AESER": "Y", "AESHOSP": "Y", "AEREL": "PROBABLE", "AEDECOD": "SYNCOPE", "AETERM": "Fainting"}


class Running:
    """A trial with three serious events of two years ago, assessed today for the first time."""

    def __init__(self) -> None:
        self.run, self.study = Step("take-over", {}, settings()), study_file()
        made = trial([{"subject": number, **SERIOUS} for number in (2, 3, 4)])
        _, delivered = deliver(self.run, made)
        policy = safety_policy(self.study)
        assess_cases(self.run, delivered, self.study, policy, now=NOW, received=NOW)
        self.policy, self.register = policy, CaseRegister(self.run.engine, delivered.study)
        rows = delivered.table("AE").select("USUBJID", "AESEQ").iter_rows()
        self.events = {str(name): str(int(number)) for name, number in rows}
        bind_study(self.run.objects, delivered.study)

    def open(self) -> dict[str, set[str]]:
        """Authorities with an open clock, by case."""
        actions = self.register.actions()
        found = {
            case: case_clocks(made, actions.get(case, []), self.policy, authorities_of(self.study))
            for case, made in self.register.versions().items()
        }
        return {case: {c.authority for c in all_ if c.state == OPEN} for case, all_ in found.items()}

    def line(self, number: int, authority: str = "FDA", **changed: str) -> str:
        name = subject(number)
        row = {
            "USUBJID": name, "EVENT": self.events[name], "authority": authority,
            "sent": "2024-02-01T10:00:00Z", "message": f"OLD-{number}-{authority}",
        } | changed  # fmt: skip
        return ",".join(row[column] for column in COLUMNS)

    def take(self, *lines: str) -> TakenOver:
        data = "\n".join([",".join(COLUMNS), *lines]).encode()
        return take_over(self.run, self.register, self.study, data, now=NOW, purpose=PURPOSE)


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("TRIALOPS_ROLE", "safety physician")
    live_in(tmp_path / "home", monkeypatch)
    yield Running()
    leave()


def test_what_was_reported_before_has_no_clock_any_more(running: Running) -> None:
    assert [len(parties) for parties in running.open().values()] == [2, 2, 2]
    lines = [running.line(number, authority) for number in (2, 3) for authority in ("FDA", "EU")]
    done = running.take(*lines, running.line(4, "FDA"))
    assert (done.taken, done.known) == (5, 0)
    assert sorted(map(sorted, running.open().values())) == [[], [], ["EU"]]
    sent = [a for actions in running.register.actions().values() for a in actions if a.action == SENT]
    assert {a.moment[:10] for a in sent} == {"2024-02-01"} and len(sent) == 5
    # The same list again, and one line more.
    again = running.take(*lines, running.line(4, "FDA"), running.line(4, "EU"))
    assert again == TakenOver(1, 5, 0)
    assert set().union(*running.open().values()) == set()
    events = [each for each in running.run.trail.events() if each.action == "report.take_over"]
    assert len(events) == 6 and all(each.reason == PURPOSE for each in events)


def test_who_has_reported_knew(running: Running) -> None:
    """The register's awareness is a proxy: a report before it moves it, and the clock is not left open behind it."""
    done = running.take(running.line(2, sent="2021-05-03T12:00:00Z"))
    assert done.moved == 1
    ((aware,),) = [[a for a in actions if a.action == AWARE] for actions in running.register.actions().values()]
    assert aware.moment.startswith("2021-05-03T12:00") and aware.version == 1
    assert sorted(map(sorted, running.open().values())) == [["EU"], ["EU", "FDA"], ["EU", "FDA"]]
    assert running.take(running.line(2, "EU", sent="2021-05-04T00:00:00Z")).moved == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"EVENT": "999"}, "knows no case"),
        ({"USUBJID": "somebody else"}, "knows no case"),
        ({"authority": "PMDA"}, "does not report to this authority, but to FDA, EU"),
        ({"sent": "yesterday"}, "not an ISO 8601 time"),
        ({"sent": "2999-01-01"}, "in the future"),
        ({"message": " "}, "number of the message is missing"),
    ],
)
def test_a_list_with_a_fault_enters_nothing_and_names_lines_alone(
    running: Running, changed: dict[str, str], said: str
) -> None:
    with pytest.raises(TrialOpsError, match="1 of 2 reports cannot be taken over; nothing was") as error:
        running.take(running.line(2), running.line(3, **changed))
    assert "line 3: " in error.value.where and said in error.value.where
    assert subject(3) not in str(error.value) and "somebody else" not in str(error.value)
    assert running.register.actions() == {}


@pytest.mark.parametrize("data", [b"case,sent\nC1,2024-01-01\n", b"\xff\xfe", ",".join(COLUMNS).encode() + b"\na,b\n"])
def test_a_list_of_another_form_is_refused(running: Running, data: bytes) -> None:
    with pytest.raises(TrialOpsError) as error:
        take_over(running.run, running.register, running.study, data, now=NOW, purpose=PURPOSE)
    assert "USUBJID, EVENT, authority, sent, message" in str(error.value.fix)


def test_the_command_needs_a_role_that_may(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cli import cli

    file = tmp_path / "list.csv"
    file.write_text("\n".join([",".join(COLUMNS), running.line(2)]))
    command = ["safety", "reports", "take-over", str(file), "--purpose", PURPOSE]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0 and "1 reports taken over, 0 known already" in done.output, done.output
    monkeypatch.setenv("TRIALOPS_ROLE", "data engineer")
    settings.cache_clear()
    assert CliRunner().invoke(cli, command).exit_code != 0
