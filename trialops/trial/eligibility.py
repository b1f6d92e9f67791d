"""Eligibility of every subject: each criterion met, not met or unknown, with the rows that say so or what is missing.

A subject is *eligible* when every inclusion criterion is met and no exclusion criterion is, *not eligible* when one
inclusion criterion is not met or one exclusion criterion is, and otherwise it *cannot be decided yet*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.trial.eligibility_facts import WHY, Facts, prepare
from trialops.trial.eligibility_pieces import DAY_BITS, NO_DAY, SEQ_BITS, WHY_BITS
from trialops.trial.eligibility_rules import Criteria
from trialops.trial.eligibility_sql import (
    AMBIGUOUS,
    NO_ANCHOR,
    NO_FACT,
    NO_VALUE,
    NOT_COLLECTED,
    NOT_DELIVERED,
    NOT_JUDGED,
    Compiled,
    compile_criterion,
)
from trialops.trial.eligibility_subjects import NEVER

if TYPE_CHECKING:
    import polars as pl

    from trialops.trial.tables import TrialTables

ELIGIBLE, NOT_ELIGIBLE, UNDECIDED = "eligible", "not eligible", "cannot be decided yet"
MET, NOT_MET, UNKNOWN = "met", "not met", "unknown"
GAPS = {
    NO_VALUE: "",
    NO_ANCHOR: "the day the window starts from is not known",
    NOT_COLLECTED: "",
    NOT_DELIVERED: "the domain is not delivered",
    AMBIGUOUS: "a row with a partial date may be the one sought, and says otherwise",
    NO_FACT: "",
    NOT_JUDGED: "",
}
"""What a gap means; empty where the fact itself says what is missing."""


@dataclass(frozen=True)
class Eligibility:
    """Verdicts on all subjects. Identifiable: it stays sealed, pages show counts.

    Attributes:
        criteria: What was judged.
        verdicts: USUBJID, SITEID, randomised, ``verdict``, and one Boolean column per criterion id (null: unknown).
        evidence: One row per fact that contributes to an outcome: USUBJID, ``criterion``, ``fact`` (its number in the
            rule, from 1), ``outcome`` of the criterion, ``bars`` (whether it keeps the subject out), ``domain``,
            ``sequence``, ``day`` (days since screening, null where the row has not one day), ``value_class``,
            ``missing``.
        notes: Sentences on what no subject can have, such as a test code that never occurs; no subject data.
    """

    criteria: Criteria
    verdicts: pl.DataFrame
    evidence: pl.DataFrame
    notes: tuple[str, ...]

    def outcomes(self) -> pl.DataFrame:
        """Subjects by criterion and outcome: ``criterion``, ``kind``, ``met``, ``not_met``, ``unknown``."""
        import polars as pl

        rows = []
        for item in self.criteria.criteria:
            column = self.verdicts[item.id]
            met = int(column.sum() or 0)
            rows.append(
                (item.id, "inclusion" if item.inclusion else "exclusion", met, column.len() - column.null_count() - met,
                 column.null_count())
            )  # fmt: skip
        schema = {"criterion": pl.String, "kind": pl.String} | dict.fromkeys(("met", "not_met", "unknown"), pl.Int64)
        return pl.DataFrame(rows, schema=schema, orient="row")


def evaluate(
    trial: TrialTables, criteria: Criteria, *, progress: Callable[[str, float | None], None] | None = None
) -> Eligibility:
    """Judge every subject of DM.

    Args:
        trial: The delivery, cut at the day of evaluation.
        criteria: Criteria of its protocol.
        progress: Called with what is done and the fraction.

    Raises:
        TrialOpsError: A criterion names a column that is not there.
    """
    import polars as pl

    facts = prepare(trial, criteria)
    compiled = [compile_criterion(c, tuple(facts.columns), facts.measures) for c in criteria.criteria]
    connection = facts.connection
    columns, parts = {}, []
    for number, item in enumerate(compiled):
        if progress is not None:
            progress(f"criterion {item.criterion.id}", number / len(compiled))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE judged AS {item.sql}", item.parameters)
        columns[item.criterion.id] = _query(facts, "SELECT met FROM judged ORDER BY s")["met"]
        parts.append(_evidence(facts, item, number))
    evidence = _described(facts, compiled, pl.concat(parts))
    connection.close()
    verdicts = facts.subjects.with_columns(**columns).with_columns(verdict=verdict(criteria))
    order = ["USUBJID", "SITEID", "randomised", "verdict", *columns]
    return Eligibility(criteria, verdicts.select(order), evidence, _notes(facts, compiled))


def verdict(criteria: Criteria) -> pl.Expr:
    """The verdict on a subject from one Boolean column per criterion."""
    import polars as pl

    passed = [pl.col(c.id) if c.inclusion else ~pl.col(c.id) for c in criteria.criteria]
    together = pl.all_horizontal(passed)  # Kleene's AND
    return (
        pl.when(together).then(pl.lit(ELIGIBLE)).when(~together).then(pl.lit(NOT_ELIGIBLE)).otherwise(pl.lit(UNDECIDED))
    )


def _evidence(facts: Facts, item: Compiled, number: int) -> pl.DataFrame:
    """Facts of a criterion that contribute to its outcome, packed: s, criterion, fact, met, t, e, gap."""
    select = " UNION ALL ".join(
        f"SELECT s, {number}::SMALLINT AS criterion, {i}::SMALLINT AS fact, met, t{i} AS t, e{i} AS e, "
        f"g{i}::TINYINT AS gap FROM judged WHERE c{i}"
        for i in range(len(item.facts))
    )
    return _query(facts, f"SELECT * FROM ({select}) ORDER BY s, fact")


def _query(facts: Facts, sql: str) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(facts.connection.sql(sql).to_arrow_table())


def _described(facts: Facts, compiled: list[Compiled], packed: pl.DataFrame) -> pl.DataFrame:
    """Evidence in words."""
    import polars as pl

    table = pl.DataFrame(
        [
            (number, i, item.criterion.id, fact.domain, fact.missing, fact.kind, item.criterion.inclusion)
            for number, item in enumerate(compiled)
            for i, fact in enumerate(item.facts)
        ],
        schema={"criterion": pl.Int16, "fact": pl.Int16, "id": pl.String, "domain": pl.String, "missing": pl.String,
                "kind": pl.String, "inclusion": pl.Boolean},
        orient="row",
    ).with_columns(pl.col("id", "domain", "missing", "kind").cast(pl.Categorical))  # fmt: skip
    screening = _query(facts, "SELECT screening FROM subjects ORDER BY s")["screening"]
    day = (pl.col("e") // (1 << (SEQ_BITS + WHY_BITS))) % (1 << DAY_BITS)
    why = (pl.col("e") % (1 << WHY_BITS)).replace_strict(WHY, default=None, return_dtype=pl.Categorical)
    gap = pl.col("gap").replace_strict(
        {code: text for code, text in GAPS.items() if text}, default=None, return_dtype=pl.Categorical
    )
    own = pl.col("gap").is_in([code for code, text in GAPS.items() if not text])
    unknown = pl.col("t").is_null()
    rows = pl.col("kind") == "rows"
    verb = pl.when(rows).then(pl.lit("row found")).otherwise(pl.lit("within the limits"))
    other = pl.when(rows).then(pl.lit("no such row")).otherwise(pl.lit("outside the limits"))
    return (
        packed.join(table, on=["criterion", "fact"], how="left", maintain_order="left")
        .with_columns(pl.Series("USUBJID", facts.subjects["USUBJID"].cast(pl.Categorical).gather(packed["s"])))
        .with_columns(screening=screening.gather(packed["s"]))
        .select(
            "USUBJID",
            pl.col("id").alias("criterion"),
            (pl.col("fact") + 1).alias("fact"),
            outcome=pl.when("met")
            .then(pl.lit(MET))
            .when(~pl.col("met"))
            .then(pl.lit(NOT_MET))
            .otherwise(pl.lit(UNKNOWN)),
            bars=(pl.col("met") != pl.col("inclusion")).fill_null(False),
            domain="domain",
            sequence=((pl.col("e") // (1 << WHY_BITS)) % (1 << SEQ_BITS)).cast(pl.Int32),
            day=pl.when(day != NO_DAY).then(day + NEVER - pl.col("screening")).cast(pl.Int32),
            value_class=pl.when("t").then(verb).when(~pl.col("t")).then(other).otherwise(pl.lit("open")),
            missing=pl.when(unknown & own).then("missing").when(unknown).then(pl.coalesce(gap, why, "missing")),
        )
        .with_columns(pl.col("outcome", "value_class").cast(pl.Categorical))
    )


def _notes(facts: Facts, compiled: list[Compiled]) -> tuple[str, ...]:
    import difflib

    notes = []
    absent = sorted({f.domain for item in compiled for f in item.facts} - set(facts.columns) - {"DM", "IE"})
    notes += [f"{domain} is not delivered: every criterion on it stays unknown." for domain in absent]
    for domain, test, _ in sorted(facts.measures):
        if test not in facts.codes[domain]:
            near = difflib.get_close_matches(test, sorted(facts.codes[domain]), n=1)
            hint = f" (there is {near[0]})" if near else ""
            notes.append(f"No row of {domain} has the test code {test}{hint}: criteria on it stay unknown.")
    return tuple(dict.fromkeys(notes))
