"""A whole expression as SQL: index events, inclusion rules, when memberships end, and what remains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trialops.trial.cohorts.expression import CustomEra, DateOffset, Expression
from trialops.trial.cohorts.sql_criteria import EVENT, Criteria
from trialops.trial.cohorts.sql_values import day, ids

QUALIFIED, MARKED, COHORT = "qualified", "marked", "cohort_rows"
"""Tables that are read afterwards: index events, index events with the rules they meet, memberships."""


@dataclass(frozen=True)
class Compiled:
    """Temporary tables in the order in which they are made; each name with its SELECT."""

    steps: tuple[tuple[str, str], ...]

    @property
    def sql(self) -> str:
        """The whole as one script."""
        return ";\n\n".join(f"CREATE OR REPLACE TEMP TABLE {name} AS\n{query}" for name, query in self.steps) + ";"


def compile_expression(
    expression: Expression, concepts: Mapping[int, frozenset[int]], *, study_days: bool = False
) -> Compiled:
    """Compile an expression.

    Args:
        expression: What is asked.
        concepts: Concept ids by concept set.
        study_days: Whether the dates of the data are study days; ages are then counted from day 1.

    Returns:
        Queries over the CDM's tables; QUALIFIED has one row per index event, MARKED adds `mask` (bit i: rule i holds),
        COHORT has person_id, start_date, end_date.
    """
    made = Criteria(expression, concepts, study_days)
    primary = _primary(expression, made)
    _qualified(expression, made, primary)
    _rules(expression, made)
    included = _included(expression, made)
    ends = _ends(expression, made, included)
    _cohort(expression, made, ends)
    return Compiled(tuple(made.steps))


TIES = "e_id, k, op_start"
"""What decides between events of a person on one day: the row's key, the criterion, the observation period."""
ORDER = f"person_id, start_date, {TIES}"


def _order(limit: str) -> str:
    return "DESC" if limit == "Last" else "ASC"


def _primary(expression: Expression, made: Criteria) -> str:
    """Index events: within an observation period that reaches far enough, and of each person those asked for."""
    queries = [
        f"SELECT {EVENT}, {number} AS k FROM ({made.events(criterion)})"
        for number, criterion in enumerate(expression.primary)
    ]
    found = (
        "SELECT e.person_id, e.e_start AS start_date, e.e_end AS end_date, e.e_visit AS visit_id, e.e_id, e.k, "
        "o.observation_period_start_date AS op_start, o.observation_period_end_date AS op_end "
        f"FROM ({' UNION ALL '.join(queries)}) e JOIN observation_period o ON o.person_id = e.person_id "
        "AND e.e_start BETWEEN o.observation_period_start_date AND o.observation_period_end_date "
        f"AND o.observation_period_start_date + ({expression.prior_days}) <= e.e_start "
        f"AND e.e_start + ({expression.post_days}) <= o.observation_period_end_date"
    )
    if expression.primary_limit != "All":
        order = f"start_date {_order(expression.primary_limit)}, {TIES}"
        found += f" QUALIFY row_number() OVER (PARTITION BY e.person_id ORDER BY {order}) = 1"
    # The key tells events apart within a run; it says nothing about their order, for which all would have to be sorted.
    return made.step("primary", f"SELECT row_number() OVER () AS event_key, * FROM ({found})")


def _qualified(expression: Expression, made: Criteria, primary: str) -> None:
    sql = f"SELECT * FROM {primary}"
    if expression.additional is not None:
        sql += f" WHERE event_key IN ({made.group(expression.additional, primary)})"
        sql += _limited(expression.qualified_limit)
    made.steps.append((QUALIFIED, sql))


def _limited(limit: str) -> str:
    if limit == "All":
        return ""
    order = f"start_date {_order(limit)}, {TIES}"
    return f" QUALIFY row_number() OVER (PARTITION BY person_id ORDER BY {order}) = 1"


def _rules(expression: Expression, made: Criteria) -> None:
    """Which rules hold around each index event, as bits of a number."""
    tables = [made.step("rule", made.group(rule.group, QUALIFIED)) for rule in expression.rules]
    joins = " ".join(f"LEFT JOIN {name} r{n} ON r{n}.event_key = q.event_key" for n, name in enumerate(tables))
    bits = [f"CASE WHEN r{n}.event_key IS NULL THEN 0 ELSE {1 << n} END" for n in range(len(tables))]
    mask = " + ".join(bits) or "0"
    made.steps.append((MARKED, f"SELECT q.*, CAST({mask} AS BIGINT) AS mask FROM {QUALIFIED} q {joins}"))


