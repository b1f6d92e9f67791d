"""Evaluate expressions over the tables of a CDM, in DuckDB, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.standards import cdm
from trialops.trial.cohorts.concept_sets import TableOf, resolve
from trialops.trial.cohorts.domains import DOMAINS
from trialops.trial.cohorts.expression import Expression
from trialops.trial.cohorts.sql_cohort import COHORT, MARKED, ORDER, compile_expression
from trialops.trial.cohorts.sql_criteria import STUDY_TREATMENT

if TYPE_CHECKING:
    import duckdb
    import polars as pl

NEEDED = ("person", "observation_period", "provider", "care_site", *sorted({d.table for d in DOMAINS.values()}))
"""Tables that a definition may look at."""


@dataclass(frozen=True)
class Evaluated:
    """What an expression gives.

    Attributes:
        members: person_id, start_date, end_date; by person and start. A person may be in it more than once.
        marked: person_id, event_key, start_date, mask of every index event, by person, day and row; bit i of mask tells
            that rule i holds.
        rules: Number of inclusion rules.
        narrow: Concept sets of which descendants or mapped concepts could not be looked up.
    """

    members: pl.DataFrame
    marked: pl.DataFrame
    rules: int
    narrow: tuple[str, ...] = ()


class CdmTables:
    """The tables of a CDM, open for any number of expressions.

    Args:
        tables: By name; missing ones are empty. The boolean `study_treatment` of drug_exposure marks the trial's
            own treatment.
        study_days: Whether dates are study days.
        vocabulary: Gives vocabulary tables, for descendants and mapped concepts.
        connection: An open database that has the tables already.
    """

    def __init__(
        self,
        tables: Mapping[str, pl.DataFrame],
        *,
        study_days: bool = False,
        vocabulary: TableOf | None = None,
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> None:
        self.study_days = study_days
        self.vocabulary = vocabulary
        self.connection = connection if connection is not None else _opened(tables)

    def evaluate(self, expression: Expression) -> Evaluated:
        """Who is in the cohort, from when to when, and which rules each index event meets.

        Raises:
            TrialOpsError: The expression is about study days and the data are not.
        """
        if expression.study_days and not self.study_days:
            raise TrialOpsError(
                "The definition is about study days, and these data have calendar dates",
                where="StudyDays",
                fix="State days relative to an event instead, or use tables that were de-identified strictly.",
            )
        found = resolve(expression, self.vocabulary)
        compiled = compile_expression(expression, found.concepts, study_days=self.study_days)
        try:
            for name, query in compiled.steps:
                self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
            members = self._frame(f"SELECT * FROM {COHORT} ORDER BY person_id, start_date, end_date")
            marked = self._frame(f"SELECT person_id, start_date, mask FROM {MARKED} ORDER BY {ORDER}")
        finally:
            for name, _ in compiled.steps:
                self.connection.execute(f"DROP TABLE IF EXISTS {name}")
        marked = marked.with_row_index("event_key").select("person_id", "event_key", "start_date", "mask")
        return Evaluated(members, marked, len(expression.rules), found.narrow)

    def close(self) -> None:
        """Close the database."""
        self.connection.close()

    def _frame(self, query: str) -> pl.DataFrame:
        return self.connection.sql(query).pl()


def _opened(tables: Mapping[str, pl.DataFrame]) -> Any:
    import duckdb
    import polars as pl

    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false")
    for name in NEEDED:
        frame = tables.get(name)
        frame = cdm.empty(name) if frame is None else frame
        if name == "drug_exposure" and STUDY_TREATMENT not in frame.columns:
            frame = frame.with_columns(pl.lit(False).alias(STUDY_TREATMENT))
        connection.register(name, frame.to_arrow())
    return connection
