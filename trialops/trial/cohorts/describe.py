"""Table 1 of every cohort: beside the cohort its definition names, or everybody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.pages.page import SMALLEST_CELL
from trialops.trial.cohorts.attrition import best_events
from trialops.trial.cohorts.characteristics import characteristics
from trialops.trial.cohorts.evaluate import CdmTables, Evaluated
from trialops.trial.cohorts.load import Load
from trialops.trial.cohorts.table_one import Line, table_one

if TYPE_CHECKING:
    import polars as pl

OTHERS = "everybody else"


@dataclass(frozen=True)
class Described:
    """Table 1 of a cohort.

    Attributes:
        name: The cohort.
        beside: What it is shown beside; empty where nothing may be.
        lines: The table; empty where the cohort is too small, or its size may not be told.
    """

    name: str
    beside: str
    lines: tuple[Line, ...]


def describe(
    name: str,
    compare: str,
    evaluated: Mapping[str, Evaluated],
    sizes: Mapping[str, int | str],
    tables: CdmTables,
    load: Load,
) -> Described:
    """Describe the members of a cohort on their index day.

    Args:
        name: The cohort.
        compare: Another cohort to put beside it; empty: everybody else.
        evaluated: What each cohort's expression gave.
        sizes: Members of each cohort as a page may show them; one that may not be shown is not described.
        tables: The CDM, open.
        load: The same, as tables.
    """
    import polars as pl

    if not _told(sizes[name]):
        return Described(name, "", ())
    people = index_days(evaluated[name], load)
    first = people["person_id"].is_in(evaluated[name].members["person_id"].unique().implode())
    if compare:
        second = people["person_id"].is_in(evaluated[compare].members["person_id"].unique().implode())
        fit = _told(sizes[compare])
    else:
        second = ~first
        fit = int(second.sum()) >= SMALLEST_CELL
    variables = characteristics(tables, people, load.names)
    lines = table_one(variables, first, second if fit else None)
    assert isinstance(first, pl.Series)
    return Described(name, (compare or OTHERS) if fit else "", tuple(lines))


def _told(size: int | str) -> bool:
    return isinstance(size, int) and size >= SMALLEST_CELL


def index_days(evaluated: Evaluated, load: Load) -> pl.DataFrame:
    """person_id, index_date: start of membership, else the entry event, else the first day observed; by person."""
    import polars as pl

    starts = evaluated.members.group_by("person_id").agg(member=pl.col("start_date").min())
    entries = best_events(evaluated).select("person_id", entry="start_date")
    observed = (
        load.tables["observation_period"].group_by("person_id").agg(first=pl.col("observation_period_start_date").min())
    )
    people = load.persons.unique().sort().to_frame()
    for frame in (starts, entries, observed):
        people = people.join(frame, on="person_id", how="left", maintain_order="left")
    return people.select("person_id", index_date=pl.coalesce("member", "entry", "first")).drop_nulls("index_date")


def document(described: Sequence[Described]) -> dict[str, Any]:
    """The tables as a document; what it holds has passed suppression."""
    return {
        one.name: {
            "beside": one.beside,
            "lines": [
                {
                    "section": x.section,
                    "name": x.name.strip(),
                    "first": x.first,
                    "second": x.second,
                    "smd": x.difference,
                }
                for x in one.lines
            ],
        }
        for one in described
    }
