"""Who is in a cohort as OMOP tables, and how that differs from an earlier run, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards import cdm
from trialops.trial.cohorts.attrition import best_events
from trialops.trial.cohorts.suppression import Figure, Shown, protect

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.cohorts.definitions import Definition
    from trialops.trial.cohorts.evaluate import Evaluated

SPAN = ["person_id", "start_date", "end_date"]
DEFINITION, DATA, BOTH, PROGRAM = "definition changed", "data changed", "definition and data changed", "program changed"
MEMBER = "member"
ENTERED, LEFT, MOVED = "entered", "left", "changed dates"


def cohort_table(members: Mapping[int, pl.DataFrame]) -> pl.DataFrame:
    """OMOP's cohort table.

    Args:
        members: person_id, start_date, end_date by cohort_definition_id.
    """
    import polars as pl

    parts = [
        frame.select(
            pl.lit(number, pl.Int64).alias("cohort_definition_id"),
            subject_id="person_id",
            cohort_start_date="start_date",
            cohort_end_date="end_date",
        )
        for number, frame in members.items()
    ]
    return cdm.conform("cohort", pl.concat(parts) if parts else cdm.empty("cohort"))


def definition_table(definitions: Sequence[Definition], versions: Mapping[str, int]) -> pl.DataFrame:
    """OMOP's cohort_definition table; the syntax is the canonical JSON.

    There is no day of initiation: the same definitions give the same table.
    """
    import json

    import polars as pl

    from trialops.trial.cohorts.circe_json import write_expression

    rows = [
        {
            "cohort_definition_id": one.id,
            "cohort_definition_name": one.name,
            "cohort_definition_description": f"{one.title} (version {versions[one.name]}, {one.digest[:16]})",
            "definition_type_concept_id": 0,
            "cohort_definition_syntax": json.dumps(
                write_expression(one.expression), sort_keys=True, separators=(",", ":")
            ),
            "subject_concept_id": 0,
        }
        for one in definitions
    ]
    return cdm.conform("cohort_definition", pl.DataFrame(rows) if rows else cdm.empty("cohort_definition"))


def members_of(table: pl.DataFrame, number: int) -> pl.DataFrame:
    """person_id, start_date, end_date of one cohort in OMOP's cohort table."""
    import polars as pl

    return (
        table.filter(pl.col("cohort_definition_id") == number)
        .select(person_id="subject_id", start_date="cohort_start_date", end_date="cohort_end_date")
        .sort(SPAN)
    )


def eligibility(evaluated: Evaluated, rules: Sequence[str], persons: pl.Series) -> pl.DataFrame:
    """Where each person stands: status, the first rule not met, and all of them.

    Returns:
        person_id, status (member, rule not met, no membership, no entry event), first_unmet, unmet; by person.
    """
    import polars as pl

    members = evaluated.members.select("person_id").unique().with_columns(_in=pl.lit(True))
    best = best_events(evaluated).select("person_id", "mask")
    whole = persons.alias("person_id").to_frame().unique().sort("person_id")
    found = whole.join(best, on="person_id", how="left").join(members, on="person_id", how="left").sort("person_id")
    masks = found["mask"].unique().drop_nulls().to_list()
    lacking = {mask: [name for n, name in enumerate(rules) if not mask >> n & 1] for mask in masks}
    first = {mask: names[0] if names else "" for mask, names in lacking.items()}
    every = {mask: "; ".join(names) for mask, names in lacking.items()}
    status = (
        pl.when(pl.col("_in").fill_null(False))
        .then(pl.lit(MEMBER))
        .when(pl.col("mask").is_null())
        .then(pl.lit("no entry event"))
        .when(pl.col("first_unmet") != "")
        .then(pl.lit("rule not met"))
        .otherwise(pl.lit("no membership"))
    )
    return (
        found.with_columns(
            first_unmet=pl.col("mask").replace_strict(first, default="", return_dtype=pl.String),
            unmet=pl.col("mask").replace_strict(every, default="", return_dtype=pl.String),
        )
        .with_columns(status=status)
        .select("person_id", "status", "first_unmet", "unmet")
    )


