"""Criteria and groups of criteria as SQL over the tables of the CDM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trialops.trial.cohorts.domains import COUNTED, DEMOGRAPHICS, DOMAINS
from trialops.trial.cohorts.expression import (
    OCCURRENCE,
    Concepts,
    ConceptSet,
    Correlated,
    Criterion,
    Endpoint,
    Expression,
    Group,
    Value,
    Window,
)
from trialops.trial.cohorts.sql_values import aged, condition, day, ids, text

STUDY_TREATMENT = "study_treatment"
"""Column that the loader adds to drug_exposure: whether it is an exposure to the trial's own treatment."""
SOURCE_LENGTH = 50
"""Characters of a source value that the CDM keeps."""
EVENT = "person_id, e_id, e_start, e_end, e_concept, e_visit"
_JOINS = {
    "d": "JOIN person d ON d.person_id = c.person_id",
    "v": "JOIN visit_occurrence v ON v.visit_occurrence_id = c.e_visit AND v.person_id = c.person_id",
    "pr": "LEFT JOIN provider pr ON pr.provider_id = c.provider_id",
    "cs": "JOIN care_site cs ON cs.care_site_id = c.care_site_id",
}


@dataclass
class Criteria:
    """Writes the SQL of criteria; what must be worked out first becomes temporary tables, in order.

    Args:
        expression: Its concept sets and calendar.
        concepts: Concept ids by set.
    """

    expression: Expression
    concepts: Mapping[int, frozenset[int]]
    study_days: bool
    steps: list[tuple[str, str]] = field(default_factory=list)
    _names: int = 0

    def step(self, stem: str, sql: str) -> str:
        """Add a temporary table; returns its name."""
        self._names += 1
        name = f"{stem}_{self._names}"
        self.steps.append((name, sql))
        return name

    # -- one criterion -----------------------------------------------------------------------------------------

    def events(self, criterion: Criterion) -> str:
        """SELECT of a criterion's events: columns of EVENT."""
        domain = DOMAINS[criterion.domain]
        start, end = domain.start, domain.end
        if criterion.adjustment is not None:
            moved = {"START_DATE": domain.start, "END_DATE": domain.end}
            start = f"({moved[criterion.adjustment.start_with]} + {criterion.adjustment.start_offset})"
            end = f"({moved[criterion.adjustment.end_with]} + {criterion.adjustment.end_offset})"
        first = (
            f" QUALIFY row_number() OVER (PARTITION BY t.person_id ORDER BY {domain.start}, t.{domain.key}) = 1"
            if criterion.first
            else ""
        )
        visit = f"t.{domain.visit}" if domain.visit else "CAST(NULL AS BIGINT)"
        inner = (
            f"SELECT t.*, t.{domain.key} AS e_id, {start} AS e_start, {end} AS e_end, {domain.concept} AS e_concept, "
            f"{visit} AS e_visit FROM {domain.table} t{_where(self._in_sets(criterion))}{first}"
        )
        conditions, joins = [], set()
        for name, value in criterion.attributes:
            known = domain.attributes[name.removesuffix("CS") if name not in domain.attributes else name]
            joins |= set(known.joins)
            conditions.append(self._condition(known.sql, value))
        outer_start, outer_end = "c.e_start", "c.e_end"
        for bound in (criterion.period_start, criterion.period_end):
            if bound is not None:
                conditions.append(f"c.e_start <= {day(bound)} AND c.e_end >= {day(bound)}")
        if criterion.period_start is not None:
            outer_start = day(criterion.period_start)
        if criterion.period_end is not None:
            outer_end = day(criterion.period_end)
        joined = " ".join(_JOINS[name] for name in _JOINS if name in joins)
        sql = (
            f"SELECT c.person_id, c.e_id, {outer_start} AS e_start, {outer_end} AS e_end, c.e_concept, c.e_visit "
            f"FROM ({inner}) c {joined}{_where(conditions)}"
        )
        return self._correlated_events(sql, criterion.correlated) if criterion.correlated else sql

    def _correlated_events(self, sql: str, group: Group) -> str:
        """Events of a criterion around which a group of criteria holds."""
        if not group.size:
            return sql
        base = self.step(
            "base",
            "SELECT row_number() OVER () AS event_key, e.*, e.e_start AS start_date, e.e_end AS end_date, "
            "e.e_visit AS visit_id, o.observation_period_start_date AS op_start, "
            f"o.observation_period_end_date AS op_end FROM ({sql}) e JOIN observation_period o "
            "ON o.person_id = e.person_id AND e.e_start BETWEEN o.observation_period_start_date "
            "AND o.observation_period_end_date",
        )
        held = self.step("held", self.group(group, base))
        return f"SELECT DISTINCT {EVENT} FROM {base} WHERE event_key IN (SELECT event_key FROM {held})"

    def _in_sets(self, criterion: Criterion) -> list[str]:
        """Conditions that the concept and the source concept are in their sets."""
        domain, found = DOMAINS[criterion.domain], []
        if criterion.codeset is not None:
            found.append(self.in_set(self.expression.sets[criterion.codeset], domain.concept, criterion.domain))
        if criterion.source_codeset is not None:
            inside = ids(self.concepts[criterion.source_codeset])
            found.append(f"{domain.source} IN ({inside})" if inside else "FALSE")
        return found

    def in_set(self, item: ConceptSet, column: str, name: str) -> str:
        """Condition that a row of a domain is in a concept set: by concept, source value or as study treatment."""
        either, domain = [], DOMAINS[name]
        if self.concepts[item.id]:
            either.append(f"{column} IN ({ids(self.concepts[item.id])})")
        if item.source_values and domain.source_value:
            values = ", ".join(text(one.upper()[:SOURCE_LENGTH]) for one in item.source_values)
            either.append(f"upper(t.{domain.source_value}) IN ({values})")
        if item.study_treatment and name == "DrugExposure":
            either.append(f"t.{STUDY_TREATMENT}")
        return f"({' OR '.join(either)})" if either else "FALSE"

    def _condition(self, sql: str, value: Value) -> str:
        codeset = ""
        if isinstance(value, Concepts) and value.codeset is not None:
            codeset = ids(self.concepts[value.codeset])
        return condition(aged(sql, study_days=self.study_days), value, codeset)

    # -- groups ------------------------------------------------------------------------------------------------

    def group(self, group: Group, events: str) -> str:
        """SELECT event_key of the events of a table around which a group holds.

        Args:
            group: The group.
            events: Table with event_key, person_id, start_date, end_date, visit_id, op_start, op_end.
        """
        leaves: list[str] = []
        held = self._holds(group, events, leaves)
        person = " LEFT JOIN person d ON d.person_id = p.person_id" if "d.person_id" in held else ""
        joined = " ".join(
            f"LEFT JOIN ({sql}) l{number} ON l{number}.event_key = p.event_key" for number, sql in enumerate(leaves)
        )
        return f"SELECT p.event_key FROM {events} p {joined}{person} WHERE {held}"

    def _holds(self, group: Group, events: str, leaves: list[str]) -> str:
        """Condition that a group holds; adds a query of counts for each correlated criterion."""
        members = []
        for one in group.criteria:
            place = len(leaves)
            leaves.append(self._counts(one, events))
            sign = OCCURRENCE[one.occurrence.type]
            members.append(f"(coalesce(l{place}.n, 0) {sign} {one.occurrence.count})")
        for person in group.demographics:
            conditions = [
                self._condition(DEMOGRAPHICS[name.removesuffix("CS")].sql, value) for name, value in person.attributes
            ]
            joined = " AND ".join(["d.person_id IS NOT NULL", *conditions])
            members.append(f"coalesce({joined}, FALSE)")
        members += [f"({self._holds(inner, events, leaves)})" for inner in group.groups]
        if not members:
            return "TRUE"
        if group.type in ("ALL", "ANY"):
            return (" AND " if group.type == "ALL" else " OR ").join(members)
        count = " + ".join(f"CAST({one} AS INTEGER)" for one in members)
        return f"({count}) {'>=' if group.type == 'AT_LEAST' else '<='} {group.count}"

    def _counts(self, one: Correlated, events: str) -> str:
        """event_key, n of a correlated criterion; an event without any is not among them."""
        within = " AND ".join(["a.person_id = p.person_id", *_windows(one)])
        query = self.events(one.criterion)
        found = f"FROM {events} p JOIN ({query}) a ON {within}"
        wanted = one.occurrence
        if wanted.distinct:
            return f"SELECT p.event_key, count(DISTINCT {COUNTED[wanted.column]}) AS n {found} GROUP BY p.event_key"
        if (wanted.type, wanted.count) in ((2, 1), (0, 0), (1, 0)):
            # Whether there is any is all that is asked: a semi-join, without a row for each.
            return f"SELECT p.event_key, 1 AS n FROM {events} p SEMI JOIN ({query}) a ON {within}"
        return f"SELECT p.event_key, count(*) AS n {found} GROUP BY p.event_key"


def _windows(one: Correlated) -> list[str]:
    conditions = []
    if not one.ignore_observation_period:
        conditions.append("a.e_start BETWEEN p.op_start AND p.op_end")
    for window in (one.start_window, one.end_window):
        if window is not None:
            conditions += _window(window, observed=not one.ignore_observation_period)
    if one.same_visit:
        conditions.append("a.e_visit = p.visit_id")
    return conditions


def _window(window: Window, *, observed: bool) -> list[str]:
    index = "p.end_date" if window.from_index_end else "p.start_date"
    event = "a.e_end" if window.of_event_end else "a.e_start"
    bounds = (
        (">=", _bound(window.start, index, observed=observed)),
        ("<=", _bound(window.end, index, observed=observed)),
    )
    return [f"{event} {sign} {bound}" for sign, bound in bounds if bound]


def _bound(endpoint: Endpoint, index: str, *, observed: bool) -> str:
    """A day relative to the index; all days reach to the end of observation, or without end."""
    if endpoint.days is None:
        return ("p.op_start" if endpoint.coeff == -1 else "p.op_end") if observed else ""
    return f"{index} + ({endpoint.coeff * endpoint.days})"


def _where(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""
