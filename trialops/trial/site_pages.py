"""The page of the sites: flags, funnels, reporting, lags, and a section for every site that asks for a look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, suppressed
from trialops.pages.page import SMALLEST_CELL, Item
from trialops.pages.trial_plots import funnel, score_map
from trialops.trial.kri import control_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trialops.trial.kri_policy import Indicator
    from trialops.trial.site_monitor import SiteReport

MOST_SITES = 15
"""Sites with a section of their own; the others are in the table of flags."""
MOST_IN_MAP = 60
FEWEST_POINTS = 4
"""Sites below which a funnel shows nothing."""
EVENTS = ("adverse_events", "dated_events")
"""Denominators that count adverse events."""
MARKS = {"red": "red", "amber": "amber", "green": "–", "not judged": "too small"}


def hidden(one: Indicator, numerator: float, denominator: float) -> bool:
    """Whether a figure would tell about the health of so few that a page shows the flag alone."""
    few = one.health and 0 < numerator < SMALLEST_CELL
    return few or (one.denominator in EVENTS and 0 < denominator < SMALLEST_CELL)


def _hides(one: Indicator, row: Mapping[str, Any]) -> bool:
    return hidden(one, row["numerator"], row["denominator"])


def sites_page(report: SiteReport) -> Page:
    """The page of central monitoring: counts of the conduct in full, of health only from eleven on."""
    flagged = report.flagged()
    shown = flagged[:MOST_SITES]
    red = report.scores.filter(report.scores["flag"] == "red")["site"].n_unique()
    tone: Tone = "bad" if red else "warn" if flagged else "good"
    label = f"{len(flagged)} of {report.measures.height} sites ask for a look" if flagged else "No site stands out"
    return Page(
        "Site monitoring",
        [
            _flags_section(report),
            _map_section(report, flagged),
            *(_site_section(report, site) for site in shown),
            _reporting_section(report),
            _lags_section(report),
            *_funnel_sections(report),
            _method_section(report),
        ],
        verdict=Verdict(label, tone, f"{red} with a red flag." if flagged else ""),
        intro=f"{report.study}, data to {report.day.isoformat()}; policy {report.policy.version} "
        f"({report.policy.digest[:12]}). All arms together.",
    )


def _value(one: Indicator, row: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Numerator, denominator, metric and score of a row as a page may show them."""
    numerator, denominator = int(row["numerator"]), int(row["denominator"])
    if _hides(one, row):
        of = suppressed(denominator) if one.denominator in EVENTS else denominator
        return suppressed(numerator), of, None, None
    return numerator, denominator, round(row["metric"] * one.per, 3), round(row["score"], 3)


def flag_rows(report: SiteReport) -> list[tuple[Any, ...]]:
    """Flagged cells: site, indicator, flag, numerator, denominator, metric, unit, trial's, score, adjusted p, trend."""
    rows = []
    for row in report.scores.iter_rows(named=True):
        if row["flag"] not in ("red", "amber"):
            continue
        one = report.policy.indicator(row["indicator"])
        numerator, denominator, metric, score = _value(one, row)
        mean = round(report.scored[one.name].mu * one.per, 3)
        p = None if score is None else row["p_adjusted"]
        figures = (numerator, denominator, metric, one.unit, mean, score, p)
        rows.append((row["site"], one.label, row["flag"], *figures, row["trend"] or None))
    order = {"red": 0, "amber": 1}
    return sorted(rows, key=lambda row: (order[row[2]], row[0], row[1]))


def _flags_section(report: SiteReport) -> Section:
    columns = (
        "site", "indicator", "flag", "count", "of", "site's", "unit", "trial's", "score", "p (Holm)", "since last cut"
    )  # fmt: skip
    rows = flag_rows(report)
    judged = int((report.scores["flag"] != "not judged").sum())
    chance = judged * math.erfc(report.policy.amber / math.sqrt(2))
    note = (
        f"{judged} figures were judged; about {chance:.0f} would be flagged by chance alone if sites did not differ. "
        "The p-value is adjusted for all of them (Holm); a flag asks for a look and proves nothing."
    )
    items: list[Item] = [Table(columns, rows)] if rows else [Text("No figure is beyond its limits.")]
    return Section("Flags", [*items, Text(note, quiet=True)])


