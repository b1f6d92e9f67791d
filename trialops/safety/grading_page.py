"""The page of a grading: how results were graded, what they show, who has reported it. Counts, nobody's results."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, plots, suppressed
from trialops.pages.page import SMALLEST_CELL, Item
from trialops.safety.criteria import criteria
from trialops.safety.hys_law import CANDIDATE, CHOLESTASIS, CHOLESTATIC, HYS, NEITHER, NO_ALP, TEMPLES
from trialops.safety.shift import NOT_GRADED
from trialops.trial.cohorts.suppression import Figure as Count
from trialops.trial.cohorts.suppression import protect

if TYPE_CHECKING:
    from trialops.safety.grading import Grading
    from trialops.safety.grading_policy import GradingPolicy

STEPS = ("0", "1-2", "3-4")
MOST_TERMS = 40


def counts(done: Grading) -> dict[str, int]:
    """Figures for metrics: results, findings and questions, not persons."""
    return {
        "results": done.results.height,
        "not_graded": done.results["GRADE"].null_count(),
        "findings": done.findings.height,
        "queries": done.queries.height,
    }


def grading_page(done: Grading, policy: GradingPolicy) -> Page:
    """Render a grading.

    Args:
        done: What was graded.
        policy: What it was graded by.
    """
    import polars as pl

    asked = done.queries.height
    candidates = done.liver.cases.filter(pl.col("CLASS") == CANDIDATE).height
    label = "Unreported results" if asked else "Nothing is asked"
    tone: Tone = "bad" if candidates else ("warn" if asked else "good")
    text = f"{asked:,} question(s) to the sites" + ("; liver tests fit Hy's law" if candidates else "")
    return Page(
        f"Grading by CTCAE {done.version}",
        intro="Grades of laboratory results, vital signs and QTc; new or worsened ones are compared with what was "
        "reported. No treatment is looked at.",
        verdict=Verdict(label, tone, text),
        sections=(
            Section("What was graded", _graded(done, policy)),
            Section("What the results show", _findings(done, policy)),
            Section("From baseline to the worst grade", _shifts(done)),
            Section("Liver", _liver(done, policy)),
            Section("QTcF", _qtc(done)),
            Section("Treatment-emergent events", _emergence(done)),
        ),
    )


def _graded(done: Grading, policy: GradingPolicy) -> list[Item]:
    import polars as pl

    missing = (
        done.results.filter(pl.col("GRADE").is_null())
        .group_by("REASON", "DOMAIN")
        .agg(pl.len(), pl.col("TERM").n_unique().alias("terms"))
        .sort("len", "REASON", "DOMAIN", descending=[True, False, False])
    )
    known = criteria(done.version)
    items: list[Item] = [
        Facts(
            {
                "results x terms": done.results.height,
                "not graded": done.results["GRADE"].null_count(),
                "terms": done.results["TERM"].n_unique(),
                "subjects treated": done.treated,
                "significant digits": known.digits,
                "policy": policy.digest[:12],
                "criteria": known.digest[:12],
            }
        ),
        Text(
            "A result is judged in the unit system it was collected in, by the numbers that the NCI prints for that "
            "system. Results at or before the baseline are graded against the range; nothing without a limit of normal "
            "or a baseline that its criterion needs is taken as grade 0."
        ),
    ]
    if missing.height:
        rows = [(reason, domain, n, terms) for reason, domain, n, terms in missing.iter_rows()]
        items.append(Table(("not graded because", "domain", "results", "terms"), rows))
    if known.text_only:
        names = "; ".join(f"{term} (by {what})" for term, what in sorted(known.text_only.items()))
        items.append(Text(f"Not graded from a result in this version: {names}.", quiet=True))
    return items


def _findings(done: Grading, policy: GradingPolicy) -> list[Item]:
    import polars as pl

    totals = done.findings.group_by("KIND", "STATUS").agg(pl.len(), n=pl.col("USUBJID").n_unique())
    shown = _runs_shown([n for _, _, n, _ in totals.sort("KIND", "STATUS").iter_rows()])
    rule = "by the result alone" if policy.query_alone else "with what the criterion assumes"
    times = ", ".join(f"{domain} {n}" for domain, n in sorted(policy.query_times.items()))
    items: list[Item] = [
        Text(
            "A finding is a run of results worse than the baseline. It is asked about from grade "
            f"{policy.query_from_grade} on ({rule}; seen at least so many times: {times}) when no event of a matching "
            f"term was going on from {policy.window_before_days} days before it to {policy.window_after_days} days "
            "after."
        ),
        Table(
            ("finding", "adverse event", "findings", "subjects"),
            [
                (kind, status, events, suppressed(subjects))
                for (kind, status, _, subjects), events in zip(
                    totals.sort("KIND", "STATUS").iter_rows(), shown, strict=True
                )
            ],
        ),
    ]
    asked = done.queries.group_by("rule", "severity").agg(pl.len(), n=pl.col("USUBJID").n_unique())
    if asked.height:
        rows = [
            (rule, severity, n if subjects >= SMALLEST_CELL else suppressed(subjects), suppressed(subjects))
            for rule, severity, n, subjects in asked.sort("rule", "severity").iter_rows()
        ]
        items.append(Table(("question", "severity", "questions", "subjects"), rows))
    return items


def _runs_shown(numbers: list[int]) -> list[int | str]:
    """Counts of findings or events that add up to a known total: none below the smallest cell can be worked out."""
    names = [str(place) for place in range(len(numbers))]
    shown = protect(dict(zip(names, numbers, strict=True)), [Count(name, frozenset({name})) for name in names])
    return [shown[name] for name in names]


def _step(grade: str) -> str:
    return {"0": "0", "1": "1-2", "2": "1-2", "3": "3-4", "4": "3-4"}.get(grade, NOT_GRADED)


def _shifts(done: Grading) -> list[Item]:
    """One row a term: from grade 0 or above to the worst, cells that could tell of a few persons joined away."""
    import polars as pl

    rows: list[tuple[Any, ...]] = []
    worse: list[tuple[str, int]] = []
    for term in done.shifts["TERM"].unique().sort().to_list():
        cells: dict[Hashable, int] = {}
        mine = done.shifts.filter(pl.col("TERM") == term)
        if set(mine["WORST"]) == {NOT_GRADED}:
            continue
        for base, worst, n in mine.select("BASE", "WORST", "SUBJECTS").iter_rows():
            before = 0 if base == NOT_GRADED else int(base)
            cell = ("0" if before == 0 else "1-4", _step(worst), worst != NOT_GRADED and int(worst) > before)
            cells[cell] = cells.get(cell, 0) + int(n)
        figures = [
            Count(f"{base} to {worst}", frozenset(c for c in cells if c[:2] == (base, worst)))  # type: ignore[index]
            for base in ("0", "1-4")
            for worst in STEPS
        ]
        higher = Count("worse", frozenset(c for c in cells if c[2]), weight=3)  # type: ignore[index]
        shown = protect(cells, [Count("all", frozenset(cells), weight=4), higher, *figures])
        rows.append((term, shown["all"], shown["worse"], *(shown[figure.name] for figure in figures)))
        if (shown.count("worse") or 0) >= SMALLEST_CELL:
            worse.append((term, shown.count("worse") or 0))
    if not rows:
        return [Text("No result after the baseline could be graded.")]
    items: list[Item] = [
        Text(
            "Subjects by their grade at baseline (a baseline that was not graded stands with 0) and the worst grade "
            f"under treatment, everybody together. Cells below {SMALLEST_CELL}, and those from which such a cell could "
            "be worked out, are not shown."
        ),
        Table(("term", "subjects", "worse", *(f.name for f in figures)), rows[:MOST_TERMS]),
    ]
    if worse:
        worse.sort(key=lambda item: (-item[1], item[0]))
        svg = plots.bars(
            [t for t, _ in worse], [n for _, n in worse], xlabel="subjects with a worse grade than at baseline"
        )
        items.append(Figure(svg, f"Terms in which at least {SMALLEST_CELL} subjects may be shown."))
    return items


def _liver(done: Grading, policy: GradingPolicy) -> list[Item]:
    rule = policy.hys_law
    quadrants = dict(done.liver.peaks.group_by("QUADRANT").len().iter_rows())
    classes = dict(done.liver.cases.group_by("CLASS").len().iter_rows())
    names = (HYS, TEMPLES, CHOLESTASIS, NEITHER)
    shown = protect(
        {name: int(quadrants.get(name, 0)) for name in names},
        [Count(n, frozenset({n}), 2 if n == HYS else 1) for n in names],
    )
    return [
        Text(
            f"Peaks after the baseline: aminotransferase at or above {rule['aminotransferase']:g} x ULN, bilirubin "
            f"above {rule['bilirubin']:g} x ULN. A candidate has both within {rule['within_days']:g} days and alkaline "
            f"phosphatase below {rule['alkaline_phosphatase']:g} x ULN (FDA, Drug-Induced Liver Injury, 2009)."
        ),
        Table(("eDISH quadrant", "subjects"), [(name, shown[name]) for name in names]),
        Table(
            ("both criteria within the window", "subjects"),
            [(name, suppressed(int(classes.get(name, 0)))) for name in (CANDIDATE, NO_ALP, CHOLESTATIC)],
        ),
    ]


def _qtc(done: Grading) -> list[Item]:
    if not done.qtc.height or not done.qtc["of"].max():
        return [Text("No QTcF: neither delivered nor computable from QT and a rate.")]
    rows: list[tuple[Any, ...]] = []
    for kind in ("QTcF", "increase"):
        mine = [row for row in done.qtc.iter_rows() if row[0].startswith(kind)]
        # Categories are cumulative: the persons of each are those of the next and a step between.
        reached = [mine[0][2], *(n for _, n, _ in mine), 0]
        cells: dict[Hashable, int] = {place: reached[place] - reached[place + 1] for place in range(len(mine) + 1)}
        above = [frozenset[Hashable](range(place + 1, len(mine) + 1)) for place in range(len(mine))]
        figures = [Count(name, cell) for (name, _, _), cell in zip(mine, above, strict=True)]
        shown = protect(cells, [Count("of", frozenset(cells), weight=2), *figures])
        rows += [(name, shown[name], shown["of"]) for name, _, _ in mine]
    return [
        Text("Subjects by their longest QTcF and largest increase under treatment (ICH E14, 2.1.3)."),
        Table(("category", "subjects", "of"), rows),
    ]


def _emergence(done: Grading) -> list[Item]:
    table = done.emergence
    if table.is_empty():
        return [Text("No adverse event was delivered.")]
    word = {True: "yes", False: "no", None: "no flag"}
    shown = _runs_shown(table["rows"].to_list())
    rows = [
        (basis, word[sponsor], word[reported], events, suppressed(subjects), "differs" if differs else "")
        for (basis, sponsor, reported, _, subjects, differs), events in zip(table.iter_rows(), shown, strict=True)
    ]
    return [
        Text(
            "Both declared rules, class by class: the sponsor's window from the first dose, and the flag as delivered. "
            "An event that began earlier and was recorded as more severe under treatment is emergent by the first "
            "rule; a flag that looks at onsets alone does not say so."
        ),
        Table(("class of events", "by the window", "by the flag", "events", "subjects", ""), rows),
    ]
