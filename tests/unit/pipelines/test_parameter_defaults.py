"""A default is the value a person would write, and the same value given by hand."""

from __future__ import annotations

from pathlib import Path

from toy_pipelines import toy_chain, toy_nested

from pipelines import local
from pipelines.catalog import Entry
from pipelines.graph import unfold
from pipelines.parameters import signature

CHAIN = Entry("toy_chain", "Toy chain", "toys", "toy_pipelines", None, (), "tester", "none")


def test_whole_numbers_stay_whole() -> None:
    found = signature(toy_chain.pipeline_spec)
    assert (found["rows"]["default"], type(found["rows"]["default"])) == (3, int)
    assert found["marks"]["default"] is None and found["marks"]["required"]


def test_default_and_the_same_value_given_are_one_run(tmp_path: Path) -> None:
    (tmp_path / "marks").mkdir()
    values = {"marks": str(tmp_path / "marks")}
    first = local.run(CHAIN, values, home=tmp_path / "home")
    second = local.run(CHAIN, {**values, "rows": "3"}, home=tmp_path / "home")
    assert first.state == second.state == "succeeded"
    assert {step["title"]: step["state"] for step in second.steps} == {
        "Make rows": "reused",
        "Count rows": "reused",
        "Note it": "ran",
    }


def test_running_order_is_by_name_where_nothing_else_decides() -> None:
    """A protobuf map has no order of its own: the plan must not take it over."""
    assert [item.path for item in unfold(toy_nested.pipeline_spec)[1]] == [
        "exit-handler-1/make",
        "exit-handler-1/inner/count",
        "exit-handler-1/inner/note",
        "exit-handler-1/condition-branches-4/condition-5/note-2",
        "exit-handler-1/condition-branches-4/condition-6/note-3",
        "exit-handler-1/for-loop-3/count",
        "exit-handler-1/for-loop-3/note",
        "exit-handler-1/inner-2/count",
        "exit-handler-1/inner-2/note",
        "told",
    ]
