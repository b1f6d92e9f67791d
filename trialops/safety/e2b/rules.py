"""FDA's rejection and warning rules on an E2B(R3) message, kept as data in rules.yaml and evaluated here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath
from typing import Any

from trialops.safety.e2b.rule_language import (
    Condition,
    Facts,
    Path,
    Report,
    Scope,
    compile_condition,
    elements_in,
    groups_of,
)

REJECTION, WARNING = "rejection", "warning"


@dataclass(frozen=True, order=True)
class Finding:
    """A rule that does not hold.

    Attributes:
        severity: "rejection" or "warning".
        rule: FDA's error id, or a name of ours for a check that has none.
        element: Element number.
        repeat: Where: "G.k 1, G.k.4.r 2", from 1; empty where it is about the report.
        message: What is wrong; no value of the message.
        fix: What to do.
        report: Which message of the batch, from 1.
    """

    severity: str
    rule: str
    element: str
    repeat: str
    message: str
    fix: str
    report: int = 1


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: FDA's error id; the element number where FDA gives none.
        severity: "rejection" or "warning".
        element: The element a finding is about.
        group: The repeat it is checked in; empty for the report.
        when: Where it applies, as written.
        need: What must hold there, as written.
        say: What is wrong when it does not.
        facts: What the caller must know for the rule to be checked in full.
        why: Why the message alone does not tell.
    """

    id: str
    severity: str
    element: str
    group: str
    when: str
    need: str
    say: str
    facts: tuple[str, ...] = ()
    why: str = ""

    def elements(self) -> frozenset[str]:
        """The elements its conditions look at."""
        return elements_in(self.when) | elements_in(self.need) | {self.element}


@cache
def document() -> dict[str, Any]:
    """The rule file."""
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(FilePath(__file__).with_name("rules.yaml").read_text("utf-8"))
    return loaded


@cache
def rules() -> tuple[Rule, ...]:
    """All rules, by id."""
    return tuple(sorted((*_pairs(), *_written()), key=lambda rule: rule.id))


def _pairs() -> Iterator[Rule]:
    for key, (given, needed) in document()["together"].items():
        shared = [a for a, b in zip(groups_of(given), groups_of(needed), strict=False) if a == b]
        yield Rule(
            id=key,
            severity=_severity(key),
            element=needed,
            group=shared[-1] if shared else "",
            # A null flavour says something of an element that may have one: it counts as given.
            when=f"{given} stated",
            need=f"{needed} stated",
            say=f"{needed} is missing and goes with {given}",
        )


def _written() -> Iterator[Rule]:
    for key, item in document()["rules"].items():
        yield Rule(
            id=key,
            severity=item.get("severity") or _severity(key),
            element=item["of"],
            group=item.get("for", ""),
            when=item.get("when", ""),
            need=item["need"],
            say=item["say"],
            facts=tuple(item.get("facts", ())),
            why=item.get("why", ""),
        )


def _severity(key: str) -> str:
    return WARNING if key.startswith("W") else REJECTION


@cache
def _compiled() -> tuple[tuple[Rule, Condition, Condition], ...]:
    sets = document()["sets"]
    return tuple(
        (rule, compile_condition(rule.when, sets) if rule.when else _always, compile_condition(rule.need, sets))
        for rule in rules()
    )


def _always(scope: Scope) -> bool:
    return True


def unchecked(facts: Facts) -> tuple[Rule, ...]:
    """The rules that cannot be checked in full with what is known; the message receiver tells the route as a rule."""
    known = facts.known() | {"route"}
    return tuple(rule for rule in rules() if not set(rule.facts) <= known)


def check_rules(report: Report, *, number: int = 1) -> Iterator[Finding]:
    """The published rules that do not hold for a report."""
    for rule, when, need in _compiled():
        for scope in _scopes(report, rule.group):
            if not when(scope):
                continue
            scope.blame.clear()
            if not need(scope):
                yield _finding(rule, scope, number)


def _scopes(report: Report, group: str) -> Sequence[Scope]:
    whole = Scope(report)
    return whole.inner(group) if group else [whole]


def _finding(rule: Rule, scope: Scope, number: int) -> Finding:
    path = scope.path or (min(scope.blame) if scope.blame else ())
    return Finding(
        severity=rule.severity,
        rule=rule.id,
        element=rule.element,
        repeat=repeat_text(rule.element, path),
        message=rule.say,
        fix=_fix(rule),
        report=number,
    )


def _fix(rule: Rule) -> str:
    condition = f" (applies when {' '.join(rule.when.split())})" if rule.when else ""
    return f"Make it so that {' '.join(rule.need.split())}{condition}."


def repeat_text(number: str, path: Path) -> str:
    """A place in words: the groups of an element with their repeats, from 1."""
    return ", ".join(f"{group} {index}" for group, index in zip(groups_of(number), path, strict=False))