def _map_section(report: SiteReport, flagged: list[str]) -> Section:
    names = [one for one in report.policy.indicators if one.name in report.scored]
    cells = {(row["site"], row["indicator"]): row for row in report.scores.iter_rows(named=True)}
    sites = report.measures["SITEID"].to_list()
    if len(sites) > MOST_IN_MAP:
        sites = sorted(flagged[:MOST_IN_MAP])
    scores, flags = [], []
    for site in sites:
        found = [(one, cells.get((site, one.name))) for one in names]
        scores.append([None if row is None or _hides(one, row) else row["score"] for one, row in found])
        flags.append(["" if row is None else row["flag"] for _, row in found])
    if not sites or not names:
        return Section("All sites", [Text("There is nothing to score yet.")])
    picture = score_map(sites, [one.label for one in names], scores, flags, top=report.policy.red + 1)
    caption = (
        f"Scores: red above the other sites, blue below. R: {report.policy.red:g} or more, A: {report.policy.amber:g} "
        f"or more, dot: too small to judge. White with a letter or nothing: fewer than {SMALLEST_CELL} events."
    )
    return Section("All sites", [Figure(picture, caption)])


def _site_section(report: SiteReport, site: str) -> Section:
    """One flagged site: its numbers, and what to look at."""
    rows, advice = [], []
    for row in report.scores.filter(report.scores["site"] == site).iter_rows(named=True):
        one = report.policy.indicator(row["indicator"])
        numerator, denominator, metric, score = _value(one, row)
        before = None if _hides(one, row) or row["previous"] is None else round(row["previous"], 3)
        rows.append((one.label, numerator, denominator, metric, one.unit, score, before, MARKS[row["flag"]]))
        if row["flag"] in ("red", "amber"):
            side = "more" if row["score"] > 0 else "less"
            advice.append(f"{one.label}, {row['flag']}, {side} than the others: {one.look_at}")
    found = report.reporting.filter(report.reporting["site"] == site).row(0, named=True) if _has(report, site) else None
    if found and found["verdict"] in ("under-reporting", "over-reporting"):
        advice.insert(
            0,
            f"Adverse events, {found['verdict']}: {found['at_landmark']} subjects at study day {found['landmark_day']} "
            f"differ from the {found['pool']} of the other sites. Verify source records of subjects without events.",
        )
    columns = ("indicator", "count", "of", "site's", "unit", "score", "last cut", "flag")
    return Section(f"Site {site}", [*(Text(line) for line in advice), Table(columns, rows)])


def _has(report: SiteReport, site: str) -> bool:
    return site in set(report.reporting["site"])


def _reporting_section(report: SiteReport) -> Section:
    asked = report.policy.under_reporting
    rows = []
    for row in report.reporting.iter_rows(named=True):
        few = row["mean"] is None or 0 < round(row["mean"] * row["at_landmark"]) < SMALLEST_CELL
        mean, expected = (None, None) if few else (round(row["mean"], 2), round(row["expected"], 2))
        adjusted = (row["p_low_adjusted"], row["p_high_adjusted"])
        day, there = row["landmark_day"], row["at_landmark"]
        rows.append((row["site"], row["subjects"], day, there, row["pool"], mean, expected, *adjusted, row["verdict"]))
    columns = (
        "site",
        "subjects",
        "study day",
        "there",
        "others there",
        "events",
        "others'",
        "p low",
        "p high",
        "verdict",
    )
    note = (
        "Events per subject up to a landmark, the planned visit at "
        f"{asked['landmark_share']:g} of the site's median number of visits, against the same subjects dealt out over "
        f"the sites anew. p-values are Holm's over the sites; the chance of any false finding of under-reporting is "
        f"{asked['family_wise']:.0%}, and of over-reporting as much again. A site that truly has healthier or sicker "
        "subjects differs, too, and a site far off moves what is expected of the others."
    )
    return Section("Reporting of adverse events", [Table(columns, rows), Text(note, quiet=True)])


