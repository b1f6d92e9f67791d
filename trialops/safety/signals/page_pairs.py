"""The parts of a screening's page that show pairs: all of them as a cloud, the signals, and what hides others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.pages import Figure, Table, Text, plots
from trialops.pages.page import SMALLEST_CELL, Item, suppressed
from trialops.safety.signals.measures import LABEL
from trialops.safety.signals.policy import SignalPolicy
from trialops.safety.signals.screening import CRITERIA, Screening

if TYPE_CHECKING:
    import polars as pl

NAMES = {"prr": "PRR (Evans)", "ror": "ROR", "ic": "IC", "ebgm": "EBGM"}
SAID = LABEL[0].upper() + LABEL[1:]
_GRID = (90, 60)
_MASKERS = 20


def cloud(result: Screening, public: bool) -> Item:
    """log2 of the ratio of reported to expected against the reports; pairs without a signal as a grid of dots."""
    import polars as pl

    pairs = result.pairs if public else result.pairs.filter(pl.col("a") >= SMALLEST_CELL)
    met = pl.sum_horizontal(pl.col(column).fill_null(False).cast(pl.Int8) for column in CRITERIA.values())
    leading = "ebgm_signal" if result.theta else "ic_signal"
    groups = []
    for label, chosen in (
        ("no signal", met == 0),
        ("by some measures", (met > 0) & ~pl.col(leading).fill_null(False)),
        (f"by {NAMES[leading.removesuffix('_signal')]}", pl.col(leading).fill_null(False)),
    ):
        part = pairs.filter(chosen)
        x, y = np.log2(part["rr"].to_numpy()), part["a"].to_numpy().astype(np.float64)
        groups.append((f"{label} ({part.height:,})", *_thinned(x, y)))
    caption = "Pairs that would overlap are drawn once."
    if not public:
        caption += f" Pairs with fewer than {SMALLEST_CELL} reports are not drawn."
    svg = plots.volcano(groups, xlabel="log2 of reported to expected", ylabel="reports", reference=0.0)
    return Figure(svg, caption)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """One point for each cell of a grid, where the cells are smaller than the dots."""
    if not x.size:
        return [], []
    up = np.log10(y)
    cells = [
        np.round((values - values.min()) / max(np.ptp(values), 1e-9) * steps)
        for values, steps in zip((x, up), _GRID, strict=True)
    ]
    _, first = np.unique(np.column_stack(cells), axis=0, return_index=True)
    return np.round(x[first], 3).tolist(), y[first].tolist()


def signal_table(result: Screening, signals: pl.DataFrame, public: bool) -> list[Item]:
    """The signals with all four measures, each with its bounds."""
    columns = [
        "product",
        "event",
        "reports",
        "expected",
        "PRR",
        "chi-squared",
        "ROR",
        "IC (IC025)",
        "EBGM (EB05-EB95)",
        "met",
        "new",
    ]
    shown = signals.head(result.policy.shown)
    rows = [_row(row, public) for row in shown.iter_rows(named=True)]
    caption = (
        f"{SAID}. Intervals: 95 %; EB05 to EB95: 90 %. Met: how many of the four criteria. Infinite: an empty cell."
    )
    if signals.height > shown.height:
        caption += f" The first {shown.height} of {signals.height:,}; the output holds all."
    if not public:
        caption += f" Fewer than {SMALLEST_CELL} reports: figures withheld here; the output holds them."
    return [Table(columns, rows, caption)]


def _row(row: dict[str, Any], public: bool) -> list[Any]:
    names, n = [row["product"], row["event"]], row["a"]
    last = [row["criteria"], "new" if row["new"] else ""]
    if not public and n < SMALLEST_CELL:
        return [*names, suppressed(n), None, None, None, None, None, None, *last]
    figures = [
        n,
        row["expected"],
        _with(row["prr"], row["prr_lower"], row["prr_upper"]),
        row["chi_squared"],
        _with(row["ror"], row["ror_lower"], row["ror_upper"]),
        _with(row["ic"], row["ic025"]),
        _with(row["ebgm"], row["eb05"], row["eb95"]),
    ]
    return [*names, *figures, *last]


def _with(value: float | None, *bounds: float | None) -> str | None:
    """An estimate and its bounds, in words where it is not a number."""
    if value is None:
        return None
    first = "infinite" if np.isinf(value) else f"{value:.2f}"
    ends = [f"{bound:.2f}" for bound in bounds if bound is not None]
    return f"{first} ({' to '.join(ends)})" if ends else first


def masking(maskers: pl.DataFrame, policy: SignalPolicy, public: bool) -> list[Item]:
    """Pairs that hide others, and what is not found this way."""
    text = Text(
        "A pair that makes up much of an event's reports raises the share that every other product is compared "
        f"with. Pairs that lower the others' ratios by a factor of {policy.masking_factor:g} or more, from "
        f"{policy.masking_reports} reports on; screen again without their reports to see what they hide. Many "
        "reports of one product as a whole (or of one event) mask in the same way and are not found by this."
    )
    if not maskers.height:
        return [text, Text("There is none.")]
    rows = [
        [r["product"], r["event"], r["a"] if public else suppressed(r["a"]), f"{r['share']:.0%}", round(r["factor"], 2)]
        for r in maskers.head(_MASKERS).iter_rows(named=True)
        if public or r["a"] >= SMALLEST_CELL
    ]
    table = Table(["product", "event", "reports", "of the event's", "others' ratios lower by"], rows)
    return [text, table]
