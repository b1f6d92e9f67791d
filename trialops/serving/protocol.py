"""Open Inference Protocol v2 (REST, JSON tensors): requests to arrays and back.

Everything here is pure: bytes in, arrays or an error out. An error names the tensor, the shape and what is
expected, and never repeats a value, because a value may be a subject's.

Source: Open Inference Protocol, REST specification v2 (github.com/kserve/open-inference-protocol).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INPUT = "features"
OUTPUT = "probability"
DATATYPE = "FP64"
_NUMBERS = frozenset((float, int, type(None)))  # bool is an int to isinstance, not to type()


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Args:
        rows: Most rows in one request.
        body: Most bytes in one request body.
    """

    rows: int = 10_000
    body: int = 16 * 1024 * 1024


class BadRequest(Exception):
    """A request this model cannot answer; the text goes back to the caller."""


@dataclass(frozen=True)
class Request:
    """A decoded inference request.

    Args:
        id: The caller's id, or a fresh UUID when it sent none.
        features: float64 [n, p] in the model's order; NaN where the caller sent null.
    """

    id: str
    features: NDArray[np.float64]


def decode(body: bytes, features: Sequence[str], limits: Limits) -> Request:
    """Decode an inference request.

    Args:
        body: The HTTP body.
        features: The model's features in its order.
        limits: Rows and bytes allowed.

    Returns:
        The request with its rows in the model's order.

    Raises:
        BadRequest: The body is not a request for this model.
    """
    if len(body) > limits.body:
        raise BadRequest(f"the body has {len(body)} bytes; at most {limits.body} are accepted")
    document = _parse(body)
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadRequest('"id" must be a string, or absent')
    _check_outputs(document.get("outputs"))
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest(f'"inputs" must be a list with one tensor "{INPUT}", or one tensor per feature')
    names = [tensor.get("name") for tensor in inputs]
    x = _matrix(inputs[0], len(features), limits) if names == [INPUT] and INPUT not in features else None
    if x is None:
        x = _columns(inputs, names, features, limits)
    if not np.isfinite(x[~np.isnan(x)]).all():
        raise BadRequest("a number is out of the range of FP64; send null for a missing value")
    return Request(identity if identity is not None else str(uuid.uuid4()), x)


def _parse(body: bytes) -> dict[str, Any]:
    def refuse(literal: str) -> NoReturn:
        raise BadRequest(f"{literal} is not JSON; send null for a missing value")

    try:
        document = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        position = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequest(
            f"the body is not JSON{position}; binary tensors are not supported, send tensors as JSON"
        ) from None
    if not isinstance(document, dict):
        raise BadRequest('the body must be a JSON object with "inputs"')
    return document


def _check_outputs(outputs: object) -> None:
    if outputs is None:
        return
    ok = isinstance(outputs, list) and all(isinstance(o, dict) and o.get("name") == OUTPUT for o in outputs)
    if not ok:
        raise BadRequest(f'"outputs" may only name "{OUTPUT}"')


def _shape(tensor: dict[str, Any], where: str) -> list[int]:
    if tensor.get("datatype") != DATATYPE:
        raise BadRequest(f'{where}: "datatype" must be "{DATATYPE}"')
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not shape or not all(type(side) is int and side >= 0 for side in shape):
        raise BadRequest(f'{where}: "shape" must be a list of whole numbers')
    return shape


def _rows(n: int, where: str, limits: Limits) -> None:
    if n < 1:
        raise BadRequest(f"{where}: no rows; at least 1 is expected")
    if n > limits.rows:
        raise BadRequest(f"{where}: {n} rows; at most {limits.rows} are accepted in one request")