def _lags_section(report: SiteReport) -> Section:
    rows = [
        (
            r["site"],
            r["overdue"],
            r["oldest"],
            r["missed"],
            r["event_median"],
            r["event_p90"],
            r["waiting"],
            r["query_age"],
        )
        for r in report.lags.iter_rows(named=True)
    ]
    columns = (
        "site", "visits overdue", "oldest (days)", "visits missed", "AE: median days", "AE: 90 %", "queries waiting",
        "median age (days)",
    )  # fmt: skip
    note = (
        "A visit is due when its window has closed. AE: days from the onset of an event to its collection. A delivery "
        "does not tell when a value was entered; the time from visit to entry is the data capture system's to tell."
    )
    return Section("Lags", [Table(columns, rows), Text(note, quiet=True)])


def _funnel_sections(report: SiteReport) -> list[Section]:
    import numpy as np

    figures: list[Item] = []
    for one in report.policy.indicators:
        scored = report.scored.get(one.name)
        if scored is None or scored.mu <= 0:
            continue
        rows = [r for r in report.scores.filter(report.scores["indicator"] == one.name).iter_rows(named=True)]
        told = [r for r in rows if not _hides(one, r)]
        if len(told) < FEWEST_POINTS:
            continue
        largest = max(r["denominator"] for r in rows)
        grid = np.geomspace(max(min(r["denominator"] for r in rows), largest / 500), largest * 1.05, 60)
        limits: list[tuple[str, list[float], list[float]]] = []
        for limit in (report.policy.amber, report.policy.red):
            low, high = control_limits(scored, grid, one.kind, limit)
            limits.append((f"score {limit:g}", (low * one.per).tolist(), (high * one.per).tolist()))
        picture = funnel(
            [r["site"] for r in told],
            [r["denominator"] for r in told],
            [r["metric"] * one.per for r in told],
            [r["flag"] for r in told],
            grid=grid.tolist(),
            centre=scored.mu * one.per,
            limits=limits,
            xlabel=one.denominator.replace("_", " "),
            ylabel=one.unit,
        )
        left_out = len(rows) - len(told)
        more = f" {left_out} site(s) with fewer than {SMALLEST_CELL} events are not drawn." if left_out else ""
        exact = " Flags by the exact test." if one.method == "exact" else ""
        figures.append(Figure(picture, f"{one.label}: dispersion {scored.phi:.2f}.{exact}{more}"))
    return [Section("Funnel plots", figures)] if figures else []


def _method_section(report: SiteReport) -> Section:
    sites = report.measures.height
    rows = [
        (one.label, one.kind, one.method, round(s.mu * one.per, 3), one.unit, round(s.phi, 2), int(one.minimum))
        for one in report.policy.indicators
        if (s := report.scored.get(one.name)) is not None
    ]
    missing = [one.label for one in report.policy.indicators if one.name not in report.scored]
    lines = [
        "Score = (m - mu) / sqrt(phi V): m the site's figure, mu the trial's, V its variance by chance (binomial or "
        "Poisson), phi the mean of the squared z-scores of all sites.",
        f"Among {sites} sites no score can exceed {math.sqrt(max(sites, 1)):.1f}, because each site is part of phi"
        + ("; none can be red by the score here." if math.sqrt(sites) < report.policy.red else "."),
    ]
    if missing:
        lines.append(f"Not in the data: {', '.join(missing)}.")
    facts = {label: value for label, value in (("amber", report.policy.amber), ("red", report.policy.red))}
    columns = ("indicator", "kind", "flags by", "trial's", "unit", "dispersion", "judged from")
    return Section(
        "How it was judged", [Facts(facts), Table(columns, rows), *(Text(line, quiet=True) for line in lines)]
    )
