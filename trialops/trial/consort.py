"""The CONSORT diagram: boxes with their counts, by arm for readers who may see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.pages import plots, suppressed
from trialops.pages.page import SMALLEST_CELL

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.funnel import Funnel

LABELS = {
    "consented": "Consented",
    "screened": "Screened",
    "randomised": "Randomised",
    "dosed": "Dosed",
    "completed": "Completed",
    "discontinued": "Discontinued",
    "ongoing": "Ongoing",
}


def consort(found: Funnel, *, full: bool = False, arms: pl.DataFrame | None = None) -> str:
    """The CONSORT diagram as SVG.

    Args:
        found: The funnel.
        full: Show small counts of reasons too: for readers of sealed results.
        arms: Counts by arm from :func:`trialops.trial.funnel.by_arm`, for the unblinded variant alone.
    """
    total = found.total
    wrong = {item.box for item in found.imbalances}

    def head(box: str) -> list[str]:
        return [f"{LABELS[box]} (n = {total[box]:,})"]

    start: list[tuple[str, float, float, Sequence[str], bool]] = []
    arrows = []
    if found.prescreened is not None:
        start.append(("prescreened", 1, 0, [f"Pre-screened (n = {found.prescreened:,})"], False))
        arrows.append(("prescreened", "consented"))
    columns = 3 if arms is None else max(3, arms["ARMCD"].n_unique())
    middle = (columns - 1) / 2
    start = [(name, middle, row, lines, flag) for name, _, row, lines, flag in start]
    sides = (
        ("consented", 1, "unscreened", [("Not screened yet", total["not_screened"])]),
        ("screened", 2, "excluded", [
            ("Screen failure", total["screen_failure"]),
            ("Passed, not randomised", total["not_randomised"]),
            ("In screening", total["in_screening"]),
        ]),
        ("randomised", 3, "undosed", [("Not dosed", total["not_dosed"])]),
    )  # fmt: skip
    boxes = start
    for box, row, side, exits in sides:
        boxes.append((box, middle, row, head(box), box in wrong))
        there = [(text, n) for text, n in exits if n]
        if there:
            lines = [f"{text} (n = {n:,})" for text, n in there]
            boxes.append((side, middle + 1, row + 0.5, lines, False))
            arrows.append((box, side))
    arrows += [("consented", "screened"), ("screened", "randomised")]
    if arms is not None:
        return plots.flow([*boxes, *_arm_boxes(arms)], [*arrows, *_arm_arrows(arms)], columns=columns)
    boxes.append(("dosed", middle, 4, head("dosed"), "dosed" in wrong))
    arrows.append(("randomised", "dosed"))
    reasons = [f"{text} (n = {n})" for text, n in (found.reasons if full else pooled(found.reasons))]
    boxes.append(("completed", 0, 5, head("completed"), False))
    boxes.append(("discontinued", middle, 5, [*head("discontinued"), *reasons], False))
    boxes.append(("ongoing", columns - 1, 5, head("ongoing"), False))
    arrows += [("dosed", name) for name in ("completed", "discontinued", "ongoing")]
    return plots.flow(boxes, arrows, columns=columns)


def _arm_boxes(arms: pl.DataFrame) -> list[tuple[str, float, float, Sequence[str], bool]]:
    import polars as pl

    rows = arms.group_by("ARMCD", "ARM").agg(pl.exclude("SITEID").sum()).sort("ARMCD")
    boxes: list[tuple[str, float, float, Sequence[str], bool]] = []
    for number, row in enumerate(rows.iter_rows(named=True)):
        first = [str(row["ARM"]), f"randomised n = {row['randomised']:,}", f"dosed n = {row['dosed']:,}"]
        last = [f"completed n = {row['completed']:,}", f"discontinued n = {row['discontinued']:,}",
                f"ongoing n = {row['ongoing']:,}"]  # fmt: skip
        boxes.append((f"arm {number}", number, 4, first, row["not_dosed"] + row["dosed"] != row["randomised"]))
        ends = row["completed"] + row["discontinued"] + row["ongoing"]
        boxes.append((f"end {number}", number, 5, last, ends != row["dosed"]))
    return boxes


def _arm_arrows(arms: pl.DataFrame) -> list[tuple[str, str]]:
    count = arms["ARMCD"].n_unique()
    return [pair for i in range(count) for pair in (("randomised", f"arm {i}"), (f"arm {i}", f"end {i}"))]


def pooled(reasons: Sequence[tuple[str, int]]) -> list[tuple[str, int | str]]:
    """Reasons as a page may show them: those of fewer than eleven subjects together, and never one alone."""
    large = [item for item in reasons if item[1] >= SMALLEST_CELL]
    small = [item for item in reasons if item[1] < SMALLEST_CELL]
    if len(small) == 1 and large:
        small.append(large.pop())
    if not small:
        return list(large)
    return [*large, ("OTHER REASONS", suppressed(sum(n for _, n in small)))]
