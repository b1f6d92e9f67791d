"""A Bayesian boundary for the continuous monitoring of one event: when is it more frequent than it may be?

Blinded or by arm, the number of subjects with the event is compared with what the protocol accepts. The rule looks
after every subject and says stop and think once the posterior probability of a risk above the accepted one reaches a
level (Thall and Simon 1994; Geller et al., Clin Trials 2003). How often it does so, at any true risk, is computed
exactly, not by simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Boundary:
    """A rule for one event.

    Attributes:
        accepted: Risk of a subject that is accepted, 0 to 1.
        certainty: Posterior probability of a higher risk from which the boundary is reached, 0.5 to 1.
        prior_events: Prior: Beta(prior_events, prior_subjects - prior_events).
        prior_subjects: Weight of the prior, in subjects.
        first: Fewest subjects before the rule speaks.
    """

    accepted: float
    certainty: float = 0.95
    prior_events: float = 0.5
    prior_subjects: float = 1.0
    first: int = 10

    def __post_init__(self) -> None:
        """Refuse what is no rule.

        Raises:
            TrialOpsError: A value lies outside its range.
        """
        fits = 0 < self.accepted < 1 and 0.5 <= self.certainty < 1 and 0 < self.prior_events < self.prior_subjects
        if not fits or self.first < 1:
            raise TrialOpsError(
                "No boundary can be made of this",
                where="boundary",
                fix="accepted in (0, 1), certainty in [0.5, 1), 0 < prior_events < prior_subjects, first from 1.",
            )

    @classmethod
    def around(cls, accepted: float, *, certainty: float = 0.95, weight: float = 1.0, first: int = 10) -> Boundary:
        """A rule whose prior lies at the accepted risk with the weight of so many subjects."""
        return cls(accepted, certainty, accepted * weight, weight, first)

    def excess(self, events: int | NDArray[np.int64], subjects: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """Posterior probability that the risk is above the accepted one.

        Args:
            events: Subjects with the event.
            subjects: Subjects, at least as many.
        """
        import numpy as np
        from scipy.special import betaincc

        x, n = np.asarray(events, dtype=np.float64), np.asarray(subjects, dtype=np.float64)
        other = self.prior_subjects - self.prior_events
        return np.asarray(betaincc(x + self.prior_events, n - x + other, self.accepted), dtype=np.float64)

    def reached(self, events: int, subjects: int) -> bool:
        """Whether the rule speaks at these counts."""
        return subjects >= self.first and bool(self.excess(events, subjects) >= self.certainty)

    def limits(self, subjects: int) -> NDArray[np.int64]:
        """Fewest events that reach the boundary after 1, 2, ... `subjects` subjects; n + 1 where none can.

        Returns:
            int64 [subjects].
        """
        import numpy as np

        found = np.empty(subjects, dtype=np.int64)
        at = 0
        for n in range(1, subjects + 1):
            # One more subject without the event never lowers the limit, so it is looked for from where it stood.
            while at <= n and self.excess(at, n) < self.certainty:
                at += 1
            found[n - 1] = at if n >= self.first else n + 1
        return found

    def reaching(self, risk: float, subjects: int) -> NDArray[np.float64]:
        """Probability that the boundary has been reached by 1, 2, ... `subjects` subjects, exactly.

        Args:
            risk: True risk of a subject.
            subjects: Planned number.

        Returns:
            float64 [subjects], not falling. At `risk` equal to `accepted` the last element is the probability of a
            false alarm in the whole monitoring, not at one look.
        """
        import numpy as np

        limits = self.limits(subjects)
        alive = np.zeros(subjects + 1)
        alive[0] = 1.0
        reached = np.zeros(subjects)
        for n in range(1, subjects + 1):
            alive[1:] = alive[1:] * (1 - risk) + alive[:-1] * risk
            alive[0] *= 1 - risk
            limit = int(limits[n - 1])
            reached[n - 1] = (reached[n - 2] if n > 1 else 0.0) + alive[limit:].sum()
            alive[limit:] = 0.0
        return reached


def calibrated(
    accepted: float, subjects: int, *, alpha: float = 0.05, weight: float = 1.0, first: int = 10
) -> Boundary:
    """The rule that speaks as early as it can with a false-alarm probability of at most `alpha` over the whole trial.

    Args:
        accepted: Accepted risk of a subject.
        subjects: Planned number of subjects.
        alpha: Most probable a false alarm may be when the risk is the accepted one.
        weight: Of the prior, in subjects; it lies at the accepted risk.
        first: Fewest subjects before the rule speaks.
    """
    low, high = 0.5, 1.0 - 1e-6
    for _ in range(18):
        middle = (low + high) / 2
        rule = Boundary.around(accepted, certainty=middle, weight=weight, first=first)
        if rule.reaching(accepted, subjects)[-1] <= alpha:
            high = middle
        else:
            low = middle
    return Boundary.around(accepted, certainty=high, weight=weight, first=first)


def more_frequent(x1: int, n1: int, x0: int, n0: int, *, prior: tuple[float, float] = (0.5, 0.5)) -> float:
    """Posterior probability that one arm's risk is above another's, under independent Beta priors.

    Args:
        x1: Subjects with the event in the arm.
        n1: Subjects in it.
        x0: Subjects with the event in the control arm.
        n0: Subjects in it.
        prior: Beta parameters of both arms; Jeffreys' by default.

    Returns:
        P(p1 > p0), by Gauss-Legendre quadrature over the quantiles of p0 (error below 1e-6).
    """
    from scipy.special import betaincc

    a, b = prior
    control, weights = _quantiles(x0 + a, n0 - x0 + b)
    return float((weights * betaincc(x1 + a, n1 - x1 + b, control)).sum())


@lru_cache(maxsize=1024)
def _quantiles(a: float, b: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Quantiles of a Beta distribution at the nodes of a quadrature over its probabilities, and the weights."""
    import numpy as np
    from scipy.special import betaincinv

    nodes, weights = np.polynomial.legendre.leggauss(400)
    return betaincinv(a, b, (nodes + 1) / 2), weights / 2
