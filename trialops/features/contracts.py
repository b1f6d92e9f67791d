"""Contracts of features as data: unit, range and share missing, checked on every build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.models.task import Reader, read_yaml

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions

SHIPPED = Path(__file__).with_name("contracts.yaml")
MET, BREACHED, ABSENT, UNJUDGED = "met", "breached", "absent", "too few subjects"


@dataclass(frozen=True)
class Contract:
    """What holds for one feature: unit, least and greatest value, greatest share missing."""

    unit: str
    low: float
    high: float
    most_missing: float


@dataclass(frozen=True)
class Contracts:
    """The file.

    Attributes:
        version: Stated in it.
        most_outside: Share of known values that may lie outside their range.
        most_restated: Share of subjects whose past a new build may rewrite.
        min_subjects: Subjects from which shares missing are judged.
        features: Feature -> contract.
        digest: SHA-256 of the content.
    """

    version: int
    most_outside: float
    most_restated: float
    min_subjects: int
    features: Mapping[str, Contract]
    digest: str


@dataclass(frozen=True)
class Checked:
    """One feature against its contract.

    Attributes:
        feature: Its name.
        state: "met", "breached", "absent" (of the build) or "too few subjects".
        breaches: What was breached, in words without a value of a subject.
        known: Subjects with a value.
        subjects: Subjects.
        outside: Values outside the range.
        unit: The contract's.
    """

    feature: str
    state: str
    breaches: tuple[str, ...]
    known: int
    subjects: int
    outside: int
    unit: str


def load_contracts(path: Path = SHIPPED) -> Contracts:
    """Load and check the contracts.

    Raises:
        TrialOpsError: The file is missing or a key is missing, unknown or out of range.
    """
    content = read_yaml(path)
    top = Reader(content, path)
    listed = top.section("contracts")
    features = {}
    for name in listed.content:
        one = listed.section(str(name))
        low, high = one.number("low", -1e12, 1e12), one.number("high", -1e12, 1e12)
        if low >= high:
            raise one.refuse("high", "The range is empty.", "Give a greatest value above the least one.")
        features[str(name)] = Contract(one.get("unit", str), low, high, one.number("most_missing", 0.0, 1.0))
        one.done()
    contracts = Contracts(
        version=top.whole("version", 1),
        most_outside=top.number("most_outside", 0.0, 1.0),
        most_restated=top.number("most_restated", 0.0, 1.0),
        min_subjects=top.whole("min_subjects", 1),
        features=features,
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
    )
    top.done()
    return contracts


def stated_units(definitions: Definitions) -> dict[str, tuple[str, ...]]:
    """Feature -> units the definitions state, of attributes and of measurements in their own unit."""
    units: dict[str, tuple[str, ...]] = {}
    for view in definitions.views.values():
        if view.kind == "attributes":
            units |= {name: (attribute.unit,) for name, attribute in view.features.items()}
        if view.kind == "measurements":
            for name, test in view.tests.items():
                units[name] = test.units
                units |= {f"{name}_{statistic}": test.units for statistic in ("change", "sd")}
    return units


def check(
    latest: pl.DataFrame, definitions: Definitions, contracts: Contracts, wanted: Sequence[str] = ()
) -> list[Checked]:
    """Check every feature that has a contract, on the latest row of each subject.

    Args:
        latest: One row per subject with the features of all views.
        definitions: The definitions the build was made with, for the units.
        contracts: The contracts.
        wanted: Features a model uses: without a contract they are listed as breached.

    Returns:
        One entry per contract, in the file's order, then the wanted features without one.
    """
    units, n = stated_units(definitions), latest.height
    found = []
    for name, contract in contracts.features.items():
        breaches = []
        stated = units.get(name)
        if stated is not None and contract.unit not in stated:
            breaches.append(f"unit {contract.unit}, the definitions have {', '.join(stated)}")
        if name not in latest.columns:
            found.append(Checked(name, BREACHED if breaches else ABSENT, tuple(breaches), 0, n, 0, contract.unit))
            continue
        values = latest[name].drop_nulls()
        outside = int((~values.is_between(contract.low, contract.high)).sum())
        if outside > contracts.most_outside * len(values):
            breaches.append(f"values outside {contract.low:g} to {contract.high:g} {contract.unit}")
        enough = n >= contracts.min_subjects
        if enough and n - len(values) > contract.most_missing * n:
            breaches.append(f"missing in {1 - len(values) / n:.0%}, {contract.most_missing:.0%} at most")
        state = BREACHED if breaches else MET if enough else UNJUDGED
        found.append(Checked(name, state, tuple(breaches), len(values), n, outside, contract.unit))
    without = [name for name in wanted if name not in contracts.features]
    return found + [
        Checked(name, BREACHED, ("a model uses it and it has no contract",), 0, n, 0, "") for name in without
    ]