def differences(before: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Persons whose memberships differ: person_id, change, before, now (spans in words); by person."""
    import polars as pl

    def told(frame: pl.DataFrame, name: str) -> pl.DataFrame:
        span = pl.concat_str(pl.col("start_date").cast(pl.String), pl.col("end_date").cast(pl.String), separator=" to ")
        return frame.sort(SPAN).group_by("person_id", maintain_order=True).agg(span.str.join(", ").alias(name))

    both = told(before, "before").join(told(now, "now"), on="person_id", how="full", coalesce=True)
    change = (
        pl.when(pl.col("before").is_null())
        .then(pl.lit(ENTERED))
        .when(pl.col("now").is_null())
        .then(pl.lit(LEFT))
        .when(pl.col("before") != pl.col("now"))
        .then(pl.lit(MOVED))
    )
    changed = both.with_columns(change=change).filter(pl.col("change").is_not_null())
    return changed.select("person_id", "change", pl.col("before").fill_null(""), pl.col("now").fill_null("")).sort(
        "person_id"
    )


def with_reasons(
    changed: pl.DataFrame, *, definition_changed: bool, data_changed: bool, by_data: pl.DataFrame | None
) -> pl.DataFrame:
    """Add the reason of each change.

    Where definition and data have both changed, the earlier definition was evaluated over today's data: a person whose
    membership that leaves as it was owes the change to the definition; one whom it brings to today's, to the data.

    Args:
        changed: From :func:`differences`.
        definition_changed: Whether the definition is another.
        data_changed: Whether the tables (or the vocabulary) are others.
        by_data: Memberships by the earlier definition over today's data, as spans in words (from differences with an
            empty frame before): person_id, now. Needed where both have changed.
    """
    import polars as pl

    if not (definition_changed and data_changed):
        reason = DEFINITION if definition_changed else DATA if data_changed else PROGRAM
        return changed.with_columns(reason=pl.lit(reason))
    assert by_data is not None
    old = by_data.select("person_id", between="now")
    found = changed.join(old, on="person_id", how="left").with_columns(pl.col("between").fill_null(""))
    reason_of = (
        pl.when(pl.col("between") == pl.col("before"))
        .then(pl.lit(DEFINITION))
        .when(pl.col("between") == pl.col("now"))
        .then(pl.lit(DATA))
        .otherwise(pl.lit(BOTH))
    )
    return found.with_columns(reason=reason_of).drop("between").sort("person_id")


@dataclass(frozen=True)
class Difference:
    """How a cohort differs from the run before, fit for a page.

    Attributes:
        known: Whether there was one before.
        definition_changed: Whether the definition is another.
        data_changed: Whether the data are others.
        shown: Counts of persons: before, now, entered, left, changed dates.
        reasons: Lines (change, reason, what is shown).
        any: Whether anybody's membership has changed.
    """

    known: bool
    definition_changed: bool
    data_changed: bool
    shown: Shown
    reasons: tuple[tuple[str, str, int | str], ...]
    any: bool

    @property
    def words(self) -> str:
        """The difference in a sentence."""
        if not self.known:
            return "First run with this cohort"
        causes = [DEFINITION] * self.definition_changed + [DATA] * self.data_changed
        about = f" ({', '.join(causes)})" if causes else ""
        if not self.any:
            return f"No change{about}"
        parts = [f"{name}: {self.shown[name]}" for name in (ENTERED, LEFT, MOVED)]
        return f"Members {', '.join(parts)}{about}"


def count_changes(
    changed: pl.DataFrame,
    before: int,
    now: int,
    persons: int,
    *,
    known: bool,
    definition_changed: bool,
    data_changed: bool,
    withheld: bool = False,
) -> Difference:
    """Count the changes so that a page may show them.

    Args:
        changed: From :func:`with_reasons`.
        before: Members before.
        now: Members now.
        persons: Persons in the data.
        known: Whether there was a run before.
        definition_changed: See Difference.
        data_changed: See Difference.
        withheld: Whether the size now may not be shown, because of another table.
    """
    counted = {(c, r): n for c, r, n in changed.group_by("change", "reason").len().sort("change", "reason").iter_rows()}
    total = {name: sum(n for (c, _), n in counted.items() if c == name) for name in (ENTERED, LEFT, MOVED)}
    cells = dict(counted) | {
        ("stayed", ""): before - total[LEFT] - total[MOVED],
        ("outside", ""): max(persons - now - total[LEFT], 0),
    }

    def of(*names: str) -> frozenset[tuple[str, str]]:
        return frozenset(cell for cell in cells if cell[0] in names)

    figures = [
        Figure("all", frozenset(cells), 1000),
        Figure("now", of("stayed", ENTERED, MOVED), 200, withheld),
        Figure("before", of("stayed", LEFT, MOVED), 5),
        *(Figure(name, of(name), 10) for name in (ENTERED, LEFT, MOVED)),
        *(Figure(f"{c}: {r}", frozenset({(c, r)}), 2) for c, r in counted),
    ]
    shown = protect(dict(cells), figures)
    reasons = tuple((c, r, shown[f"{c}: {r}"]) for c, r in counted)
    return Difference(known, definition_changed, data_changed, shown, reasons, changed.height > 0)


def transitions(before: pl.DataFrame, now: pl.DataFrame, *, withheld: bool = False) -> list[tuple[str, str, int | str]]:
    """Persons by where they stood and where they stand, as a page may show them; those who stand as before left out.

    Args:
        before: From :func:`eligibility`, of the run before.
        now: The same, of this run.
        withheld: Whether the number of members now may not be shown, because of another table.
    """
    import polars as pl

    absent = pl.lit("not in the data")
    both = before.select("person_id", before="status").join(
        now.select("person_id", now="status"), on="person_id", how="full", coalesce=True
    )
    counted = both.group_by(pl.col("before").fill_null(absent), pl.col("now").fill_null(absent)).len()
    cells = {(b, n): count for b, n, count in counted.iter_rows()}
    members = frozenset(cell for cell in cells if cell[1] == MEMBER)
    figures = [Figure("all", frozenset(cells), 1000), Figure("members", members, 200, withheld)]
    figures += [Figure(f"{b} > {n}", frozenset({(b, n)})) for b, n in cells]
    shown = protect(dict(cells), figures)
    return [(b, n, shown[f"{b} > {n}"]) for b, n in sorted(cells) if b != n]


def series(sizes: Sequence[int], *, withheld: bool = False) -> list[int | None]:
    """Sizes of a cohort over the runs as a page may show them, oldest first.

    One that differs by fewer than 11 from the next one shown is left out, so that nobody can be told from two runs.
    """
    from trialops.trial.cohorts.suppression import small

    made: list[int | None] = []
    after: int | None = None
    for place, size in enumerate(reversed(sizes)):
        hidden = small(size) or (withheld and place == 0) or (after is not None and small(abs(size - after)))
        made.append(None if hidden else size)
        after = after if hidden else size
    return made[::-1]
