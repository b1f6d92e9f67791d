"""Masking: pairs that make up so much of an event's reports that they hide the others.

A disproportionality compares a product's share of reports with the event to the share among all other reports. Where
one product brought most reports of the event (a scare, a class action, a registry), that other share is high because of
it, and the figures of every other product for this event are low. For the event j and the product i, the reports of
other products would be compared with

    (n_j - a) / (N - n_i)      instead of      n_j / N,

so their ratios are lower by the factor [n_j / N] / [(n_j - a) / (N - n_i)]: after the masking ratio of Maignen et al.
(2014, Pharmacoepidemiol Drug Saf 23:195). The remedy is to screen again without the reports that hold the pair
(``without`` of :func:`trialops.safety.signals.counting.count_reports`) and to compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.signals.counts import Counts
    from trialops.safety.signals.policy import SignalPolicy


def maskers(counts: Counts, policy: SignalPolicy) -> pl.DataFrame:
    """Pairs that lower the ratios of the other products for their event.

    Returns:
        product, event, a, share (of the event's reports) and factor, the largest factor first. Events of which only one
        product was reported are not in it: there is nothing to hide.
    """
    import polars as pl

    a = counts.a.astype(np.float64)
    n_product, n_event, total = counts.n_product, counts.n_event, counts.reports
    some = (counts.a >= policy.masking_reports) & (n_event > counts.a) & (n_product < total)
    a, n_product, n_event = a[some], n_product[some].astype(np.float64), n_event[some].astype(np.float64)
    factor = (n_event / total) / ((n_event - a) / (total - n_product))
    return (
        pl.DataFrame(
            {
                "product": pl.Series(counts.products, dtype=pl.String).gather(counts.product[some]),
                "event": pl.Series(counts.events, dtype=pl.String).gather(counts.event[some]),
                "a": counts.a[some],
                "share": a / n_event,
                "factor": factor,
            }
        )
        .filter(pl.col("factor") >= policy.masking_factor)
        .sort("factor", "product", "event", descending=[True, False, False])
    )
