"""The attribute confidentiality profiles of DICOM PS3.15 Annex E as data, and how a compound action is resolved.

Actions: X remove; Z zero length (or a dummy); D a dummy that is not empty; U another UID, the same wherever it stands;
K keep; C clean. A compound action (X/Z, X/D, X/Z/D, Z/D, X/Z/U*) depends on the type the attribute has in the object's
IOD. That type is not known for every IOD, private and future ones included, so the choice here is the one that is
valid for every type: Z for X/Z, D for X/D, X/Z/D and Z/D, and U* (identifiers inside replaced, everything inside
treated by the profile) for X/Z/U*. A dummy says nothing, so it is as protective as removal. An attribute that is
optional in every IOD is removed (`OPTIONAL`).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from trialops.errors import TrialOpsError

Action = Literal["X", "Z", "D", "U", "U*", "K", "C"]
FILE = Path(__file__).with_name("dicom_profile.csv")

VALID_FOR_EVERY_TYPE: Mapping[str, Action] = {
    "X": "X", "Z": "Z", "D": "D", "U": "U", "X/Z": "Z", "X/D": "D", "X/Z/D": "D", "Z/D": "D", "X/Z/U*": "U*",
}  # fmt: skip
OPTIONAL = {0x00080012: "X", 0x00080013: "X"}
"""Instance Creation Date and Time are type 3 in the SOP Common module, which every composite IOD has."""


@dataclass(frozen=True)
class Option:
    """An option of the profile.

    Attributes:
        code: Its code in DICOM's own scheme (DCM), for (0012,0064).
        meaning: Code meaning.
        column: Column of the profile table.
        safe_harbor: Whether it may be used where no date but the year and no device number may remain.
    """

    code: str
    meaning: str
    column: str
    safe_harbor: bool


BASIC = Option("113100", "Basic Application Confidentiality Profile", "basic", True)
OPTIONS: Mapping[str, Option] = {
    "clean_descriptors": Option("113105", "Clean Descriptors Option", "descriptors", True),
    "modified_dates": Option(
        "113107", "Retain Longitudinal Temporal Information Modified Dates Option", "modified_dates", False
    ),
    "patient_characteristics": Option("113108", "Retain Patient Characteristics Option", "patient", True),
    "device_identity": Option("113109", "Retain Device Identity Option", "device", False),
    "institution_identity": Option("113112", "Retain Institution Identity Option", "institution", False),
    "safe_private": Option("113111", "Retain Safe Private Option", "private", True),
}
"""Those offered. Full dates and original UIDs are not; pixels are not cleaned but refused (see dicom_deidentify)."""


@dataclass(frozen=True)
class Profile:
    """Rows of the table by tag; keys are 8 hexadecimal digits, x for any digit, or "private"."""

    rows: Mapping[str, Mapping[str, str]]

    def row(self, tag: int) -> Mapping[str, str] | None:
        """The row an attribute falls under; None where the profile does not name it."""
        group = tag >> 16
        if group % 2:
            return self.rows["private"]
        key = f"{tag:08x}"
        exact = self.rows.get(key)
        if exact is not None:
            return exact
        if 0x5000 <= group <= 0x50FF:
            return self.rows["50xxxxxx"]
        if 0x6000 <= group <= 0x60FF:
            return self.rows.get(f"60xx{key[4:]}")
        return None

    def action(self, tag: int, options: frozenset[str]) -> Action | None:
        """What to do with an attribute; None where the profile does not name it.

        Of several options that speak of it, one that cleans goes before one that keeps.
        """
        row = self.row(tag)
        if row is None:
            return None
        wanted = {row[OPTIONS[name].column] for name in options}
        if "C" in wanted:
            return "C"
        if "K" in wanted:
            return "K"
        if tag in OPTIONAL:
            return "X"
        return VALID_FOR_EVERY_TYPE[row["basic"]]


@lru_cache(maxsize=1)
def profile() -> Profile:
    """The table as shipped."""
    with FILE.open(encoding="ascii", newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    return Profile({row["tag"]: row for row in rows})


def check_options(options: frozenset[str], mode: str) -> None:
    """Whether options exist and may be used under a privacy mode.

    Raises:
        TrialOpsError: One does not, or may not.
    """
    unknown = sorted(options - set(OPTIONS))
    if unknown:
        raise TrialOpsError(
            f"There is no option {', '.join(unknown)} of the DICOM profile.",
            where="options",
            fix=f"Use some of: {', '.join(sorted(OPTIONS))}.",
        )
    barred = sorted(o for o in options if not OPTIONS[o].safe_harbor) if mode == "strict" else []
    if barred:
        raise TrialOpsError(
            f"Safe Harbor does not allow the option {', '.join(barred)}.",
            where="HIPAA_COMPLIANCE_MODE",
            fix="Leave it out, or use limited under a data use agreement.",
        )
