"""Every measure of every pair, and which of them call it a signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trialops.errors import TrialOpsError
from trialops.safety.signals.counts import Counts
from trialops.safety.signals.ebgm import posterior
from trialops.safety.signals.measures import chi_squared, evans, information_component, prr, ror
from trialops.safety.signals.policy import SignalPolicy
from trialops.safety.signals.prior import Prior, fit_prior
from trialops.safety.signals.squashing import squash

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

CRITERIA: Mapping[str, str] = {"prr": "prr_signal", "ror": "ror_signal", "ic": "ic_signal", "ebgm": "ebgm_signal"}
"""Measure to the column that says whether a pair meets its criterion."""


UNDEFINED = ("prr", "prr_lower", "prr_upper", "chi_squared", "ror", "ror_lower", "ror_upper")
"""Columns that a table with an empty cell may leave without a figure."""
WORKERS = 2
_BLOCK = 100_000


@dataclass(frozen=True)
class Screening:
    """The result of one screening.

    Attributes:
        pairs: One row per pair that was reported, by product and event: counts, expected count, ratio to it (rr), the
            measures with their intervals, and for each criterion whether it is met. Null where a figure is not defined
            (see :mod:`trialops.safety.signals.measures`).
        counts: What they were made from.
        prior: The fitted prior; None where there is none, or a given one was used.
        theta: Parameters of the prior that was used; None without EBGM.
        refusal: Why there is no EBGM; empty where there is, or none was asked for.
        policy: Thresholds.
    """

    pairs: pl.DataFrame
    counts: Counts
    prior: Prior | None
    theta: tuple[float, ...] | None
    refusal: str
    policy: SignalPolicy

    @property
    def signals(self) -> dict[str, int]:
        """Signals by measure."""
        return {measure: int(self.pairs[column].sum()) for measure, column in CRITERIA.items()}

    def numbers(self) -> dict[str, Any]:
        """Figures of the screening as a whole, for a record or a decision."""
        return {
            "reports": self.counts.reports,
            "rows": self.counts.rows,
            "pairs": self.pairs.height,
            "set_aside": sum(self.counts.aside.values()),
            **{f"signals_{measure}": n for measure, n in self.signals.items()},
            "theta": list(self.theta) if self.theta else None,
            "nll": self.prior.nll if self.prior else None,
        }


def measured(
    counts: Counts,
    policy: SignalPolicy,
    *,
    ebgm: bool = True,
    theta: Sequence[float] | None = None,
    progress: Callable[[str, float | None], None] = lambda message, fraction: None,
) -> Screening:
    """Measure every pair.

    Args:
        counts: Counts of reports.
        policy: Thresholds.
        ebgm: Whether to compute EBGM.
        theta: A prior fitted before; fitted to these counts when None.
        progress: Called with a message.

    Returns:
        The screening. Where the prior's fit is refused, it says why, and EBGM's columns are null.
    """
    import polars as pl

    progress("PRR, ROR and IC", None)
    frame = counts.table()
    a, b, c, d, expected = (frame[name].to_numpy() for name in ("a", "b", "c", "d", "expected"))
    frame = frame.with_columns(**closed_forms(a, b, c, d, expected, policy))
    frame = frame.with_columns(pl.col(UNDEFINED).fill_nan(None))
    prior, refusal = None, ""
    if ebgm and theta is None:
        progress("fitting the prior of EBGM", None)
        try:
            prior = fit_prior(squash(a, expected, policy.squashing), policy.prior)
            theta = prior.theta
        except TrialOpsError as error:
            refusal = error.what
    if ebgm and theta is not None:
        progress("EBGM, EB05 and EB95", None)
        found = posterior(theta, a, expected, truncated=policy.truncated)
        signal = found.eb05 >= policy.min_eb05 if policy.eb05_inclusive else found.eb05 > policy.min_eb05
        frame = frame.with_columns(ebgm=found.ebgm, eb05=found.eb05, eb95=found.eb95, ebgm_signal=signal)
    else:
        theta = None
        nothing = [pl.lit(None, pl.Float64).alias(name) for name in ("ebgm", "eb05", "eb95")]
        frame = frame.with_columns(*nothing, pl.lit(None, pl.Boolean).alias("ebgm_signal"))
    return Screening(frame, counts, prior, tuple(theta) if theta else None, refusal, policy)


def closed_forms(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any], expected: NDArray[Any], policy: SignalPolicy
) -> dict[str, NDArray[Any]]:
    """PRR, chi-squared, ROR and IC with their criteria, by column; in blocks that stay in the processor's cache.

    Args:
        a: Cells of the tables, see :mod:`trialops.safety.signals.counting`.
        b: The same.
        c: The same.
        d: The same.
        expected: Expected counts.
        policy: Thresholds.
    """
    starts = range(0, max(a.size, 1), _BLOCK)
    first = _block(a[:1], b[:1], c[:1], d[:1], expected[:1], policy)
    columns = {name: np.empty(a.size, values.dtype) for name, values in first.items()}

    def fill(start: int) -> None:
        here = slice(start, start + _BLOCK)
        for name, values in _block(a[here], b[here], c[here], d[here], expected[here], policy).items():
            columns[name][here] = values

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(fill, starts))
    return columns


def _block(
    a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any], expected: NDArray[Any], policy: SignalPolicy
) -> dict[str, NDArray[Any]]:
    ratio, odds, ic = prr(a, b, c, d), ror(a, b, c, d), information_component(a, expected)
    chi = chi_squared(a, b, c, d, yates=policy.yates)
    least, at_least, reports = policy.prr_min_ratio, policy.prr_min_chi_squared, policy.prr_min_reports
    with np.errstate(invalid="ignore"):
        above = (odds.lower > policy.ror_min_lower) & (a >= policy.ror_min_reports)
    return {
        "rr": a / expected,
        "prr": ratio.value,
        "prr_lower": ratio.lower,
        "prr_upper": ratio.upper,
        "chi_squared": chi,
        "prr_signal": evans(a, ratio, chi, min_ratio=least, min_chi=at_least, min_reports=reports),
        "ror": odds.value,
        "ror_lower": odds.lower,
        "ror_upper": odds.upper,
        "ror_signal": above,
        "ic": ic.value,
        "ic025": ic.lower,
        "ic975": ic.upper,
        "ic_signal": ic.lower > policy.ic_min_lower,
    }


def since(pairs: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """The signals among the pairs, each with the criteria it meets and whether it met none in the screening before.

    Args:
        pairs: Of a screening.
        before: Pairs of the screening before; None when there was none, and then nothing is called new.

    Returns:
        The signals with ``criteria`` (how many are met) and ``new``, the highest EB05 first, or IC025 without EBGM.
    """
    import polars as pl

    met = pl.sum_horizontal(pl.col(column).fill_null(False).cast(pl.Int8) for column in CRITERIA.values())
    found = pairs.with_columns(criteria=met).filter(pl.col("criteria") > 0)
    if before is None:
        found = found.with_columns(new=pl.lit(False))
    else:
        known = before.filter(met > 0).select("product", "event", new=pl.lit(False))
        found = found.join(known, on=["product", "event"], how="left").with_columns(pl.col("new").fill_null(True))
    order = ["eb05", "ic025"]
    return found.sort([*order, "product", "event"], descending=[True, True, False, False], nulls_last=True)
