"""Plots as SVG text: no script, the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
