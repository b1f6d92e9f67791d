"""Grading criteria as data: the language they are written in, and the criteria of a version.

ctcae.yaml says how a condition is written; a reader who can check it against the NCI's text needs no Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from trialops.errors import TrialOpsError

Operator = Literal["<", "<=", ">", ">="]
Measure = Literal["value", "ULN", "LLN", "baseline", "decrease %", "increase %", "decrease", "increase"]
When = Literal["", "baseline normal", "baseline abnormal", "baseline above ULN", "baseline not above ULN", "below LLN"]
VERSIONS = ("4.03", "5.0")
FILES = {"LB": "ctcae.yaml", "VS": "vitals.yaml", "EG": "vitals.yaml"}

_NUMBER = r"\d+(?:\.\d+)?"
_LIST = rf"{_NUMBER}(?:\s*\|\s*{_NUMBER})*"
_CONDITION = re.compile(
    rf"""^(?:(?P<change>decrease|increase)\s*)?
    (?P<op><=|>=|<|>)\s*
    (?:(?P<factor>{_NUMBER})\s*)?(?P<of>ULN|LLN|baseline)?(?:\s*\+\s*(?P<plus>{_LIST}))?
    (?P<more>(?:\s*\|\s*{_NUMBER})*)\s*(?P<percent>%)?
    (?:\s*if\s+(?P<when>.+))?$""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Condition:
    """One condition of a grade.

    Attributes:
        op: How the result (or its change) compares with the limit.
        of: What the limit is a multiple of; "value" for an absolute limit; a change for itself.
        factor: Multiple of ULN, LLN or baseline; per cent or amount of a change.
        amounts: Absolute limits, or what is added to ULN or baseline: one for each unit of the criterion.
        when: Only then.
    """

    op: Operator
    of: Measure
    factor: float = 1.0
    amounts: tuple[float, ...] = ()
    when: When = ""

    @property
    def uses_baseline(self) -> bool:
        """Whether it cannot be told without a baseline."""
        return self.of not in ("value", "ULN", "LLN") or self.when.startswith("baseline")


@dataclass(frozen=True)
class Criterion:
    """One term in one version.

    Attributes:
        term: As the terminology has it.
        direction: "low" or "high": which side of normal it is on.
        tests, loinc: SDTM test codes and LOINC codes it grades.
        units: UCUM codes that `amounts` are in.
        us: Conventional unit where the text prints none.
        unitless: The result is a plain number (INR, pH).
        specimen: "blood", or "stated" where the table must say so.
        fasting: True or False where it grades fasting or other specimens alone.
        requires: Limits of normal without which nothing is graded.
        assumes: What the grades suppose that the result cannot say.
        grades, alone: Conditions by grade, with what is assumed and without.
        citation: Where the limits come from.
    """

    term: str
    version: str
    direction: Literal["low", "high"]
    tests: tuple[str, ...]
    grades: Mapping[int, tuple[Condition, ...]]
    alone: Mapping[int, tuple[Condition, ...]]
    citation: str
    loinc: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    us: str = ""
    unitless: bool = False
    specimen: str = "blood"
    fasting: bool | None = None
    requires: tuple[str, ...] = ()
    assumes: str = ""

    @property
    def uses_baseline(self) -> bool:
        """Whether any condition looks at the baseline."""
        return any(c.uses_baseline for rules in self.grades.values() for c in rules)


@dataclass(frozen=True)
class Criteria:
    """The criteria of one version and domain.

    Attributes:
        items: Sorted by term, then test.
        text_only: Term to what it is graded by: terms of these tests that no result can grade.
        digits: Significant digits of a comparison.
        digest: SHA-256 of the document they come from.
    """

    version: str
    domain: str
    items: tuple[Criterion, ...]
    text_only: Mapping[str, str]
    digits: int
    digest: str


def condition(text: str, units: int = 0) -> Condition:
    """Read a condition as ctcae.yaml has it.

    Args:
        text: For example ``> 3 ULN if baseline normal``.
        units: How many units the criterion names: an absolute limit has a number for each.

    Raises:
        TrialOpsError: It is none, or has another count of numbers.
    """
    found = _CONDITION.match(text.strip())
    part = found.groupdict() if found else {}
    when = (part.get("when") or "").strip()
    if not found or when not in get_args(When):
        raise TrialOpsError(f"{text!r} is no condition of a grade", where="ctcae.yaml", fix="See the head of the file.")
    amounts: tuple[float, ...] = ()
    factor = float(part["factor"] or 1)
    of = part["of"]
    if part["change"]:
        of = f"{part['change']} %" if part["percent"] else part["change"]
    elif of is None:
        of = "value"
        amounts = tuple(float(n) for n in re.findall(_NUMBER, f"{part['factor'] or ''}{part['more']}"))
        factor = 1.0
    elif part["plus"]:
        amounts = tuple(float(n) for n in re.findall(_NUMBER, part["plus"]))
    if (of == "value" or part["plus"]) and (len(amounts) != units or not units):
        raise TrialOpsError(
            f"{text!r} has {len(amounts)} number(s) for {units} unit(s)",
            where="ctcae.yaml",
            fix="Write one for each unit, with | between them.",
        )
    return Condition(part["op"], of, factor, amounts, when)  # type: ignore[arg-type]


@cache
def criteria(version: str, domain: str = "LB") -> Criteria:
    """The criteria of a version.

    Args:
        version: "4.03" or "5.0".
        domain: "LB", or "VS" and "EG" for vital signs and the electrocardiogram.

    Raises:
        TrialOpsError: There is no such version, or the file is not as it should be.
    """
    import yaml

    from trialops.stores.digest import document_digest

    if version not in VERSIONS:
        raise TrialOpsError(f"There are no criteria of CTCAE {version!r}", fix=f"Use {' or '.join(VERSIONS)}.")
    content = yaml.safe_load(Path(__file__).with_name(FILES[domain]).read_text("utf-8"))
    items = [
        _criterion(entry, version, str(content["citation"]))
        for entry in content["terms"]
        if version in entry["versions"] and entry.get("domain", "LB") == domain
    ]
    text_only = content.get("text_only", {}).get(version, [])
    return Criteria(
        version,
        domain,
        tuple(sorted(items, key=lambda item: (item.term, item.tests))),
        {entry["term"]: entry["graded_by"] for entry in text_only},
        int(content["digits"]),
        document_digest(content),
    )


def _criterion(entry: Mapping[str, Any], version: str, source: str) -> Criterion:
    units = tuple(entry.get("units", ()))
    known = {*Criterion.__dataclass_fields__, "versions", "domain"}
    if set(entry) - known:
        raise TrialOpsError(
            f"{entry['term']} has {', '.join(sorted(set(entry) - known))}, which nothing reads", where="ctcae.yaml"
        )

    def read(grades: Mapping[int, list[str]]) -> dict[int, tuple[Condition, ...]]:
        return {int(g): tuple(condition(text, len(units)) for text in texts) for g, texts in grades.items()}

    grades = read(entry["grades"])
    plain = ("us", "unitless", "specimen", "fasting", "assumes")
    return Criterion(
        term=entry["term"],
        version=version,
        direction=entry["direction"],
        tests=tuple(entry["tests"]),
        grades=grades,
        alone=read(entry["alone"]) if "alone" in entry else grades,
        citation=f"{entry['citation']}" if "citation" in entry else f"{source} v{version}",
        loinc=tuple(entry.get("loinc", ())),
        units=units,
        requires=tuple(entry.get("requires", ())),
        **{name: entry[name] for name in plain if name in entry},
    )
