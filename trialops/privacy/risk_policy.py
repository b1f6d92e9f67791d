"""Thresholds and quasi-identifiers of residual risk, read from risk.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError


@dataclass(frozen=True)
class Gate:
    """Thresholds of one kind of release; None is not judged. See risk.yaml."""

    k: int | None = None
    prosecutor: float | None = None
    journalist: float | None = None
    marketer: float | None = None
    l: float | None = None  # noqa: E741 - the letter of the method
    entropy_l: float | None = None
    t: float | None = None
    suppress: float = 0.0
    least: int = 1


@dataclass(frozen=True)
class Declared:
    """What is declared of one data set: subject column, quasi-identifiers, sensitive columns, ladders."""

    subject: str
    quasi: tuple[str, ...]
    sensitive: tuple[str, ...]
    ordered: tuple[str, ...]
    ladders: Mapping[str, tuple[Mapping[str, Any], ...]]


@dataclass(frozen=True)
class RiskPolicy:
    """The policy: version, decimals of comparison, data sets, gates."""

    version: str
    decimals: int
    data_sets: Mapping[str, Declared]
    gates: Mapping[str, Gate]

    def gate(self, name: str) -> Gate:
        """Thresholds of a kind of release.

        Raises:
            TrialOpsError: There is none of that name.
        """
        return _find(self.gates, name, "release")

    def declared(self, name: str) -> Declared:
        """Quasi-identifiers of a data set.

        Raises:
            TrialOpsError: It is not declared.
        """
        return _find(self.data_sets, name.lower(), "data set")


def _find(items: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in items:
        raise TrialOpsError(
            f"The risk policy has no {what} {name!r}.", where="risk.yaml", fix=f"Use one of {', '.join(sorted(items))}."
        )
    return items[name]


@cache
def default_risk_policy() -> RiskPolicy:
    """The policy that ships with the platform."""
    import yaml

    data = yaml.safe_load(Path(__file__).with_name("risk.yaml").read_text("utf-8"))
    sets = {
        name: Declared(
            item["subject"],
            tuple(item["quasi"]),
            tuple(item["sensitive"]),
            tuple(item["ordered"]),
            {column: tuple(rungs) for column, rungs in item["ladders"].items()},
        )
        for name, item in data["data_sets"].items()
    }
    return RiskPolicy(
        str(data["version"]), int(data["decimals"]), sets, {n: Gate(**g) for n, g in data["gates"].items()}
    )
