"""The protocol of the synthetic trial: arms, visits, sites, calendar, and who belongs to which site."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.synthetic.draws import Draws

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

STUDY = "TRIALOPS01"
TITLE = "TRX-101 transdermal patch in mild to moderate Alzheimer's disease (synthetic)"
TREATMENT = "TRX-101"
COUNTRY = "USA"
FIRST_ACTIVATION = date(2023, 1, 9)
ACTIVATION_SPREAD = 90
ACCRUAL = 300
FIRST_SUBJECT_NUMBER = 100001
MOST_SUBJECTS = 800_000
SCREEN_FAILURE_SHARE = 0.15
TINY_SITE_SUBJECTS = 3

#: Arm code, arm name, doses (mg) in the three dosing intervals: day 1, from week 2, from week 24.
ARMS = (
    ("Pbo", "Placebo", (0.0, 0.0, 0.0)),
    ("TRX_Lo", "TRX-101 Low Dose", (54.0, 54.0, 54.0)),
    ("TRX_Hi", "TRX-101 High Dose", (54.0, 81.0, 54.0)),
)
SCREEN_FAILURE = ("Scrnfail", "Screen Failure")

#: VISITNUM, VISIT, planned study day (VISITDY).
VISITS = (
    (1.0, "SCREENING 1", -7),
    (3.0, "BASELINE", 1),
    (4.0, "WEEK 2", 14),
    (5.0, "WEEK 4", 28),
    (7.0, "WEEK 6", 42),
    (8.0, "WEEK 8", 56),
    (9.0, "WEEK 12", 84),
    (10.0, "WEEK 16", 112),
    (11.0, "WEEK 20", 140),
    (12.0, "WEEK 24", 168),
    (13.0, "WEEK 26", 182),
)
SCREENING, BASELINE, WEEK_2, WEEK_4 = 0, 1, 2, 3
WEEK_24, LAST_VISIT = 9, 10
WEEKS = 26
PLANNED_DAYS = 182
FOLLOW_UP = 30
#: Fewest days between the collection of a row and the receipt of its correction.
RECEIPT_DELAY = 5


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - date(1970, 1, 1)).days


@dataclass(frozen=True)
class Sites:
    """Sites and the subjects they screen.

    Attributes:
        ids: SITEID of every site; the last may have no subject ("empty_site").
        weights: Relative recruitment, shape (sites,).
        activation: Activation date in days since 1970, shape (sites,).
        effect: Site effect on the log hazard of withdrawal, shape (sites,).
        reporting: Site multiplier of adverse event reporting delay, shape (sites,).
        of_subject: Index of the site of subject k, shape (subjects,).
        order: Subject numbers sorted by (site, subject): the order of every output file.
    """

    ids: tuple[str, ...]
    weights: Floats
    activation: Ints
    effect: Floats
    reporting: Floats
    of_subject: Ints
    order: Ints

    def counts(self) -> Ints:
        """Screened subjects per site."""
        import numpy as np

        return np.bincount(self.of_subject, minlength=len(self.ids)).astype(np.int64)


def plan_sites(seed: int, subjects: int, sites: int, defects: Collection[str] = ()) -> Sites:
    """Lay out the sites and assign every subject to one.

    Site sizes are uneven: recruitment rates are gamma distributed with shape 2, as in the Poisson-gamma
    model
    of Anisimov and Fedorov (2007).

    Args:
        seed: Seed of the trial.
        subjects: Screened subjects.
        sites: Recruiting sites.
        defects: "tiny_site" leaves one site with exactly three subjects, "empty_site" adds one with none.

    Raises:
        TrialOpsError: The sizes cannot make a trial.
    """
    import numpy as np

    if not 1 <= subjects <= MOST_SUBJECTS or not 1 <= sites <= min(900, subjects):
        raise TrialOpsError(
            f"{subjects} subjects at {sites} sites cannot make a trial",
            where="subjects, sites",
            fix=f"use 1 to {MOST_SUBJECTS} subjects and 1 to 900 sites, no more sites than subjects",
        )
    tiny = "tiny_site" in defects
    if tiny and (sites < 2 or subjects < 2 * TINY_SITE_SUBJECTS):
        raise TrialOpsError(
            "a tiny site needs a second site and six subjects",
            where="defects",
            fix="ask for more subjects or sites, or drop tiny_site",
        )
    total = sites + ("empty_site" in defects)
    draws = Draws(seed, np.arange(total, dtype=np.int64))
    weights = 0.3 + draws.gamma("site/weight", 2.0)
    weights[sites:] = 0.0
    of_subject = Draws(seed, np.arange(subjects, dtype=np.int64)).choice("site", weights[:sites])
    if tiny:
        small, large = int(weights[:sites].argmin()), int(weights[:sites].argmax())
        members = np.flatnonzero(of_subject == small)
        others = np.flatnonzero(of_subject != small)
        of_subject[members[TINY_SITE_SUBJECTS:]] = large
        of_subject[others[: max(0, TINY_SITE_SUBJECTS - len(members))]] = small
    first = 701 if total <= 299 else 1001
    return Sites(
        ids=tuple(str(first + i) for i in range(total)),
        weights=weights,
        activation=day_number(FIRST_ACTIVATION) + draws.integers("site/activation", 0, ACTIVATION_SPREAD),
        effect=0.35 * draws.normal("site/effect"),
        reporting=np.exp(0.4 * draws.normal("site/reporting")),
        of_subject=of_subject,
        order=np.argsort(of_subject, kind="stable").astype(np.int64),
    )
