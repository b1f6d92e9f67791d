"""Quality rules as data: what a rule is, and the conditions it can hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

SEVERITIES = ("fatal", "major", "minor", "convention", "characterization")
"""Of trial rules the first three; of OMOP rules those of the OHDSI Data Quality Dashboard."""
COMBINE = ("any", "all", "none")
_COMMON = ("id", "domain", "check", "severity", "threshold", "message", "query", "where", "category")


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: Unique name.
        domain: Table it is about.
        check: Name of a check type in the registry.
        severity: One of SEVERITIES.
        threshold: Percent of the denominator that may violate it.
        message: What a violation means.
        query: Priority of the query each violating row raises, or "".
        where: Condition on the rows it is about; empty for all.
        arguments: What the check type needs besides.
        category: conformance, completeness or plausibility (Kahn and others, 2016).
    """

    id: str
    domain: str
    check: str
    severity: str
    threshold: float = 0.0
    message: str = ""
    query: str = ""
    where: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    category: str = ""


@dataclass(frozen=True)
class RuleBook:
    """Rules, the gate, the weight of each severity, and what a fatal failure caps the score at."""

    version: str
    rules: tuple[Rule, ...]
    gate: float
    fatal_cap: float
    weights: dict[str, float]
    limits: dict[str, Any] = field(default_factory=dict)

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(rule.id for rule in self.rules)


def parse(data: dict[str, Any], limits: dict[str, Any]) -> RuleBook:
    """Build a rule book from its data.

    Raises:
        TrialOpsError: A rule without id, domain, check or a known severity, or an id used twice.
    """
    rules = []
    for item in data["rules"]:
        if not {"id", "domain", "check"} <= set(item) or item.get("severity") not in SEVERITIES:
            raise TrialOpsError(
                "A quality rule is incomplete.",
                where=f"rule {item.get('id', '(no id)')}",
                fix=f"Give it id, domain, check and a severity: {', '.join(SEVERITIES)}.",
            )
        common = {k: item[k] for k in _COMMON if k in item}
        rules.append(Rule(**common, arguments={k: v for k, v in item.items() if k not in _COMMON}))
    ids = [rule.id for rule in rules]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        where = ", ".join(twice)
        raise TrialOpsError("Two quality rules share an id.", where=where, fix="Rename one of them.")
    weights = {name: float(w) for name, w in data["weights"].items()}
    gate, cap = float(data["gate"]), float(data["fatal_cap"])
    return RuleBook(str(data["version"]), tuple(rules), gate, cap, weights, limits)


@cache
def default_rules() -> RuleBook:
    """The rule book that ships with the platform."""
    import yaml

    here = Path(__file__)
    read = {n: yaml.safe_load(here.with_name(f"{n}.yaml").read_text("utf-8")) for n in ("rules", "limits")}
    return parse(read["rules"], read["limits"])


@cache
def anomaly_rules() -> RuleBook:
    """The rules that put the methods of anomalies.yaml to work on SDTM tables."""
    return _book("anomalies")


@cache
def source_rules() -> RuleBook:
    """The rules that lay SDTM tables beside their source."""
    return _book("source_rules")


def _book(name: str) -> RuleBook:
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text("utf-8")), {})


def condition(data: dict[str, Any]) -> pl.Expr:
    """Turn a condition into an expression that is true or false, never null. An empty condition is true.

    Raises:
        ValueError: The condition has a form that is not known.
    """
    import polars as pl

    terms: list[pl.Expr] = [pl.lit(True)]
    for name, wanted in data.items():
        if name in COMBINE:
            parts = [condition(part) for part in wanted]
            together = pl.all_horizontal(parts) if name == "all" else pl.any_horizontal(parts)
            terms.append(~together if name == "none" else together)
        elif wanted == "present":
            terms.append(pl.col(name).is_not_null())
        elif wanted == "missing":
            terms.append(pl.col(name).is_null())
        elif isinstance(wanted, list):
            terms.append(one_of(pl.col(name), wanted).fill_null(False))
        elif isinstance(wanted, dict) and wanted and set(wanted) <= {"min", "max"}:
            terms.append(within(pl.col(name), wanted.get("min"), wanted.get("max")).fill_null(False))
        else:
            raise ValueError(f"condition on {name} is not understood")
    return pl.all_horizontal(terms)


FEW_VALUES = 8


def one_of(value: pl.Expr, values: list[Any]) -> pl.Expr:
    """Whether a value is one of a list; null where it is null.

    A short list is compared value by value: on text that is many times faster than a search in a set.
    """
    import operator
    from functools import reduce

    import polars as pl

    if not isinstance(values, list) or not 0 < len(values) <= FEW_VALUES or None in values:
        return value.is_in(values)
    return reduce(operator.or_, (value == pl.lit(wanted) for wanted in values))


def within(value: pl.Expr, low: float | None, high: float | None) -> pl.Expr:
    """True where the value is inside the limits, both included; a limit of None does not bind."""
    import polars as pl

    inside = pl.lit(True) if low is None else value >= low
    return inside if high is None else inside & (value <= high)


def columns_of(data: dict[str, Any]) -> Iterator[str]:
    """Columns a condition reads."""
    for name, wanted in data.items():
        if name in COMBINE:
            for part in wanted:
                yield from columns_of(part)
        else:
            yield name
