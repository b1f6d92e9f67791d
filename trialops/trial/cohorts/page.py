"""Pages about cohorts: counts of persons that passed suppression, never a member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trialops.standards.calendar import NOTE
from trialops.trial.cohorts.attrition import MEMBERS
from trialops.trial.cohorts.characteristics import policy
from trialops.trial.cohorts.membership import ENTERED, LEFT, MOVED
from trialops.trial.cohorts.suppression import HIDDEN

if TYPE_CHECKING:
    from trialops.pages import Page, Section
    from trialops.pages.page import Item
    from trialops.trial.cohorts.manage import Cohort, Managed
    from trialops.trial.cohorts.table_one import Line

SUPPRESSED = (
    "Counts of persons below 11 are shown as <11; – stands where a count would let a smaller one be worked out "
    "from the others of its table."
)
RULE_COLUMNS = ["inclusion rule", "meet it", "gained without it", "left after it", "lost by it", "left (%)"]


def overview_page(managed: Managed) -> Page:
    """All cohorts of a run: sizes, overlap, and for each its flow, attrition and what has changed."""
    from trialops.pages import Facts, Page, Section, Table, Text, Verdict

    rows = [
        [
            one.definition.title,
            one.definition.name,
            one.version,
            one.attrition.shown[MEMBERS],
            one.difference.words,
        ]
        for one in managed.cohorts
    ]
    notes = [SUPPRESSED, f"Definitions: {managed.source}.", *_warnings(managed)]
    first = Section(
        "Cohorts",
        [
            Facts({"cohorts": len(managed.cohorts), "persons in the data": len(managed.load.persons)}),
            Table(["cohort", "name", "version", "members", "since the run before"], rows),
            *(Text(note, quiet=True) for note in notes),
        ],
    )
    changed = managed.changed
    verdict = (
        Verdict(f"{changed} of {len(managed.cohorts)} cohorts have changed", "warn", "Who, and why, is sealed.")
        if changed
        else Verdict("no change", "good", "Everybody's membership is as it was in the run before")
    )
    if not any(one.difference.known for one in managed.cohorts):
        verdict = Verdict("first run", "plain", "There is nothing to compare with yet")
    sections = [first, _overlap(managed), *(s for one in managed.cohorts for s in cohort_sections(one))]
    return Page("Cohorts", sections, verdict=verdict)


def _warnings(managed: Managed) -> list[str]:
    made = [NOTE] if managed.load.study_days else []
    narrow = sorted({name for one in managed.cohorts for name in one.evaluated.narrow})
    if narrow:
        made.append(
            f"Without a vocabulary, descendants and mapped concepts of {', '.join(narrow)} were not looked up: "
            "the concepts themselves and source values count alone."
        )
    if managed.load.eras_withheld:
        made.append("Drug and dose eras are left out: with them the study treatment could be told.")
    if managed.withdrawn:
        made.append(f"No longer defined: {', '.join(managed.withdrawn)}.")
    return made


def _overlap(managed: Managed) -> Section:
    from trialops.pages import Figure, Section, Table, plots

    names, shared = managed.overlap.names, managed.overlap
    rows = [[first, *(shared.value(first, second) for second in names)] for first in names]
    shares = [[shared.share(first, second) for second in names] for first in names]
    return Section(
        "Overlap",
        [
            Figure(plots.heat_map(names, names, shares, top=1.0), "Part of the row's cohort that is in the other."),
            Table(["persons in both", *names], rows),
        ],
    )


def cohort_sections(one: Cohort) -> list[Section]:
    """Flow, attrition and change of one cohort."""
    from trialops.pages import Facts, Figure, Section, Table, Text, plots

    flow = one.attrition.flow()
    known = [(label, value) for label, value in flow if isinstance(value, int)]
    items: list[Item] = [
        Text(one.definition.description or one.definition.title),
        Facts({"version": one.version, "definition": one.definition.digest[:16], "members": flow[-1][1]}),
        Figure(
            plots.bars([label for label, _ in known], [value for _, value in known], xlabel="persons"),
            "Persons step by step; steps whose count is not shown are left out.",
        ),
    ]
    if one.rules:
        items.append(Table(RULE_COLUMNS, one.attrition.table(), "Persons by inclusion rule."))
    shown = one.difference.shown
    change: list[Item] = [Text(one.difference.words)]
    if one.difference.known and one.difference.any:
        change += [
            Facts({name: shown[name] for name in ("before", "now", ENTERED, LEFT, MOVED)}),
            Table(["change", "reason", "persons"], [list(line) for line in one.difference.reasons]),
        ]
    if one.moves:
        change.append(Table(["stood", "stands", "persons"], [list(line) for line in one.moves], "Eligibility."))
    sizes = [(n + 1, size) for n, size in enumerate(one.sizes) if size is not None]
    if len(sizes) > 1:
        drawn = plots.lines(
            [("members", [n for n, _ in sizes], [size for _, size in sizes])],
            xlabel="version of the memberships",
            ylabel="members",
            markers=True,
        )
        change.append(Figure(drawn, "Members over the versions that differed."))
    title = one.definition.title
    return [Section(title, items), Section(f"{title}: since the run before", change)]


def description_section(title: str, beside: str, sizes: tuple[str, str], lines: Sequence[Line]) -> Section:
    """Table 1 of a cohort."""
    from trialops.pages import Section, Table, Text

    if not lines:
        return Section(f"{title}: characteristics", [Text("Too few members, or too few others, to describe.")])
    two = bool(beside)
    columns = ["characteristic", f"members ({sizes[0]})"]
    columns += [f"{beside} ({sizes[1]})", "standardised difference"] if two else []
    rows, section = [], ""
    for line in lines:
        if line.section != section:
            section = line.section
            rows.append([section.upper(), "", *(["", ""] if two else [])])
        difference = "" if line.difference is None else f"{line.difference:.3f}"
        rows.append([line.name, line.first, *([line.second, difference] if two else [])])
    limit = float(policy()["balanced"])
    apart = [line.name.split(",")[0].strip() for line in lines if (line.difference or 0) >= limit]
    words = f"Standardised difference of {limit} or more: {', '.join(apart) or 'none'}."
    notes = [
        "n (%), mean (SD), median (quartiles). Standardised differences by Austin (2009), for several levels by Yang "
        "and Dalton (2012), absolute, of the levels as shown. Merged levels stand with or between them.",
        "Index day: start of membership; for others their first entry event, else the first day observed. "
        f"{HIDDEN}: left out so that a count below 11 cannot be worked out.",
    ]
    return Section(
        f"{title}: characteristics",
        [*([Text(words)] if two else []), Table(columns, rows), *(Text(note, quiet=True) for note in notes)],
    )
