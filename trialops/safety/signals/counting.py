"""From report rows to the two-by-two table of every product-event pair, in one pass where the rows come by report.

For a product i and an event j, counting different reports:

    ============  ==========  ==============
                  event j     other events
    ============  ==========  ==============
    product i     a           b = n_i - a
    others        c = n_j - a d = N - n_i - n_j + a
    ============  ==========  ==============

A report is for a pair when it has the product and has the event, whichever rows name them: spontaneous reports do not
tie one to the other. N is the number of reports with at least one complete row. The expected count is that of Mantel
and Haenszel, E = sum over strata s of n_is n_js / N_s (DuMouchel 1999); without strata n_i n_j / N.

Rows are coded and sorted in blocks. Where the report ids ascend, a report's rows lie together and each block stands
alone; otherwise the rows are first spread over files by a hash of the report (a second pass), and each file is a block.
Memory depends on the size of a block and the number of different pairs, not on the number of rows.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trialops.safety.signals.coding import Block, Coder
from trialops.safety.signals.counts import Counts, counts_of
from trialops.safety.signals.readers import ReportRows
from trialops.safety.signals.spill import spill
from trialops.safety.signals.tally import Tally, run_lengths, together

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Runs = tuple[NDArray[np.int64], NDArray[np.int64]]

WORKERS = 2
_CONFLICT = 0  # the code every coder gives to reports whose rows disagree


@dataclass(frozen=True)
class Portion:
    """What one block of whole reports adds to the counts: runs of keys and counts."""

    pairs: Runs
    products: Runs
    events: Runs
    strata: Runs
    rows: int
    distinct: int
    conflicting: int
    removed: int
    crossed: int


@dataclass
class Account:
    """The counts while they grow."""

    pairs: Tally = field(default_factory=Tally)
    products: Tally = field(default_factory=Tally)
    events: Tally = field(default_factory=Tally)
    strata: Tally = field(default_factory=Tally)
    rows: int = 0
    distinct: int = 0
    conflicting: int = 0
    removed: int = 0
    crossed: int = 0

    def add(self, part: Portion) -> None:
        """Take in one portion."""
        self.pairs.add(*part.pairs)
        self.products.add(*part.products)
        self.events.add(*part.events)
        self.strata.add(*part.strata)
        self.rows += part.rows
        self.distinct += part.distinct
        self.conflicting += part.conflicting
        self.removed += part.removed
        self.crossed += part.crossed


def count_reports(
    rows: ReportRows,
    *,
    without: Sequence[tuple[str, str]] = (),
    progress: Callable[[str, float | None], None] = lambda message, fraction: None,
    folder: Path | None = None,
    workers: int = WORKERS,
) -> Counts:
    """Count reports per pair, product, event and stratum.

    Args:
        rows: The report rows.
        without: Product-event pairs; reports that hold one are left out of all counts (unmasking).
        progress: Called with a message and the share done.
        folder: Where rows are spilled when they do not come by report; a temporary folder by default.
        workers: Threads that sort blocks.

    Returns:
        Counts with names in alphabetical order: the same whatever the order of the rows.
    """
    coder, account = Coder(rows.strata), Account()
    size = max(rows.size(), 1)

    def told(blocks: Iterator[Block]) -> Iterator[Block]:
        for block in blocks:
            progress("counting reports", min(coder.rows / size, 1.0))
            yield block

    try:
        _tally(_by_report(told(coder.block(batch) for batch in rows.batches())), coder, account, without, workers)
    except _OutOfOrder:
        coder, account = Coder(rows.strata), Account()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            blocks = told(coder.block(batch) for batch in rows.batches())
            _tally(spill(blocks, Path(place), size), coder, account, without, workers)
    return counts_of(coder, account)


class _OutOfOrder(Exception):
    """The report ids do not ascend."""


def _by_report(blocks: Iterator[Block]) -> Iterator[Block]:
    """Blocks of whole reports from blocks whose report ids ascend; the last report waits for the next block."""
    waiting: Block | None = None
    for block in blocks:
        whole = block if waiting is None else _joined(waiting, block)
        n = len(whole.report)
        if not n:
            continue
        if not _ascends(whole.report):
            raise _OutOfOrder
        last = n - 1 - int(np.argmax(new_report(whole.report)[::-1]))
        if last:
            yield _part(whole, 0, last)
        waiting = _part(whole, last, n)
    if waiting is not None:
        yield waiting


def _ascends(report: pa.Array) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_int64(report.type):
        ids = report.to_numpy(zero_copy_only=False)
        return bool((ids[1:] >= ids[:-1]).all())
    return len(report) < 2 or bool(pc.all(pc.greater_equal(report[1:], report[:-1])).as_py())


def new_report(report: pa.Array) -> NDArray[np.bool_]:
    """Whether each row's report differs from the row before."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = np.ones(len(report), bool)
    if len(report) < 2:
        return first
    if pa.types.is_int64(report.type):
        ids = report.to_numpy(zero_copy_only=False)
        first[1:] = ids[1:] != ids[:-1]
    else:
        first[1:] = pc.not_equal(report[1:], report[:-1]).to_numpy(zero_copy_only=False)
    return first


def _part(block: Block, start: int, end: int) -> Block:
    return Block(block.report[start:end], block.product[start:end], block.event[start:end], block.stratum[start:end])


