"""The TRIPOD+AI checklist of a model, filled from the run that made and judged it.

Item numbers are those of Collins et al., BMJ 2024;385:e078378; what an item asks for is said in our own words. An
item is filled with facts of the run, or says "not reported" and why: what a person has to add is not made up here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialops.models.bundle import Bundle
    from trialops.models.comparison import Comparison, Decision
    from trialops.models.evaluation import Evaluation
    from trialops.models.fairness import FairnessReport
    from trialops.models.task import Task


@dataclass(frozen=True)
class Facts:
    """What the checklist is filled from.

    Attributes:
        task: What is predicted, for whom.
        bundle: The model.
        evaluation: It on held-out sites.
        fairness: Its audit.
        search: Document of the search.
        comparison: It against the model in use or the baseline; None where none was made.
        decision: What the policy made of it; None where none was made.
        data: Table versions behind the training set: table, version, digest, role.
    """

    task: Task
    bundle: Bundle
    evaluation: Evaluation
    fairness: FairnessReport
    search: Mapping[str, Any]
    comparison: Comparison | None = None
    decision: Decision | None = None
    data: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Item:
    """One item: its number, topic, what it asks, and how it is filled from the facts."""

    number: str
    topic: str
    asks: str
    fill: Callable[[Facts], str | None]
    otherwise: str = "the run does not know it"


def tripod(facts: Facts) -> dict[str, Any]:
    """Fill the checklist.

    Args:
        facts: The run's results.

    Returns:
        `title`, `digest` of the model, `reported` and `total` counts, and `items`: {number, topic, asks, reported,
        text}, in the checklist's order.
    """
    from trialops.models.tripod_items import ITEMS

    items = []
    for item in ITEMS:
        text = item.fill(facts)
        filled = {"number": item.number, "topic": item.topic, "asks": item.asks, "reported": text is not None}
        items.append({**filled, "text": text if text is not None else f"not reported: {item.otherwise}"})
    return {
        "title": facts.task.title,
        "digest": facts.bundle.digest,
        "reported": sum(item["reported"] for item in items),
        "total": len(items),
        "items": items,
    }


def as_markdown(checklist: Mapping[str, Any]) -> str:
    """The checklist as a Markdown table."""
    lines = [
        f"# TRIPOD+AI checklist: {checklist['title']}",
        "",
        f"Bundle digest `{checklist['digest']}`. {checklist['reported']} of {checklist['total']} items are filled from "
        "the run; the others name who has to.",
        "",
        "| item | topic | asks for | reported |",
        "|---|---|---|---|",
    ]
    for item in checklist["items"]:
        cells = (item["number"], item["topic"], item["asks"], item["text"])
        lines.append("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
