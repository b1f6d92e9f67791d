"""Pipeline parameters given as text: typed by the pipeline's own signature, unknown names refused."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from kfp.pipeline_spec.pipeline_spec_pb2 import ParameterType, PipelineSpec

from trialops.errors import TrialOpsError

TYPES = ParameterType.ParameterTypeEnum
_WORDS = {
    TYPES.STRING: "text",
    TYPES.NUMBER_INTEGER: "a whole number",
    TYPES.NUMBER_DOUBLE: "a number",
    TYPES.BOOLEAN: "true or false",
    TYPES.LIST: "a JSON list",
    TYPES.STRUCT: "a JSON object",
}
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def signature(spec: PipelineSpec) -> dict[str, dict[str, Any]]:
    """Parameters of a pipeline by name: type in words, default, whether it may be left out, description."""
    from google.protobuf.json_format import MessageToDict

    found = {}
    for name, given in sorted(spec.root.input_definitions.parameters.items()):
        has_default = given.HasField("default_value")
        default: Any = MessageToDict(given.default_value) if has_default else None
        if has_default and given.parameter_type == TYPES.NUMBER_INTEGER:
            default = int(default)  # the spec keeps every number as a double
        found[name] = {
            "type": _WORDS.get(given.parameter_type, "a value"),
            "default": default,
            "required": not (has_default or given.is_optional),
            "description": given.description,
        }
    return found


def typed(spec: PipelineSpec, values: Mapping[str, Any], *, complete: bool = True) -> dict[str, Any]:
    """Check names and types of parameter values; text is converted to the parameter's type.

    Args:
        spec: The compiled pipeline.
        values: Values by parameter name; a value that is not text must already be of the right type.
        complete: Whether every required parameter must be among them.

    Raises:
        TrialOpsError: For an unknown name (with the list of names), a wrong type, or a missing value.
    """
    known = spec.root.input_definitions.parameters
    pipeline = spec.pipeline_info.name
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            listed = ", ".join(sorted(known)) or "none"
            raise TrialOpsError(
                f"Pipeline {pipeline} has no parameter {name!r}",
                where="--set",
                fix=f"{hint}Its parameters: {listed}.",
            )
    result = {name: _convert(name, known[name].parameter_type, value) for name, value in values.items()}
    described = signature(spec)
    missing = [name for name, facts in described.items() if facts["required"] and name not in values]
    if complete and missing:
        asked = [f"--set {name}=... {described[name]['description']}".strip() for name in missing]
        raise TrialOpsError(
            f"Pipeline {pipeline} needs a value for {', '.join(missing)}",
            where="--set",
            fix=f"Give each one: {' '.join(asked)}",
        )
    return result


def _convert(name: str, kind: int, value: Any) -> Any:
    wrong = TrialOpsError(
        f"Parameter {name} takes {_WORDS.get(kind, 'another type')}",
        where=f"--set {name}=...",
        fix="Correct the value.",
    )
    try:
        if kind == TYPES.NUMBER_INTEGER:
            if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
                raise wrong
            return int(value)
        if kind == TYPES.NUMBER_DOUBLE:
            if isinstance(value, bool):
                raise wrong
            return float(value)
        if kind == TYPES.BOOLEAN:
            return value if isinstance(value, bool) else _BOOLEANS[str(value).strip().lower()]
        if kind in (TYPES.LIST, TYPES.STRUCT):
            parsed = json.loads(value) if isinstance(value, str) else value
            if not isinstance(parsed, list if kind == TYPES.LIST else dict):
                raise wrong
            return parsed
    except (ValueError, TypeError, KeyError, OverflowError):
        raise wrong from None
    if not isinstance(value, str):
        raise wrong
    return value


def pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Split ``name=value`` texts.

    Raises:
        TrialOpsError: When one has no equals sign, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise TrialOpsError(f"--set takes name=value, not {text!r}", where="--set", fix="Write --set name=value.")
        if name.strip() in found:
            raise TrialOpsError(f"--set gives {name.strip()} twice", where="--set", fix="Give it once.")
        found[name.strip()] = value
    return found
