"""Who takes part and how it ends: demographics, calendar, treatment arm, withdrawal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.synthetic.draws import Draws
from trialops.synthetic.events import Events, simulate_events
from trialops.synthetic.planted import Planted
from trialops.synthetic.protocol import (
    ACCRUAL,
    FIRST_SUBJECT_NUMBER,
    FOLLOW_UP,
    LAST_VISIT,
    PLANNED_DAYS,
    SCREEN_FAILURE_SHARE,
    VISITS,
    WEEKS,
    Sites,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

RACES = ("WHITE", "BLACK OR AFRICAN AMERICAN", "ASIAN", "AMERICAN INDIAN OR ALASKA NATIVE")
#: Disposition codes; the first is completion, the last is used for screen failures only.
REASONS = (
    "COMPLETED",
    "ADVERSE EVENT",
    "WITHDRAWAL BY SUBJECT",
    "LOST TO FOLLOW-UP",
    "LACK OF EFFICACY",
    "PHYSICIAN DECISION",
    "PROTOCOL VIOLATION",
    "DEATH",
    "SCREEN FAILURE",
)
COMPLETED, ADVERSE_EVENT, BY_SUBJECT, LOST, DEATH, FAILED = 0, 1, 2, 3, 7, 8

# Weekly log hazard of withdrawal: a constant, then one coefficient per covariate. Chosen so that about two in
# five leave early and a model that knows only data to day 28 reaches an AUROC near 0.73. Age and low body mass index
# are weak effects, the same for women and men: with stronger ones the share flagged differs between age bands or
# sexes by more than the fairness policy allows, truly and not by chance, and the gate would be right to refuse.
HAZARD = {
    "base": -5.45,
    "age": 0.05,
    "irritation": 0.80,
    "other": 0.28,
    "alt": 0.30,
    "light": 0.28,
    "arm": 0.12,
    "unseen": 0.60,
}


@dataclass(frozen=True)
class Population:
    """A block of subjects; every array has shape (n,) unless said otherwise. Dates are days since 1970.

    Attributes:
        keys: Subject numbers k, from 0.
        draws: Random numbers of these subjects.
        site: Index of the site.
        arm: 0, 1, 2, or -1 for a screen failure.
        female, hispanic: Flags.
        race: Index into RACES.
        age: Completed years at consent.
        birth, consent, screening, start: Dates; `start` (RFSTDTC) is meaningless for screen failures.
        height: cm.
        weight: kg at screening.
        alt_change: Lasting change of log ALT under treatment.
        events: Latent adverse events.
        reason: Index into REASONS.
        last_day: Study day of the end of treatment (screen failures: 1).
        end: Date the subject left or completed treatment (RFENDTC; screen failures: date of the failure).
        last_dose: Date of the last dose.
        contact_end: Date of the last contact (RFPENDTC).
        visit_date: Date of each visit, shape (n, visits).
        attended: The visit took place, shape (n, visits).
        planted: What was planted.
        later: Whether the subject comes after a planted change.
    """

    keys: Ints
    draws: Draws
    site: Ints
    arm: Ints
    female: Flags
    hispanic: Flags
    race: Ints
    age: Ints
    birth: Ints
    consent: Ints
    screening: Ints
    start: Ints
    height: Floats
    weight: Floats
    alt_change: Floats
    events: Events
    reason: Ints
    last_day: Ints
    end: Ints
    last_dose: Ints
    contact_end: Ints
    visit_date: Ints
    attended: Flags
    planted: Planted
    later: Flags

    @property
    def failed(self) -> Flags:
        """Screen failures."""
        return self.arm < 0

    @property
    def subject_numbers(self) -> Ints:
        """SUBJID as numbers."""
        return self.keys + FIRST_SUBJECT_NUMBER


def years_between(earlier: Ints, later: Ints) -> Ints:
    """Completed years between two dates, given in days since 1970."""
    import numpy as np

    months = [np.asarray(d).astype("datetime64[D]").astype("datetime64[M]") for d in (earlier, later)]
    day = [
        np.asarray(d).astype("datetime64[D]") - m.astype("datetime64[D]")
        for d, m in zip((earlier, later), months, strict=True)
    ]
    whole = months[1].astype(np.int64) - months[0].astype(np.int64) - (day[1] < day[0])
    return np.asarray(whole // 12, dtype=np.int64)


def _withdrawal(
    draws: Draws, events: Events, risk: Floats, strength: Mapping[str, Floats]
) -> tuple[Ints, Ints, Floats]:
    """Week of withdrawal (WEEKS when none), day within the week, and the events' share of the hazard."""
    import numpy as np

    days = np.arange(0, 7 * WEEKS, 7, dtype=np.float64)
    points = {name: np.log1p(events.burden(days, irritation=name == "irritation")) for name in ("irritation", "other")}
    caused = HAZARD["irritation"] * strength["irritation"][:, None] * points["irritation"]
    caused += HAZARD["other"] * strength["other"][:, None] * points["other"]
    # Burnout early and late is rarer than between weeks 2 and 16.
    shape = np.interp(days, [0, 14, 42, 112, 182], [-0.9, 0.1, 0.25, 0.0, -0.5])
    rate = np.exp(risk[:, None] + caused + shape)
    leaves = draws.uniform("withdrawal/week", WEEKS) < 1 - np.exp(-rate)
    week = np.where(leaves.any(axis=1), leaves.argmax(axis=1), WEEKS)
    share = 1 - np.exp(-caused[np.arange(len(week)), np.minimum(week, WEEKS - 1)])
    return week, draws.integers("withdrawal/day", 1, 7), share


