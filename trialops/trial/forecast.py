"""Enrolment forecast: the Poisson-gamma model of Anisimov and Fedorov (Stat Med 2007;26:4958-75).

Subjects arrive at site i as a Poisson process of a constant rate; rates differ between sites as a gamma distribution of
shape alpha and rate beta. With n subjects in t days of recruiting, a site's rate is then Gamma(alpha + n, beta + t),
and a site that has not opened yet has Gamma(alpha, beta). Alpha and beta maximise the likelihood of the counts

    sum of  lnG(alpha + n) - lnG(alpha) + alpha ln beta - (alpha + n) ln(beta + t)

(each n given t is negative binomial). What comes is simulated from these: rates first, then arrivals, with sites that
open and close on their days; the time to a target is found where a unit exponential sum crosses the summed intensity,
which is exact for a Poisson process of piecewise constant rate. With sites that all stay open the number in a given
time is a sum of negative binomials, and the time to the target nearly a Pearson type VI; the tests compare with both.

Alpha and beta are themselves uncertain. Their likelihood over a grid (flat in the logarithms) is drawn from before the
rates are, or intervals would be too narrow in a trial of few sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEVEL = 0.90
DRAWS = 4000
MOST_SHAPE, LEAST_SHAPE = 1e4, 0.02
"""Bounds of alpha. At the upper one sites do not differ by more than chance: the likelihood is flat from there."""

GRID = 41


@dataclass(frozen=True)
class Site:
    """A site as the model sees it; days are counted from any one day, the same for all.

    Attributes:
        name: SITEID.
        opened: Day recruiting began, or will begin.
        closed: Day it ended or will end; None while it goes on.
        count: Subjects so far.
        first_counted: False where the start is the first subject's own day: that subject then says nothing about the
            rate and is left out of the likelihood.
    """

    name: str
    opened: float
    closed: float | None = None
    count: int = 0
    first_counted: bool = True

    def exposure(self, today: float) -> float:
        """Days of recruiting up to a day."""
        return max(0.0, min(today, self.closed if self.closed is not None else today) - self.opened)

    @property
    def informative(self) -> int:
        """Subjects that count in the likelihood."""
        return self.count if self.first_counted else max(0, self.count - 1)


@dataclass(frozen=True)
class Fit:
    """Maximum likelihood.

    Attributes:
        shape: Alpha.
        rate: Beta, in days.
        mean: Subjects per site and day, alpha / beta.
        sites: Sites with exposure.
        log_likelihood: At the maximum.
        dispersed: Whether sites differ by more than chance as far as the likelihood can tell (alpha within its bounds).
    """

    shape: float
    rate: float
    mean: float
    sites: int
    log_likelihood: float
    dispersed: bool


@dataclass(frozen=True)
class Forecast:
    """What is expected.

    Attributes:
        fit: The model.
        today: Day of the forecast.
        reached: Subjects so far.
        target: Subjects wanted.
        days: Days of the curve, from today on.
        median, low, high: Subjects by then, with the interval of LEVEL.
        done_median, done_low, done_high: Day the target is reached; None beyond the horizon.
        probability: Of reaching it by the planned day; None without a plan.
        horizon: Last day looked at.
        level: Of the intervals.
        draws: Simulated courses.
        trend: z of whether recruiting in the last quarter of each site's time was faster (+) or slower (-) than
            before, given its total; None with fewer than ten subjects.
    """

    fit: Fit
    today: float
    reached: int
    target: int
    days: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    done_median: float | None
    done_low: float | None
    done_high: float | None
    probability: float | None
    horizon: float
    level: float = LEVEL
    draws: int = DRAWS
    trend: float | None = None


def log_likelihood(shape: Floats, rate: Floats, counts: Floats, exposures: Floats) -> Floats:
    """Of alpha and beta (arrays of one shape), up to what does not depend on them."""
    import numpy as np
    from scipy.special import gammaln

    a, b = np.asarray(shape)[..., None], np.asarray(rate)[..., None]
    # alpha ln(beta / (beta + t)) - n ln(beta + t), written so that a large beta keeps its digits.
    terms = gammaln(a + counts) - gammaln(a) - a * np.log1p(exposures / b) - counts * np.log(b + exposures)
    return np.asarray(terms.sum(axis=-1), dtype=float)


def fit(counts: Sequence[int], exposures: Sequence[float]) -> Fit:
    """Maximum likelihood of alpha and beta.

    Args:
        counts: Subjects per site.
        exposures: Days of recruiting; sites without are left out.

    Raises:
        TrialOpsError: No site has recruited for a day, or nobody was recruited.
    """
    import numpy as np

    n, t = np.asarray(counts, dtype=float), np.asarray(exposures, dtype=float)
    n, t = n[t > 0], t[t > 0]
    if not len(n) or not n.sum():
        raise TrialOpsError(
            "No rate of recruiting can be learnt: nobody was recruited in any site's open time",
            where="enrolment forecast",
            fix="Wait for the first subjects, or state the sites' activation days in the study file.",
        )
    shape, value = _best_shape(n, t)
    mean = _best_mean(shape, n, t)
    return Fit(shape, shape / mean, mean, len(n), value, bool(LEAST_SHAPE * 1.01 < shape < MOST_SHAPE * 0.99))


def _best_shape(n: Floats, t: Floats) -> tuple[float, float]:
    """Alpha by bounded search over its logarithm, the mean profiled out; from several starts, the best."""
    import numpy as np
    from scipy.optimize import minimize_scalar

    def profile(log_shape: float) -> float:
        shape = float(np.exp(log_shape))
        mean = _best_mean(shape, n, t)
        return -float(log_likelihood(np.array(shape), np.array(shape / mean), n, t))

    low, high = float(np.log(LEAST_SHAPE)), float(np.log(MOST_SHAPE))
    coarse = np.linspace(low, high, 15)
    values = [profile(float(x)) for x in coarse]
    best = int(np.argmin(values))
    around = (float(coarse[max(best - 1, 0)]), float(coarse[min(best + 1, len(coarse) - 1)]))
    found = minimize_scalar(profile, bounds=around, method="bounded", options={"xatol": 1e-6})
    ends = min((profile(x), x) for x in (*around, float(found.x)))
    return float(np.exp(ends[1])), -ends[0]


def _best_mean(shape: float, n: Floats, t: Floats) -> float:
    """Mean rate m that is best for an alpha: the root of sum (n - m t) / (alpha + m t).

    The sum falls in m and is convex, so Newton's steps from below the root rise to it.
    """
    mean = float(n.sum() / t.sum())
    while float(((n - mean * t) / (shape + mean * t)).sum()) < 0:
        mean /= 2
    for _ in range(60):
        below = shape + mean * t
        step = float(((n - mean * t) / below).sum()) / float((t * (shape + n) / below**2).sum())
        mean += step
        if abs(step) < 1e-14 * mean:
            break
    return mean


def parameter_draws(
    found: Fit, counts: Sequence[int], exposures: Sequence[float], size: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draws of alpha and beta from their likelihood over a grid of (ln mean, ln alpha), flat in both.

    The grid spans where the profile likelihood is within exp(-8) of its maximum; a draw falls evenly in its cell.
    """
    import numpy as np

    n, t = np.asarray(counts, dtype=float), np.asarray(exposures, dtype=float)
    n, t = n[t > 0], t[t > 0]
    spread = 6 * np.sqrt(1 / max(n.sum(), 1) + 1 / (found.shape * len(n)))
    means = np.log(found.mean) + np.linspace(-spread, spread, GRID)
    # A likelihood that stays flat towards Poisson would give its whole tail the same weight: it ends where the
    # difference between sites no longer matters against the chance within them.
    top = min(np.log(MOST_SHAPE), max(np.log(found.shape) + 3.0, np.log(20 * max(n.mean(), 1.0))))
    shapes = np.linspace(max(np.log(LEAST_SHAPE), np.log(found.shape) - 3.0), top, GRID)
    grid_shape, grid_mean = np.meshgrid(np.exp(shapes), np.exp(means), indexing="ij")
    weight = log_likelihood(grid_shape, grid_shape / grid_mean, n, t)
    weight = np.exp(weight - weight.max()).ravel()
    cells = rng.choice(weight.size, size=size, p=weight / weight.sum())
    i, j = np.unravel_index(cells, grid_shape.shape)
    jitter = rng.uniform(-0.5, 0.5, size=(2, size))
    alpha = np.exp(shapes[i] + jitter[0] * (shapes[1] - shapes[0]))
    mean = np.exp(means[j] + jitter[1] * (means[1] - means[0]))
    return alpha, alpha / mean


