"""OMOP tables turned back into FHIR and checked, resource by resource."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards.omop_fhir import to_fhir

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from trialops.standards.omop_cdm import Cdm

SAMPLE = 25
"""Resources of each type that the full model looks at: it reads some hundred a second."""


@dataclass(frozen=True)
class Returned:
    """Resources and what the checks said.

    Attributes:
        tables: Resource type -> rows in the shape of resource tables.
        counts: Type, resources, valid, invalid.
        faults: Type, element, rule, resources.
        modelled: Resources that the full model looked at.
        sample: The most of one type.
    """

    tables: dict[str, pl.DataFrame]
    counts: list[tuple[str, int, int, int]]
    faults: list[tuple[str, str, str, int]]
    modelled: int
    sample: int = SAMPLE

    @property
    def invalid(self) -> int:
        """Resources that are not valid."""
        return sum(row[3] for row in self.counts)


def back_to_fhir(made: Cdm, *, progress: Callable[[str, float | None], None] | None = None) -> Returned:
    """Turn tables into resources and check each.

    Args:
        made: Tables and provenance.
        progress: Told what is checked and how far.
    """
    import msgspec
    import polars as pl

    from trialops.intake.fhir_json import parse_strict
    from trialops.intake.fhir_tables import RESOURCE_SCHEMA, schema, subject_of
    from trialops.intake.fhir_validation import check

    encode = msgspec.json.Encoder(order="deterministic").encode
    tables: dict[str, pl.DataFrame] = {}
    counts: list[tuple[str, int, int, int]] = []
    faults: Counter[tuple[str, str, str]] = Counter()
    modelled = 0
    found = to_fhir(made)
    for place, (kind, resources) in enumerate(found.items()):
        if progress is not None:
            progress(f"checking {kind}", place / len(found))
        invalid, rows = 0, []
        for number, resource in enumerate(resources):
            data = encode(resource)
            parsed = parse_strict(data)
            fault = check(parsed)
            said = (fault.path, fault.rule or fault.reason) if fault is not None else None
            if said is None and number < SAMPLE:
                modelled += 1
                said = _model_fault(kind, parsed)
            if said is not None:
                invalid += 1
                faults[(kind, *said)] += 1
            digest = hashlib.sha256(data).hexdigest()
            rows.append((resource["id"], subject_of(resource), "", "", digest, data.decode(), "", number + 1, None))
        tables[kind] = pl.DataFrame(rows, schema={name: schema()[name] for name in RESOURCE_SCHEMA}, orient="row")
        counts.append((kind, len(resources), len(resources) - invalid, invalid))
    return Returned(tables, counts, [(*key, n) for key, n in sorted(faults.items())], modelled)


def _model_fault(kind: str, resource: dict[str, object]) -> tuple[str, str] | None:
    """Element and rule that the R4B model names; its message may quote values and is left out."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
        return f"{kind}.{path}", str(first["type"])
    return None
