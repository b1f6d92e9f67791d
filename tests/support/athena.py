"""A small vocabulary in the shape of an Athena download, from the codes in some resources.

Concept ids are above two billion, where OMOP leaves room for local concepts; names are the displays in the resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from trialops.intake.fhir_tables import resources_of
from trialops.standards import cdm
from trialops.standards.omop_facts import facts

FIRST_ID = 2_000_000_001
DOMAINS = {
    "Condition": "Condition",
    "Observation": "Measurement",
    "Procedure": "Procedure",
    "MedicationRequest": "Drug",
    "MedicationAdministration": "Drug",
    "Immunization": "Drug",
    "ImagingStudy": "Procedure",
    "CarePlan": "Observation",
}
VERSION = "v5.0 TEST 01-JAN-24"


@dataclass
class Athena:
    """Rows of the files, by table; columns by the model."""

    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {name: [] for name, table in cdm.spec().items() if table.schema == "VOCAB"}
    )
    next_id: int = FIRST_ID

    def concept(self, vocabulary: str, code: str, name: str, domain: str, *, standard: bool = True, **more: Any) -> int:
        """Add a concept, with the relation to itself that standard ones have; returns its id."""
        made, self.next_id = self.next_id, self.next_id + 1
        self.rows["concept"].append(
            {
                "concept_id": made,
                "concept_name": name[:255],
                "domain_id": domain,
                "vocabulary_id": vocabulary,
                "concept_class_id": "Clinical Finding",
                "standard_concept": "S" if standard else None,
                "concept_code": code,
                "valid_start_date": "19700101",
                "valid_end_date": "20991231",
                **more,
            }
        )
        if standard:
            self.relate(made, "Maps to", made)
        return made

    def relate(self, one: int, relationship: str, two: int, **more: Any) -> None:
        """Add a relation."""
        self.rows["concept_relationship"].append(
            {
                "concept_id_1": one,
                "concept_id_2": two,
                "relationship_id": relationship,
                "valid_start_date": "20200101",
                "valid_end_date": "20991231",
                **more,
            }
        )

    def ingredient(self, name: str, drugs: Iterable[int], amount: float = 10.0) -> int:
        """Add an RxNorm ingredient that these drugs contain, so many milligrams each."""
        made = self.concept("RxNorm", f"I{self.next_id}", name, "Drug", concept_class_id="Ingredient")
        for drug in (made, *drugs):
            self.rows["concept_ancestor"].append(
                {
                    "ancestor_concept_id": made,
                    "descendant_concept_id": drug,
                    "min_levels_of_separation": int(drug != made),
                    "max_levels_of_separation": int(drug != made),
                }
            )
            if drug != made:
                self.rows["drug_strength"].append(
                    {
                        "drug_concept_id": drug,
                        "ingredient_concept_id": made,
                        "amount_value": amount,
                        "amount_unit_concept_id": 8576,
                        "valid_start_date": "19700101",
                        "valid_end_date": "20991231",
                    }
                )
        return made

    def write(self, folder: Path) -> Path:
        """Write the files as Athena does: tabs, no quotes, upper-case names."""
        folder.mkdir(parents=True, exist_ok=True)
        vocabularies = sorted({row["vocabulary_id"] for row in self.rows["concept"]} | {"None"})
        self.rows["vocabulary"] = [
            {
                "vocabulary_id": name,
                "vocabulary_name": f"{name} vocabulary",
                "vocabulary_version": VERSION if name == "None" else None,
                "vocabulary_concept_id": 0,
            }
            for name in vocabularies
        ]
        for table, column in (("domain", "domain_id"), ("concept_class", "concept_class_id")):
            names = sorted({row[column] for row in self.rows["concept"]})
            self.rows[table] = [{column: n, f"{table}_name": n, f"{table}_concept_id": 0} for n in names]
        self.rows["relationship"] = [
            {
                "relationship_id": name,
                "relationship_name": name,
                "is_hierarchical": "0",
                "defines_ancestry": "0",
                "reverse_relationship_id": f"{name} of",
                "relationship_concept_id": 0,
            }
            for name in ("Maps to", "Maps to value")
        ]
        for name, rows in self.rows.items():
            columns = [f.name for f in cdm.table(name).fields]
            lines = ["\t".join(columns)]
            lines += ["\t".join("" if row.get(c) is None else str(row[c]) for c in columns) for row in rows]
            (folder / f"{name.upper()}.csv").write_text("\n".join(lines) + "\n")
        return folder


def codes_in(tables: Mapping[str, pl.DataFrame]) -> dict[tuple[str, str], tuple[str, str]]:
    """(vocabulary, code) -> (display, resource type) of all codings in resources of the types in DOMAINS."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for kind in sorted(DOMAINS):
        for resource in resources_of(tables[kind]) if kind in tables else ():
            for coding in _codings(resource):
                vocabulary = facts().systems.get(coding.get("system", ""))
                if vocabulary and coding.get("code"):
                    found.setdefault((vocabulary, coding["code"]), (coding.get("display", coding["code"]), kind))
    return found


def _codings(node: Any) -> Iterable[dict[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "coding":
                yield from value
            else:
                yield from _codings(value)
    elif isinstance(node, list):
        for item in node:
            yield from _codings(item)


def vocabulary_for(tables: Mapping[str, pl.DataFrame]) -> Athena:
    """A vocabulary that knows most codes in the resources and treats them as real ones are treated.

    Every ninth code is unknown. Of the others every seventh observation is about a condition, every fifth condition
    code is not standard and maps to a concept of its own, every eleventh of those to two. RxNorm drugs share
    ingredients two by two.
    """
    made = Athena()
    drugs: list[int] = []
    for place, ((vocabulary, code), (name, kind)) in enumerate(sorted(codes_in(tables).items())):
        if place % 9 == 8:
            continue
        domain = DOMAINS[kind]
        if kind == "Observation" and place % 7 == 0:
            domain = "Condition"
        if kind == "Condition" and place % 5 == 0:
            source = made.concept(vocabulary, code, name, domain, standard=False)
            made.relate(source, "Maps to", made.concept("SNOMED", f"T{place}", name, domain))
            if place % 11 == 0:
                made.relate(source, "Maps to", made.concept("SNOMED", f"U{place}", name, "Observation"))
            continue
        concept = made.concept(vocabulary, code, name, domain)
        if vocabulary == "RxNorm":
            drugs.append(concept)
    for start in range(0, len(drugs), 2):
        made.ingredient(f"ingredient {start}", drugs[start : start + 2])
    return made
