"""Incremental loads: whatever changed and in whatever order it came, the result is that of a full load."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from tests.support.fhir_samples import SNOMED, about, concept, encounter, measured, patient, tables
from trialops.standards import omop_delta, vocabulary
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop import build
from trialops.standards.omop_cdm import Cdm
from trialops.standards.transformer import FHIRTransformerOperator, Load
from trialops.stores.digest import table_digest

WORDS = vocabulary.none()
Resource = dict[str, Any]


def trial() -> list[Resource]:
    """Three persons with visits, values and a condition; places and providers."""
    made: list[Resource] = [{"resourceType": "Organization", "id": "clinic", "name": "Clinic"}]
    for i in range(3):
        key = f"p{i}"
        made.append(patient(key, address=[{"city": f"City {i % 2}"}]))
        for visit in range(3):
            made.append(
                encounter(
                    f"{key}-e{visit}",
                    key,
                    day=f"2020-0{visit + 1}-01",
                    serviceProvider={"reference": f"Organization/{'clinic' if i else 'unknown'}"},
                )
            )
            made.append(
                measured(
                    f"{key}-o{visit}",
                    key,
                    encounter={"reference": f"Encounter/{key}-e{visit}"},
                    effectiveDateTime=f"2020-0{visit + 1}-01",
                )
            )
        made.append(about("Condition", f"{key}-c", key, code=concept(SNOMED, "1"), onsetDateTime="2020-01-01"))
    return made


def full(resources: list[Resource]) -> Cdm:
    return build(read_fhir(tables(*resources)), WORDS)


def digests(made: Cdm) -> dict[str, str]:
    frames = {**made.tables, "provenance": made.provenance, "outcomes": made.outcomes}
    return {name: table_digest(frame.to_arrow()) for name, frame in frames.items()}


def check(before: list[Resource], after: list[Resource]) -> Cdm:
    """Go from one state to another incrementally; the result must be the full one, to the byte."""
    old = tables(*before)
    made = omop_delta.update(full(before), omop_delta.index(old), tables(*after), WORDS)
    expected = full(after)
    assert digests(made) == digests(expected)
    assert made.dispositions().equals(expected.dispositions())
    assert made.reasons().equals(expected.reasons())
    return made


def replaced(resources: list[Resource], key: str, **changes: Any) -> list[Resource]:
    return [{**r, **changes} if r["id"] == key else r for r in resources]


def without(resources: list[Resource], *keys: str) -> list[Resource]:
    return [r for r in resources if r["id"] not in keys]


def test_new_corrected_and_deleted() -> None:
    base = trial()
    added = [*base, measured("new", "p1", encounter={"reference": "Encounter/p1-e0"})]
    assert check(base, added).tables["measurement"].height == 10
    check(base, replaced(base, "p2-o1", valueQuantity={"value": 9.5, "unit": "mmol/L"}))
    check(base, replaced(base, "p2-o1", status="entered-in-error"))
    assert check(base, without(base, "p0-o0", "p0-e2")).tables["visit_occurrence"].height == 8
    gone = [r for r in base if not r["id"].startswith("p1")]
    assert check(base, gone).tables["person"].height == 2
    check(base, base)


def test_what_persons_share() -> None:
    base = trial()
    check(base, replaced(base, "clinic", name="Another name"))
    removed = check(base, without(base, "clinic"))
    assert set(removed.tables["care_site"]["care_site_source_value"]) == {"clinic", "unknown"}
    assert removed.tables["care_site"]["care_site_name"].null_count() == 2
    described = [*base, {"resourceType": "Organization", "id": "unknown", "name": "Known now"}]
    assert check(base, described).tables["care_site"]["care_site_name"].null_count() == 0
    moved = check(base, replaced(base, "p1", address=[{"city": "City 0"}]))
    assert moved.tables["location"].height == 1


def test_out_of_order() -> None:
    """A person's events come before the person, a visit after what belongs to it."""
    base = trial()
    early = without(base, "p1")
    late = check(early, base)
    assert late.outcomes.height == 0
    assert full(early).outcomes.height > 0
    check(without(base, "p2-e1"), base)


def test_a_resource_changes_hands() -> None:
    base = trial()
    check(base, replaced(base, "p1-o1", subject={"reference": "Patient/p2"}))


def test_many_small_deliveries() -> None:
    """Resources one by one in a random order, each time incrementally: in the end the full load."""
    left = trial()
    random.Random(7).shuffle(left)
    there = left[:1]
    made, index = full(there), omop_delta.index(tables(*there))
    for start in range(1, len(left), 4):
        there = left[: start + 4]
        now = tables(*there)
        made, index = omop_delta.update(made, index, now, WORDS), omop_delta.index(now)
        assert digests(made) == digests(full(there))
    assert made.tables["measurement"].height == 9


@pytest.mark.parametrize("kind", ["medicine", "vocabulary"])
def test_everybody_is_mapped_again_where_anybody_may_be_concerned(kind: str) -> None:
    medicine = {"resourceType": "Medication", "id": "m", "code": {"text": "one"}}
    taken = about(
        "MedicationStatement",
        "s",
        "p0",
        status="active",
        medicationReference={"reference": "Medication/m"},
        effectiveDateTime="2020-01-01",
    )
    base = [*trial(), medicine, taken]
    after = replaced(base, "m", code={"text": "two"}) if kind == "medicine" else base
    previous = full(base)
    if kind == "vocabulary":
        previous = Cdm(**{**previous.__dict__, "vocabulary": "another"})
    load = Load(previous, omop_delta.index(tables(*base)))
    done = FHIRTransformerOperator().run(tables(*after), previous=load)
    assert not done.incremental
    assert digests(done.made) == digests(full(after))
    assert done.made.tables["drug_exposure"]["drug_source_value"].to_list() == ["two" if kind == "medicine" else "one"]


def test_the_operator_goes_on_from_the_last_load() -> None:
    base = trial()
    first = FHIRTransformerOperator().run(tables(*base))
    assert (first.incremental, first.changed) == (False, len(base))
    after = [*base, measured("new", "p1")]
    again = FHIRTransformerOperator().run(tables(*after), previous=Load(first.made, first.index))
    assert (again.incremental, again.changed) == (True, 1)
    assert digests(again.made) == digests(full(after))
    assert again.index.height == len(after)


def test_changes_name_persons_and_not_resources() -> None:
    base = trial()
    after = replaced(without(base, "p0-c"), "p2-o0", status="amended")
    found = omop_delta.changes(omop_delta.index(tables(*base)), tables(*after))
    assert found.subjects.to_list() == ["p0", "p2"]
    assert (found.resources, found.everybody) == (3, False)
    assert found.subjects.dtype == pl.String