def _joined(first: Block, second: Block) -> Block:
    import pyarrow as pa

    return Block(
        pa.concat_arrays([first.report, second.report]),
        np.concatenate([first.product, second.product]),
        np.concatenate([first.event, second.event]),
        np.concatenate([first.stratum, second.stratum]),
    )


def _tally(
    blocks: Iterator[Block], coder: Coder, account: Account, without: Sequence[tuple[str, str]], workers: int
) -> None:
    """Sort blocks in threads (numpy lets go of the interpreter while it sorts) and add them up in order."""
    running: deque[Future[Portion]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for block in blocks:
            pairs = [(coder.products.places.get(p), coder.events.places.get(e)) for p, e in without]
            seen = [(p, e) for p, e in pairs if p is not None and e is not None]
            running.append(pool.submit(portion, block, seen))
            if len(running) > workers:
                account.add(running.popleft().result())
        while running:
            account.add(running.popleft().result())


def portion(block: Block, without: Sequence[tuple[int, int]] = ()) -> Portion:
    """What a block of whole reports adds; rows of one report need not lie together.

    Args:
        block: The rows.
        without: Codes of pairs whose reports are left out.
    """
    report = _numbered(block.report)
    product, event, stratum, rows = block.product, block.event, block.stratum, report.size
    removed = 0
    if without:
        held = np.unique(np.concatenate([np.intersect1d(report[product == p], report[event == e]) for p, e in without]))
        removed = held.size
        if removed:
            kept = ~np.isin(report, held)
            report, product, event, stratum = report[kept], product[kept], event[kept], stratum[kept]
    # Of each report: its lowest and highest stratum, which are one unless its rows disagree.
    layers, _ = run_lengths(np.sort(together(report, stratum)))
    first = np.flatnonzero(np.r_[True, (layers[1:] >> 32) != (layers[:-1] >> 32)]) if layers.size else layers
    spread = np.diff(np.r_[first, layers.size]) > 1
    in_order = np.where(spread, _CONFLICT, layers[first] & 0xFFFFFFFF) if layers.size else layers
    layer_of = np.zeros(int(report.max()) + 1 if report.size else 0, np.int64)
    if layers.size:
        layer_of[layers[first] >> 32] = in_order
    report, product, event = _distinct(report, product, event)
    first_of = np.r_[True, (report[1:] != report[:-1]) | (product[1:] != product[:-1])][: report.size]
    by_product = report[first_of], product[first_of]
    events, _ = run_lengths(np.sort(together(report, event)))
    by_event = events >> 32, events & 0xFFFFFFFF
    pairs, crossed = _pairs(report, product, event, by_product, by_event)
    return Portion(
        pairs=run_lengths(np.sort(pairs)),
        products=run_lengths(np.sort(together(by_product[1], layer_of[by_product[0]]))),
        events=run_lengths(np.sort(together(by_event[1], layer_of[by_event[0]]))),
        strata=run_lengths(np.sort(in_order)),
        rows=rows,
        distinct=report.size,
        conflicting=int(spread.sum()),
        removed=removed,
        crossed=crossed,
    )


def _pairs(
    report: NDArray[np.int64],
    product: NDArray[np.int64],
    event: NDArray[np.int64],
    by_product: tuple[NDArray[np.int64], NDArray[np.int64]],
    by_event: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[NDArray[np.int64], int]:
    """Every product of a report with every event of it, as keys; and the reports whose rows do not name them all."""
    size = int(report[-1]) + 1 if report.size else 0
    n_products, n_events = (np.bincount(of[0], minlength=size) for of in (by_product, by_event))
    partial = np.bincount(report, minlength=size) != n_products * n_events
    if not partial.any():
        return together(product, event), 0
    whole = ~partial[report]
    left = partial[by_product[0]]
    owner, products = by_product[0][left], by_product[1][left]
    times = n_events[owner]
    within = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
    first_event = np.cumsum(n_events) - n_events
    others = by_event[1][np.repeat(first_event[owner], times) + within]
    crossed = together(np.repeat(products, times), others)
    return np.concatenate([together(product[whole], event[whole]), crossed]), int(partial.sum())


def _numbered(report: pa.Array) -> NDArray[np.int64]:
    """Reports of a block as 0, 1, 2, ..."""
    import pyarrow.compute as pc

    if _ascends(report):
        return np.cumsum(new_report(report)) - 1
    codes: NDArray[np.int64] = pc.dictionary_encode(report).indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def _distinct(
    report: NDArray[np.int64], product: NDArray[np.int64], event: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Different rows, sorted by report, product and event."""
    if not report.size:
        return report, product, event
    p_bits, e_bits = int(product.max()).bit_length(), int(event.max()).bit_length()
    if int(report.max()).bit_length() + p_bits + e_bits < 63:
        keys, _ = run_lengths(np.sort((report << (p_bits + e_bits)) | (product << e_bits) | event))
        return keys >> (p_bits + e_bits), (keys >> e_bits) & ((1 << p_bits) - 1), keys & ((1 << e_bits) - 1)
    order = np.lexsort((event, product, report))
    report, product, event = report[order], product[order], event[order]
    changed = (report[1:] != report[:-1]) | (product[1:] != product[:-1]) | (event[1:] != event[:-1])
    first = np.r_[True, changed]
    return report[first], product[first], event[first]
