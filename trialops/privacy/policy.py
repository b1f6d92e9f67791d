"""The column policy of de-identification, read from policy.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import generic

ACTIONS = ("keep", "drop", "pseudonymise", "day", "shift", "cap_age", "generalise")
MODES = ("strict", "limited", "off")


@dataclass(frozen=True)
class Rule:
    """What happens to one class of columns.

    Attributes:
        name: Name of the class.
        columns: Exact names, "--NAME" or patterns with "*".
        strict: Action in Safe Harbor mode.
        limited: Action for a limited data set.
        kind: Vault key space of a pseudonym.
        how: Variant of generalise.
        identifier: Letter of the identifier class, or "".
        results: Whether the columns hold measured values.
    """

    name: str
    columns: tuple[str, ...]
    strict: str
    limited: str
    kind: str = ""
    how: str = ""
    identifier: str = ""
    results: bool = False

    def action(self, mode: str) -> str:
        """The action in a mode; mode "off" keeps everything."""
        return {"strict": self.strict, "limited": self.limited}.get(mode, "keep")


@dataclass(frozen=True)
class Policy:
    """All rules, the age limit and the dates that mark first contact."""

    version: str
    rules: tuple[Rule, ...]
    age_over: int
    age_capped: int
    first_contact: dict[str, tuple[str, ...]]

    def rule(self, domain: str, column: str) -> Rule | None:
        """The rule for a column, None when the policy does not name it."""
        short = generic(domain, column)
        for name in (column, short):
            for rule in self.rules:
                if name in rule.columns:
                    return rule
        for rule in self.rules:
            if any("*" in pattern and fnmatchcase(column, pattern) for pattern in rule.columns):
                return rule
        return None


def parse(data: dict[str, Any]) -> Policy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: An unknown action, or a pseudonym without a key space.
    """
    rules = []
    for item in data["groups"]:
        rule = Rule(**{**item, "columns": tuple(item["columns"])})
        wrong = [a for a in (rule.strict, rule.limited) if a not in ACTIONS]
        if wrong or ("pseudonymise" in (rule.strict, rule.limited) and not rule.kind):
            raise TrialOpsError(
                "A group of the de-identification policy is not usable.",
                where=f"policy group {rule.name}",
                fix=f"Use the actions {', '.join(ACTIONS)}, and give every pseudonymised group a kind.",
            )
        rules.append(rule)
    contact = {domain: tuple(columns) for domain, columns in data["first_contact"].items()}
    return Policy(str(data["version"]), tuple(rules), int(data["age_over"]), int(data["age_capped"]), contact)


@cache
def default_policy() -> Policy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("policy.yaml").read_text("utf-8")))
