"""Pages of enrolment: eligibility by criterion, the CONSORT diagram, sites, the forecast. Counts alone, nobody in them.

Counts of the trial's conduct (screened, randomised, per site) are shown in full. What tells of health (verdicts,
criteria, what is missing, reasons of leaving) is not shown below eleven.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed
from trialops.pages.page import Item
from trialops.trial.consort import consort
from trialops.trial.eligibility_page import VERDICTS, hidden, queries_table
from trialops.trial.funnel import FINDINGS, Funnel, screen_failure_rates

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.enrolment import Enrolment


def enrolment_page(made: Enrolment, verdicts: pl.DataFrame, *, note: str = "") -> Page:
    """The diagram, the sites, screen failures, the forecast.

    Args:
        made: Funnel and forecast.
        verdicts: Verdicts of the eligibility step, for how many of those screened are eligible by the data.
        note: What became of the queries.
    """
    found = made.found
    sections = [
        Section("Flow of subjects", _flow_items(found, verdicts)),
        Section("Forecast", _forecast_items(made)),
        Section("Sites", [_sites(made)]),
        Section("Screen failures", _failures(found)),
        Section("Questions to the sites", [queries_table(found.queries, FINDINGS), *([Text(note)] if note else [])]),
    ]
    return Page("Enrolment", sections, verdict=_headline(made))


def _headline(made: Enrolment) -> Verdict:
    reached, expected = made.found.total["randomised"], made.expected
    label = f"{reached:,} of {made.target:,} randomised"
    if made.found.imbalances:
        boxes = ", ".join(item.box for item in made.found.imbalances)
        return Verdict(label, "bad", f"The diagram does not add up at {boxes}: see the questions to the sites.")
    if expected is None:
        return Verdict(label, "good" if reached >= made.target else "warn", made.why_none)
    if expected.done_median is None:
        return Verdict(label, "bad", "At the rates seen the target is not reached within ten years.")
    text = f"The target is expected on {_day(expected.done_median)} ({_range(expected.done_low, expected.done_high)})."
    if expected.probability is not None and made.plan is not None:
        text += f" By the planned {made.plan.days[-1]} with a probability of {expected.probability:.0%}."
        return Verdict(label, "good" if expected.probability >= 0.5 else "warn", text)
    return Verdict(label, "plain", text)


def _day(ordinal: float) -> str:
    return date.fromordinal(int(-(-ordinal // 1))).isoformat()


def _range(low: float | None, high: float | None) -> str:
    first = _day(low) if low is not None else "later than ten years"
    return f"90 % interval {first} to {_day(high) if high is not None else 'later than ten years'}"


def _flow_items(found: Funnel, verdicts: pl.DataFrame) -> list[Item]:
    items: list[Item] = [Figure(consort(found), "Flow of subjects, all arms together.")]
    if not found.consent_recorded:
        items.append(
            Text("No date of informed consent is delivered (RFICDTC): who was screened is taken to have consented.")
        )
    if found.imbalances:
        rows = [(item.box, item.count, item.exits, item.subjects) for item in found.imbalances]
        items.append(Table(("box", "subjects in it", "in its exits", "subjects who do not fit"), rows))
    else:
        items.append(Text("Every box equals the sum of its exits."))
    if "verdict" in verdicts.columns and verdicts.height:
        counts = [int((verdicts["verdict"] == name).sum()) for name in VERDICTS]
        words = ", ".join(f"{n} {name}" for n, name in zip(hidden(counts), VERDICTS, strict=True))
        items.append(Text(f"By the criteria as data: {words}."))
    return items


def _forecast_items(made: Enrolment) -> list[Item]:
    import polars as pl

    def running(column: str) -> tuple[list[date], list[float]]:
        days = made.found.subjects[column].drop_nulls().sort().to_list()
        return [*days, made.day], [*(float(i) for i in range(1, len(days) + 1)), float(len(days))]

    expected, plan = made.expected, made.plan
    first = "consent" if made.found.consent_recorded else "screened_on"
    entered = made.found.subjects.filter(pl.col("randomised")).height
    actual = [("randomised", *running("randomised_on"))]
    actual.append(("consented" if made.found.consent_recorded else "screened", *running(first)))
    curve = None
    if expected is not None:
        days = [date.fromordinal(int(d)) for d in expected.days]
        curve = (days, expected.median, expected.low, expected.high)
    figure = plots.fan(
        actual, curve, (plan.days, plan.numbers) if plan else None, target=made.target, ylabel="subjects"
    )
    items: list[Item] = [Figure(figure, "Running totals, expected course with its interval, and plan.")]
    if plan is not None:
        behind = entered - plan.at(made.day)
        items.append(
            Text(f"Planned by {made.day}: {plan.at(made.day):,.0f}; randomised: {entered:,} ({behind:+,.0f}).")
        )
    if expected is None:
        return [*items, Text(made.why_none)]
    model = expected.fit
    facts: dict[str, Any] = {
        "subjects per site and month": model.mean * 30.4375,
        "shape of the rates (alpha)": model.shape if model.dispersed else "no difference between sites found",
        "sites that count": model.sites,
        "still to randomise": max(0, made.target - expected.reached),
    }
    screened = made.found.total["randomised"] + made.found.total["screen_failure"] + made.found.total["not_randomised"]
    if made.found.total["randomised"] and screened:
        rate = made.found.total["randomised"] / screened
        facts["to screen for them, at the rate so far"] = round((made.target - expected.reached) / rate)
    items.append(Facts(facts))
    items.append(
        Text(
            "Poisson-gamma model (Anisimov and Fedorov 2007), parameters by maximum likelihood, their uncertainty and "
            f"the future simulated {expected.draws:,} times. It takes each site's rate to be constant."
        )
    )
    if expected.trend is not None and abs(expected.trend) > 2.576:
        way = "faster" if expected.trend > 0 else "slower"
        items.append(
            Text(f"Recruiting has become {way} of late (z = {expected.trend:.1f}): the forecast does not follow it.")
        )
    return items


def _sites(made: Enrolment) -> Table:
    model = made.expected.fit if made.expected else None
    today = float(made.day.toordinal())
    known = {site.name: site for site in made.sites}
    counts = {row["SITEID"]: row for row in made.found.sites.iter_rows(named=True)}
    rows = []
    for name in sorted({*known, *counts}):
        site, row = known.get(name), counts.get(name, {})
        months = site.exposure(today) / 30.4375 if site else 0.0
        rate = None
        if site is not None and model is not None:
            rate = (model.shape + site.informative) / (model.rate + site.exposure(today)) * 30.4375
        boxes = [int(row.get(b, 0)) for b in ("consented", "screened", "screen_failure", "randomised", "dosed",
                                              "completed", "discontinued", "ongoing")]  # fmt: skip
        opened = date.fromordinal(int(site.opened)).isoformat() if site else None
        rows.append((name, opened, f"{months:.1f}", *boxes, None if rate is None else f"{rate:.2f}"))
    columns = ("site", "open since", "months", "consented", "screened", "failed", "randomised", "dosed", "completed",
               "discontinued", "ongoing", "rate per month")  # fmt: skip
    caption = (
        "Open since activation where the study file says so, else since the first randomised subject, who then does "
    )
    return Table(
        columns, rows, caption=caption + "not count for the rate. Rates are drawn towards the mean of all sites."
    )


def _failures(found: Funnel) -> list[Item]:
    rates = screen_failure_rates(found)
    known = rates.filter(rates["screened"] > 0)
    percent = {name: [None if v is None else 100 * v for v in known[name]] for name in ("rate", "low", "high")}
    labels = [f"{site} ({failed}/{n})" for site, failed, n in known.select("SITEID", "failed", "screened").iter_rows()]
    whole = percent["rate"][-1] if percent["rate"] else None
    plot = plots.intervals(
        labels, percent["rate"], percent["low"], percent["high"], xlabel="screen failures, %", reference=whole
    )
    items: list[Item] = [Figure(plot, "Screen failures among those whose screening has ended; exact 95 % interval.")]
    if found.failures:
        rows = [(code, suppressed(n)) for code, n in found.failures]
        items.append(Table(("criterion (first in IE)", "subjects"), rows))
    return items
