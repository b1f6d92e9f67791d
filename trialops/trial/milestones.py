"""Milestones of a study: planned, reached or forecast, and by how many days they slip.

Baselines are those of the study file; what has happened is read off the data where data can tell. Forecasts say what
they rest on: enrolment on the Poisson-gamma model of :mod:`trialops.trial.forecast` (its median, with its interval),
the rest on each subject being followed for the planned time and the planned days from the last out to the lock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.trial.forecast import Site, forecast

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Tone
    from trialops.trial.kri_policy import SitePolicy
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables

LABELS = {
    "first_site_activated": "First site activated",
    "first_subject_in": "First subject in",
    "enrolled_50": "Half of the planned subjects in",
    "last_subject_in": "Last subject in",
    "first_subject_out": "First subject completed",
    "last_subject_out": "Last subject out",
    "database_lock": "Database lock",
}


@dataclass(frozen=True)
class Milestone:
    """One milestone.

    Attributes:
        name: Key of the study file.
        label: For people.
        planned: Baseline; None where the study file has none.
        forecast: Expected day where it has not been reached; None where nothing can be said.
        actual: Day it was reached.
        slippage: Days from the baseline to the actual or forecast day; negative is early.
        tone: good, warn, bad by the policy; plain without a slippage.
        basis: What the day rests on.
    """

    name: str
    label: str
    planned: date | None
    forecast: date | None
    actual: date | None
    slippage: int | None
    tone: Tone
    basis: str

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        days = {key: value.isoformat() if value else None for key, value in self._days().items()}
        return {"name": self.name, "label": self.label, **days, "slippage": self.slippage, "tone": self.tone}

    def _days(self) -> dict[str, date | None]:
        return {"planned": self.planned, "forecast": self.forecast, "actual": self.actual}


@dataclass(frozen=True)
class _Reached:
    """What is known of a milestone before it is compared with its baseline."""

    actual: date | None = None
    forecast: date | None = None
    basis: str = ""

    @property
    def day(self) -> date | None:
        return self.actual or self.forecast


def milestones(
    trial: TrialTables, people: pl.DataFrame, study: StudyFile, day: date, policy: SitePolicy
) -> tuple[Milestone, ...]:
    """All milestones in their order.

    Args:
        trial: The tables at the cut.
        people: Of :func:`trialops.trial.participation.participation`.
        study: The study file: baselines, planned enrolment, planned days.
        day: The data cut; a forecast is never before it.
        policy: Days of slippage that are amber and red.
    """
    import polars as pl

    enrolled = people.filter(pl.col("randomised") & pl.col("start").is_not_null()).sort("start")
    starts: list[date] = enrolled["start"].to_list()
    stated = study.milestones.get("dates", {})
    planned_number = int(study.protocol["planned_enrolment"])
    closed = stated.get("last_subject_in", {}).get("actual")
    if closed and closed > day:
        closed = None
    sites = recruiting_sites(enrolled, study)
    in_half = _enrolled(starts, math.ceil(planned_number / 2), sites, day)
    in_all = _Reached(actual=closed, basis="stated") if closed else _enrolled(starts, planned_number, sites, day)
    if in_all.actual and not closed:
        # A trial that went on beyond the plan has its last subject where it ended.
        in_all = _Reached(actual=starts[-1], basis=f"{len(starts)} randomised, {planned_number} planned")
    out_all = _last_out(enrolled, in_all, study, day)
    found: dict[str, _Reached] = {
        "first_site_activated": _first_site(trial, study, day),
        "first_subject_in": _Reached(actual=starts[0], basis="randomised") if starts else _Reached(basis="nobody yet"),
        "enrolled_50": in_half,
        "last_subject_in": in_all,
        "first_subject_out": _first_out(enrolled, study, day),
        "last_subject_out": out_all,
        "database_lock": _lock(out_all, study, day),
    }
    return tuple(_compared(name, reached, stated.get(name, {}), day, policy) for name, reached in found.items())


def enrolment_curve(people: pl.DataFrame) -> pl.DataFrame:
    """Randomised subjects by day: ``day``, ``randomised`` (cumulative)."""
    import polars as pl

    days = people.filter(pl.col("randomised") & pl.col("start").is_not_null()).group_by(day="start").len()
    return days.sort("day").select("day", randomised=pl.col("len").cum_sum().cast(pl.Int64))


def recruiting_sites(enrolled: pl.DataFrame, study: StudyFile) -> list[Site]:
    """The sites as the enrolment model sees them, days as proleptic ordinals.

    A site is open from its activation in the study file, else from its first randomised subject, who then says nothing
    about its rate; sites that are planned and have nobody yet open on the day planned.

    Args:
        enrolled: Randomised subjects with SITEID and ``start``.
        study: The study file.
    """
    import polars as pl

    by_site = {
        str(site): (first, int(count))
        for site, first, count in enrolled.group_by("SITEID").agg(pl.col("start").min(), pl.len()).iter_rows()
    }
    sites = []
    for name in sorted({*by_site, *study.sites}):
        first, count = by_site.get(name, (None, 0))
        stated = study.sites.get(name, {})
        opened = stated.get("activated") or first or stated.get("planned_activation")
        if opened is None:
            continue
        closed = stated.get("closed")
        sites.append(
            Site(
                name,
                float(min(opened, first or opened).toordinal()),
                float(closed.toordinal()) if closed else None,
                count,
                first_counted=first is None or opened < first,
            )
        )
    return sites


def _enrolled(starts: list[date], number: int, sites: list[Site], day: date) -> _Reached:
    """When the n-th subject was or will be randomised."""
    if len(starts) >= number:
        return _Reached(actual=starts[number - 1], basis=f"subject {number} randomised")
    try:
        expected = forecast(sites, today=float(day.toordinal()), target=number)
    except TrialOpsError as error:
        return _Reached(basis=error.what)
    if expected.done_median is None:
        return _Reached(basis=f"{number - len(starts)} to go, and not reached within the model's horizon")
    late = _day(expected.done_high).isoformat() if expected.done_high else "beyond the horizon"
    early = _day(expected.done_low if expected.done_low else expected.done_median).isoformat()
    basis = f"Poisson-gamma model, {number - len(starts)} to go; {expected.level:.0%} interval {early} to {late}"
    return _Reached(forecast=_day(expected.done_median), basis=basis)


def _day(ordinal: float) -> date:
    return date.fromordinal(math.ceil(ordinal))


def _first_site(trial: TrialTables, study: StudyFile, day: date) -> _Reached:
    import polars as pl

    from trialops.intake.partial_dates import exact_day

    activated = [site["activated"] for site in study.sites.values() if site.get("activated")]
    if activated and min(activated) <= day:
        return _Reached(actual=min(activated), basis="stated")
    planned = [site["planned_activation"] for site in study.sites.values() if site.get("planned_activation")]
    dm = trial.table("DM")
    dated = [c for c in ("RFICDTC", "DMDTC") if c in dm.columns]
    first = dm.select(pl.min_horizontal([exact_day(c) for c in dated]).min()).item() if dated else None
    if first:
        return _Reached(actual=first, basis="first screening in the data; the study file states no activation")
    return _Reached(forecast=max(min(planned), day) if planned else None, basis="planned activation")


def _planned_days(study: StudyFile) -> int | None:
    """Days from randomisation to the end of follow-up, as planned."""
    treatment = study.protocol.get("treatment_days")
    return None if treatment is None else int(treatment) + int(study.protocol.get("follow_up_days") or 0)


def _first_out(enrolled: pl.DataFrame, study: StudyFile, day: date) -> _Reached:
    import polars as pl

    completed = enrolled.filter(pl.col("reason") == "COMPLETED")["end"].drop_nulls()
    if len(completed):
        return _Reached(actual=completed.min(), basis="completed")  # type: ignore[arg-type]
    treatment = study.protocol.get("treatment_days")
    ongoing = enrolled.filter("ongoing")["start"]
    if treatment is None or ongoing.is_empty():
        return _Reached(basis="nobody takes part" if ongoing.is_empty() else "protocol.treatment_days is not stated")
    first: Any = ongoing.min()
    return _Reached(forecast=max(first + timedelta(days=int(treatment) - 1), day), basis="first subject's planned end")


def _last_out(enrolled: pl.DataFrame, in_all: _Reached, study: StudyFile, day: date) -> _Reached:
    ongoing = enrolled.filter("ongoing")["start"]
    if in_all.actual and ongoing.is_empty() and enrolled.height:
        last: Any = enrolled["last"].max()
        return (
            _Reached(actual=last, basis="nobody takes part any more") if last else _Reached(basis="no date of the end")
        )
    length = _planned_days(study)
    if length is None or in_all.day is None:
        return _Reached(
            basis="protocol.treatment_days is not stated" if length is None else "no forecast of the last in"
        )
    latest: Any = ongoing.max() if len(ongoing) else None
    anchor = in_all.day if latest is None or not in_all.actual else latest
    basis = f"{length} planned days after the {'last' if in_all.actual else 'forecast last'} subject in"
    return _Reached(forecast=max(anchor + timedelta(days=length - 1), day), basis=basis)


def _lock(out_all: _Reached, study: StudyFile, day: date) -> _Reached:
    days = study.milestones.get("days_to_lock")
    if days is None or out_all.day is None:
        return _Reached(basis="milestones.days_to_lock is not stated" if days is None else "no last subject out")
    return _Reached(forecast=max(out_all.day + timedelta(days=int(days)), day), basis=f"{days} days after last out")


def _compared(name: str, reached: _Reached, stated: Mapping[str, Any], day: date, policy: SitePolicy) -> Milestone:
    planned, told = stated.get("planned"), stated.get("actual")
    if told and told <= day:
        reached = _Reached(actual=told, basis="stated")
    slippage = (reached.day - planned).days if reached.day and planned else None
    tone: Tone = "plain"
    if slippage is not None:
        late = policy.milestones
        tone = "bad" if slippage >= late["red_days"] else "warn" if slippage >= late["amber_days"] else "good"
    forecast = None if reached.actual else reached.forecast
    return Milestone(name, LABELS[name], planned, forecast, reached.actual, slippage, tone, reached.basis)
