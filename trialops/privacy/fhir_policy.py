"""The element policy of FHIR de-identification: what each element is, and what happens to it.

The elements of R4 and their data types are in fhir_elements.txt, what happens to them in fhir_policy.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

ACTIONS = frozenset(
    {
        "keep",
        "drop",
        "inside",
        "text",
        "term",
        "phrase",
        "date",
        "instant",
        "birth",
        "age",
        "zip",
        "state",
        "reference",
        "identifier",
        "extension",
        "uri",
        "attachment",
        "contained",
        "uid",
        "label",
        "twin",
    }
)


@dataclass(frozen=True)
class Element:
    """One element of a type.

    Attributes:
        type: Its data type.
        many: Whether it repeats.
        required: Whether FHIR demands it.
        owner: The type that declares it: for an inherited element, the base.
    """

    type: str
    many: bool
    required: bool
    owner: str


@dataclass(frozen=True)
class Treatment:
    """What happens to an element: the action in each mode, and the identifier classes it can carry."""

    strict: str
    limited: str
    identifier: str = ""

    def action(self, mode: str) -> str:
        """The action in a mode."""
        return self.limited if mode == "limited" else self.strict


@dataclass(frozen=True)
class FhirPolicy:
    """The whole policy.

    Attributes:
        version: Of the policy.
        zip3_version: Of the table of restricted three-digit areas.
        restricted: Three-digit areas shown as 000.
        age_over: The last age in years that is shown as it is.
        age_capped: What stands for every older age.
        phrase: Longest name of a concept, in characters.
        age_codes: LOINC codes whose result is an age in years.
        types: Data type -> treatment.
        elements: Path -> treatment; wins over the type.
        extensions: URL -> nested extensions that stay; None where all of the extension's value stays.
        withheld: Resource type -> why it is not released.
        uris: What a URI that stays begins with.
    """

    version: str
    zip3_version: str
    restricted: frozenset[str]
    age_over: int
    age_capped: int
    phrase: int
    age_codes: frozenset[str]
    types: Mapping[str, Treatment]
    elements: Mapping[str, Treatment]
    extensions: Mapping[str, frozenset[str] | None]
    withheld: Mapping[str, str]
    uris: tuple[str, ...]

    def treatment(self, path: str, name: str, element: Element) -> Treatment | None:
        """What happens to an element, None when the policy has no word on it.

        Args:
            path: Of the type it stands in, "Observation.component" or "HumanName".
            name: The element's name.
            element: What it is.
        """
        for key in (f"{path}.{name}", f"{element.owner}.{name}"):
            if key in self.elements:
                return self.elements[key]
        return self.types.get(element.type) or (Treatment("inside", "inside") if element.type in elements() else None)

    def three_digits(self, postal: str, country: str) -> str:
        """The part of a US ZIP code that Safe Harbor lets stay; empty where there is none.

        Args:
            postal: ZIP or ZIP+4.
            country: As in the address; empty counts as the United States.
        """
        digits = postal.strip()[:5]
        if country.strip().upper() not in ("", "US", "USA", "UNITED STATES", "UNITED STATES OF AMERICA"):
            return ""
        if not (digits[:3].isascii() and digits[:3].isdigit() and len(digits) >= 3 and digits.isdigit()):
            return ""
        return "000" if digits[:3] in self.restricted else digits[:3]


def parse(data: Mapping[str, Any]) -> FhirPolicy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: An unknown action, or an element that is not in the element table.
    """
    types = {name: _treatment(name, item) for name, item in data["types"].items()}
    special = {path: _treatment(path, item) for path, item in data["elements"].items()}
    known = {f"{path}.{name}" for type_ in elements() for name in elements()[type_] for path in (path_of(type_), type_)}
    for path in special:
        if path not in known:
            raise TrialOpsError(
                "The FHIR policy names an element that does not exist.",
                where=f"fhir_policy.yaml, {path}",
                fix="Correct the path, or add the element to fhir_elements.txt.",
            )
    return FhirPolicy(
        version=str(data["version"]),
        zip3_version=str(data["zip3"]["version"]),
        restricted=frozenset(str(p) for p in data["zip3"]["restricted"]),
        age_over=int(data["age_over"]),
        age_capped=int(data["age_capped"]),
        phrase=int(data["phrase"]),
        age_codes=frozenset(data["age_codes"]),
        types=types,
        elements=special,
        extensions={
            url: frozenset(item["parts"]) if "parts" in item else None for url, item in data["extensions"].items()
        },
        withheld=dict(data["withheld"]),
        uris=tuple(data["uris"]),
    )


def _treatment(name: str, item: Mapping[str, str]) -> Treatment:
    made = Treatment(item["strict"], item.get("limited", item["strict"]), item.get("identifier", ""))
    if not {made.strict, made.limited} <= ACTIONS:
        raise TrialOpsError(
            "A line of the FHIR policy is not usable.",
            where=f"fhir_policy.yaml, {name}",
            fix=f"Use the actions {', '.join(sorted(ACTIONS))}.",
        )
    return made


@cache
def default_fhir_policy() -> FhirPolicy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("fhir_policy.yaml").read_text("utf-8")))


@cache
def elements() -> Mapping[str, Mapping[str, Element]]:
    """Type -> element name -> element, inherited ones included; from fhir_elements.txt."""
    bases, own = _lines()
    made: dict[str, dict[str, Element]] = {}

    def of(name: str) -> dict[str, Element]:
        if name not in made:
            base = bases[name]
            made[name] = {**(of(base) if base else {}), **own[name]}
        return made[name]

    for name in own:
        of(name)
    return made


@cache
def _lines() -> tuple[dict[str, str], dict[str, dict[str, Element]]]:
    bases: dict[str, str] = {}
    own: dict[str, dict[str, Element]] = {}
    for line in Path(__file__).with_name("fhir_elements.txt").read_text("ascii").splitlines():
        if not line or line.startswith("#"):
            continue
        head, *rest = line.split(" ")
        name, _, base = head.partition("<")
        bases[name] = base
        own[name] = {}
        for item in rest:
            element, _, kind = item.partition(":")
            own[name][element] = Element(kind.rstrip("*!"), "*" in kind, kind.endswith("!"), name)
    return bases, own


@cache
def resource_types() -> frozenset[str]:
    """Types that can be released."""
    bases, _ = _lines()
    return frozenset(n for n, b in bases.items() if b in ("DomainResource", "Resource")) - {
        "DomainResource",
        "Resource",
    }


@cache
def _paths() -> Mapping[str, str]:
    """Backbone type -> its path in FHIR's notation."""
    bases, own = _lines()
    found: dict[str, str] = {}
    waiting = [(name, name) for name in sorted(own) if bases[name] not in ("BackboneElement",)]
    while waiting:
        name, path = waiting.pop()
        if found.setdefault(name, path) != path:
            continue
        for element, item in own[name].items():
            if bases.get(item.type) == "BackboneElement" and item.type not in found and item.type.startswith(name[:4]):
                waiting.append((item.type, f"{path}.{element}"))
    return found


def path_of(type_: str) -> str:
    """The path of a type: "Observation.component" for ObservationComponent, else its own name."""
    return _paths().get(type_, type_)
