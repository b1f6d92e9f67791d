"""What the standard says about data sets and variables: SDTMIG names, labels, roles, origins, code lists, keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError

ROLES = {
    "I": "Identifier",
    "T": "Topic",
    "W": "Timing",
    "G": "Grouping Qualifier",
    "S": "Synonym Qualifier",
    "R": "Record Qualifier",
    "V": "Variable Qualifier",
    "X": "Result Qualifier",
    "K": "Rule",
}
ORIGINS = {
    "c": ("Collected", "Investigator"),
    "v": ("Collected", "Vendor"),
    "a": ("Assigned", "Sponsor"),
    "d": ("Derived", "Sponsor"),
    "p": ("Protocol", "Sponsor"),
}
_KINDS = {"C": "text", "N": "number", "D": "time", "P": "duration"}


@dataclass(frozen=True)
class Variable:
    """One SDTM variable as the standard describes it.

    Attributes:
        name: Its name in a data set.
        kind: "text", "number", "time" (ISO 8601) or "duration" (ISO 8601).
        role: SDTM role.
        origin: Type and source of its origin.
        code_list: Name of its code list, "*" for one of its own, or nothing.
        method: Name of the method that derives it, or nothing.
        label: At most 40 characters.
    """

    name: str
    kind: str
    role: str
    origin: tuple[str, str]
    code_list: str
    method: str
    label: str


@dataclass(frozen=True)
class Structure:
    """One data set as the standard describes it: label, observation class, what a record is, key variables."""

    label: str
    observation_class: str
    structure: str
    keys: tuple[str, ...]


@cache
def rules() -> Mapping[str, Any]:
    """submission.yaml: limits, access, structures, code lists, methods."""
    import yaml

    loaded: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_name("submission.yaml").read_text("utf-8"))
    return loaded


@cache
def _variables() -> Mapping[str, tuple[str, str, str, str, str]]:
    found = {}
    for line in Path(__file__).with_name("sdtm_variables.txt").read_text("utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, kind, role, origin, linked, label = line.split(maxsplit=5)
            found[name] = (kind, role, origin, linked, label)
    return found


def domain_of(name: str) -> str:
    """The domain of a data set: LB for LB, LBCH (a split one) and SUPPLB's parent."""
    if name in rules()["datasets"]:
        return name
    if name.startswith("SUPP"):
        return name[4:6]
    return name[:2]


def structure_of(name: str) -> Structure:
    """What the standard says about a data set.

    Raises:
        TrialOpsError: The data set is none we know.
    """
    known = rules()["datasets"]
    key = "SUPP" if name.startswith("SUPP") else name if name in known else name[:2]
    if key not in known:
        raise TrialOpsError(
            f"Data set {name} is not one that a submission can describe",
            where=name,
            fix="Add it to datasets in trialops/regulatory/submission.yaml: label, class, structure, keys.",
        )
    item = known[key]
    label = f"{item['label']} {name[4:]}" if key == "SUPP" else item["label"]
    return Structure(label, item["class"], item["structure"], tuple(item["keys"]))


def variable_of(domain: str, name: str) -> Variable:
    """What the standard says about a variable.

    Args:
        domain: Two-letter domain, or the data set's name where it has none.
        name: The variable.

    Raises:
        TrialOpsError: The variable is none we know: a submission may not hold a column it cannot describe.
    """
    known = _variables()
    generic = "--" + name[2:] if name.startswith(domain) and len(name) > len(domain) == 2 else ""
    item = known.get(name) or known.get(generic)
    if item is None:
        raise TrialOpsError(
            f"Variable {name} is not one that a submission can describe",
            where=f"data set {domain}",
            fix="Move it to SUPP--, drop it, or add it to trialops/regulatory/sdtm_variables.txt.",
        )
    kind, role, origin, linked, label = item
    code_list, _, method = linked.replace("-", "").partition("@")
    if code_list == "*":
        code_list = f"*{name}"
    return Variable(name, _KINDS[kind], ROLES[role], ORIGINS[origin], code_list, method, label)
