"""Sites that report fewer adverse events than the others would: resampling subjects, without Monte Carlo error.

The idea is that of Koneswarakantha et al. 2021 (Drug Saf 44:949): a site's mean number of events is compared with that
of subjects drawn from the other sites at the same follow-up, a landmark of the site's own. It is a planned visit: 0.75
of the median number of planned visits that the site's subjects have reached, rounded up. Only subjects who have reached
it count, with their events up to it.

The paper draws with replacement from the other sites. Two things are wrong with that once many sites are tested at a
family-wise error: a thousand draws cannot show the p of 0.003 that seventeen sites need, and the pool is itself a
sample, so that at a nominal 5 % over-reporting is found in 9 % of trials that have none (see the validation page). Here
the subjects at the landmark, the site's own among them, are dealt out anew: if nothing distinguishes the site every
deal is equally likely, and the test is exact (Fisher and Pitman). The distribution of the sum is computed, not drawn:
one pass over the distinct counts builds it for every number of subjects dealt.

Where that would be long (sites of many hundreds), the sum of K draws with replacement is used: the K-fold convolution
of the pool's distribution by a Fourier transform, widened by the sampling error of the pool's mean. At such sizes the
two agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trialops.trial.kri import holm

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

COLUMNS = ("site", "subjects", "landmark", "at_landmark", "pool", "mean", "expected", "p_low", "p_high")
LEAST_P = 1e-12
"""Smallest p-value that is told: below it, rounding is all there is."""
NOTHING = 1e-18
"""Chances that are left out of a sum."""
MOST_WORK = 500_000_000
"""Products up to which the exact distribution is built: about a second."""
_REACH = 8.0
"""Standard deviations up to which the normal term is carried."""


def cumulative_events(onset: Ints, subject: Ints, subjects: int, days: Ints) -> Ints:
    """Events of each subject up to each planned visit.

    Args:
        onset: Study day of each event, shape (events,).
        subject: Index of its subject.
        subjects: How many subjects there are.
        days: Study days of the planned visits, ascending, shape (visits,).

    Returns:
        Counts, shape (subjects, visits).
    """
    import numpy as np

    visits = len(days)
    first = np.searchsorted(days, onset, side="left")
    inside = first < visits
    flat = np.bincount(subject[inside] * visits + first[inside], minlength=subjects * visits)
    return np.cumsum(flat.reshape(subjects, visits), axis=1, dtype=np.int64)


def visits_reached(last_day: Ints, days: Ints) -> Ints:
    """How many planned visits each subject's follow-up has reached.

    Args:
        last_day: Last study day under observation, shape (subjects,).
        days: Study days of the planned visits, ascending.
    """
    import numpy as np

    return np.searchsorted(days, last_day, side="right").astype(np.int64)


def site_tails(mine: Ints, pool: Ints) -> tuple[float, float]:
    """Chance that subjects taken without regard to site would have as few events as the site's, and as many.

    Args:
        mine: Events of each subject of the site at the landmark.
        pool: Events of each subject of the other sites at the same landmark.

    Returns:
        P(sum <= observed) and P(sum >= observed), each at least 1e-12.
    """
    import numpy as np

    total, size = int(mine.sum()), len(mine)
    counts = np.bincount(np.concatenate([mine, pool]))
    work = size * total * int(np.minimum(counts, size).sum())
    low, high = dealt(total, size, counts) if work <= MOST_WORK else drawn(total, size, pool)
    return min(max(low, LEAST_P), 1.0), min(max(high, LEAST_P), 1.0)


def dealt(total: int, size: int, counts: Ints) -> tuple[float, float]:
    """The tails of the sum when subjects are dealt out without replacement: exact.

    Each subject is taken with probability K/N; given that K are taken, every set of K is equally likely. The joint
    distribution of number taken and their events is built count by count, up to ``total``.

    Args:
        total: Events of the site.
        size: Its subjects, K.
        counts: How many of all N subjects have 0, 1, 2, ... events.
    """
    import numpy as np

    everybody = int(counts.sum())
    if size == everybody:
        exact = int(np.arange(len(counts)) @ counts)
        return float(exact <= total), float(exact >= total)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, everybody + 1)))])
    taken_log, left_log = math.log(size / everybody), math.log1p(-size / everybody)

    def chances(n: int, most: int) -> Floats:
        """Binomial probabilities of 0 to ``most`` taken of n."""
        m = np.arange(most + 1)
        choose = factorial[n] - factorial[m] - factorial[n - m]
        return np.asarray(np.exp(choose + m * taken_log + (n - m) * left_log), dtype=np.float64)

    law = np.zeros((size + 1, total + 1))
    law[0, 0] = 1.0
    for events in np.flatnonzero(counts).tolist():
        n = int(counts[events])
        weights = chances(n, min(n, size, total // events if events else size))
        if not events:
            law[: len(weights), 0] = weights
            continue
        grown = law * weights[0]
        for taken in range(1, len(weights)):
            if weights[taken] > NOTHING:
                shift = taken * events
                grown[taken:, shift:] += weights[taken] * law[: size + 1 - taken, : total + 1 - shift]
        law = grown
    row = law[size] / chances(everybody, size)[size]
    return float(row.sum()), float(1.0 - row[:total].sum())


def drawn(total: int, size: int, pool: Ints) -> tuple[float, float]:
    """The tails of the sum of draws with replacement from the pool, whose mean has an error of its own.

    The convolution is what infinitely many bootstrap samples converge to. The pool's error enters as a normal term of
    variance K^2 sigma^2 / M.

    Args:
        total: Events of the site.
        size: Its subjects, K.
        pool: Events of each of the M subjects of the other sites.
    """
    import numpy as np
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.special import ndtr

    counts = np.bincount(pool)
    spread = size * float(pool.std()) / math.sqrt(len(pool))
    reach = math.ceil(_REACH * spread)
    length = next_fast_len(max(size * (len(counts) - 1), total) + 2 * reach + 1, real=True)
    spectrum = rfft(counts / len(pool), length) ** size
    if reach:
        edges = np.arange(-reach, reach + 2) - 0.5
        spectrum *= rfft(np.diff(ndtr(edges / spread)), length)
    law = irfft(spectrum, length)
    place = total + reach
    return float(law[: place + 1].sum()), float(law[place:].sum())


def compare_sites(
    counts: Ints, reached: Ints, site: Ints, sites: int, *, share: float, minimum_subjects: int, minimum_pool: int
) -> list[tuple[int, int, int, int, int, float, float, float, float]]:
    """Test every site against all the others.

    Args:
        counts: Events up to each planned visit, shape (subjects, visits).
        reached: Planned visits reached, shape (subjects,).
        site: Index of each subject's site.
        sites: How many sites there are.
        share: Landmark as a share of the site's median number of visits.
        minimum_subjects: Fewest subjects of the site at the landmark.
        minimum_pool: Fewest subjects of the other sites at it.

    Returns:
        For each site: index, subjects, landmark (a count of visits; 0 where there is none), subjects at it, subjects of
        the pool, mean events, mean events of the pool, p_low and p_high; NaN where it is not judged.
    """
    import numpy as np

    found = []
    for one in range(sites):
        own = site == one
        subjects = int(own.sum())
        landmark = math.ceil(share * float(np.median(reached[own]))) if subjects else 0
        if landmark < 1:
            found.append((one, subjects, 0, 0, 0, math.nan, math.nan, math.nan, math.nan))
            continue
        there = reached >= landmark
        at = counts[:, landmark - 1]
        mine, pool = at[own & there], at[there & ~own]
        mean = float(mine.mean()) if len(mine) else math.nan
        expected = float(pool.mean()) if len(pool) else math.nan
        low = high = math.nan
        if len(mine) >= minimum_subjects and len(pool) >= minimum_pool:
            low, high = site_tails(mine, pool)
        found.append((one, subjects, landmark, len(mine), len(pool), mean, expected, low, high))
    return found


def reporting_table(
    counts: Ints,
    reached: Ints,
    sites: list[str],
    days: Ints,
    *,
    share: float,
    minimum_subjects: int,
    minimum_pool: int,
    family_wise: float,
) -> pl.DataFrame:
    """Under- and over-reporting by site, each family held at its error by Holm's correction over the sites judged.

    Args:
        counts: Events up to each planned visit, shape (subjects, visits).
        reached: Planned visits reached, shape (subjects,).
        sites: Site of each subject.
        days: Study days of the planned visits.
        share: See :func:`compare_sites`.
        minimum_subjects: See there.
        minimum_pool: See there.
        family_wise: Chance of any false finding, for under-reporting and for over-reporting each.

    Returns:
        ``COLUMNS``, then ``landmark_day``, ``p_low_adjusted``, ``p_high_adjusted`` and ``verdict``: under-reporting,
        over-reporting, as the others, or not judged. One row per site, sorted.
    """
    import numpy as np
    import polars as pl

    names, codes = np.unique(np.asarray(sites, dtype=str), return_inverse=True)
    rows = compare_sites(
        counts, reached, codes, len(names), share=share, minimum_subjects=minimum_subjects, minimum_pool=minimum_pool
    )
    low, high = (np.array([row[i] for row in rows], dtype=np.float64) for i in (7, 8))
    judged = np.isfinite(low)
    adjusted_low, adjusted_high = np.full(len(names), np.nan), np.full(len(names), np.nan)
    adjusted_low[judged], adjusted_high[judged] = holm(low[judged]), holm(high[judged])
    verdict = np.select(
        [~judged, adjusted_low <= family_wise, adjusted_high <= family_wise],
        ["not judged", "under-reporting", "over-reporting"],
        "as the others",
    )
    landmarks = [row[2] for row in rows]
    return pl.DataFrame(
        {
            "site": names.tolist(),
            **{name: [row[i] for row in rows] for i, name in enumerate(COLUMNS) if i},
            "landmark_day": [int(days[at - 1]) if at else None for at in landmarks],
            "p_low_adjusted": adjusted_low,
            "p_high_adjusted": adjusted_high,
            "verdict": verdict.tolist(),
        },
        schema_overrides={
            "site": pl.String,
            **dict.fromkeys(("subjects", "landmark", "at_landmark", "pool", "landmark_day"), pl.Int64),
            **dict.fromkeys(("mean", "expected", "p_low", "p_high"), pl.Float64),
            "verdict": pl.String,
        },
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
