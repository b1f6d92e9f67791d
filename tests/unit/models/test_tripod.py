"""The TRIPOD+AI checklist: every item there, filled with the run's own figures, or honest about who has to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.release_evidence import judged
from trialops.models.comparison import compare, decide
from trialops.models.policy import load_promotion_policy
from trialops.models.tripod import Facts, as_markdown, tripod
from trialops.models.tripod_items import ITEMS

#: Items of the published checklist.
NUMBERS = (  # noqa: SIM905 -- read beside the publication
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c "
    "18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
).split()


@pytest.fixture(scope="module")
def facts() -> Facts:
    evidence = judged()
    against = compare(evidence.model, evidence.weak, evidence.rows, role="baseline")
    decision = decide(evidence.evaluated, against, evidence.audited, load_promotion_policy())
    data = ({"table": "clean/dm", "version": 3, "digest": "d", "role": "validated"},)
    search = {**evidence.search, "split": {**evidence.search["split"], "share": 0.3}}
    return Facts(evidence.task, evidence.model, evidence.evaluated, evidence.audited, search, against, decision, data)


def test_every_item_is_there_once_and_in_order(facts: Facts) -> None:
    assert [item.number for item in ITEMS] == NUMBERS and len(NUMBERS) == 52
    filled = tripod(facts)
    assert [item["number"] for item in filled["items"]] == NUMBERS
    assert filled["reported"] == sum(item["reported"] for item in filled["items"]) < filled["total"]


def test_items_carry_the_runs_figures(facts: Facts) -> None:
    text = {item["number"]: item["text"] for item in tripod(facts)["items"]}
    assert str(facts.evaluation.auroc) in text["23a"] and facts.fairness.verdict in text["23a"]
    assert facts.bundle.digest in text["22"]
    assert "clean/dm@3" in text["7"]
    assert str(facts.evaluation.n) in text["20a"]
    assert str(facts.comparison and facts.comparison.difference) in text["12e"]
    assert "next site" in text["23b"]
    better = replace(facts.evaluation, brier=0.123)
    assert "0.123" in {i["number"]: i["text"] for i in tripod(replace(facts, evaluation=better))["items"]}["23a"]


def test_what_the_run_cannot_know_says_so(facts: Facts) -> None:
    bare = replace(facts, comparison=None, decision=None, data=())
    items = {item["number"]: item for item in tripod(bare)["items"]}
    for number in ("2", "17", "18a", "19"):
        assert not items[number]["reported"] and items[number]["text"].startswith("not reported: ")
    assert not items["25"]["reported"] and not items["7"]["reported"]
    assert not items["12d"]["reported"], "this search was not summarised over sites"


def test_the_markdown_is_one_table(facts: Facts) -> None:
    lines = as_markdown(tripod(facts)).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 53 and {line.count("|") for line in rows} == {5}