def forecast(
    sites: Sequence[Site],
    *,
    today: float,
    target: int,
    days: Sequence[float] | None = None,
    planned: float | None = None,
    horizon: float = 3653.0,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 20070517,
    arrivals: Sequence[tuple[str, float]] = (),
) -> Forecast:
    """Fit the model and simulate what comes.

    Args:
        sites: All sites, those included that open later or have closed.
        today: Day of the forecast.
        target: Subjects wanted in total.
        days: Days the curve is wanted at; 60 days spread over the time to the target by default.
        planned: Day by which the plan has the target.
        horizon: Days looked ahead.
        level: Of the intervals.
        draws: Simulated courses.
        seed: Same seed, same result.
        arrivals: Site and day of each subject, for the trend.

    Raises:
        TrialOpsError: As :func:`fit`.
    """
    import numpy as np

    started = [s for s in sites if s.exposure(today) > 0]
    counts, exposures = [s.informative for s in started], [s.exposure(today) for s in started]
    found = fit(counts, exposures)
    reached, rng = sum(s.count for s in sites), np.random.default_rng(seed)
    end = today + horizon
    alpha, beta = parameter_draws(found, counts, exposures, draws, rng)
    going = [s for s in sites if s.closed is None or s.closed > today]
    seen = np.array([s.informative for s in going], dtype=float)
    spent = np.array([s.exposure(today) for s in going])
    opens = np.array([max(s.opened, today) for s in going])
    closes = np.array([end if s.closed is None else min(s.closed, end) for s in going])
    rates = rng.gamma(alpha[:, None] + seen, 1.0) / (beta[:, None] + spent)
    done = _times(rates, opens, closes, target - reached, today, rng)
    tail = (1 - level) / 2
    low_day, middle, high_day = (_quantile(done, q) for q in (tail, 0.5, 1 - tail))
    at = np.asarray(days if days is not None else _curve_days(today, high_day or middle, end), dtype=float)
    open_days = np.clip(np.minimum(closes, at[:, None]) - opens, 0.0, None)  # (days, sites)
    expected = rates @ open_days.T  # (draws, days)
    steps = rng.poisson(np.diff(expected, axis=1, prepend=0.0).clip(min=0.0))
    numbers = reached + np.cumsum(steps, axis=1)
    low, median, high = np.quantile(numbers, [tail, 0.5, 1 - tail], axis=0)
    chance = None if planned is None else float(np.mean(done <= planned))
    return Forecast(
        found, today, reached, target, tuple(at), tuple(median), tuple(low), tuple(high), middle, low_day, high_day,
        chance, end, level, draws, trend(sites, arrivals, today),
    )  # fmt: skip