def _values(tensor: dict[str, Any], shape: list[int], where: str) -> NDArray[np.float64]:
    data = tensor.get("data")
    if not isinstance(data, list):
        raise BadRequest(f'{where}: "data" must be a list of numbers and nulls')
    if len(shape) == 2 and data and isinstance(data[0], list):  # nested rows are as valid as row-major flat data
        if len(data) != shape[0] or not all(isinstance(row, list) and len(row) == shape[1] for row in data):
            raise BadRequest(f'{where}: nested "data" does not have the shape {shape}')
        data = list(itertools.chain.from_iterable(data))
    expected = shape[0] * shape[1] if len(shape) == 2 else shape[0]
    if len(data) != expected:
        raise BadRequest(f'{where}: "data" has {len(data)} values; shape {shape} needs {expected}')
    if not set(map(type, data)) <= _NUMBERS:
        raise BadRequest(f'{where}: "data" holds something other than numbers and nulls')
    try:
        return np.array(data, dtype=np.float64)
    except OverflowError:
        raise BadRequest(f"{where}: a number is out of the range of FP64") from None


def _matrix(tensor: dict[str, Any], width: int, limits: Limits) -> NDArray[np.float64]:
    where = f'tensor "{INPUT}"'
    shape = _shape(tensor, where)
    if len(shape) != 2 or shape[1] != width:
        raise BadRequest(f"{where}: shape {shape}; expected [n, {width}], columns in the order of the metadata")
    _rows(shape[0], where, limits)
    return _values(tensor, shape, where).reshape(shape)


def _columns(
    inputs: list[dict[str, Any]], names: list[Any], features: Sequence[str], limits: Limits
) -> NDArray[np.float64]:
    strings = [name for name in names if isinstance(name, str)]
    missing = [name for name in features if name not in strings]
    unknown = sum(name not in features for name in names)
    if missing or unknown or len(names) != len(features):
        # Unknown names are counted, not repeated: the caller may have put anything there.
        raise BadRequest(
            f'"inputs" must be one tensor "{INPUT}" [n, {len(features)}] or one tensor for each of the '
            f"{len(features)} features; missing: {', '.join(missing) or 'none'}; unknown tensors: {unknown}; "
            f"repeated: {len(strings) - len(set(strings))}"
        )
    by_name = dict(zip(names, inputs, strict=True))
    columns: list[NDArray[np.float64]] = []
    for name in features:
        where = f'tensor "{name}"'
        shape = _shape(by_name[name], where)
        if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
            raise BadRequest(f"{where}: shape {shape}; expected [n] or [n, 1]")
        _rows(shape[0], where, limits)
        if columns and shape[0] != len(columns[0]):
            raise BadRequest(f'{where}: {shape[0]} rows; tensor "{features[0]}" has {len(columns[0])}, all must agree')
        columns.append(_values(by_name[name], shape, where))
    return np.column_stack(columns)


def encode(request_id: str, name: str, version: str, digest: str, probability: NDArray[np.float64]) -> bytes:
    """The inference response for one request, as JSON."""
    return json.dumps(
        {
            "model_name": name,
            "model_version": version,
            "id": request_id,
            "parameters": {"model_version": version, "bundle_digest": digest},
            "outputs": [
                {
                    "name": OUTPUT,
                    "datatype": DATATYPE,
                    "shape": [len(probability)],
                    "data": probability.tolist(),
                }
            ],
        },
        allow_nan=False,
    ).encode()


def metadata(name: str, version: str, kind: str, digest: str, features: Sequence[str]) -> dict[str, Any]:
    """The model metadata response: tensors; under "parameters" the feature order and the bundle's digest."""
    return {
        "name": name,
        "versions": [version],
        "platform": f"trialops_{kind}",
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, len(features)]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1]}],
        "parameters": {"features": list(features), "bundle_digest": digest},
    }


def prediction_digest(probability: NDArray[np.float64]) -> str:
    """SHA-256 of the probabilities as little-endian float64: matches an answer without holding its value."""
    return hashlib.sha256(np.ascontiguousarray(probability, dtype="<f8").tobytes()).hexdigest()
