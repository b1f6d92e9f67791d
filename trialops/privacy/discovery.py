"""Finding personal data in tables: by column name, form and checksum of the values, and the text de-identifier.

A name alone is a suspicion, a form alone can be chance; which of them suffices is said for each kind in masking.yaml.
Values are never reported, only counts.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.privacy.fhir_text import Scrubber

MASKS = ("hash", "redact", "generalise", "null", "tokenise")
TEXT = "name_in_text"
#: What masks leave: placeholders, pseudonyms and tokens of the vault, keyed hashes.
_MADE = r"^(?:\[[A-Z_]+\]|[a-z2-7]{16}|[0-9a-f]{32})$"
_CATEGORIES = 50
_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.\s]+")


@dataclass(frozen=True)
class Kind:
    """One kind of personal data; see masking.yaml."""

    name: str
    title: str
    pattern: str
    check: str
    share: float
    needs_name: bool
    needs: str
    identifier: str
    mask: str


@dataclass(frozen=True)
class MaskingPolicy:
    """The policy: version, how much is looked at, kinds in order, and what is left out."""

    version: str
    sample: int
    texts: int
    free_text: int
    text_share: float
    category: float
    least: int
    kinds: Mapping[str, Kind]
    calendar: Mapping[str, tuple[str, ...]]
    skip: tuple[str, ...]
    expected: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One column with personal data.

    Attributes:
        table: Full name of the table.
        column: The column.
        kind: Kind of personal data.
        identifier: Class of 45 CFR 164.514(b)(2)(i).
        evidence: "name and values", "values", or "texts".
        values: Distinct values looked at.
        matched: Distinct values that look so.
        mask: What the policy does about it.
    """

    table: str
    column: str
    kind: str
    identifier: str
    evidence: str
    values: int
    matched: int
    mask: str


@cache
def default_masking_policy() -> MaskingPolicy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("masking.yaml").read_text("utf-8")))


