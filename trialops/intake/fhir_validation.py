"""Is a resource FHIR R4: the R4B models of fhir.resources, and beside them what these models let pass.

The models turn "1" into 1 and true, take seconds since 1970 for a date, and accept nulls, empty lists and codes
outside a required value set. A door keeper must not mend, so the JSON itself is walked first, against a table made
from the models' own definitions; only a resource without a fault there is given to the model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin

RULES_VERSION = "1"
ID = re.compile(r"^[A-Za-z0-9\-.]{1,64}$")
REASONS = {
    "UNKNOWN_TYPE": "it is not a resource type of FHIR R4",
    "BAD_ID": "an id has other characters than letters, digits, '-' and '.', or more than 64",
    "UNKNOWN_ELEMENT": "an element is not one of its type",
    "WRONG_TYPE": "an element has another JSON type than FHIR gives it",
    "EMPTY_ELEMENT": "an element is null or empty; FHIR leaves it out instead",
    "UNKNOWN_CODE": "a code is not in the value set that FHIR requires",
    "NOT_R4": "an element breaks a rule of FHIR R4",
}
_KINDS = {"bool": "boolean", "int": "integer", "Decimal": "number", "date": "string", "datetime": "string"}


@dataclass(frozen=True)
class Fault:
    """Why a resource cannot be used: key of REASONS, the element, and the rule that the model names."""

    reason: str
    path: str = ""
    rule: str = ""


@dataclass(frozen=True)
class _Element:
    """What an element may be: kind is "boolean", "integer", "number", "string", "object" or "resource"."""

    kind: str
    many: bool
    holes: bool
    codes: frozenset[str] | None
    model: Any = None


def validator_version() -> str:
    """Names the rules: resources found valid under other rules are looked at again."""
    return f"fhir.resources {version('fhir.resources')} R4B, rules {RULES_VERSION}"


@cache
def _complete_codes() -> dict[str, frozenset[str]]:
    import yaml

    data = yaml.safe_load(Path(__file__).with_name("fhir_codes.yaml").read_text("utf-8"))
    return {name: frozenset(codes) for name, codes in data["codes"].items()}


@cache
def model_of(kind: str) -> Any:
    """The R4B model of a resource type, or None."""
    from fhir.resources.R4B import get_fhir_model_class
    from fhir.resources.R4B.resource import Resource

    if not re.match(r"^[A-Z][A-Za-z]{1,63}$", kind):
        return None
    try:
        model = get_fhir_model_class(kind)
    except (ValueError, KeyError, ImportError):
        return None
    return model if issubclass(model, Resource) and kind not in ("Resource", "DomainResource") else None


@cache
def _elements(model: Any) -> dict[str, _Element]:
    """JSON name -> element, from the model's fields."""
    return {
        field.alias or name: _element(model, name, field)
        for name, field in model.model_fields.items()
        if name != "fhir_comments"
    }


def _element(model: Any, name: str, info: Any) -> _Element:
    many = holes = False
    kind, inner = "string", info.annotation
    while True:
        origin, arguments = get_origin(inner), [a for a in get_args(inner) if a is not type(None)]
        if origin is list:
            many, inner = True, arguments[0]
            holes = type(None) in get_args(inner)
        elif hasattr(inner, "__metadata__"):
            inner = inner.__origin__
        elif origin is not None and arguments:
            inner = arguments[0]  # Optional, or a union of ways to hold one kind
        else:
            break
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, Mapping) else {}
    codes = _complete_codes().get(f"{model.__name__}.{name}")
    if codes is None and extra.get("enum_values"):
        codes = frozenset(extra["enum_values"])
    if hasattr(inner, "get_model_klass"):
        target = inner.get_model_klass()
        kind = "resource" if target.__name__ == "Resource" else "object"
        return _Element(kind, many, holes, None, target)
    return _Element(_KINDS.get(inner.__name__, "string"), many, holes, codes)


