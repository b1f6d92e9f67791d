"""Pages of enrolment: eligibility by criterion, the CONSORT diagram, sites, the forecast. Counts alone, nobody in them.

Counts of the trial's conduct (screened, randomised, per site) are shown in full. What tells of health (verdicts,
criteria, what is missing, reasons of leaving) is not shown below eleven.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed
from trialops.pages.page import SMALLEST_CELL, Item
from trialops.trial.eligibility import ELIGIBLE, NOT_ELIGIBLE, UNDECIDED
from trialops.trial.eligibility_change import moves
from trialops.trial.eligibility_site import RULES
from trialops.trial.funnel import FINDINGS, Funnel, screen_failure_rates

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.eligibility import Eligibility
    from trialops.trial.eligibility_site import Coverage
    from trialops.trial.enrolment import Enrolment
    from trialops.trial.study_file import StudyFile

WITHHELD = "–"
VERDICTS = (ELIGIBLE, NOT_ELIGIBLE, UNDECIDED)
HOW_TO_READ = "Who they are, with the rows that say so: trialops trial eligibility --purpose WHY."
LABELS = {
    "consented": "Consented",
    "screened": "Screened",
    "randomised": "Randomised",
    "dosed": "Dosed",
    "completed": "Completed",
    "discontinued": "Discontinued",
    "ongoing": "Ongoing",
}


def hidden(counts: Sequence[int]) -> list[int | str]:
    """Counts of a whole as a page may show them: small ones as "<11", and another one withheld where it told the small.

    The total is known. With a single small count the rest would give it away, so the next smallest is left out too.
    """
    shown: list[int | str] = [suppressed(n) for n in counts]
    small = [i for i, n in enumerate(counts) if 0 < n < SMALLEST_CELL]
    if len(small) == 1:
        others = sorted((n, i) for i, n in enumerate(counts) if n >= SMALLEST_CELL)
        if others:
            shown[others[0][1]] = WITHHELD
    return shown


def no_criteria_page(stated: StudyFile) -> Page:
    """What is said where the study file names no criteria."""
    verdict = Verdict("No criteria", "warn", f"{stated.where} names no eligibility criteria: nobody was judged.")
    fix = "Write them as YAML and name the file in eligibility.criteria; trialops/trial/eligibility.yaml is an example."
    return Page("Eligibility", [Section("What to do", [Text(fix)])], verdict=verdict)


def eligibility_page(
    found: Eligibility,
    covered: Coverage,
    queries: pl.DataFrame,
    changed: pl.DataFrame,
    *,
    compared: bool,
    day: date | None,
    note: str = "",
) -> Page:
    """Verdicts, criteria, what is missing, changes since the evaluation before, disagreement with the sites."""
    counts = [int((found.verdicts["verdict"] == name).sum()) for name in VERDICTS]
    critical = queries.filter(queries["severity"] == "critical").height
    tone: Tone = "bad" if critical else "warn" if counts[2] else "good"
    text = f"{critical} critical queries: randomised subjects who do not fulfil a criterion." if critical else ""
    verdict = Verdict(
        f"{found.verdicts.height:,} subjects judged on {len(found.criteria.criteria)} criteria", tone, text
    )
    first: list[Item] = [
        Facts(dict(zip(VERDICTS, hidden(counts), strict=True))),
        Text(
            f"As of {day}. Criteria of {found.criteria.protocol}, version {found.criteria.version} "
            f"(SHA-256 {found.criteria.digest[:12]}). {HOW_TO_READ}"
        ),
    ]
    sections = [
        Section("Verdicts", first),
        Section("By criterion", [_criteria(found), *_notes(found.notes)]),
        Section("What is missing", [_missing(found)]),
        Section(
            "Since the evaluation before", [_moves(changed) if compared else Text("This is the first evaluation.")]
        ),
        Section("Criteria of the protocol", _coverage(covered)),
        Section("Questions to the sites", [_rules(queries, RULES), *([Text(note)] if note else [])]),
    ]
    return Page("Eligibility", sections, verdict=verdict)


def _criteria(found: Eligibility) -> Table:
    texts = {c.id: (c.text, c.reference) for c in found.criteria.criteria}
    rows = []
    for name, kind, met, not_met, unknown in found.outcomes().iter_rows():
        rows.append((name, kind, *texts[name], *hidden([met, not_met, unknown])))
    columns = ("criterion", "kind", "text", "reference", "met", "not met", "unknown")
    return Table(columns, rows, caption="An inclusion criterion must be met, an exclusion criterion must not be.")


def _notes(notes: Sequence[str]) -> list[Item]:
    return [Text(note) for note in notes]


def _missing(found: Eligibility) -> Item:
    """What unknown outcomes lack, most frequent first."""
    import polars as pl

    rows = (
        found.evidence.filter(pl.col("outcome") == "unknown")
        .with_columns(pl.col("criterion", "domain", "missing").cast(pl.String))
        .group_by("criterion", "domain", "missing")
        .agg(subjects=pl.col("USUBJID").n_unique())
        .sort(["subjects", "criterion", "missing"], descending=[True, False, False])
    )
    if rows.is_empty():
        return Text("Nothing: every criterion could be decided for everybody.")
    shown = [(*row[:3], suppressed(row[3])) for row in rows.iter_rows()]
    return Table(("criterion", "domain", "what is missing", "subjects"), shown)


def _moves(changed: pl.DataFrame) -> Item:
    went = moves(changed)
    if not went:
        return Text("No verdict has changed.")
    return Table(("before", "now", "subjects"), [(b, a, suppressed(n)) for b, a, n in went])


def _coverage(covered: Coverage) -> list[Item]:
    items: list[Item] = []
    if not covered.delivered:
        items.append(Text("The delivery has no TI: whether all criteria of the protocol have a rule cannot be told."))
    else:
        judged = covered.listed - len(covered.without_rule)
        items.append(Text(f"{judged} of {covered.listed} criteria in TI have an executable rule."))
        if covered.without_rule:
            items.append(Table(("code", "criterion without a rule"), covered.without_rule))
        if covered.not_in_ti:
            items.append(Text(f"With a rule but not in TI: {', '.join(covered.not_in_ti)}."))
    if covered.judged_by_site:
        items.append(Text(f"Left to the investigator alone: {', '.join(covered.judged_by_site)}."))
    return items


def _rules(queries: pl.DataFrame, rules: Mapping[str, tuple[str, str]]) -> Item:
    if queries.is_empty():
        return Text("None.")
    counts = dict(queries.group_by("rule").len().iter_rows())
    rows = [(severity, rule, counts[rule], text) for rule, (severity, text) in rules.items() if rule in counts]
    return Table(("severity", "rule", "queries", "question"), rows)


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
        Section("Questions to the sites", [_rules(found.queries, FINDINGS), *([Text(note)] if note else [])]),
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


def consort(found: Funnel, *, full: bool = False, arms: pl.DataFrame | None = None) -> str:
    """The CONSORT diagram as SVG.

    Args:
        found: The funnel.
        full: Show small counts of reasons too: for readers of sealed results.
        arms: Counts by arm from :func:`trialops.trial.funnel.by_arm`, for the unblinded variant alone.
    """
    total = found.total
    wrong = {item.box for item in found.imbalances}

    def head(box: str) -> list[str]:
        return [f"{LABELS[box]} (n = {total[box]:,})"]

    start: list[tuple[str, float, float, Sequence[str], bool]] = []
    arrows = []
    if found.prescreened is not None:
        start.append(("prescreened", 1, 0, [f"Pre-screened (n = {found.prescreened:,})"], False))
        arrows.append(("prescreened", "consented"))
    columns = 3 if arms is None else max(3, arms["ARMCD"].n_unique())
    middle = (columns - 1) / 2
    start = [(name, middle, row, lines, flag) for name, _, row, lines, flag in start]
    sides = (
        ("consented", 1, "unscreened", [("Not screened yet", total["not_screened"])]),
        ("screened", 2, "excluded", [
            ("Screen failure", total["screen_failure"]),
            ("Passed, not randomised", total["not_randomised"]),
            ("In screening", total["in_screening"]),
        ]),
        ("randomised", 3, "undosed", [("Not dosed", total["not_dosed"])]),
    )  # fmt: skip
    boxes = start
    for box, row, side, exits in sides:
        boxes.append((box, middle, row, head(box), box in wrong))
        there = [(text, n) for text, n in exits if n]
        if there:
            lines = [f"{text} (n = {n:,})" for text, n in there]
            boxes.append((side, middle + 1, row + 0.5, lines, False))
            arrows.append((box, side))
    arrows += [("consented", "screened"), ("screened", "randomised")]
    if arms is not None:
        return plots.flow([*boxes, *_arm_boxes(arms)], [*arrows, *_arm_arrows(arms)], columns=columns)
    boxes.append(("dosed", middle, 4, head("dosed"), "dosed" in wrong))
    arrows.append(("randomised", "dosed"))
    reasons = [f"{text} (n = {n})" for text, n in (found.reasons if full else pooled(found.reasons))]
    boxes.append(("completed", 0, 5, head("completed"), False))
    boxes.append(("discontinued", middle, 5, [*head("discontinued"), *reasons], False))
    boxes.append(("ongoing", columns - 1, 5, head("ongoing"), False))
    arrows += [("dosed", name) for name in ("completed", "discontinued", "ongoing")]
    return plots.flow(boxes, arrows, columns=columns)


def _arm_boxes(arms: pl.DataFrame) -> list[tuple[str, float, float, Sequence[str], bool]]:
    import polars as pl

    rows = arms.group_by("ARMCD", "ARM").agg(pl.exclude("SITEID").sum()).sort("ARMCD")
    boxes: list[tuple[str, float, float, Sequence[str], bool]] = []
    for number, row in enumerate(rows.iter_rows(named=True)):
        first = [str(row["ARM"]), f"randomised n = {row['randomised']:,}", f"dosed n = {row['dosed']:,}"]
        last = [f"completed n = {row['completed']:,}", f"discontinued n = {row['discontinued']:,}",
                f"ongoing n = {row['ongoing']:,}"]  # fmt: skip
        boxes.append((f"arm {number}", number, 4, first, row["not_dosed"] + row["dosed"] != row["randomised"]))
        ends = row["completed"] + row["discontinued"] + row["ongoing"]
        boxes.append((f"end {number}", number, 5, last, ends != row["dosed"]))
    return boxes


def _arm_arrows(arms: pl.DataFrame) -> list[tuple[str, str]]:
    count = arms["ARMCD"].n_unique()
    return [pair for i in range(count) for pair in (("randomised", f"arm {i}"), (f"arm {i}", f"end {i}"))]


def pooled(reasons: Sequence[tuple[str, int]]) -> list[tuple[str, int | str]]:
    """Reasons as a page may show them: those of fewer than eleven subjects together, and never one alone."""
    large = [item for item in reasons if item[1] >= SMALLEST_CELL]
    small = [item for item in reasons if item[1] < SMALLEST_CELL]
    if len(small) == 1 and large:
        small.append(large.pop())
    if not small:
        return list(large)
    return [*large, ("OTHER REASONS", suppressed(sum(n for _, n in small)))]


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