def _times(
    rates: Floats, opens: Floats, closes: Floats, missing: int, today: float, rng: np.random.Generator
) -> Floats:
    """Day on which each simulated course has its missing subjects; infinity where it never does."""
    import numpy as np

    if missing <= 0:
        return np.full(len(rates), today)
    wanted = rng.gamma(float(missing), 1.0, size=len(rates))
    if rates.shape[1] == 0:
        return np.full(len(rates), np.inf)
    knots = np.unique(np.concatenate([[today], opens, closes]))
    active = (opens[:, None] <= knots[:-1]) & (closes[:, None] >= knots[1:])  # (sites, pieces)
    speed = rates @ active.astype(float)  # (draws, pieces)
    passed = np.cumsum(speed * np.diff(knots), axis=1)
    piece = (passed < wanted[:, None]).sum(axis=1)
    inside = piece < speed.shape[1]
    at = np.minimum(piece, speed.shape[1] - 1)
    rows = np.arange(len(rates))
    before = np.where(at > 0, passed[rows, np.maximum(at - 1, 0)], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        day = knots[at] + (wanted - before) / speed[rows, at]
    return np.where(inside, day, np.inf)


def _quantile(days: Floats, q: float) -> float | None:
    """A quantile among days of which some are never; None where it is never."""
    import numpy as np

    value = float(np.sort(days)[min(len(days) - 1, round(q * (len(days) - 1)))])
    return value if np.isfinite(value) else None


def _curve_days(today: float, last: float | None, end: float) -> Floats:
    import numpy as np

    return np.linspace(today, min(end, (last or end) + 14.0), 60)


def trend(sites: Sequence[Site], arrivals: Sequence[tuple[str, float]], today: float) -> float | None:
    """Whether rates were constant so far: z of the arrivals in the last quarter of each site's open time.

    Given its total, a site's arrivals are spread evenly over its open time if its rate is constant; so the number in
    the last quarter is binomial with 1/4 per site, and the sum over sites has mean n/4 and variance 3n/16.
    """
    by_name = {s.name: s for s in sites}
    total = late = 0
    for name, day in arrivals:
        site = by_name[name]
        length = site.exposure(today)
        if length <= 0 or day < site.opened or (not site.first_counted and day == site.opened):
            continue
        total += 1
        late += day > site.opened + 0.75 * length
    return None if total < 10 else (late - total / 4) / (3 * total / 16) ** 0.5
