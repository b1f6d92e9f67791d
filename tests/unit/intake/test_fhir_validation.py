"""Validation against R4: the table behind the JSON walk covers every model, and content is looked at once."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fhir_zone import observation, patient
from trialops.intake.fhir_tables import content_digest
from trialops.intake.fhir_validation import (
    REASONS,
    Validator,
    _complete_codes,
    _elements,
    check,
    model_of,
    validator_version,
)


def models() -> Iterator[tuple[str, Any]]:
    """Every R4B model with its name."""
    import fhir.resources.R4B as package

    for info in pkgutil.iter_modules(package.__path__):
        if info.name in ("fhirtypes", "tests"):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, found in vars(module).items():
            if getattr(found, "__module__", "") == module.__name__ and hasattr(found, "model_fields"):
                yield name, found


@pytest.mark.slow
def test_the_table_covers_every_model_and_completes_every_code_list() -> None:
    kinds: set[str] = set()
    cut = set()
    seen = 0
    for name, model in models():
        seen += 1
        for element_name, element in _elements(model).items():
            kinds.add(element.kind)
            assert (element.model is not None) == (element.kind in ("object", "resource")), f"{name}.{element_name}"
            # A list of codes that the model gives only in part would refuse sound resources.
            assert not element.codes or "+" not in element.codes, f"{name}.{element_name}"
        for element_name, info in model.model_fields.items():
            extra = info.json_schema_extra
            if isinstance(extra, dict) and "+" in (extra.get("enum_values") or []):
                cut.add(f"{name}.{element_name}")
    assert seen > 600
    assert kinds == {"boolean", "integer", "number", "string", "object", "resource"}
    assert cut == set(_complete_codes())


@pytest.mark.parametrize(
    "name", ["Resource", "DomainResource", "Element", "HumanName", "patient", "../x", "", "X" * 99]
)
def test_what_is_no_resource_type(name: str) -> None:
    assert model_of(name) is None


@pytest.mark.parametrize(
    "more",
    [
        {"_birthDate": {"extension": [{"url": "u", "valueInteger": 1}]}},
        {"name": [{"given": ["a", None], "_given": [None, {"extension": [{"url": "u", "valueString": "b"}]}]}]},
        {"contained": [{"resourceType": "Organization", "id": "o", "name": "n"}]},
        {"deceasedBoolean": False},
        {"birthDate": "1950-06"},
        {"meta": {"lastUpdated": "2026-01-01T00:00:00.123456789Z", "versionId": "7"}},
    ],
)
def test_sound_forms_that_look_odd(more: dict[str, Any]) -> None:
    assert check(patient("a") | more) is None


def test_a_null_in_a_list_needs_its_extension() -> None:
    fault = check(patient("a", name=[{"given": ["a", None]}]))
    assert fault is not None and (fault.reason, fault.path) == ("EMPTY_ELEMENT", "Patient.name.given")


def test_status_codes_beyond_those_the_model_lists_are_sound() -> None:
    assert check(observation("o", "a", status="corrected")) is None
    fault = check(observation("o", "a", status="finished"))
    assert fault is not None and fault.reason == "UNKNOWN_CODE" and fault.reason in REASONS


def test_content_is_looked_at_once_and_faulty_content_each_time() -> None:
    validator = Validator()
    sound, faulty = patient("a"), patient("a", gender="f")
    for resource, expected in ((sound, None), (sound, None), (faulty, "UNKNOWN_CODE"), (faulty, "UNKNOWN_CODE")):
        fault = validator.check(resource, content_digest(resource))
        assert (fault.reason if fault else None) == expected
    assert (validator.checked, validator.skipped) == (3, 1)
    assert "R4B" in validator_version()
