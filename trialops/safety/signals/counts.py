"""Counts of reports by pair, product, event and stratum, and the expected counts that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from trialops.safety.signals.coding import Coder
    from trialops.safety.signals.tally import Tally

_CELLS = 1_000_000  # margins laid out at a time when expected counts are summed over strata
_LAID_OUT = 60_000_000  # most cells of the events' margins that are laid out for all blocks
_WORKERS = 2


class Accounts(Protocol):
    """Counts while they grow, by code."""

    pairs: Tally
    products: Tally
    events: Tally
    strata: Tally
    rows: int
    distinct: int
    conflicting: int
    removed: int
    crossed: int


@dataclass(frozen=True)
class Margin:
    """Reports by name and stratum, as sorted triples of codes and counts."""

    code: NDArray[np.int64]
    stratum: NDArray[np.int64]
    count: NDArray[np.int64]

    def totals(self, names: int) -> NDArray[np.int64]:
        """Reports by name over all strata."""
        sums = np.zeros(names, np.int64)
        np.add.at(sums, self.code, self.count)
        return sums


@dataclass(frozen=True)
class Counts:
    """Counts of different reports.

    Attributes:
        products: Names, in alphabetical order; codes are places in here.
        events: The same for events.
        strata: The same for strata.
        product: Product code of each pair; pairs are sorted by product, then event.
        event: Event code of each pair.
        a: Reports with both.
        by_product: Reports by product and stratum.
        by_event: Reports by event and stratum.
        by_stratum: Reports by stratum.
        rows: Complete rows read.
        distinct: Different rows among them, over reports that were counted.
        conflicting: Reports whose rows name different strata; they make up a stratum of their own.
        removed: Reports left out because they hold a pair that was to be removed.
        crossed: Reports whose rows did not name every product with every event; counted for each all the same.
        aside: Rows set aside, by reason.
        places: The first rows set aside: number, reason.
    """

    products: Sequence[str]
    events: Sequence[str]
    strata: Sequence[str]
    product: NDArray[np.int64]
    event: NDArray[np.int64]
    a: NDArray[np.int64]
    by_product: Margin
    by_event: Margin
    by_stratum: NDArray[np.int64]
    rows: int
    distinct: int
    conflicting: int
    removed: int
    crossed: int
    aside: dict[str, int]
    places: Sequence[tuple[int, str]]

    @property
    def reports(self) -> int:
        """N, the number of reports."""
        return int(self.by_stratum.sum())

    @property
    def n_product(self) -> NDArray[np.int64]:
        """Reports with each pair's product: a + b."""
        return self.by_product.totals(len(self.products))[self.product]

    @property
    def n_event(self) -> NDArray[np.int64]:
        """Reports with each pair's event: a + c."""
        return self.by_event.totals(len(self.events))[self.event]

    def expected(self) -> NDArray[np.float64]:
        """E of each pair: sum over strata of n_is n_js / N_s."""
        return expected(self, self.product, self.event)

    def table(self) -> pl.DataFrame:
        """One row per pair: product, event, a, b, c, d, expected."""
        import polars as pl

        a, first, second, total = self.a, self.n_product, self.n_event, self.reports
        return pl.DataFrame(
            {
                "product": pl.Series(self.products, dtype=pl.String).gather(self.product),
                "event": pl.Series(self.events, dtype=pl.String).gather(self.event),
                "a": a,
                "b": first - a,
                "c": second - a,
                "d": total - first - second + a,
                "expected": self.expected(),
            }
        )


def expected(counts: Counts, product: NDArray[np.int64], event: NDArray[np.int64]) -> NDArray[np.float64]:
    """Expected counts of any pairs, observed or not.

    Args:
        counts: The margins.
        product: Product codes.
        event: Event codes.

    Returns:
        E of each pair; equal margins give equal bits.
    """
    used = np.flatnonzero(counts.by_stratum)
    if used.size <= 1:
        total = max(counts.reports, 1)
        first = counts.by_product.totals(len(counts.products)).astype(np.float64)
        second = counts.by_event.totals(len(counts.events)).astype(np.float64)
        value: NDArray[np.float64] = first[product]
        value *= second[event]
        value /= total
        return value
    from scipy.sparse import csr_matrix

    width = len(counts.strata)
    left, right = (
        csr_matrix((m.count.astype(np.float64), (m.code, m.stratum)), shape=(n, width))
        for m, n in ((counts.by_product, len(counts.products)), (counts.by_event, len(counts.events)))
    )
    shares = np.divide(1.0, counts.by_stratum, out=np.zeros(width), where=counts.by_stratum > 0)
    laid_out = right.toarray() if len(counts.events) * width <= _LAID_OUT else None
    sums = np.empty(product.size, np.float64)
    step = max(1, _CELLS // width)

    def fill(start: int) -> None:
        here = slice(start, start + step)
        # Pairs come by product, so a block has few of them. einsum adds each row in one fixed order and in no thread.
        different, place = np.unique(product[here], return_inverse=True)
        n_product = (left[different].toarray() * shares)[place]
        n_event = right[event[here]].toarray() if laid_out is None else laid_out[event[here]]
        sums[here] = np.einsum("ij,ij->i", n_product, n_event)

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(fill, range(0, product.size, step)))
    return sums


def counts_of(coder: Coder, account: Accounts) -> Counts:
    """Counts by name instead of by order of appearance."""
    names, places = zip(*(_in_order(v.names) for v in (coder.products, coder.events, coder.layers)), strict=True)
    product, event, a = account.pairs.ordered(places[0], places[1])
    strata, in_strata = account.strata.totals()
    by_stratum = np.zeros(len(names[2]), np.int64)
    by_stratum[places[2][strata]] = in_strata
    return Counts(
        products=names[0],
        events=names[1],
        strata=names[2],
        product=product,
        event=event,
        a=a,
        by_product=_margin(account.products, places[0], places[2]),
        by_event=_margin(account.events, places[1], places[2]),
        by_stratum=by_stratum,
        rows=account.rows,
        distinct=account.distinct,
        conflicting=account.conflicting,
        removed=account.removed,
        crossed=account.crossed,
        aside=dict(sorted(coder.aside.items())),
        places=tuple(coder.places),
    )


def _in_order(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return [names[i] for i in order], place


def _margin(tally: Tally, names: NDArray[np.int64], strata: NDArray[np.int64]) -> Margin:
    return Margin(*tally.ordered(names, strata))
