"""The column policy of de-identification, read from policy.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.intake.domains import generic

ACTIONS = ("keep", "drop", "pseudonymise", "day", "shift", "cap_age", "age_years", "coded", "generalise")
SEARCHES = ("", "identifier", "name", "record", "date")
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
        search: How the raw values are looked for in the clean tables, see `needles`; "" not at all.
        results: Whether the columns hold measured values or codes.
    """

    name: str
    columns: tuple[str, ...]
    strict: str
    limited: str
    kind: str = ""
    how: str = ""
    identifier: str = ""
    search: str = ""
    results: bool = False

    def action(self, mode: str) -> str:
        """The action in a mode; mode "off" keeps everything."""
        return {"strict": self.strict, "limited": self.limited}.get(mode, "keep")


@dataclass(frozen=True)
class DataCut:
    """How the study day of the data cut is made coarse, see `trialops.privacy.data_cut`.

    Attributes:
        subjects: The cut is the latest day that the dates of so many subjects reach.
        step: Days; the study day of the cut is rounded down to a multiple.
        most: Days; longer follow-up is shown as this.
    """

    subjects: int = 3
    step: int = 14
    most: int = 728


@dataclass(frozen=True)
class Policy:
    """All rules, the age limit, the dates that mark first contact, and the words that identify nobody.

    Attributes:
        version: Version of the policy.
        rules: What happens to which columns.
        age_over: The last age in years that is shown as it is.
        age_capped: What stands for every older age.
        first_contact: Domain -> date columns.
        result_terms: Results other than numbers that may stay, upper case.
        common_words: Words that are no trace of a person even where one is named so, upper case.
        unsearched: Columns of the study as a whole, not searched for identifiers.
        data_cut: How the study day of the data cut is made coarse.
    """

    version: str
    rules: tuple[Rule, ...]
    age_over: int
    age_capped: int
    first_contact: dict[str, tuple[str, ...]]
    result_terms: tuple[str, ...] = ()
    common_words: tuple[str, ...] = ()
    unsearched: tuple[str, ...] = ()
    data_cut: DataCut = DataCut()

    @property
    def days_over_age(self) -> int:
        """Days before day 1 that only somebody over the age limit can have lived."""
        return 365 * self.age_over

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
        TrialOpsError: An unknown action or search, or a pseudonym without a key space.
    """
    rules = []
    for item in data["groups"]:
        rule = Rule(**{**item, "columns": tuple(item["columns"])})
        wrong = [a for a in (rule.strict, rule.limited) if a not in ACTIONS]
        nameless = "pseudonymise" in (rule.strict, rule.limited) and not rule.kind
        if wrong or nameless or rule.search not in SEARCHES:
            raise TrialOpsError(
                "A group of the de-identification policy is not usable.",
                where=f"policy group {rule.name}",
                fix=f"Use the actions {', '.join(ACTIONS)}; give every pseudonymised group a kind; as search use "
                f"one of {', '.join(SEARCHES[1:])}.",
            )
        rules.append(rule)
    contact = {domain: tuple(columns) for domain, columns in data["first_contact"].items()}
    return Policy(
        version=str(data["version"]),
        rules=tuple(rules),
        age_over=int(data["age_over"]),
        age_capped=int(data["age_capped"]),
        first_contact=contact,
        result_terms=tuple(str(t).upper() for t in data.get("result_terms", [])),
        common_words=tuple(str(w).upper() for w in data.get("common_words", [])),
        unsearched=tuple(data.get("unsearched", [])),
        data_cut=DataCut(**data.get("data_cut", {})),
    )


@cache
def default_policy() -> Policy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("policy.yaml").read_text("utf-8")))
