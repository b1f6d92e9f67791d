"""Plots as SVG text: no script, the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

INK, SOFT, LINE = "#1d2733", "#5b6875", "#d9dfe5"
COLOURS = ("#0b5cad", "#c2571a", "#1a7f4b", "#7a4fa3", "#8a5a00")


def intervals(
    labels: Sequence[str],
    values: Sequence[float | None],
    low: Sequence[float | None],
    high: Sequence[float | None],
    *,
    xlabel: str,
    reference: float | None = None,
) -> str:
    """Estimates with their intervals, one line each (a forest plot); None leaves the line empty."""
    figure, axes = _axes(height=0.6 + 0.32 * max(len(labels), 1))
    for position, (value, lower, upper) in enumerate(zip(values, low, high, strict=True)):
        if value is None:
            continue
        if lower is not None and upper is not None:
            axes.plot([lower, upper], [position, position], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
        axes.plot([value], [position], "o", color=COLOURS[0], markersize=5)
    if reference is not None:
        axes.axvline(reference, color=SOFT, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(labels)), labels=list(labels))
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    return _svg(figure)


def lines(
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    diagonal: bool = False,
    markers: bool = False,
) -> str:
    """Named lines over a common axis; ``diagonal`` adds the line of equality."""
    figure, axes = _axes(height=3.4)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle="--")
    for (label, x, y), colour in zip(series, COLOURS * 3, strict=False):
        axes.plot(list(x), list(y), "o-" if markers else "-", color=colour, label=label, linewidth=1.8, markersize=4)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def trade_off(
    labels: Sequence[str],
    x: Sequence[tuple[float, float, float] | None],
    y: Sequence[tuple[float, float, float] | None],
    *,
    xlabel: str,
    ylabel: str,
    reference: float | None = None,
) -> str:
    """Points with intervals on both axes, each (value, low, high), named in a legend; None leaves a point out."""
    figure, axes = _axes(height=3.8)
    for position, (label, across, up) in enumerate(zip(labels, x, y, strict=True)):
        if across is None or up is None:
            continue
        colour, mark = COLOURS[position % len(COLOURS)], "os^Dv"[position // len(COLOURS) % 5]
        axes.plot(across[1:], [up[0], up[0]], color=colour, linewidth=1.2)
        axes.plot([across[0], across[0]], up[1:], color=colour, linewidth=1.2)
        axes.plot([across[0]], [up[0]], mark, color=colour, markersize=6, label=label)
    if reference is not None:
        axes.axvline(reference, color=SOFT, linewidth=1, linestyle="--")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def bars(labels: Sequence[str], values: Sequence[float], *, xlabel: str) -> str:
    """Horizontal bars, the figures written beside them."""
    figure, axes = _axes(height=0.6 + 0.28 * max(len(labels), 1))
    axes.barh(range(len(labels)), list(values), color=COLOURS[0], height=0.62)
    for position, value in enumerate(values):
        text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
        axes.annotate(text, (value, position), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(labels)), labels=list(labels))
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.margins(x=0.12)
    if not any(values):
        axes.set_xlim(0, 1)  # nothing was counted: an axis around 0 would look like something
    return _svg(figure)


def limits(labels: Sequence[str], values: Sequence[float], *, limit: float, xlabel: str) -> str:
    """Horizontal bars with a limit: those beyond it in the second colour."""
    figure, axes = _axes(height=0.6 + 0.24 * max(len(labels), 1))
    colours = [COLOURS[1] if value > limit else COLOURS[0] for value in values]
    axes.barh(range(len(labels)), list(values), color=colours, height=0.62)
    axes.axvline(limit, color=SOFT, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(labels)), labels=list(labels))
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    return _svg(figure)


def pairs(
    labels: Sequence[str], first: Sequence[float], second: Sequence[float], *, names: tuple[str, str], ylabel: str
) -> str:
    """Two distributions over the same cells, bars side by side."""
    figure, axes = _axes(height=2.6)
    places = range(len(labels))
    axes.bar([p - 0.2 for p in places], list(first), width=0.38, color=SOFT, label=names[0])
    axes.bar([p + 0.2 for p in places], list(second), width=0.38, color=COLOURS[0], label=names[1])
    axes.set_xticks(places, labels=list(labels), rotation=30, ha="right")
    axes.set_ylabel(ylabel)
    axes.yaxis.label.set_color(SOFT)
    axes.legend(frameon=False, fontsize=9)
    return _svg(figure)


def heat_map(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], *, top: float
) -> str:
    """A table of figures as shades, from 0 to ``top`` and beyond; None leaves the cell empty."""
    import math

    figure, axes = _axes(height=1.6 + 0.26 * max(len(rows), 1))
    shades = [[math.nan if value is None else value for value in row] for row in values]
    image = axes.imshow(shades, aspect="auto", cmap="Oranges", vmin=0.0, vmax=top)
    axes.set_xticks(range(len(columns)), labels=list(columns), rotation=60, ha="right")
    axes.set_yticks(range(len(rows)), labels=list(rows))
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return _svg(figure)


def fan(
    actual: Sequence[tuple[str, Sequence[date], Sequence[float]]],
    forecast: tuple[Sequence[date], Sequence[float], Sequence[float], Sequence[float]] | None,
    plan: tuple[Sequence[date], Sequence[float]] | None,
    *,
    target: float | None = None,
    ylabel: str,
) -> str:
    """Running totals over the calendar, what is expected with its interval, and what was planned.

    Args:
        actual: Named running totals: days and numbers.
        forecast: Days, median, lower and upper bound; None where there is none.
        plan: Days and numbers of the plan.
        target: Number that is wanted in the end.
        ylabel: What is counted.
    """
    from matplotlib.dates import date2num

    figure, axes = _axes(height=3.6)
    axes.xaxis_date()
    for (label, days, numbers), colour in zip(actual, COLOURS[1::-1] + COLOURS[2:], strict=False):
        axes.plot(date2num(days), list(numbers), drawstyle="steps-post", color=colour, label=label, linewidth=1.8)
    if forecast is not None:
        days, middle, low, high = forecast
        across = date2num(days)
        axes.fill_between(across, low, high, color=COLOURS[0], alpha=0.16, linewidth=0, label="90 % interval")
        axes.plot(across, list(middle), color=COLOURS[0], linewidth=1.4, linestyle=(0, (4, 2)), label="expected")
    if plan is not None:
        axes.plot(date2num(plan[0]), list(plan[1]), color=SOFT, linewidth=1.2, linestyle=":", label="plan")
    if target is not None:
        axes.axhline(target, color=SOFT, linewidth=0.8)
        place = ("axes fraction", "data")
        axes.annotate("target", (0.995, target), xycoords=place, ha="right", va="bottom", fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(ylabel)
    for tick in axes.get_xticklabels():
        tick.set_rotation(30)
        tick.set_horizontalalignment("right")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return _svg(figure)


def flow(
    boxes: Sequence[tuple[str, float, float, Sequence[str], bool]], arrows: Sequence[tuple[str, str]], *, columns: int
) -> str:
    """Boxes joined by arrows, as in a CONSORT diagram.

    Args:
        boxes: Name, column (0 to columns - 1), row (whole below one another; a half for a box beside an arrow), lines
            of text, and whether it is marked as wrong.
        arrows: Names of boxes: to a half row it goes out sideways from the way down, else it goes down.
        columns: How many columns wide.
    """
    rows = sorted({row for _, _, row, _, _ in boxes})
    tall = {row: max(0.26 + 0.17 * len(lines) for _, _, r, lines, _ in boxes if r == row) for row in rows}
    gap, wide, top = 0.24, 7.2 / columns, 0.1
    middle: dict[float, float] = {}
    for row in rows:
        middle[row] = top + tall[row] / 2
        top += tall[row] + gap
    figure, axes = _axes(height=top)
    axes.set_axis_off()
    axes.set_xlim(0, 7.2)
    axes.set_ylim(top, 0)
    places, above = {}, {}
    for name, column, row, lines, wrong in boxes:
        x, y, half = (column + 0.5) * wide, middle[row], (0.26 + 0.17 * len(lines)) / 2
        places[name] = (x, y, half)
        above[name] = y - tall[row] / 2 - gap / 2
        edge = COLOURS[1] if wrong else SOFT
        axes.fill_between([x - 0.46 * wide, x + 0.46 * wide], y - half, y + half, facecolor="white", edgecolor=edge,
                          linewidth=2.0 if wrong else 1.0)  # fmt: skip
        for number, line in enumerate(lines):
            weight = "bold" if number == 0 else "normal"
            axes.text(x, y - half + 0.22 + 0.17 * number, line, ha="center", va="center", fontsize=8.5, color=INK,
                      fontweight=weight)  # fmt: skip
    style = {"arrowstyle": "-|>", "color": SOFT, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.0}
    halves = {name: row % 1 != 0 for name, _, row, _, _ in boxes}
    for first, then in arrows:
        (x0, y0, h0), (x1, y1, h1) = places[first], places[then]
        if halves[then]:
            side = 1 if x1 > x0 else -1
            axes.annotate("", (x1 - side * 0.46 * wide, y1), (x0, y1), arrowprops=style)
        else:
            bend = above[then]
            axes.plot([x0, x0, x1], [y0 + h0, bend, bend], color=SOFT, linewidth=1.0)
            axes.annotate("", (x1, y1 - h1), (x1, bend), arrowprops=style)
    return _svg(figure)


def volcano(
    groups: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    reference: float | None = None,
) -> str:
    """Named clouds of points over a measure (across) and a count (up, in powers of ten); the first lies lowest."""
    figure, axes = _axes(height=3.8)
    axes.set_yscale("log")
    for (label, x, y), colour, size in zip(groups, ("#aab4be", *COLOURS), (5, 12, 18, 18, 18, 18), strict=False):
        axes.scatter(list(x), list(y), s=size, color=colour, label=label, linewidths=0)
    if reference is not None:
        axes.axvline(reference, color=SOFT, linewidth=1, linestyle="--")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def _axes(*, height: float, width: float = 7.2) -> tuple[MplFigure, Axes]:
    from matplotlib.figure import Figure as MplFigure

    figure = MplFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=SOFT, labelsize=9)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "trialops", "svg.fonttype": "none", "font.family": "sans-serif"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
