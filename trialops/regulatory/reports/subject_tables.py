"""Tables of subjects: who they are, what became of them, how long they were treated, how long they stayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.regulatory.documents.content import Cell, Chart, DataTable, rows_of, share
from trialops.regulatory.reports.counting import having, heads, levels, moments, sizes_of
from trialops.safety.incidence import DAYS_PER_YEAR
from trialops.trial.participation import COMPLETED, participation
from trialops.trial.retention import times_to_discontinuation

if TYPE_CHECKING:
    import polars as pl

    from trialops.regulatory.reports.basis import Basis

AGES = ((0, 17, "Under 18"), (18, 64, "18 to 64"), (65, 74, "65 to 74"), (75, 84, "75 to 84"), (85, 200, "85 and over"))
CHARACTERISTICS = (
    ("Age group", "age_group"), ("Sex", "SEX"), ("Race", "RACE"), ("Ethnicity", "ETHNIC"), ("Country", "COUNTRY"),
)  # fmt: skip
DURATIONS = ((1, 28), (29, 84), (85, 182), (183, 364), (365, None))
DAYS_SHOWN = (28, 84, 168, 364)
"""Days at which the table of retention has a row, as far as anybody was followed."""

ONGOING = "Ongoing at the data cut"


def age_group() -> pl.Expr:
    """The age group of a subject, null without an age."""
    import polars as pl

    found: pl.Expr = pl.lit(None, pl.String)
    for low, high, name in reversed(AGES):
        found = pl.when(pl.col("AGE").floor().is_between(low, high)).then(pl.lit(name)).otherwise(found)
    return found


def demographics(basis: Basis, number: str) -> DataTable:
    """Age, sex, race, ethnicity and country of the randomised subjects."""
    subjects = basis.randomised.with_columns(age_group=age_group())
    groups = _groups(subjects, basis)
    total = len(groups) > 1
    rows: list[list[Cell]] = []
    blank: list[Cell] = [""] * (len(groups) + int(total))
    rows += [["Age, years", *blank], *moments(subjects, "AGE", groups, total=total)]
    for label, column in CHARACTERISTICS:
        if subjects[column].is_not_null().any():
            order = [name for *_, name in AGES] if column == "age_group" else []
            told = [row for row in levels(subjects, column, groups, total=total, order=order) if _anybody(row)]
            rows += [[label, *blank], *told]
    columns = ("Characteristic", *heads(groups, sizes_of(subjects, groups), total=total))
    population = basis.population("Randomised subjects", subjects)
    return DataTable(number, "Baseline characteristics", population, columns, rows_of(rows))


def _anybody(row: list[Cell]) -> bool:
    return any(str(cell)[:2] not in ("0", "0 ") for cell in row[1:])


def _groups(subjects: pl.DataFrame, basis: Basis) -> list[str]:
    there = subjects["group"].drop_nulls().unique().sort().to_list()
    return sorted(there, key=lambda name: (name != basis.control, name))


def fate(basis: Basis) -> pl.DataFrame:
    """What became of each randomised subject.

    Returns:
        USUBJID, group (as randomised) and ``state``: "COMPLETED", the reason of discontinuation, or "Ongoing at the
        data cut"; ``left`` (bool): discontinued.
    """
    import polars as pl

    ended = participation(basis.trial, basis.cut).select("USUBJID", state=pl.col("reason").fill_null(ONGOING))
    joined = basis.randomised.select("USUBJID", "group").join(ended, on="USUBJID", how="left")
    return joined.with_columns(left=~pl.col("state").is_in([COMPLETED, ONGOING])).sort("USUBJID")


def disposition(basis: Basis, number: str) -> DataTable:
    """Randomised, treated, completed, discontinued by reason, ongoing."""
    import polars as pl

    subjects, known = basis.randomised, fate(basis)
    groups = _groups(subjects, basis)
    total = len(groups) > 1

    def row(label: str, who: pl.Series) -> list[Cell]:
        return [label, *having(subjects, who, groups, total=total)]

    left = known.filter("left")
    rows = [
        row("Treated", basis.safety["USUBJID"]),
        row("Completed", known.filter(pl.col("state") == COMPLETED)["USUBJID"]),
        row("Discontinued", left["USUBJID"]),
    ]
    reasons = left["state"].value_counts(sort=True).sort("count", "state", descending=[True, False])["state"].to_list()
    rows += [row(f"  {reason.capitalize()}", left.filter(pl.col("state") == reason)["USUBJID"]) for reason in reasons]
    rows.append(row(ONGOING, known.filter(pl.col("state") == ONGOING)["USUBJID"]))
    columns = ("Disposition", *heads(groups, sizes_of(subjects, groups), total=total))
    screened = basis.subjects.height
    failed = basis.subjects["screen_failure"].sum()
    notes = (
        f"{screened:,} subjects in the database; {failed:,} failed screening; {subjects.height:,} were randomised.",
    )
    return DataTable(
        number, "Disposition", basis.population("Randomised subjects", subjects), columns, rows_of(rows), notes
    )


def exposure(basis: Basis, number: str) -> DataTable:
    """Length of exposure by group: moments, categories, subject-years."""
    import polars as pl

    subjects = basis.safety
    total = len(basis.groups) > 1
    rows: list[list[Cell]] = [
        ["Days of exposure", *([""] * (len(basis.groups) + int(total)))],
        *moments(subjects, "days", basis.groups, total=total),
    ]
    for low, high in DURATIONS:
        label = f"  {low} to {high} days" if high else f"  {low} days and more"
        who = subjects.filter(pl.col("days").is_between(low, high or 10**9))["USUBJID"]
        if len(who):
            rows.append([label, *having(subjects, who, basis.groups, total=total)])
    years = dict(subjects.group_by("group").agg(pl.col("days").sum() / DAYS_PER_YEAR).iter_rows())
    told: list[Cell] = [f"{years.get(group, 0.0):.1f}" for group in basis.groups]
    if total:
        told.append(f"{sum(years.values()):.1f}")
    rows.append(["Subject-years", *told])
    columns = ("Exposure", *heads(basis.groups, sizes_of(subjects, basis.groups), total=total))
    notes = ("From the first to the last day of treatment, or to the data cut while treatment goes on.",)
    return DataTable(number, "Extent of exposure", basis.safety_population, columns, rows_of(rows), notes)


def exposure_by(basis: Basis, number: str, column: str, title: str) -> DataTable:
    """Cumulative subject exposure by a characteristic and sex (ICH E2F 6.1, appendix tables).

    Args:
        basis: The trial at its cut.
        number: Number of the table.
        column: "age_group" or a column of `Basis.subjects`.
        title: Title of the table.
    """
    import polars as pl

    subjects = basis.safety.with_columns(age_group=age_group()).with_columns(pl.col(column).fill_null("Missing"))
    order = [name for *_, name in AGES] + ["Missing"] if column == "age_group" else []
    there = set(subjects[column].to_list())
    names = [name for name in order if name in there] + sorted(there - set(order))
    sexes = subjects["SEX"].fill_null("Missing").unique().sort().to_list()
    rows: list[list[Cell]] = []
    for name in [*names, None]:
        part = subjects if name is None else subjects.filter(pl.col(column) == name)
        split: list[Cell] = [part.filter(pl.col("SEX").fill_null("Missing") == sex).height for sex in sexes]
        years = float(part["days"].sum() or 0) / DAYS_PER_YEAR
        rows.append(["Total" if name is None else name, *split, share(part.height, subjects.height), f"{years:.1f}"])
    columns = (title, *sexes, "Subjects n (%)", "Subject-years")
    return DataTable(
        number, f"Cumulative subject exposure by {title.lower()}", basis.safety_population, columns, rows_of(rows)
    )


def retention(basis: Basis, number: str) -> list[DataTable | Chart]:
    """Time to discontinuation: Kaplan-Meier by group, with the log-rank test where there is more than one."""
    import numpy as np

    from trialops.pages.trial_plots import steps
    from trialops.trial.survival import kaplan_meier, log_rank

    times = times_to_discontinuation(participation(basis.trial, basis.cut), basis.cut)
    known = times.join(basis.randomised.select("USUBJID", "group"), on="USUBJID", how="inner").sort("USUBJID")
    groups = _groups(known, basis)
    if not groups:
        return []
    lines: list[tuple[str, list[float], list[float]]] = []
    rows: list[list[Cell]] = []
    for group in groups:
        part = known.filter(group=group)
        days = part["days"].to_numpy().astype(np.float64)
        curve = kaplan_meier(days, part["event"].to_numpy())
        at = sorted({0.0, *curve.times.tolist()})
        lines.append((group, at, curve.at(at)[0].tolist()))
        for day in DAYS_SHOWN:
            if day <= days.max():
                value, low, high = (float(v[0]) for v in curve.at([float(day)]))
                rows.append(
                    [
                        group,
                        day,
                        int(curve.numbers_at_risk([float(day)])[0]),
                        f"{value:.4f}",
                        f"{low:.4f} to {high:.4f}",
                    ]
                )
    population = basis.population("Randomised subjects", basis.randomised)
    notes = ["Leaving early is the event; completers are censored when they complete, others at the data cut."]
    if known.height < population.n:
        notes.append(f"{population.n - known.height} subjects without usable dates are left out.")
    if len(groups) > 1:
        test = log_rank(
            known["days"].to_numpy().astype(np.float64), known["event"].to_numpy(), known["group"].to_list()
        )
        notes.append(
            f"Log-rank chi-square {test.statistic:.2f} on {test.degrees} degrees of freedom, p = {test.p:.2g}."
        )
    svg = steps(lines, xlabel="day", ylabel="still in the trial")
    columns = ("Group", "Day", "At risk", "Share", "95 % interval")
    return [
        DataTable(number, "Subjects still in the trial", population, columns, rows_of(rows), tuple(notes)),
        Chart(f"{number}f", "Time to discontinuation (Kaplan-Meier)", population, svg, tuple(notes)),
    ]
