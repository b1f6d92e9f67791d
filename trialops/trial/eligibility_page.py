"""The page of eligibility: verdicts, criteria, what is missing, changes, disagreement with the sites. Counts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from trialops.pages import Facts, Page, Section, Table, Text, Tone, Verdict, suppressed
from trialops.pages.page import SMALLEST_CELL, Item
from trialops.trial.eligibility import ELIGIBLE, NOT_ELIGIBLE, UNDECIDED
from trialops.trial.eligibility_change import moves
from trialops.trial.eligibility_site import RULES

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.eligibility import Eligibility
    from trialops.trial.eligibility_site import Coverage
    from trialops.trial.study_file import StudyFile

WITHHELD = "–"
VERDICTS = (ELIGIBLE, NOT_ELIGIBLE, UNDECIDED)
HOW_TO_READ = "Who they are, with the rows that say so: trialops trial eligibility --purpose WHY."


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
        Section("Questions to the sites", [queries_table(queries, RULES), *([Text(note)] if note else [])]),
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
    # What a criterion lacks are parts of how many are unknown: where that is left out, they would give it away.
    told = {name: hidden([met, no, open_])[2] for name, _, met, no, open_ in found.outcomes().iter_rows()}
    shown: list[tuple[str, str, str, int | str]] = []
    for (name,), own in rows.group_by("criterion", maintain_order=True):
        counts = hidden(own["subjects"].to_list())
        if not isinstance(told[str(name)], int):
            counts = [n if isinstance(n, str) else WITHHELD for n in counts]
        shown += [(*row[:3], n) for row, n in zip(own.rows(), counts, strict=True)]
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


def queries_table(queries: pl.DataFrame, rules: Mapping[str, tuple[str, str]]) -> Item:
    """Queries by rule, in the order of the rules."""
    if queries.is_empty():
        return Text("None.")
    counts = dict(queries.group_by("rule").len().iter_rows())
    rows = [(severity, rule, counts[rule], text) for rule, (severity, text) in rules.items() if rule in counts]
    return Table(("severity", "rule", "queries", "question"), rows)
