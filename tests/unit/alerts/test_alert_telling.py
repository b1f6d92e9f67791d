"""Who is told what and when: groups, waiting, news, reminders, silences, inhibition, levels of escalation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.alert_clock import START, Desk, addresses, database
from trialops.alerts.raise_alert import Alert
from trialops.alerts.routes import load_routes
from trialops.alerts.silences import add_silence, end_silence, matcher, silences
from trialops.alerts.telling import acknowledge
from trialops.errors import TrialOpsError


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    for variable, address in addresses(load_routes()).items():
        monkeypatch.setenv(variable, address)
    yield Desk(database(tmp_path))


def warning(name: str = "Late", **labels: str) -> Alert:
    return Alert(name, "warning", {"area": "data", **labels}, f"{name} is wrong", "runbook")


def critical(name: str = "Broken", **labels: str) -> Alert:
    return Alert(name, "critical", {"area": "data", **labels}, f"{name} is wrong", "runbook")


def test_a_new_group_waits_then_is_told_once(desk: Desk) -> None:
    desk.fire([warning(pipeline="p")] * 3)
    assert desk.step() == []  # 30 s are not over
    desk.later(seconds=29)
    desk.fire([warning(pipeline="p", dataset="d")])  # another group: its own wait
    assert desk.step() == []
    desk.later(seconds=1)
    assert desk.step() == [("group", "data_team", "[WARNING] Late: Late is wrong")]
    assert desk.alert("Late").count == 3
    desk.later(seconds=29)
    assert len(desk.step()) == 1
    desk.later(minutes=30)
    desk.fire([warning(pipeline="p")] * 5)  # again, while it lasts: counted, not told
    assert desk.step() == []


def test_news_of_a_group_waits_for_its_interval_and_its_end_is_told(desk: Desk) -> None:
    desk.fire([warning(pipeline="p", step="a")])
    desk.later(seconds=30)
    assert len(desk.step()) == 1
    desk.later(minutes=1)
    desk.fire([warning(pipeline="p", step="b")])
    desk.later(minutes=3, seconds=59)
    assert desk.step() == []  # five minutes after the last message, not before
    desk.later(seconds=1)
    assert len(desk.step()) == 1
    assert [line["labels"]["step"] for line in desk.sent[-1].content["lines"]] == ["a", "b"]
    desk.end("Late")
    desk.later(minutes=5)
    assert desk.step() == [("group", "data_team", "[RESOLVED] Late: Late is wrong")]
    desk.later(days=2)
    assert desk.step() == []


def test_what_ended_before_anybody_was_told_is_told_to_nobody(desk: Desk) -> None:
    desk.fire([warning()])
    desk.later(seconds=10)
    desk.end("Late")
    desk.later(hours=1)
    assert desk.step() == []


def test_reminders_come_after_the_routes_time_until_somebody_takes_it(desk: Desk) -> None:
    desk.fire([warning()])
    desk.later(seconds=30)
    assert len(desk.step()) == 1
    desk.later(hours=11, minutes=59)
    assert desk.step() == []
    desk.later(minutes=1)
    assert len(desk.step()) == 1
    acknowledge(desk.register, [(desk.alert("Late").fingerprint[:8], 0)], "maria", desk.now)
    desk.later(days=3)
    assert desk.step() == []


def test_what_comes_and_goes_is_told_no_more_often_than_its_group(desk: Desk) -> None:
    told = 0
    for _ in range(60):  # an hour of a minute on, a minute off
        desk.fire([warning()])
        desk.later(seconds=60)
        told += len(desk.step())
        desk.end("Late")
        desk.later(seconds=60)
        told += len(desk.step())
    assert 1 < told <= 2 * 60 / 5 + 1
    assert desk.alert("Late").episode == 60


def test_fifty_causes_ten_thousand_times_are_fifty_messages(desk: Desk) -> None:
    causes = [warning(f"Cause{n}", pipeline=f"p{n % 7}") for n in range(50)]
    for _ in range(4):
        desk.fire(causes * 50)
        desk.later(seconds=10)
        desk.step()
    desk.later(minutes=10)
    desk.step()
    assert len(desk.sent) == 50
    assert sum(alert.count for alert in desk.register.known().values()) == 10_000
    assert {m.content["lines"][0]["name"] for m in desk.sent} == {f"Cause{n}" for n in range(50)}


def test_a_critical_one_inhibits_the_warnings_of_the_same_thing_alone(desk: Desk) -> None:
    desk.fire([critical("PipelineFailed", pipeline="p"), warning("Rate", pipeline="p"), warning("Rate", pipeline="q")])
    desk.later(seconds=30)
    told = {(m[0], m[1]): m[2] for m in desk.step()}
    names = {line["name"] + line["labels"]["pipeline"] for m in desk.sent for line in m.content["lines"]}
    assert names == {"PipelineFailedp", "Rateq"}
    assert ("page", "oncall_first") in told or ("page", "oncall_second") in told
    desk.end("PipelineFailed")
    desk.later(minutes=5)
    desk.step()
    assert "Ratep" in {line["name"] + line["labels"]["pipeline"] for m in desk.sent for line in m.content["lines"]}


def test_alerts_that_share_no_more_than_their_area_do_not_inhibit_each_other(desk: Desk) -> None:
    desk.fire([critical("Down"), warning("Disk"), critical("Job", job="x"), warning("Slow", job="y")])
    desk.later(seconds=30)
    desk.settle(), desk.deliver()
    assert {line["name"] for m in desk.sent for line in m.content["lines"]} == {"Down", "Disk", "Job", "Slow"}


def test_an_overdue_report_inhibits_its_own_clock_only(desk: Desk) -> None:
    def clock(name: str, case: str) -> Alert:
        labels = {"area": "safety", "case": case, "authority": "FDA", "kind": "serious"}
        return Alert(name, "critical", labels, f"{name} {case}")

    desk.fire([clock("SafetyReportOverdue", "A"), clock("SafetyClock90", "A"), clock("SafetyClock90", "B")])
    desk.later(minutes=1)
    desk.settle(), desk.deliver()
    assert sorted(str(m.content["lines"][0]["summary"]) for m in desk.sent) == [
        "SafetyClock90 B",
        "SafetyReportOverdue A",
    ]


def test_a_silence_holds_messages_and_pages_until_it_ends(desk: Desk) -> None:
    desk.fire([critical(pipeline="p"), critical(pipeline="q")])
    made = add_silence(
        desk.register, [matcher("pipeline=p"), matcher("alertname=~Bro.*")], timedelta(hours=1), "repair", desk.now
    )
    desk.later(seconds=30)
    desk.step()
    assert {line["labels"]["pipeline"] for m in desk.sent for line in m.content["lines"]} == {"q"}
    desk.later(minutes=59, seconds=30)
    before = len(desk.sent)
    desk.step()
    now_told = desk.sent[before:]
    assert "p" in {line["labels"]["pipeline"] for m in now_told for line in m.content["lines"]}
    assert [s.reason for s in silences(desk.register)] == ["repair"] and made.author == "tester"


def test_a_silence_can_be_ended_and_says_who_and_why(desk: Desk) -> None:
    made = add_silence(desk.register, [matcher("area=data")], timedelta(days=1), "repair", desk.now)
    desk.later(minutes=5)
    end_silence(desk.register, made.silence[:6], "done", desk.now)
    (left,) = silences(desk.register)
    assert left.ends == "2026-03-02T08:05:00.000000Z" and left.reason == "done" and left.seq == 2
    with pytest.raises(TrialOpsError, match="0 silences"):
        end_silence(desk.register, made.silence, "again", desk.now)


@pytest.mark.parametrize(
    ("matchers", "lasts", "reason"),
    [
        ([], 1, "because"),
        (["alertname=~.*"], 1, "because"),
        (["area=data"], 24 * 31, "because"),
        (["area=data"], 0, "because"),
        (["area=data"], 1, " "),
    ],
    ids=["nothing", "everything", "too long", "no time", "no reason"],
)
def test_a_silence_must_be_narrow_short_and_explained(desk: Desk, matchers: list[str], lasts: int, reason: str) -> None:
    with pytest.raises(TrialOpsError):
        add_silence(desk.register, [matcher(m) for m in matchers], timedelta(hours=lasts), reason, desk.now)
    assert silences(desk.register) == []


@pytest.mark.parametrize("text", ["alertname", "=x", "a=~["])
def test_a_matcher_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(TrialOpsError):
        matcher(text)


def test_an_untaken_critical_escalates_on_time_and_goes_on(desk: Desk) -> None:
    desk.fire([critical()])
    pages: list[tuple[timedelta, str, int]] = []
    while desk.now < START + timedelta(minutes=95):
        before = len(desk.sent)
        desk.settle(), desk.escalate(), desk.deliver()
        for message in desk.sent[before:]:
            if message.kind == "page":
                pages.append((desk.now - START, message.receiver, int(message.content["level"])))
        desk.later(seconds=30)
    # START is a Monday, 08:00: before the hand-over at 09:00 the turn of the week before still lasts.
    minutes = [(span.total_seconds() / 60, level) for span, _, level in pages]
    assert minutes == [(0, 1), (15, 2), (30, 3), (60, 4), (90, 5)]
    people = [person for _, person, _ in pages]
    routes = desk.routes
    first, second = (routes.rotations[n].on_duty(START, "UTC") for n in ("primary", "secondary"))
    assert people == [first, second, "operations_lead", "operations_lead", "operations_lead"]
    assert first != second


def test_a_pass_that_comes_late_pages_every_level_it_missed_once(desk: Desk) -> None:
    desk.fire([critical()])
    desk.later(minutes=40)
    assert desk.escalate() == 3 and desk.escalate() == 0
    desk.deliver()
    assert sorted(int(m.content["level"]) for m in desk.sent) == [1, 2, 3]


@pytest.mark.parametrize("how", ["taken", "ended", "silenced"])
def test_paging_stops_when_it_is_taken_ended_or_silenced(desk: Desk, how: str) -> None:
    desk.fire([critical()])
    assert desk.escalate() == 1
    desk.later(minutes=10)
    if how == "taken":
        acknowledge(desk.register, [(desk.alert("Broken").fingerprint, 0)], "maria", desk.now)
    elif how == "ended":
        desk.end("Broken")
    else:
        add_silence(desk.register, [matcher("alertname=Broken")], timedelta(hours=9), "known", desk.now)
    for _ in range(20):
        desk.later(minutes=20)
        assert desk.escalate() == 0


def test_who_was_paged_is_told_that_it_has_ended(desk: Desk) -> None:
    desk.fire([critical()])
    desk.later(minutes=20)
    desk.step()
    paged = {m.receiver for m in desk.sent if m.kind == "page"}
    desk.end("Broken")
    desk.later(minutes=5)
    told = {(receiver, title.split("]")[0]) for _, receiver, title in desk.step()}
    assert len(paged) == 2
    assert told == {(name, "[RESOLVED") for name in {*paged, "data_team"}}
    desk.later(hours=9)
    assert desk.step() == []


def test_alerts_of_one_group_share_a_page(desk: Desk) -> None:
    desk.fire([critical(step=f"s{n}") for n in range(30)])
    assert desk.escalate() == 1
    desk.deliver()
    (page,) = desk.sent
    assert len(page.content["lines"]) == 20 and page.content["more"] == 10 and len(page.content["alerts"]) == 30


def test_a_trial_taken_over_with_many_overdue_reports_pages_once_for_each_authority(desk: Desk) -> None:
    def overdue(case: int, authority: str) -> Alert:
        labels = {"area": "safety", "case": f"C{case}", "authority": authority, "kind": "serious"}
        return Alert(
            "SafetyReportOverdue", "critical", labels, f"The report of case C{case} is overdue", "safety-clock"
        )

    desk.fire([overdue(case, authority) for case in range(70) for authority in ("FDA", "EU")])
    told = [(kind, receiver) for kind, receiver, _ in desk.step()]
    assert sorted(told) == [("group", "safety_desk")] * 2 + [("page", "safety_physician")] * 2
    assert all(len(m.content["alerts"]) == 70 and m.content["more"] == 50 for m in desk.sent)
    desk.later(minutes=1)
    desk.fire([overdue(70, "EU")])  # one more is news of its authority, and a page about itself alone
    assert [(kind, receiver) for kind, receiver, _ in desk.step()] == [
        ("group", "safety_desk"),
        ("page", "safety_physician"),
    ]
    assert [line["labels"]["case"] for line in desk.sent[-1].content["lines"]] == ["C70"]


def test_a_new_episode_is_paged_anew_and_an_old_link_does_not_take_it(desk: Desk) -> None:
    desk.fire([critical()])
    desk.escalate()
    old = desk.alert("Broken")
    desk.end("Broken")
    desk.later(minutes=1)
    desk.fire([critical()])
    assert acknowledge(desk.register, [(old.fingerprint, old.episode)], "maria", desk.now) == []
    assert desk.escalate() == 1
    assert acknowledge(desk.register, [(old.fingerprint, 2)], "maria", desk.now)[0].acknowledged == "maria"


def test_without_addresses_everything_is_told_on_the_console(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in addresses(desk.routes):
        monkeypatch.delenv(variable)
    desk.fire([critical()])
    desk.later(seconds=30)
    desk.settle(), desk.escalate()
    delivered = desk.deliver()
    assert delivered.numbers()["sent"] == 2 and desk.sent == []  # the console needs no sender
    assert {m.receiver for m in desk.outbox.messages()} == {"console"}


def test_duty_changes_at_local_time_across_a_change_of_clocks() -> None:
    rotation = load_routes().rotations["primary"]
    # In Berlin clocks go forward on 29 March 2026; Monday the 30th begins a turn at 09:00 local, 07:00 UTC.
    before, after = datetime(2026, 3, 30, 6, 59, tzinfo=UTC), datetime(2026, 3, 30, 7, 0, tzinfo=UTC)
    assert rotation.on_duty(before, "Europe/Berlin") != rotation.on_duty(after, "Europe/Berlin")
    assert rotation.on_duty(after, "Europe/Berlin") == rotation.on_duty(after + timedelta(days=6), "Europe/Berlin")
    # A week of winter time: the same turn begins at 08:00 UTC.
    winter = datetime(2026, 1, 12, 7, 59, tzinfo=UTC)
    assert rotation.on_duty(winter, "Europe/Berlin") != rotation.on_duty(winter + timedelta(minutes=1), "Europe/Berlin")
