"""Plots of a trial's conduct: scores by site, funnel, retention, enrolment. SVG, the same bytes for the same data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from trialops.pages.plots import COLOURS, INK, SOFT, _axes, _svg

FLAG_COLOURS = {"red": "#b3261e", "amber": "#d98a00", "green": "#1a7f4b", "not judged": "#9aa5b1"}


def score_map(
    rows: Sequence[str],
    columns: Sequence[str],
    scores: Sequence[Sequence[float | None]],
    flags: Sequence[Sequence[str]],
    *,
    top: float,
) -> str:
    """Scores by row and column as shades from blue (below the others) to red (above); A and R mark the flags.

    Args:
        rows: Row labels.
        columns: Column labels.
        scores: Scores, None where there is none or it is not shown.
        flags: Flag of each cell: red and amber are marked, and "" is left empty.
        top: Score at which the shade is full.
    """
    figure, axes = _axes(height=1.9 + 0.27 * max(len(rows), 1))
    shades = [[math.nan if value is None else value for value in row] for row in scores]
    image = axes.imshow(shades, aspect="auto", cmap="RdBu_r", vmin=-top, vmax=top, alpha=0.85)
    for y, row in enumerate(flags):
        for x, flag in enumerate(row):
            if flag in ("red", "amber"):
                axes.text(x, y, flag[0].upper(), ha="center", va="center", fontsize=9, fontweight="bold", color=INK)
            elif flag == "not judged":
                axes.text(x, y, "·", ha="center", va="center", fontsize=9, color=SOFT)
    axes.set_xticks(range(len(columns)), labels=list(columns), rotation=50, ha="right")
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8, label="score")
    return _svg(figure)


def funnel(
    labels: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    flags: Sequence[str],
    *,
    grid: Sequence[float],
    centre: float,
    limits: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
) -> str:
    """A funnel plot: sites by size and metric, the trial's value, and control limits that close in with size.

    Args:
        labels: Name of each point; flagged ones are written.
        x: Denominators.
        y: Metrics.
        flags: Flag of each point.
        grid: Denominators at which the limits are drawn.
        centre: The trial's value.
        limits: Name of each pair of limits, lower and upper at the grid; drawn dashed, then dotted.
        xlabel: Of the denominator.
        ylabel: Of the metric.
    """
    figure, axes = _axes(height=3.4)
    axes.axhline(centre, color=SOFT, linewidth=1)
    for (name, low, high), style in zip(limits, ("--", ":"), strict=False):
        axes.plot(list(grid), list(low), style, color=SOFT, linewidth=1.1, label=name)
        axes.plot(list(grid), list(high), style, color=SOFT, linewidth=1.1)
    for label, across, up, flag in zip(labels, x, y, flags, strict=True):
        axes.plot([across], [up], "o", color=FLAG_COLOURS.get(flag, SOFT), markersize=5)
        if flag in ("red", "amber"):
            axes.annotate(label, (across, up), xytext=(5, 3), textcoords="offset points", fontsize=8, color=INK)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def steps(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    band: tuple[Sequence[float], Sequence[float], Sequence[float]] | None = None,
    top: float = 1.0,
) -> str:
    """Step curves (survival, cumulative incidence), with a band of limits around one where it is given."""
    figure, axes = _axes(height=3.2)
    if band is not None:
        axes.fill_between(list(band[0]), list(band[1]), list(band[2]), step="post", color=COLOURS[0], alpha=0.15, lw=0)
    for (label, x, y), colour in zip(series, COLOURS * 3, strict=False):
        axes.step(list(x), list(y), where="post", color=colour, linewidth=1.7, label=label)
    axes.set_ylim(0, top * 1.02)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def dated_lines(series: Sequence[tuple[str, Sequence[date], Sequence[float]]], *, ylabel: str) -> str:
    """Lines over calendar time; the first is drawn solid, the others dashed."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    figure, axes = _axes(height=3.2)
    for number, (label, x, y) in enumerate(series):
        style = "-" if number == 0 else "--"
        at = [float(date2num(day)) for day in x]
        axes.plot(at, list(y), style, color=COLOURS[number % len(COLOURS)], linewidth=1.8, label=label)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_ylabel(ylabel)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def plan_and_reached(
    labels: Sequence[str],
    planned: Sequence[date | None],
    reached: Sequence[date | None],
    tones: Sequence[str],
    *,
    today: date,
) -> str:
    """Milestones on a time line: hollow where planned, full where reached or forecast; the cut as a line."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    colours = {"good": COLOURS[2], "warn": "#d98a00", "bad": "#b3261e"}
    figure, axes = _axes(height=0.8 + 0.34 * max(len(labels), 1))
    for position, (plan, day, tone) in enumerate(zip(planned, reached, tones, strict=True)):
        places = [float(date2num(one)) for one in (plan, day) if one]
        colour = colours.get(tone, SOFT)
        if len(places) == 2:
            axes.plot(places, [position, position], color=colour, linewidth=1.6)
        if plan:
            axes.plot([float(date2num(plan))], [position], "o", mfc="white", color=SOFT, markersize=6)
        if day:
            axes.plot([float(date2num(day))], [position], "o" if day <= today else "D", color=colour, markersize=6)
    axes.axvline(float(date2num(today)), color=INK, linewidth=1)
    axes.set_yticks(range(len(labels)), labels=list(labels))
    axes.invert_yaxis()
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return _svg(figure)