def parse(data: Mapping[str, Any]) -> MaskingPolicy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: A kind has an unknown mask or check.
    """
    kinds = {}
    for name, item in data["kinds"].items():
        kind = Kind(
            name,
            str(item.get("name", "")),
            str(item.get("pattern", "")),
            str(item.get("check", "")),
            float(item.get("share", 1.0)),
            bool(item.get("needs_name", False)),
            str(item.get("needs", "")),
            str(item["identifier"]),
            str(item["mask"]),
        )
        if kind.mask not in MASKS or (kind.check and kind.check not in CHECKS):
            raise TrialOpsError(
                "A kind of the masking policy is not usable.",
                where=f"masking.yaml, {name}",
                fix=f"Use as mask {', '.join(MASKS)}; as check {', '.join(sorted(CHECKS))}.",
            )
        kinds[name] = kind
    return MaskingPolicy(
        str(data["version"]),
        int(data["sample"]),
        int(data["texts"]),
        int(data["free_text"]),
        float(data["text_share"]),
        float(data["category"]),
        int(data["least"]),
        kinds,
        {mode: tuple(patterns) for mode, patterns in data.get("calendar", {}).items()},
        tuple(data.get("skip", ())),
        tuple(data.get("expected", ())),
    )


def discover(
    table: str, frame: pl.DataFrame, policy: MaskingPolicy | None = None, scrubber: Scrubber | None = None
) -> list[Finding]:
    """Columns of a table that hold personal data.

    Args:
        table: Its name, for the findings.
        frame: Its rows.
        policy: The platform's own by default.
        scrubber: Looks into free text; None leaves free text out.

    Returns:
        At most one finding a column, in column order: of the kinds that match the one with the strongest evidence.
    """
    policy = policy or default_masking_policy()
    found = []
    for column in frame.columns:
        values = _distinct(frame, column, policy.sample)
        if not values:
            continue
        finding = _by_value(table, column, values, policy)
        few = len(values) < min(policy.category * frame[column].count(), _CATEGORIES)
        if finding is None and scrubber is not None and not few:
            finding = _by_text(table, column, values, policy, scrubber)
        if finding is not None:
            found.append(finding)
    return found


def _distinct(frame: pl.DataFrame, column: str, most: int) -> list[str]:
    """Distinct values as text, spread evenly over the sorted values."""
    import polars as pl

    kind = frame.schema[column]
    if kind.is_nested() or kind in (pl.Binary, pl.Boolean):
        return []
    series = frame[column].drop_nulls().unique().sort()
    step = max(series.len() // most, 1)
    texts = series.gather_every(step).cast(pl.String).str.strip_chars()
    if kind.is_float():
        texts = texts.str.strip_suffix(".0")
    texts = texts.filter(~texts.str.contains(_MADE))
    return [t for t in texts.to_list() if t]


def _words(column: str) -> str:
    return " ".join(p for p in _CASE.split(column) if p).lower()


def _by_value(table: str, column: str, values: Sequence[str], policy: MaskingPolicy) -> Finding | None:
    import polars as pl

    words = _words(column)
    series = pl.Series(values, dtype=pl.String)
    best: tuple[tuple[bool, float], Finding] | None = None
    for kind in policy.kinds.values():
        if not kind.pattern:
            continue
        named = bool(kind.title and re.search(rf"(?:^|\b)(?:{kind.title})(?:\b|$)", words))
        if kind.needs_name and not named:
            continue
        matching = series.filter(series.str.contains(kind.pattern)).to_list()
        if kind.check:
            matching = [v for v in matching if CHECKS[kind.check](v)]
        if kind.needs == "separators" and not named:
            matching = [v for v in matching if re.search(r"[ ().-]", v) and not re.fullmatch(r"\d+\.\d+", v)]
        share = len(matching) / len(values)
        few = len(matching) < policy.least and not named
        if not matching or few or share < kind.share * (0.4 if named else 1.0):
            continue
        evidence = "name and values" if named else "values"
        finding = Finding(table, column, kind.name, kind.identifier, evidence, len(values), len(matching), kind.mask)
        rank = (named, share)
        if best is None or rank > best[0]:
            best = (rank, finding)
    return best[1] if best else None


def _by_text(
    table: str, column: str, values: Sequence[str], policy: MaskingPolicy, scrubber: Scrubber
) -> Finding | None:
    """Free text in which the text de-identifier finds people."""
    words = [v for v in values if any(c.isalpha() for c in v)]
    if not words or sum(map(len, words)) / len(words) < policy.free_text or not any(" " in v for v in words):
        return None
    step = max(len(words) // policy.texts, 1)
    sample = words[::step][: policy.texts]
    spans = scrubber.find(sample)
    hits = sum(bool(found) for found in spans)
    if hits < max(1, policy.text_share * len(sample)):
        return None
    kind = policy.kinds[TEXT]
    return Finding(table, column, TEXT, kind.identifier, "texts", len(sample), hits, kind.mask)


# -- checks of single values -----------------------------------------------------------------------------------


def luhn(text: str) -> bool:
    """Whether digits end in the check digit of ISO/IEC 7812-1."""
    digits = [int(c) for c in text if c.isdigit()]
    if not 12 <= len(digits) <= 19:
        return False
    total = sum(d if i % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for i, d in enumerate(reversed(digits)))
    return total % 10 == 0


def npi(text: str) -> bool:
    """Whether ten digits are a US National Provider Identifier: ISO check digit over 80840 and the number."""
    return len(text) == 10 and text.isdigit() and luhn("80840" + text)


def ssn(text: str) -> bool:
    """Whether a number of the form 123-45-6789 can have been issued, or belongs to the 9xx range used for samples."""
    area, group, serial = text.split("-")
    return area not in ("000", "666") and group != "00" and serial != "0000"


def phone(text: str) -> bool:
    """Whether a text has as many digits as a telephone number, and is no date."""
    digits = sum(c.isdigit() for c in text)
    date = re.fullmatch(r"(19|20)\d{2}[-. ]\d{1,2}[-. ]\d{1,2}|\d{1,2}[-. ]\d{1,2}[-. ](19|20)\d{2}", text)
    return 9 <= digits <= 15 and not date


def ip(text: str) -> bool:
    """Whether a text is an IPv4 address."""
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def age(text: str) -> bool:
    """Whether a number is an age over 90 that a person can have; 90 itself stands for everybody over 89."""
    return 90 < float(text) <= 125


CHECKS: dict[str, Callable[[str], bool]] = {"luhn": luhn, "npi": npi, "ssn": ssn, "phone": phone, "ip": ip, "age": age}
