"""The coding queue on both databases: states, two reviewers, conflicts, append-only, audit."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

from trialops.errors import TrialOpsError
from trialops.governance.audit import AuditTrail
from trialops.standards.review import Candidate, Item, ReviewQueue, Waiting, item_key, judged
from trialops.stores.database import reading, writing

FIRST = Candidate("2345-7", "Glucose", 0.8, ("component 0.80",))
OTHER = Candidate("14749-6", "Glucose, substance", 0.7)


def glucose(**more: object) -> Waiting:
    values = {"kind": "lab", "system": "LOINC", "verbatim": "Glucose", "context": {"unit": "mg/dL"}}
    values |= {"candidates": (FIRST, OTHER), "reason": "close", "release": "core", "rows": 5}
    return Waiting(**(values | more))  # type: ignore[arg-type]


@pytest.fixture
def queue(engine: Engine) -> ReviewQueue:
    return ReviewQueue(engine, "T1")


def only(queue: ReviewQueue) -> Item:
    items = queue.items()
    assert len(items) == 1
    return items[0]


def accept(queue: ReviewQueue, actor: str, code: str = "2345-7") -> Item:
    return queue.decide(only(queue).item, "accept", actor=actor, reason="fits", code=code)


def test_items_are_kept_once(queue: ReviewQueue) -> None:
    assert queue.add([glucose(), glucose(verbatim=" GLUCOSE ")]) == 1
    assert queue.add([glucose(rows=9)]) == 0
    assert queue.add([glucose(context={"unit": "mmol/L"})]) == 1
    assert len(queue.items("open")) == 2
    assert ReviewQueue(queue.engine, "other study").items() == []


def test_new_candidates_are_a_further_row(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    before = only(queue)
    assert queue.add([glucose(candidates=(OTHER,), release="2.80")]) == 1
    after = only(queue)
    assert after.item == before.item and after.id > before.id
    assert after.candidates == (OTHER,) and after.release == "2.80"
    with pytest.raises(TrialOpsError, match="changed since"):
        queue.decide(after.item, "accept", actor="ann", reason="x", code="14749-6", seen=before.id)


def test_accept_reject_reopen(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    item = accept(queue, "ann")
    assert (item.state, item.code, item.display) == ("accepted", "2345-7", "Glucose")
    assert queue.decided()[item.item].code == "2345-7"
    with pytest.raises(TrialOpsError, match="accepted already"):
        accept(queue, "bob")
    assert queue.decide(item.item, "reopen", actor="bob", reason="wrong unit").state == "open"
    with pytest.raises(TrialOpsError, match="is open"):
        queue.decide(item.item, "reopen", actor="bob", reason="again")
    assert queue.decide(item.item[:10], "reject", actor="bob", reason="no test").state == "rejected"
    assert [d.action for d in only(queue).decisions] == ["accept", "reopen", "reject"]
    assert only(queue).code == ""


def test_assign(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    queue.decide(only(queue).item, "assign", actor="ann", reason="chemistry", assignee="bob")
    assert only(queue).assignee == "bob" and only(queue).state == "open"
    assert len(queue.items(assignee="bob")) == 1 and queue.items(assignee="ann") == []


def test_another_code_needs_its_text(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    with pytest.raises(TrialOpsError, match="text is missing"):
        accept(queue, "ann", "718-7")
    item = queue.decide(only(queue).item, "accept", actor="ann", reason="it is", code="718-7", display="Hemoglobin")
    assert item.display == "Hemoglobin"


def test_two_reviewers(queue: ReviewQueue) -> None:
    queue.add([glucose()], reviewers=2)
    assert accept(queue, "ann").state == "second"
    with pytest.raises(TrialOpsError, match="another person"):
        accept(queue, "ann")
    assert queue.decided() == {}
    assert accept(queue, "bob").state == "accepted"


def test_reviewers_disagree(queue: ReviewQueue) -> None:
    queue.add([glucose()], reviewers=2)
    accept(queue, "ann")
    assert accept(queue, "bob", "14749-6").state == "conflict"
    assert queue.decided() == {}
    assert accept(queue, "cem", "14749-6").state == "accepted"
    assert only(queue).code == "14749-6"


def test_a_reviewer_may_change_their_mind(queue: ReviewQueue) -> None:
    queue.add([glucose()], reviewers=2)
    accept(queue, "ann")
    accept(queue, "bob", "14749-6")
    assert accept(queue, "ann", "14749-6").state == "accepted"


INCOMPLETE = [
    ("approve", {}, "no action"),
    ("accept", {}, "needs a code"),
    ("reject", {"code": "2345-7"}, "neither"),
    ("assign", {}, "needs a person"),
    ("reject", {"reason": " "}, "person and a reason"),
    ("reject", {"actor": ""}, "person and a reason"),
    ("accept", {"code": "1", "display": ""}, "text is missing"),
]


def test_incomplete_decisions(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    for action, more, what in INCOMPLETE:
        with pytest.raises(TrialOpsError, match=what):
            queue.decide(only(queue).item, action, **({"actor": "ann", "reason": "because"} | more))  # type: ignore[arg-type]
    assert only(queue).decisions == ()


def test_unknown_item_and_wrong_number_of_reviewers(queue: ReviewQueue) -> None:
    with pytest.raises(TrialOpsError, match="No such item"):
        queue.item("abc")
    with pytest.raises(TrialOpsError, match="one or two"):
        queue.add([glucose()], reviewers=3)
    queue.add([glucose(), glucose(context={})])
    with pytest.raises(TrialOpsError, match="Several"):
        queue.item("")
    with pytest.raises(TrialOpsError, match="No such item"):
        queue.item("%")


def test_decisions_are_in_the_audit_trail(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    accept(queue, "ann")
    trail = AuditTrail(queue.engine)
    events = [event for event in trail.events() if event.action == "coding.accept"]
    assert len(events) == 1 and events[0].actor == "ann" and events[0].reason == "fits"
    assert events[0].detail["code"] == "2345-7" and "Glucose" not in str(events[0])
    assert trail.verify()


def test_append_only(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    accept(queue, "ann")
    for table in ("coding_items", "coding_decisions"):
        for change in (f"UPDATE {table} SET reason = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(DatabaseError, match="append-only"), writing(queue.engine) as connection:
                connection.execute(text(change))
        with reading(queue.engine) as connection:
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 1


def test_concurrent_decisions_are_one(queue: ReviewQueue) -> None:
    queue.add([glucose()])
    key, refused = only(queue).item, []

    def decide(actor: str) -> None:
        try:
            queue.decide(key, "accept", actor=actor, reason="fits", code="2345-7")
        except TrialOpsError:
            refused.append(actor)

    threads = [threading.Thread(target=decide, args=(f"p{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(only(queue).decisions) == 1 and len(refused) == 5


def test_keys() -> None:
    one = item_key("T", "lab", "LOINC", "Glucose  level", {"unit": "mg/dL", "specimen": ""})
    assert one == item_key("T", "lab", "LOINC", "glucose level ", {"unit": " mg/dL"})
    assert one != item_key("T", "lab", "LOINC", "glucose level", {"unit": "MG/DL"})  # case decides in units
    assert one != item_key("U", "lab", "LOINC", "Glucose level", {"unit": "mg/dL"})


def test_no_votes_is_open() -> None:
    assert judged([], 1) == ("open", "", "")
