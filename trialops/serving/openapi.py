"""The OpenAPI document of a model server, for its own model: names, tensors and features are the ones it has.

JSON Schema cannot say that a tensor's data has as many values as its shape multiplies to. The request schema
therefore spells out the requests of one row, which is how a model is asked about a subject, and says in words that
more rows are sent the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trialops.serving.protocol import BYTES, CONTRIBUTIONS, DATATYPE, DAY, HIGH, INPUT, INT64, LOW, OUTPUT, SUBJECT

Schema = dict[str, Any]


def document(
    name: str, version: str, features: Sequence[str], *, online: bool, interval: bool, code_version: str
) -> Schema:
    """The document.

    Args:
        name: Model name.
        version: Model version.
        features: The model's features in its order.
        online: Whether rows can be named by subject.
        interval: Whether the model gives intervals.
        code_version: Version of the server.
    """
    paths: Schema = {
        "/v2": _get("Server metadata", _ref("ServerMetadata")),
        "/v2/health/live": _get("Whether the server answers", _ref("Live")),
        "/v2/health/ready": _get("Whether every model is ready", _ref("Ready"), not_ready=True),
        "/openapi.json": _get("This document", {"type": "object"}),
        "/metrics": _get("Prometheus metrics", {"type": "string"}, kind="text/plain; version=0.0.4; charset=utf-8"),
    }
    for prefix in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        paths[prefix] = _get("Model metadata", _ref("ModelMetadata"))
        paths[f"{prefix}/ready"] = _get("Whether the model is ready", _ref("ModelReady"), not_ready=True)
        paths[f"{prefix}/infer"] = {"post": _infer()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Model {name}",
            "version": version,
            "description": f"Open Inference Protocol v2; server {code_version}.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(name, version, features, online, interval)},
    }


def _ref(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


def _response(text: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _get(summary: str, schema: Schema, *, not_ready: bool = False, kind: str = "application/json") -> Schema:
    responses = {"200": _response(summary, schema, kind)}
    if not_ready:
        responses["503"] = _response("Not ready", schema)
    return {"get": {"summary": summary, "responses": responses}}


def _infer() -> Schema:
    refused = {
        "400": "Malformed: not a request for this model",
        "404": "A subject is not in the online store",
        "409": "Features the input policy does not predict on: stale, incomplete, or newer than the day asked for",
        "500": "The model failed",
        "503": "The online store or the prediction log cannot be used now",
    }
    return {
        "summary": "Predict",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("InferenceRequest")}}},
        "responses": {
            "200": _response("Predictions", _ref("InferenceResponse")),
            **{code: _response(text, _ref("Error")) for code, text in refused.items()},
        },
    }


def _object(required: Schema, **optional: Any) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _row(name: str, datatype: str, shape: list[int], item: Schema) -> Schema:
    """A request tensor with exactly the values its shape asks for."""
    count = shape[-1]
    return _object(
        {
            "name": {"const": name, "type": "string"},
            "datatype": {"const": datatype, "type": "string"},
            "shape": {
                "type": "array",
                "prefixItems": [{"const": side, "type": "integer"} for side in shape],
                "items": False,
                "minItems": len(shape),
                "maxItems": len(shape),
            },
            "data": {"type": "array", "items": item, "minItems": count, "maxItems": count},
        }
    )


def _tuple(*items: Schema) -> Schema:
    return {"type": "array", "prefixItems": list(items), "items": False, "minItems": len(items), "maxItems": len(items)}


def _schemas(name: str, version: str, features: Sequence[str], online: bool, interval: bool) -> Schema:
    number = {"type": ["number", "null"], "format": "double"}
    inputs = [_tuple(_row(INPUT, DATATYPE, [1, len(features)], number))]
    if INPUT in features or len(features) < 20:
        inputs.append(_tuple(*(_row(feature, DATATYPE, [1], number) for feature in features)))
    by_features = [OUTPUT, *([LOW, HIGH] if interval else []), CONTRIBUTIONS]
    forms = [_request({"anyOf": inputs}, by_features)]
    if online:
        subject = _row(SUBJECT, BYTES, [1], {"type": "string", "maxLength": 256})
        day = {"type": "integer", "minimum": 1, "maximum": 100_000}
        named = {"anyOf": [_tuple(subject), _tuple(subject, _row(DAY, INT64, [1], day))]}
        forms.insert(0, _request(named, [*by_features, DAY]))
    text, flag, whole = {"type": "string"}, {"type": "boolean"}, {"type": "integer"}
    tensor = _object({"name": text, "datatype": text, "shape": {"type": "array", "items": whole}})
    made = _object(
        {**tensor["properties"], "data": {"type": "array", "items": {"type": "number"}}},
        parameters={"type": "object"},
    )
    texts = {"type": "array", "items": text}
    return {
        "InferenceRequest": {
            "anyOf": forms,
            "description": "One row is spelled out; n rows have the shape [n] (features: [n, p]) and data to match.",
        },
        "InferenceResponse": _object(
            {
                "model_name": {"const": name},
                "model_version": {"const": version},
                "id": text,
                "parameters": _object({"model_version": text, "bundle_digest": text}, warnings=text),
                "outputs": {"type": "array", "items": made, "minItems": 1},
            }
        ),
        "ServerMetadata": _object({"name": text, "version": text, "extensions": texts}),
        "ModelMetadata": _object(
            {
                "name": {"const": name},
                "versions": texts,
                "platform": text,
                "inputs": {"type": "array", "items": tensor},
                "outputs": {"type": "array", "items": tensor},
            },
            parameters={"type": "object"},
        ),
        "ModelReady": _object({"name": {"const": name}, "ready": flag}),
        "Ready": _object({"ready": flag}),
        "Live": _object({"live": flag}),
        "Error": _object({"error": text}),
    }


def _request(inputs: Schema, outputs: list[str]) -> Schema:
    wanted = _object({"name": {"enum": outputs, "type": "string"}})
    some = [{"type": "null"}, {"type": "array", "maxItems": 0}, _tuple(wanted)]
    return _object({"inputs": inputs}, id={"type": ["string", "null"]}, outputs={"anyOf": some})
