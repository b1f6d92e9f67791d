"""Codes, units and dates of FHIR resources, counted: each distinct combination once, however many resources carry it.

Coded elements stay raw JSON while counting, and each distinct one is parsed once. This module imports msgspec at its
top; import it inside functions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Raw, Struct

from trialops.errors import TrialOpsError
from trialops.standards.coding_sources import ICD_SYSTEM, LOINC_SYSTEM, Source

if TYPE_CHECKING:
    import polars as pl

_EMPTY = Raw(b"{}")
T = TypeVar("T")


class _Quantity(Struct, frozen=True, gc=False):
    value: float | None = None
    unit: str | None = None
    code: str | None = None


class _Display(Struct, frozen=True, gc=False):
    display: str | None = None


class _Measured(Struct, frozen=True, gc=False):
    code: Raw = _EMPTY
    valueQuantity: _Quantity | None = None


class _Observation(Struct, frozen=True, gc=False):
    code: Raw = _EMPTY
    valueQuantity: _Quantity | None = None
    specimen: _Display | None = None
    component: tuple[_Measured, ...] = ()


class _Condition(Struct, frozen=True, gc=False):
    code: Raw = _EMPTY
    onsetDateTime: str | None = None
    recordedDate: str | None = None


class _Coding(Struct, frozen=True, gc=False):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class _Concept(Struct, frozen=True, gc=False):
    coding: tuple[_Coding, ...] = ()
    text: str | None = None

    def of(self, system: str) -> tuple[str, str]:
        """Code in a system, and the best text: that coding's display, the concept's text, any display."""
        ours = next((c for c in self.coding if c.system == system and c.code), _Coding())
        shown = next((c.display for c in self.coding if c.display), "")
        return ours.code or "", ours.display or self.text or shown or ""

    @property
    def elsewhere(self) -> bool:
        """Whether it is coded at all."""
        return any(c.code for c in self.coding)


def observations(frame: pl.DataFrame) -> list[Source]:
    """Tests of Observation resources and of their components."""
    found: Counter[tuple[bytes, str, str, bool]] = Counter()
    for resource in _decoded(frame, _Observation, "Observation"):
        specimen = (resource.specimen.display or "") if resource.specimen is not None else ""
        parts: list[_Observation | _Measured] = [resource, *resource.component]
        for part in parts:
            quantity = part.valueQuantity or _Quantity()
            unit = quantity.code or quantity.unit or ""
            found[bytes(part.code), unit, specimen, quantity.value is not None] += 1
    merged: dict[tuple[str, str, str, str], tuple[int, bool]] = {}
    for (code_text, unit, specimen, numeric), rows in found.items():
        code, text = _concept(code_text, "Observation").of(LOINC_SYSTEM)
        if code or text:
            key = (text or code, code, unit, specimen)
            before, was = merged.get(key, (0, False))
            merged[key] = (before + rows, was or numeric)
    return [
        Source(
            *("lab", "LOINC", "Observation", "code", text, code),
            context={"unit": unit, "specimen": specimen},
            numeric=True if numeric else None,
            rows=rows,
        )
        for (text, code, unit, specimen), (rows, numeric) in sorted(merged.items())
    ]


def conditions(frame: pl.DataFrame) -> list[Source]:
    """Conditions with an ICD-10-CM code or with none at all.

    One coded in another system (SNOMED CT) is coded; it is counted where it is mapped. Codes come and go on the
    first day of a quarter, so the quarter is all that validity needs.
    """
    found: Counter[tuple[bytes, str]] = Counter()
    for resource in _decoded(frame, _Condition, "Condition"):
        found[bytes(resource.code), _quarter(resource.onsetDateTime or resource.recordedDate or "")] += 1
    merged: Counter[tuple[str, str, str]] = Counter()
    for (code_text, day), rows in found.items():
        concept = _concept(code_text, "Condition")
        code, text = concept.of(ICD_SYSTEM)
        if code or (text and not concept.elsewhere):
            merged[concept.text or text, code, day if code else ""] += rows
    return [
        Source("condition", "ICD-10-CM", "Condition", "code", text, code, day, rows=rows)
        for (text, code, day), rows in sorted(merged.items())
    ]


def _quarter(moment: str) -> str:
    """First day of the quarter of a full date; empty for a year or a month."""
    year, month, day = moment[:4], moment[5:7], moment[8:10]
    if not (year.isdigit() and month.isdigit() and day.isdigit() and 1 <= int(month) <= 12):
        return ""
    return f"{year}-{(int(month) - 1) // 3 * 3 + 1:02d}-01"


def _concept(text: bytes, table: str) -> _Concept:
    try:
        return msgspec.json.decode(text, type=_Concept)
    except msgspec.DecodeError:
        raise TrialOpsError("A coded element is not a CodeableConcept.", where=table) from None


def _decoded(frame: pl.DataFrame, kind: type[T], table: str) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    for number, text in enumerate(frame["json"], 1):
        try:
            yield decoder.decode(text)
        except (msgspec.DecodeError, TypeError):
            raise TrialOpsError(
                f"Resource {number} of the table cannot be read.",
                where=table,
                fix="Take in the resources again: what does not fit R4 belongs in quarantine.",
            ) from None
