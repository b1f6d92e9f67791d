"""Pages of the model steps: what is told, and of whom nothing is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.support.release_evidence import judged
from trialops.models.comparison import compare
from trialops.models.evaluation import evaluate_predictions
from trialops.models.evidence import split_facts
from trialops.models.fairness import audit_predictions
from trialops.models.fairness_page import fairness_page
from trialops.models.model_card import as_markdown, model_card
from trialops.models.page import evaluation_page
from trialops.models.policy import load_fairness_policy
from trialops.pages import Page, Table, render

POLICY = load_fairness_policy()


def table(page: Page, title: str) -> Table:
    section = next(section for section in page.sections if section.title == title)
    return next(item for item in section.items if isinstance(item, Table))


def evaluated(sizes: dict[str, int]) -> Any:
    """An evaluation over sites of given sizes, every third subject an event."""
    site = np.array([name for name, n in sizes.items() for _ in range(n)])
    y = np.array([int(i % 3 == 0) for n in sizes.values() for i in range(n)], dtype=np.int8)
    p = np.clip(0.3 + 0.2 * y + np.linspace(-0.1, 0.1, len(y)), 0, 1)
    return evaluate_predictions(
        y, p, site, threshold=0.4, decision_thresholds=(0.1, 0.8), model="withdrawal", replicates=100
    )


def page_of(found: Any) -> Page:
    against = compare(judged().model, judged().weak, judged().rows, role="baseline")
    return evaluation_page(found, found, against)


def test_small_sites_are_one_row() -> None:
    found = evaluated({"S1": 40, "S2": 11, "S3": 10, "S4": 7})
    rows = list(table(page_of(found), "By site").rows)
    assert [row[:3] for row in rows] == [("S1", 40, 14), ("S2", 11, 4), ("smaller sites (2)", 17, 7)]
    small = [row for row in found.by_site if row.n < 11]
    expected = sum(row.n * row.expected for row in small)
    assert rows[-1][3] == expected / 17 and rows[-1][4] == 7 / expected
    assert {row.site: row.n for row in found.by_site} == {"S1": 40, "S2": 11, "S3": 10, "S4": 7}, (
        "the document is exact"
    )


def test_a_few_subjects_of_small_sites_are_not_counted_at_all() -> None:
    rows = list(table(page_of(evaluated({"S1": 40, "S3": 4, "S4": 3})), "By site").rows)
    assert rows[-1] == ("smaller sites (2)", "<11", None, None, None)
    assert "smaller sites" not in render(page_of(evaluated({"S1": 40, "S2": 11})))


def test_small_groups_are_named_without_counts_on_page_and_card() -> None:
    y = np.array([1, 0, 0] * 40 + [1, 0, 1, 0, 0, 0, 1], dtype=np.int8)
    p = np.where(y == 1, 0.7, 0.3)
    race = np.array(["WHITE"] * 120 + ["ASIAN"] * 7, dtype=object)
    declared = {"race": ("WHITE", "ASIAN", "OTHER")}
    report = audit_predictions(y, p, {"race": race}, threshold=0.5, policy=POLICY, declared=declared)
    white, asian, other = list(table(fairness_page(report, POLICY), "race").rows)
    # 127 subjects less an exact 120 would give the seven away
    assert white[:4] == ("WHITE", "120 or more", "40 or more", "80 or more") and white[-1] == "yes"
    assert asian == ("ASIAN", "<11", *[None] * 6, "no: <11 subjects")
    assert other == ("OTHER", 0, *[None] * 6, "no: no held-out subjects")
    assert {row.level: row.n for row in report.attributes[0].groups}["ASIAN"] == 7, "the document is exact"
    card = as_markdown(model_card(judged().task, judged().model, judged().evaluated, report))
    assert "**race ASIAN**: not assessable: <11 subjects" in card and "7 subjects" not in card


def test_few_events_are_told_neither_by_count_nor_by_rate_nor_by_the_rest() -> None:
    # 40 subjects: 4 events; 36 non-events would give them, and so would the share flagged among them
    y = np.array([1] * 4 + [0] * 36 + [1] * 30 + [0] * 60, dtype=np.int8)
    p = np.where(y == 1, 0.7, 0.3)
    sex = np.array(["F"] * 40 + ["M"] * 90, dtype=object)
    report = audit_predictions(y, p, {"sex": sex}, threshold=0.5, policy=POLICY)
    women, men = list(table(fairness_page(report, POLICY), "sex").rows)
    assert women[:5] == ("F", 40, None, None, None) and women[5] is not None and women[6:8] == (None, None)
    assert women[-1] == "no: fewer than 11 events" and men[:4] == ("M", 90, 30, 60)
    page = fairness_page(report, POLICY)
    assert "4 positives" not in render(page) and ">36<" not in render(page)


def test_the_p_value_of_a_clear_difference_is_not_zero_on_the_page() -> None:
    text = render(page_of(judged().evaluated))
    assert "p &lt; 0.001" in text and "p = 0.000" not in text


def test_split_facts_count_both_parts() -> None:
    import polars as pl

    rows = pl.DataFrame(
        {
            "site_id": ["A", "A", "B", "C"],
            "label": [1, 0, 1, 0],
            "split": ["train", "train", "held out", "train"],
        }
    )
    assert split_facts(rows) == {
        "train": {"sites": 2, "subjects": 3, "events": 1},
        "held_out": {"sites": 1, "subjects": 1, "events": 1},
        "share": 0.25,
    }
