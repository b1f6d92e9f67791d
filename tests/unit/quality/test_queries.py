"""The life of a query: opened once, answered, closed by a person or by corrected data, re-opened, cancelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from sqlalchemy import Engine

from trialops.errors import TrialOpsError
from trialops.pages import render
from trialops.quality.evaluation import no_queries
from trialops.quality.queries import Queries, query_id
from trialops.quality.queries_page import ageing, queries_page
from trialops.stores.database import writing

RULES = {"R1", "R2"}


def found(*items: tuple[str, str | None, str | None]) -> pl.DataFrame:
    """Findings: (rule, subject, record)."""
    rows = [
        {"rule": r, "priority": "major", "domain": "AE", "USUBJID": s, "record": k, "message": f"look at {r}"}
        for r, s, k in items
    ]
    return pl.DataFrame(rows, schema={c: no_queries().schema[c] for c in no_queries().columns if c != "delivery"})


def counts(synced: Any) -> tuple[int, int, int, int]:
    return synced.opened, synced.reopened, synced.closed, synced.unchanged


@pytest.fixture
def queries(engine: Engine) -> Queries:
    return Queries(engine, "T1")


A, B = ("R1", "p1", "AESEQ 1"), ("R2", "p2", "AESEQ 4")


def test_the_same_finding_does_not_open_a_second_query(queries: Queries) -> None:
    assert counts(queries.sync(found(A, B, A), RULES, actor="bot", run_id="r1")) == (2, 0, 0, 0)
    assert counts(queries.sync(found(A, B), RULES, actor="bot", run_id="r2")) == (0, 0, 0, 2)
    table = queries.table()
    assert table.height == 2 and set(table["state"]) == {"open"}
    shown = queries.show(query_id("T1", "R1", "AE", "p1", "AESEQ 1"))
    assert [(e.state, e.cause, e.actor, e.run_id) for e in shown.history] == [("open", "finding", "bot", "r1")]


def test_corrected_data_close_a_query_and_a_finding_that_is_back_opens_it_again(queries: Queries) -> None:
    queries.sync(found(A, B), RULES, actor="bot")
    assert counts(queries.sync(found(B), RULES, actor="bot")) == (0, 0, 1, 1)
    assert counts(queries.sync(found(A, B), RULES, actor="bot")) == (0, 1, 0, 1)
    states = [e.state for e in queries.show(query_id("T1", *("R1", "AE", "p1", "AESEQ 1"))).history]
    assert states == ["open", "closed", "reopened"]


def test_a_rule_that_was_not_judged_closes_nothing(queries: Queries) -> None:
    queries.sync(found(A, B), RULES, actor="bot")
    assert counts(queries.sync(found(), {"R2"}, actor="bot")) == (0, 0, 1, 0)
    assert dict(queries.table().select("rule", "state").iter_rows()) == {"R1": "open", "R2": "closed"}


def test_what_a_person_settled_stays_settled(queries: Queries) -> None:
    queries.sync(found(A, B), RULES, actor="bot")
    first, second = (query_id("T1", r, "AE", s, k) for r, s, k in (A, B))
    queries.move(first, "answered", actor="ann", reason="The value is right, see source.")
    queries.move(first, "closed", actor="bob", reason="Confirmed.")
    queries.move(second, "cancelled", actor="bob", reason="Asked in error.")
    assert counts(queries.sync(found(A, B), RULES, actor="bot")) == (0, 0, 0, 2)
    assert [e.state for e in queries.show(first).history] == ["open", "answered", "closed"]
    assert [(e.actor, e.reason) for e in queries.show(first).history[1:]] == [
        ("ann", "The value is right, see source."),
        ("bob", "Confirmed."),
    ]
    assert queries.move(first, "reopened", actor="ann", reason="New source.").state == "reopened"


@pytest.mark.parametrize(
    ("path", "then"),
    [
        ((), "reopened"),
        (("closed",), "answered"),
        (("cancelled",), "reopened"),
        (("closed",), "cancelled"),
        (("answered",), "answered"),
        ((), "open"),
    ],
)
def test_moves_that_make_no_sense_are_refused(queries: Queries, path: tuple[str, ...], then: str) -> None:
    queries.sync(found(A), RULES, actor="bot")
    name = query_id("T1", "R1", "AE", "p1", "AESEQ 1")
    for state in path:
        queries.move(name, state, actor="ann", reason="so")
    with pytest.raises(TrialOpsError, match="cannot become") as caught:
        queries.move(name, then, actor="ann", reason="so")
    assert caught.value.fix
    assert len(queries.show(name).history) == 1 + len(path)


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_is_asked_for(queries: Queries, reason: str) -> None:
    queries.sync(found(A), RULES, actor="bot")
    with pytest.raises(TrialOpsError, match="reason"):
        queries.move(query_id("T1", "R1", "AE", "p1", "AESEQ 1"), "closed", actor="ann", reason=reason)


def test_unknown_query(queries: Queries) -> None:
    for call in (lambda: queries.show("Q-0"), lambda: queries.move("Q-0", "closed", actor="a", reason="b")):
        with pytest.raises(TrialOpsError, match="no query"):
            call()


def test_studies_do_not_mix(engine: Engine) -> None:
    one, two = Queries(engine, "T1"), Queries(engine, "T2")
    one.sync(found(A), RULES, actor="bot")
    assert counts(two.sync(found(), RULES, actor="bot")) == (0, 0, 0, 0)
    two.sync(found(A), RULES, actor="bot")
    assert one.table().height == two.table().height == 1
    with pytest.raises(TrialOpsError):
        two.show(one.table()["query"][0])


@pytest.mark.parametrize("table", ["quality_queries", "quality_query_events"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET run_id = 'x'", "DELETE FROM {}"])
def test_history_is_append_only(queries: Queries, table: str, statement: str) -> None:
    queries.sync(found(A), RULES, actor="bot")
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), writing(queries.engine) as connection:
        connection.exec_driver_sql(statement.format(table))


def test_ageing_and_page(queries: Queries) -> None:
    queries.sync(found(A, B, ("R1", None, "SITEID s1, SYSBP")), RULES, actor="bot")
    queries.move(query_id("T1", "R2", "AE", "p2", "AESEQ 4"), "closed", actor="ann", reason="fine")
    later = queries.table(now=datetime.now(UTC) + timedelta(days=40))
    assert sorted(later["age"].to_list()) == [0, 40, 40]
    assert dict(ageing(later)) == {"up to a week": 0, "up to a month": 0, "up to three months": 2, "longer": 0}
    html = render(queries_page(later, "2 opened"))
    assert "<svg" in html and "2 queries wait" in html
    assert "p1" not in html and "AESEQ" not in html
    assert "0 queries wait" in render(queries_page(later.clear()))


def test_a_thousand_findings_in_one_go(queries: Queries) -> None:
    many = found(*[("R1", f"p{i}", f"AESEQ {i % 7}") for i in range(1000)])
    assert counts(queries.sync(many, RULES, actor="bot")) == (1000, 0, 0, 0)
    assert counts(queries.sync(many.head(400), RULES, actor="bot")) == (0, 0, 600, 400)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cli import cli
    from trialops.governance.audit import AuditTrail
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.objects import open_store
    from trialops.stores.study import bind_study

    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path))
    monkeypatch.setenv("TRIALOPS_ACTOR", "ann")
    run = CliRunner()
    empty = run.invoke(cli, ["queries", "list"])
    assert empty.exit_code == 2 and "no study yet" in empty.output + (empty.stderr if empty.stderr_bytes else "")
    bind_study(open_store(settings().objects), "T1")
    engine = connect(settings().database)
    migrate(engine)
    Queries(engine, "T1").sync(found(A, B), RULES, actor="bot")
    name = query_id("T1", "R1", "AE", "p1", "AESEQ 1")
    assert name in run.invoke(cli, ["queries", "list", "--rule", "R1"]).output
    answered = run.invoke(cli, ["queries", "answer", name, "--reason", "It is right."])
    assert answered.exit_code == 0 and "answered" in answered.output
    assert run.invoke(cli, ["queries", "close", name, "--reason", "Settled."]).exit_code == 0
    again = run.invoke(cli, ["queries", "close", name, "--reason", "Settled."])
    assert again.exit_code == 2
    shown = run.invoke(cli, ["queries", "show", name]).output
    assert "It is right." in shown and "ann" in shown and "closed" in shown
    out = tmp_path / "queries.csv"
    assert run.invoke(cli, ["queries", "export", "--out", str(out), "--all"]).exit_code == 0
    assert len(out.read_text().splitlines()) == 3
    actions = [event.action for event in AuditTrail(engine).events()]
    assert actions == ["query.answered", "query.closed"]
