"""Pages of the trial's progress: milestones and retention, and the one that puts all of it together."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, suppressed
from trialops.pages.page import Item
from trialops.pages.trial_plots import dated_lines, plan_and_reached, steps
from trialops.trial.retention import OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trialops.trial.milestones import Milestone
    from trialops.trial.retention import Retention
    from trialops.trial.site_monitor import Course
    from trialops.trial.study_file import StudyFile

CONDUCT = ("WITHDRAWAL BY SUBJECT", "LOST TO FOLLOW-UP", "PROTOCOL VIOLATION", "STUDY TERMINATED BY SPONSOR")
"""Reasons that say nothing about health: their counts are shown in full."""
FOUR_WEEKS = 28


def course_page(course: Course, study: StudyFile, day: date) -> Page:
    """Milestones, enrolment and retention of a trial; all arms together."""
    return Page(
        "Milestones and retention",
        [_milestones_section(course.milestones, day), _enrolment_section(course, study), *_retention_sections(course)],
        verdict=milestones_verdict(course.milestones),
        intro=f"{study.number}, data to {day.isoformat()}.",
    )


def milestones_verdict(found: Sequence[Milestone]) -> Verdict:
    """The worst slippage that is still to come, in words."""
    ahead = [m for m in found if m.actual is None and m.slippage is not None]
    if not ahead:
        return Verdict("No forecast slips", "plain" if not found else "good", "Nothing with a baseline is ahead.")
    worst = max(ahead, key=lambda m: m.slippage or 0)
    days = worst.slippage or 0
    words = f"{days} days late" if days > 0 else f"{-days} days early" if days < 0 else "on its day"
    return Verdict(f"{worst.label}: forecast {words}", worst.tone, worst.basis)


def _milestones_section(found: Sequence[Milestone], day: date) -> Section:
    def told(value: date | None) -> str | None:
        return value.isoformat() if value else None

    rows = [(m.label, told(m.planned), told(m.actual), told(m.forecast), m.slippage, m.basis) for m in found]
    items: list[Item] = [Table(("milestone", "baseline", "reached", "forecast", "slippage (days)", "rests on"), rows)]
    drawn = [m for m in found if m.planned or m.actual or m.forecast]
    if drawn:
        picture = plan_and_reached(
            [m.label for m in drawn],
            [m.planned for m in drawn],
            [m.actual or m.forecast for m in drawn],
            [m.tone for m in drawn],
            today=day,
        )
        items.append(Figure(picture, "Hollow: baseline. Full: reached; diamond: forecast. The line is the data cut."))
    return Section("Milestones", items)


def _enrolment_section(course: Course, study: StudyFile) -> Section:
    days, counts = course.enrolment["day"].to_list(), course.enrolment["randomised"].to_list()
    if not days:
        return Section("Enrolment", [Text("Nobody has been randomised yet.")])
    series: list[tuple[str, Sequence[date], Sequence[float]]] = [("randomised", days, counts)]
    by_name = {m.name: m for m in course.milestones}
    first, last = by_name["first_subject_in"].planned, by_name["last_subject_in"].planned
    target = int(study.protocol["planned_enrolment"])
    if first and last:
        series.append(("straight line between the baselines", [first, last], [0.0, float(target)]))
    facts = {"randomised": counts[-1], "planned": target, "of the plan": f"{counts[-1] / target:.0%}"}
    return Section("Enrolment", [Facts(facts), Figure(dated_lines(series, ylabel="subjects"))])


def _retention_sections(course: Course) -> list[Section]:
    found = course.retention
    if found is None:
        return [Section("Retention", [Text("Nobody has been randomised yet.")])]
    curve = found.curve
    longest = float(curve.times[-1])
    marks = [float(d) for d in range(0, int(longest) + 1, FOUR_WEEKS)]
    survival, low, high = curve.at(marks)
    at_risk = curve.numbers_at_risk(marks)
    rows = [
        (int(d), int(n), round(float(s), 3), _limits(a, b))
        for d, n, s, a, b in zip(marks, at_risk, survival, low, high, strict=True)
    ]
    x = [0.0, *curve.times.tolist()]
    band = (x, [1.0, *_filled(curve.low)], [1.0, *_filled(curve.high)])
    picture = steps(
        [("retention", x, [1.0, *curve.survival.tolist()])], xlabel="study day", ylabel="taking part", band=band
    )
    pooled: list[Item] = [
        Facts(_median(found)),
        Figure(picture, "Kaplan-Meier, with pointwise 95 % limits; completion and the data cut are censoring."),
        Table(("study day", "under observation", "taking part", "95 % limits"), rows),
    ]
    if found.excluded:
        pooled.append(Text(f"{found.excluded} randomised subjects without usable dates are in no figure.", quiet=True))
    return [Section("Retention", pooled), _reasons_section(found), _site_section(found)]


def _median(found: Retention) -> dict[str, Any]:
    middle, low, high = found.curve.quantile()
    told = "not reached" if middle is None else f"day {middle:.0f} ({_day(low)} to {_day(high)})"
    counts = found.sites.sum().row(0, named=True)
    names = ("subjects", "discontinued", "completed", "ongoing")
    return {**{name: counts[name] for name in names}, "median (95 %)": told}


def _day(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f}"


def _limits(low: float, high: float) -> str | None:
    return None if low != low else f"{low:.3f} to {high:.3f}"


def _filled(values: Any) -> list[float]:
    """Limits for a band: where nobody is left there are none, and the band closes."""
    return [0.0 if value != value else float(value) for value in values]


def _reasons_section(found: Retention) -> Section:
    if not found.reasons:
        return Section("Reasons", [Text("Nobody has discontinued.")])
    last = float(found.curve.times[-1])
    rows, series = [], []
    for name, count in found.reason_counts.items():
        shown = count if name in CONDUCT else suppressed(count)
        incidence = found.reasons[name]
        final = None if isinstance(shown, str) else round(float(incidence.at([last])[0]), 3)
        rows.append((name.capitalize(), shown, final))
        if not isinstance(shown, str):
            series.append((name.capitalize(), [0.0, *incidence.times.tolist()], [0.0, *incidence.incidence.tolist()]))
    top = max((max(y) for _, _, y in series), default=1.0)
    items: list[Item] = [Table(("reason", "subjects", f"left by day {last:.0f}"), rows)]
    if series:
        picture = steps(series, xlabel="study day", ylabel="left for this reason", top=top * 1.05)
        items.append(Figure(picture, "Cumulative incidence with the other reasons competing (Aalen-Johansen)."))
    if OTHER in found.reason_counts:
        items.append(Text("Reasons of few subjects are shown as one.", quiet=True))
    return Section("Reasons", items)


def _site_section(found: Retention) -> Section:
    times = [c for c in found.sites.columns if c.startswith("day_")]
    columns = (
        "site",
        "randomised",
        "discontinued",
        "completed",
        "ongoing",
        *(c.replace("day_", "day ") for c in times),
    )
    names = ("site", "subjects", "discontinued", "completed", "ongoing", *times)
    rows = [
        tuple(round(v, 3) if isinstance(v, float) else v for v in row) for row in found.sites.select(names).iter_rows()
    ]
    return Section(
        "Retention by site", [Table(columns, rows), Text("Share still taking part by study day.", quiet=True)]
    )


def overview_page(sites: Mapping[str, Any], course: Mapping[str, Any]) -> Page:
    """What needs attention, from the documents of the two steps before.

    Args:
        sites: Of :func:`sites_document`.
        course: Of :func:`course_document`.
    """
    tones: dict[str, Tone] = {"bad": "bad", "warn": "warn", "good": "good", "plain": "plain"}
    slipping = [m for m in course["milestones"] if m["tone"] in ("warn", "bad")]
    red, flagged = sites["red"], sites["flagged"]
    tone: Tone = (
        "bad" if red or any(m["tone"] == "bad" for m in slipping) else "warn" if flagged or slipping else "good"
    )
    text = (
        f"{len(red)} site(s) with a red flag, {len(flagged)} asking for a look; {len(slipping)} milestone(s) slipping."
    )
    rows = [(m["label"], m["planned"], m["actual"], m["forecast"], m["slippage"]) for m in course["milestones"]]
    worse = [f"{w['site']}: {w['label']}" for w in sites["worse"]]
    reported = [f"{r['site']}: {r['verdict']}" for r in sites["reporting"]]
    facts = {
        "randomised": course["randomised"],
        "planned": course["planned"],
        "taking part": course["ongoing"],
        "completed": course["completed"],
        "discontinued": course["discontinued"],
    }
    items: list[Item] = [
        Table(
            ("what", "where"),
            [
                ("Red flags", ", ".join(red) or "none"),
                ("Asking for a look", ", ".join(flagged) or "none"),
                (
                    "Worse than at the cut before",
                    ", ".join(worse) or ("none" if sites["compared"] else "no earlier cut"),
                ),
                ("Reporting of adverse events", ", ".join(reported) or "no site differs"),
            ],
        )
    ]
    return Page(
        "Study progress",
        [
            Section("Where the trial stands", [Facts(facts)]),
            Section("Sites", items),
            Section("Milestones", [Table(("milestone", "baseline", "reached", "forecast", "slippage (days)"), rows)]),
        ],
        verdict=Verdict("Needs attention" if tone != "good" else "On course", tones[tone], text),
        intro=f"{sites['study']}, data to {sites['as_of']}.",
    )


def course_document(course: Course, study: StudyFile, day: date) -> dict[str, Any]:
    """Milestones and counts as JSON values; aggregates of the conduct."""
    names = ("subjects", "ongoing", "completed", "discontinued")
    sites = course.retention.sites if course.retention else None
    counts = {name: 0 if sites is None else int(sites[name].sum()) for name in names}
    return {
        "study": study.number,
        "study_file": study.digest,
        "as_of": day.isoformat(),
        "planned": int(study.protocol["planned_enrolment"]),
        "randomised": counts["subjects"],
        "ongoing": counts["ongoing"],
        "completed": counts["completed"],
        "discontinued": counts["discontinued"],
        "milestones": [{**m.as_dict(), "basis": m.basis} for m in course.milestones],
    }
