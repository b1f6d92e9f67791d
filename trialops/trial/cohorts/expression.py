"""A cohort expression as typed data: what a definition means, whatever it was written in.

The parts and their names follow the OHDSI cohort expression (Circe, as ATLAS exports it). Two things are ours: a
concept set may also name source values and the study treatment, because a load without a vocabulary has concept 0
everywhere; and an expression may state that its dates are study days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

Limit = Literal["First", "Last", "All"]
GroupType = Literal["ALL", "ANY", "AT_LEAST", "AT_MOST"]
OCCURRENCE = {0: "=", 1: "<=", 2: ">="}
"""Type of an occurrence -> comparison with its count: exactly, at most, at least."""


@dataclass(frozen=True)
class NumberRange:
    """op is lt, lte, eq, !eq, gt, gte, bt or !bt; both ends of bt belong to it."""

    op: str
    value: float
    extent: float | None = None


@dataclass(frozen=True)
class DateRange:
    """As NumberRange, of days."""

    op: str
    value: date
    extent: date | None = None


@dataclass(frozen=True)
class TextFilter:
    """op is contains, startsWith or endsWith, each with ! before it for not; case counts."""

    op: str
    text: str


@dataclass(frozen=True)
class Concepts:
    """Concepts that a field may have: by id, or those of a concept set; `exclude` turns it round."""

    ids: tuple[int, ...] = ()
    codeset: int | None = None
    exclude: bool = False


Value = NumberRange | DateRange | TextFilter | Concepts | bool


@dataclass(frozen=True)
class DateAdjustment:
    """Start and end of an event moved: each from its start or end date, by a number of days."""

    start_with: str
    start_offset: int
    end_with: str
    end_offset: int


@dataclass(frozen=True)
class Criterion:
    """Events of one domain.

    Attributes:
        domain: Name as in ATLAS: ConditionOccurrence, Measurement, ...
        codeset: Concept set of the standard concept; None for any.
        source_codeset: Concept set of the source concept.
        first: Only the first in the person's history, before the other attributes are looked at.
        attributes: Name as in ATLAS -> what it must be.
        adjustment: How the event's dates are moved.
        period_start: ObservationPeriod: a day the period must hold, and starts on.
        period_end: The same for its end.
        correlated: What must hold around each event.
    """

    domain: str
    codeset: int | None = None
    source_codeset: int | None = None
    first: bool = False
    attributes: tuple[tuple[str, Value], ...] = ()
    adjustment: DateAdjustment | None = None
    period_start: date | None = None
    period_end: date | None = None
    correlated: Group | None = None


@dataclass(frozen=True)
class Endpoint:
    """One end of a window: so many days before (-1) or after (1); None is all days on that side."""

    days: int | None
    coeff: int


@dataclass(frozen=True)
class Window:
    """Days around the index within which a date of the event must lie, both ends included.

    Attributes:
        start: Its first day.
        end: Its last day.
        from_index_end: Counted from the index event's end instead of its start.
        of_event_end: It is the event's end that must lie in it.
    """

    start: Endpoint
    end: Endpoint
    from_index_end: bool = False
    of_event_end: bool = False


ALL_DAYS = Window(Endpoint(None, -1), Endpoint(None, 1))


@dataclass(frozen=True)
class Occurrence:
    """How many events: exactly (0), at most (1) or at least (2) `count`, of distinct values of `column` if asked."""

    type: int = 2
    count: int = 1
    distinct: bool = False
    column: str = "DOMAIN_CONCEPT"


@dataclass(frozen=True)
class Correlated:
    """A number of events within windows around the index event."""

    criterion: Criterion
    start_window: Window = ALL_DAYS
    end_window: Window | None = None
    occurrence: Occurrence = field(default_factory=Occurrence)
    same_visit: bool = False
    ignore_observation_period: bool = False


@dataclass(frozen=True)
class Demographic:
    """What the person must be at the index event."""

    attributes: tuple[tuple[str, Value], ...]


@dataclass(frozen=True)
class Group:
    """ALL, ANY, AT_LEAST or AT_MOST `count` of the members; one without members holds."""

    type: GroupType
    count: int = 0
    criteria: tuple[Correlated, ...] = ()
    demographics: tuple[Demographic, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.criteria) + len(self.demographics) + len(self.groups)


@dataclass(frozen=True)
class ConceptItem:
    """A concept of a set, with its descendants and the source concepts mapped to them, taken in or out."""

    concept: int
    descendants: bool = False
    mapped: bool = False
    excluded: bool = False


@dataclass(frozen=True)
class ConceptSet:
    """Concepts; beside them source values (whole, case aside), and the study treatment whatever it is."""

    id: int
    name: str
    items: tuple[ConceptItem, ...] = ()
    source_values: tuple[str, ...] = ()
    study_treatment: bool = False


@dataclass(frozen=True)
class Rule:
    """An inclusion rule."""

    name: str
    description: str
    group: Group


@dataclass(frozen=True)
class DateOffset:
    """Leaves so many days after the start or end of the index event, at the latest with the observation period."""

    date_field: Literal["StartDate", "EndDate"]
    offset: int


@dataclass(frozen=True)
class CustomEra:
    """Leaves when a continuous exposure ends: gaps up to `gap_days` are bridged, `offset` days are added."""

    codeset: int
    gap_days: int
    offset: int
    days_supply: int | None = None


@dataclass(frozen=True)
class Expression:
    """A cohort expression.

    Attributes:
        concept_sets: Named by id in criteria.
        primary: Any of these starts a membership.
        prior_days: Observation needed before it.
        post_days: And after it.
        primary_limit: Which of a person's events are looked at.
        additional: What restricts them further.
        qualified_limit: Which are looked at then; only where there is an additional restriction.
        rules: Inclusion rules, all of which must hold.
        expression_limit: Which of those left count.
        end: When somebody leaves; None: with the observation period.
        censoring: Events that end a membership.
        era_pad: Days between two memberships that still make them one.
        censor_start: First day that counts.
        censor_end: Last day that counts.
        study_days: Whether days in it are study days (2000-01-01 is day 1).
    """

    concept_sets: tuple[ConceptSet, ...]
    primary: tuple[Criterion, ...]
    prior_days: int = 0
    post_days: int = 0
    primary_limit: Limit = "All"
    additional: Group | None = None
    qualified_limit: Limit = "First"
    rules: tuple[Rule, ...] = ()
    expression_limit: Limit = "First"
    end: DateOffset | CustomEra | None = None
    censoring: tuple[Criterion, ...] = ()
    era_pad: int = 0
    censor_start: date | None = None
    censor_end: date | None = None
    study_days: bool = False

    @property
    def sets(self) -> Mapping[int, ConceptSet]:
        """Concept sets by id."""
        return {item.id: item for item in self.concept_sets}

    def criteria(self) -> Iterator[Criterion]:
        """Every criterion in it, however deep."""
        yield from self.primary
        yield from self.censoring
        for group in self.groups():
            for member in group.criteria:
                yield member.criterion

    def demographics(self) -> Iterator[Demographic]:
        """Every demographic criterion in it."""
        for group in self.groups():
            yield from group.demographics

    def groups(self) -> Iterator[Group]:
        """Every group in it, however deep."""
        waiting = [rule.group for rule in self.rules] + ([self.additional] if self.additional else [])
        waiting += [one.correlated for one in (*self.primary, *self.censoring) if one.correlated]
        while waiting:
            group = waiting.pop(0)
            yield group
            waiting += group.groups
            waiting += [one.criterion.correlated for one in group.criteria if one.criterion.correlated]