def _reasons(draws: Draws, share: Floats, age: Ints) -> Ints:
    """Reason of those who leave: adverse events in proportion to their part in the hazard."""
    import numpy as np

    by_event = draws.uniform("reason/event") < 0.9 * share
    weights = [0.52, 0.16, 0.14, 0.08, 0.10]
    other = np.array([BY_SUBJECT, LOST, 4, 5, 6])[draws.choice("reason/other", weights)]
    dies = draws.uniform("reason/death") < 0.012 * np.exp(0.06 * (age - 75))
    return np.where(dies, DEATH, np.where(by_event, ADVERSE_EVENT, other))


def simulate(
    seed: int, sites: Sites, keys: Ints, *, nobody_leaves: bool = False, planted: Planted | None = None
) -> Population:
    """Simulate a block of subjects.

    Args:
        seed: Seed of the trial.
        sites: Site layout.
        keys: Subject numbers of the block, any order.
        nobody_leaves: Every treated subject completes ("one_class_label").
        planted: Effects of known size; nothing by default.

    Returns:
        The block; row i is subject keys[i].
    """
    import numpy as np

    planted = planted or Planted()
    draws = Draws(seed, keys)
    site = sites.of_subject[keys]
    # Randomisation in permuted blocks of six consecutive subject numbers: the two smallest numbers of a
    # block go to placebo, the next two to low dose, the others to high dose.
    numbers = Draws(seed, keys // 6).uniform("arm", 6)
    rank = (numbers < numbers[np.arange(len(keys)), keys % 6][:, None]).sum(axis=1)
    failed = draws.uniform("screen failure") < SCREEN_FAILURE_SHARE
    arm = np.where(failed, -1, rank // 2)

    female = draws.uniform("sex") < 0.56
    race = draws.choice("race", [0.82, 0.10, 0.05, 0.03])
    consent = sites.activation[site] + np.floor(ACCRUAL * draws.uniform("consent")).astype(np.int64)
    later = planted.later(consent)
    age = np.clip(np.rint(75 + 8 * (draws.normal("age") + planted.shift("AGE", later))), 51, 93).astype(np.int64)
    birth = consent - np.floor((age + draws.uniform("birth")) * 365.25).astype(np.int64)
    screening = consent + draws.integers("screening", 0, 3)
    start = screening + draws.integers("start", 7, 14)
    height = np.where(female, 160, 174) + 6.5 * draws.normal("height")
    weight = np.clip(25.5 * np.exp(0.17 * draws.normal("bmi")) * (height / 100) ** 2 - 0.25 * (age - 75), 36, 160)

    frailty = draws.gamma("frailty", 1.6)
    events = simulate_events(draws, arm, age, frailty)
    alt_change = 0.20 * draws.normal("alt/change") + np.array([0.0, 0.05, 0.10])[np.maximum(arm, 0)]
    # One treated subject in a hundred has a marked rise of the transaminases.
    alt_change = alt_change + np.where(
        (arm > 0) & (draws.uniform("alt/rise") < 0.012), 1.2 + 0.4 * draws.exponential("alt/size"), 0.0
    )
    bmi = weight / (height / 100) ** 2
    no_signal = planted.without_signal(draws, female, age, race)
    strength = planted.strengths(no_signal, later)
    risk = (
        HAZARD["base"]
        + HAZARD["age"] * strength["age"] * (age - 75) / 8
        + HAZARD["alt"] * strength["alt"] * np.clip(alt_change / 0.2, -3, 6)
        + HAZARD["light"] * strength["light"] * np.clip((25.5 - bmi) / 4.5, -2, 3)
        + HAZARD["arm"] * strength["arm"] * np.maximum(arm, 0)
        + strength["site"] * sites.effect[site]
        + HAZARD["unseen"] * draws.normal("unseen")
        + planted.replaced(no_signal)
    )
    week, offset, share = _withdrawal(draws, events, risk, strength)
    stays = (week >= WEEKS) | nobody_leaves

    planned = np.array([v[2] for v in VISITS])
    visit_day = planned + draws.integers("visit/jitter", -2, 3, len(VISITS))
    visit_day[:, 0] = np.minimum(screening - start, -1)
    visit_day[:, 1] = 1
    visit_day[:, LAST_VISIT] = PLANNED_DAYS + draws.integers("visit/last", 0, 5)
    last_day = np.where(stays, visit_day[:, LAST_VISIT], np.clip(7 * week + offset, 2, PLANNED_DAYS - 1))
    reason = np.where(stays, COMPLETED, _reasons(draws, share, age))
    reason = np.where(failed, FAILED, reason)
    last_day = np.where(failed, 1, last_day)
    visit_date = start[:, None] + visit_day - (visit_day > 0)
    attended = (visit_day <= last_day[:, None]) & (draws.uniform("visit/missed", len(VISITS)) > 0.03)
    attended[:, :2] = True
    attended[:, LAST_VISIT] = stays
    attended[failed, 1:] = False

    end = np.where(failed, screening + draws.integers("failure", 1, 10), start + last_day - 1)
    follow = np.where((reason == DEATH) | failed, 0, draws.integers("follow-up", 0, FOLLOW_UP))
    last_dose = np.maximum(end - np.where(stays, 0, draws.integers("last dose", 0, 2)), start)
    return Population(
        keys=keys,
        draws=draws,
        site=site,
        arm=arm,
        female=female,
        hispanic=draws.uniform("ethnic") < 0.06,
        race=race,
        age=years_between(birth, consent),
        birth=birth,
        consent=consent,
        screening=screening,
        start=start,
        height=height,
        weight=weight,
        alt_change=alt_change,
        events=events,
        reason=reason,
        last_day=last_day,
        end=end,
        last_dose=last_dose,
        contact_end=end + follow,
        visit_date=visit_date,
        attended=attended,
        planted=planted,
        later=later,
    )