def _included(expression: Expression, made: Criteria) -> str:
    whole = (1 << len(expression.rules)) - 1
    return made.step("included", f"SELECT * FROM {MARKED} WHERE mask = {whole}{_limited(expression.expression_limit)}")


def _ends(expression: Expression, made: Criteria, included: str) -> str:
    """event_key, end_date: every day on which a membership could end; the earliest counts."""
    ends = []
    if isinstance(expression.end, DateOffset):
        field = {"StartDate": "start_date", "EndDate": "end_date"}[expression.end.date_field]
        ends.append(f"SELECT event_key, least({field} + ({expression.end.offset}), op_end) AS end_date FROM {included}")
    else:
        ends.append(f"SELECT event_key, op_end AS end_date FROM {included}")
    if isinstance(expression.end, CustomEra):
        eras = made.step("exposure", _exposures(expression, expression.end, made, included))
        ends.append(
            f"SELECT i.event_key, x.era_end AS end_date FROM {included} i JOIN {eras} x "
            "ON x.person_id = i.person_id AND i.start_date BETWEEN x.era_start AND x.era_end"
        )
    for criterion in expression.censoring:
        ends.append(
            f"SELECT i.event_key, min(x.e_start) AS end_date FROM {included} i JOIN ({made.events(criterion)}) x "
            "ON x.person_id = i.person_id AND x.e_start >= i.start_date AND x.e_start <= i.op_end GROUP BY i.event_key"
        )
    return made.step(
        "ended",
        "SELECT i.person_id, i.start_date, min(x.end_date) AS end_date "
        f"FROM {included} i JOIN ({' UNION ALL '.join(ends)}) x "
        "ON x.event_key = i.event_key AND x.end_date >= i.start_date GROUP BY i.event_key, i.person_id, i.start_date",
    )


def _exposures(expression: Expression, era: CustomEra, made: Criteria, included: str) -> str:
    """Continuous exposures of the persons concerned: exposures no more than the gap apart are one."""
    start = "t.drug_exposure_start_date"
    supplied = f"{start} + ({era.days_supply})"
    known = f"coalesce(t.drug_exposure_end_date, {start} + CAST(t.days_supply AS INTEGER), {start} + 1)"
    inside = ids(made.concepts[era.codeset])
    wanted = made.in_set(expression.sets[era.codeset], "t.drug_concept_id", "DrugExposure")
    if inside:
        wanted = f"({wanted} OR t.drug_source_concept_id IN ({inside}))"
    rows = (
        f"SELECT t.person_id, {start} AS s, {known if era.days_supply is None else supplied} AS e "
        f"FROM drug_exposure t WHERE {wanted} AND t.person_id IN (SELECT person_id FROM {included})"
    )
    islands = _islands(rows, era.gap_days)
    reach = f"max(e) + ({era.offset}) AS era_end"
    return f"SELECT person_id, min(s) AS era_start, {reach} FROM ({islands}) GROUP BY person_id, island"


def _islands(rows: str, gap: int) -> str:
    """Rows (person_id, s, e) numbered by island: one begins where nothing before it reaches, `gap` days added."""
    reach = "max(e) OVER (PARTITION BY person_id ORDER BY s, e ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    begun = f"SELECT *, CASE WHEN s <= {reach} + ({gap}) THEN 0 ELSE 1 END AS begins FROM ({rows})"
    number = "sum(begins) OVER (PARTITION BY person_id ORDER BY s, e ROWS UNBOUNDED PRECEDING)"
    return f"SELECT *, {number} AS island FROM ({begun})"


def _cohort(expression: Expression, made: Criteria, ends: str) -> None:
    rows = _islands(f"SELECT person_id, start_date AS s, end_date AS e FROM {ends}", expression.era_pad)
    start, end = "min(s)", "max(e)"
    if expression.censor_start is not None:
        start = f"greatest({start}, {day(expression.censor_start)})"
    if expression.censor_end is not None:
        end = f"least({end}, {day(expression.censor_end)})"
    made.steps.append(
        (
            COHORT,
            f"SELECT person_id, {start} AS start_date, {end} AS end_date FROM ({rows}) GROUP BY person_id, island "
            f"HAVING {start} <= {end}",
        )
    )