def check(resource: Mapping[str, Any]) -> Fault | None:
    """Whether a resource is FHIR R4; None when it is.

    Args:
        resource: As parsed by :func:`trialops.intake.fhir_json.parse_strict`.

    Returns:
        The first fault, its path made of element names and indices alone.
    """
    kind = resource.get("resourceType")
    model = model_of(kind) if isinstance(kind, str) else None
    if model is None:
        return Fault("UNKNOWN_TYPE", "resourceType")
    fault = _walk(resource, model, str(kind))
    return fault or _model_fault(resource, model, str(kind))


def _walk(resource: Mapping[str, Any], model: Any, root: str) -> Fault | None:
    waiting: list[tuple[Mapping[str, Any], Any, str]] = [(resource, model, root)]
    while waiting:
        node, model, path = waiting.pop()
        spec = _elements(model)
        whole = "resourceType" in node
        if whole and not ("id" not in node or (isinstance(node["id"], str) and ID.match(node["id"]))):
            return Fault("BAD_ID", f"{path}.id")
        for name, value in node.items():
            if name == "resourceType" and whole:
                continue
            element = spec.get(name)
            if element is None:
                return Fault("UNKNOWN_ELEMENT", path)
            here = f"{path}.{name}"
            if element.many:
                if not isinstance(value, list):
                    return Fault("EMPTY_ELEMENT" if value is None else "WRONG_TYPE", here)
                if not value:
                    return Fault("EMPTY_ELEMENT", here)
                values = value
            else:
                values = [value]
            # A null keeps a place in a list of primitives for the extension beside it, and only there.
            holes = element.holes and (name.startswith("_") or f"_{name}" in node)
            for one in values:
                if one is None and holes:
                    continue
                reason = _mismatch(one, element)
                if reason:
                    return Fault(reason, here)
                if element.kind == "object":
                    waiting.append((one, element.model, here))
                elif element.kind == "resource":
                    inner = model_of(one["resourceType"]) if isinstance(one.get("resourceType"), str) else None
                    if inner is None:
                        return Fault("UNKNOWN_TYPE", here)
                    waiting.append((one, inner, here))
    return None


def _mismatch(value: Any, element: _Element) -> str:
    """Reason why one value cannot be this element; empty when it can."""
    if value is None or value == "" or value == {}:
        return "EMPTY_ELEMENT"
    kind = element.kind
    if kind == "string":
        sound = isinstance(value, str)
    elif kind == "boolean":
        sound = isinstance(value, bool)
    elif kind == "number":
        sound = isinstance(value, int | Decimal) and not isinstance(value, bool)
    elif kind == "integer":
        sound = isinstance(value, int) and not isinstance(value, bool)
    else:
        sound = isinstance(value, dict)
    if not sound:
        return "WRONG_TYPE"
    return "UNKNOWN_CODE" if element.codes is not None and value not in element.codes else ""


def _model_fault(resource: Mapping[str, Any], model: Any, root: str) -> Fault | None:
    from pydantic import ValidationError

    try:
        model.model_validate(dict(resource))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        # Names of the models' own making or numbers: the walk above has refused every other name.
        place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or str(part).isidentifier())
        return Fault("NOT_R4", f"{root}.{place}".rstrip("."), str(first["type"]))
    except Exception as error:  # a validator inside a model that fails is a refusal too; its text may quote data
        return Fault("NOT_R4", root, type(error).__name__)
    return None


@dataclass
class Validator:
    """Checks each content once.

    Attributes:
        known: Digests of content found valid before, under the same rules.
        checked: Resources given to the models.
        skipped: Resources whose content was known.
    """

    known: set[str] = field(default_factory=set)
    checked: int = 0
    skipped: int = 0

    def check(self, resource: Mapping[str, Any], digest: str) -> Fault | None:
        """See :func:`check`; content that was found valid before is not looked at again."""
        if digest in self.known:
            self.skipped += 1
            return None
        self.checked += 1
        fault = check(resource)
        if fault is None:
            self.known.add(digest)
        return fault
