"""Open Inference Protocol v2: requests to arrays.

Everything here is pure: a document in, arrays or an error out. An error names the tensor, the shape and what is
expected, and never repeats a value, because a value may be a subject's. REST and gRPC arrive here as the same
document (`rest`, `grpc_messages`).

A request names its rows by subject (tensor "subject_id", and "study_day" where it is not the latest), or brings
them (tensor "features", or one tensor per feature).

Source: Open Inference Protocol v2 (github.com/kserve/open-inference-protocol).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from trialops.serving.refusals import BadRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BadRequest", "Limits", "Request", "decode", "interpret", "metadata", "prediction_digest"]

INPUT = "features"
SUBJECT, DAY = "subject_id", "study_day"
OUTPUT, LOW, HIGH, CONTRIBUTIONS = "probability", "low", "high", "contributions"
DATATYPE, BYTES, INT64 = "FP64", "BYTES", "INT64"
_NUMBERS = frozenset((float, int, type(None)))  # bool is an int to isinstance, not to type()
LONGEST_SUBJECT = 256
FARTHEST_DAY = 100_000


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Args:
        rows: Most rows in one request.
        body: Most bytes in one request body.
    """

    rows: int = 10_000
    body: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class Request:
    """A decoded inference request; it has features or subjects.

    Args:
        id: The caller's id, or a fresh UUID when it sent none.
        given: Whether the caller sent the id.
        features: float64 [n, p] in the model's order, NaN where the caller sent null; None with subjects.
        subjects: Pseudonyms, one per row.
        days: Study day of each row, int64 [n]; None for each subject's latest.
        outputs: Names of the outputs asked for, with whether each may be binary; None for the usual ones.
        binary: Whether outputs may be binary where they do not say themselves.
    """

    id: str
    features: NDArray[np.float64] | None
    subjects: tuple[str, ...] = ()
    days: NDArray[np.int64] | None = None
    outputs: tuple[tuple[str, bool], ...] | None = None
    binary: bool = False
    given: bool = True


def fresh_id() -> str:
    """A random UUID (RFC 9562, version 4)."""
    try:
        text = _random.pop()
    except IndexError:
        data = os.urandom(16 * 256).hex()  # one call of the system for many
        text = data[:32]
        _random.extend(data[start : start + 32] for start in range(32, len(data), 32))
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:]}"


_random: list[str] = []
os.register_at_fork(after_in_child=_random.clear)
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def decode(
    body: bytes, features: Sequence[str], limits: Limits, *, online: bool = False, interval: bool = False
) -> Request:
    """Decode an inference request in JSON.

    Args:
        body: The HTTP body.
        features: The model's features in its order.
        limits: Rows and bytes allowed.
        online: Whether rows can be named by subject.
        interval: Whether the model gives intervals.

    Returns:
        The request with its rows in the model's order.

    Raises:
        BadRequest: The body is not a request for this model.
    """
    if len(body) > limits.body:
        raise BadRequest(f"the body has {len(body)} bytes; at most {limits.body} are accepted")
    return interpret(parse(body), features, limits, online=online, interval=interval)


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BadRequest: It is none.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        _, found, position = str(error).rpartition("(byte ")
        place = f" at byte {position.rstrip(')')}" if found and position.rstrip(")").isdigit() else ""
        raise BadRequest(
            f"the body is not JSON{place}, or a number is out of the range of FP64; send null for a missing value"
        ) from None
    if not isinstance(document, dict):
        raise BadRequest('the body must be a JSON object with "inputs"')
    return document


def interpret(
    document: Mapping[str, Any], features: Sequence[str], limits: Limits, *, online: bool, interval: bool
) -> Request:
    """A request from its document; the data of a tensor is a list, or an array where it came in binary.

    Args:
        document: id, inputs, outputs and parameters as the REST form has them.
        features: The model's features in its order.
        limits: Rows allowed.
        online: Whether rows can be named by subject.
        interval: Whether the model gives intervals.

    Raises:
        BadRequest: It is not a request for this model.
    """
    identity = document.get("id")
    if identity is not None and not isinstance(identity, str):
        raise BadRequest('"id" must be a string, or absent')
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest(f'"inputs" must be a list with one tensor "{INPUT}", or one tensor per feature')
    names = [tensor.get("name") for tensor in inputs]
    by_subject = online and SUBJECT in names and SUBJECT not in features
    offered = (OUTPUT, *((LOW, HIGH) if interval else ()), *((DAY,) if by_subject else ()), CONTRIBUTIONS)
    outputs, binary = _outputs(document, offered)
    request_id, given = (fresh_id(), False) if identity is None else (identity, True)
    if by_subject:
        subjects, days = _subjects(inputs, names, limits)
        return Request(request_id, None, subjects, days, outputs, binary, given)
    x = _matrix(inputs[0], len(features), limits) if names == [INPUT] and INPUT not in features else None
    if x is None:
        x = _columns(inputs, names, features, limits, online)
    if np.isinf(x).any():
        raise BadRequest("a number is out of the range of FP64; send null for a missing value")
    return Request(request_id, x, outputs=outputs, binary=binary, given=given)


def _outputs(document: Mapping[str, Any], offered: Sequence[str]) -> tuple[tuple[tuple[str, bool], ...] | None, bool]:
    binary = _flag(document, "binary_data_output")
    outputs = document.get("outputs")
    if not outputs and (outputs is None or isinstance(outputs, list)):
        return None, binary
    ok = isinstance(outputs, list) and all(isinstance(o, dict) and o.get("name") in offered for o in outputs)
    if not ok or not isinstance(outputs, list):
        raise BadRequest('"outputs" may only name ' + ", ".join(f'"{name}"' for name in offered))
    if len({o["name"] for o in outputs}) != len(outputs):
        raise BadRequest('"outputs" names a tensor twice')
    return tuple((o["name"], _flag(o, "binary_data", binary)) for o in outputs), binary


def _flag(holder: Mapping[str, Any], name: str, default: bool = False) -> bool:
    parameters = holder.get("parameters")
    if parameters is None:
        return default
    if not isinstance(parameters, dict) or type(parameters.get(name, default)) is not bool:
        raise BadRequest(f'"parameters" must be an object; "{name}" in it true or false')
    return bool(parameters.get(name, default))


def _shape(tensor: Mapping[str, Any], where: str, datatype: str = DATATYPE) -> list[int]:
    if tensor.get("datatype") != datatype:
        raise BadRequest(f'{where}: "datatype" must be "{datatype}"')
    shape = tensor.get("shape")
    if type(shape) is list and len(shape) == 1 and type(shape[0]) is int and shape[0] >= 0:
        return shape
    if not isinstance(shape, list) or not shape or not all(_whole(side) and side >= 0 for side in shape):
        raise BadRequest(f'{where}: "shape" must be a list of whole numbers')
    return [int(side) for side in shape]


def _whole(value: object) -> bool:
    """Whether a JSON number is whole: 1 is, and so is 1.0, which other languages write for it; true is not."""
    return type(value) is int or (type(value) is float and value.is_integer())


def _rows(n: int, where: str, limits: Limits) -> None:
    if n < 1:
        raise BadRequest(f"{where}: no rows; at least 1 is expected")
    if n > limits.rows:
        raise BadRequest(f"{where}: {n} rows; at most {limits.rows} are accepted in one request")


def _column_shape(tensor: Mapping[str, Any], where: str, limits: Limits, datatype: str = DATATYPE) -> list[int]:
    shape = _shape(tensor, where, datatype)
    if len(shape) > 2 or (len(shape) == 2 and shape[1] != 1):
        raise BadRequest(f"{where}: shape {shape}; expected [n] or [n, 1]")
    _rows(shape[0], where, limits)
    return shape


def _flat(tensor: Mapping[str, Any], shape: list[int], where: str, what: str) -> Any:
    """The values in row-major order: a list, or an array where they came in binary."""
    data = tensor.get("data")
    if not isinstance(data, (list, np.ndarray)):
        raise BadRequest(f'{where}: "data" must be a list of {what}')
    if len(shape) == 2 and len(data) and isinstance(data[0], list):  # nested rows are as valid as flat data
        if len(data) != shape[0] or not all(isinstance(row, list) and len(row) == shape[1] for row in data):
            raise BadRequest(f'{where}: nested "data" does not have the shape {shape}')
        data = list(itertools.chain.from_iterable(data))
    expected = shape[0] * shape[1] if len(shape) == 2 else shape[0]
    if len(data) != expected:
        raise BadRequest(f'{where}: "data" has {len(data)} values; shape {shape} needs {expected}')
    return data


def _values(tensor: Mapping[str, Any], shape: list[int], where: str) -> NDArray[np.float64]:
    data = _flat(tensor, shape, where, "numbers and nulls")
    if isinstance(data, np.ndarray):
        return data
    if not set(map(type, data)) <= _NUMBERS:
        raise BadRequest(f'{where}: "data" holds something other than numbers and nulls')
    try:
        return np.array(data, dtype=np.float64)
    except OverflowError:
        raise BadRequest(f"{where}: a number is out of the range of FP64") from None


def _matrix(tensor: Mapping[str, Any], width: int, limits: Limits) -> NDArray[np.float64]:
    where = f'tensor "{INPUT}"'
    shape = _shape(tensor, where)
    if len(shape) != 2 or shape[1] != width:
        raise BadRequest(f"{where}: shape {shape}; expected [n, {width}], columns in the order of the metadata")
    _rows(shape[0], where, limits)
    return _values(tensor, shape, where).reshape(shape)


def _columns(
    inputs: list[dict[str, Any]], names: list[Any], features: Sequence[str], limits: Limits, online: bool
) -> NDArray[np.float64]:
    strings = [name for name in names if isinstance(name, str)]
    missing = [name for name in features if name not in strings]
    unknown = sum(name not in features for name in names)
    if missing or unknown or len(names) != len(features):
        # Unknown names are counted, not repeated: the caller may have put anything there.
        by_subject = f'one tensor "{SUBJECT}" [n], ' if online else ""
        raise BadRequest(
            f'"inputs" must be {by_subject}one tensor "{INPUT}" [n, {len(features)}] or one tensor for each of the '
            f"{len(features)} features; missing: {', '.join(missing) or 'none'}; unknown tensors: {unknown}; "
            f"repeated: {len(strings) - len(set(strings))}"
        )
    by_name = dict(zip(names, inputs, strict=True))
    columns: list[NDArray[np.float64]] = []
    for name in features:
        where = f'tensor "{name}"'
        shape = _column_shape(by_name[name], where, limits)
        if columns and shape[0] != len(columns[0]):
            raise BadRequest(f'{where}: {shape[0]} rows; tensor "{features[0]}" has {len(columns[0])}, all must agree')
        columns.append(_values(by_name[name], shape, where))
    return np.column_stack(columns)


def _subjects(
    inputs: list[dict[str, Any]], names: list[Any], limits: Limits
) -> tuple[tuple[str, ...], NDArray[np.int64] | None]:
    if names != [SUBJECT] and sorted(map(str, names)) != [DAY, SUBJECT]:
        raise BadRequest(f'beside "{SUBJECT}" there may be one tensor "{DAY}" and no other')
    by_name = dict(zip(names, inputs, strict=True))
    where = f'tensor "{SUBJECT}"'
    shape = _column_shape(by_name[SUBJECT], where, limits, BYTES)
    data = _flat(by_name[SUBJECT], shape, where, "strings")
    if not all(type(value) is str for value in data):
        raise BadRequest(f'{where}: "data" holds something other than strings')
    if max(map(len, data)) > LONGEST_SUBJECT:
        raise BadRequest(f"{where}: a subject id has more than {LONGEST_SUBJECT} characters")
    if DAY not in by_name:
        return tuple(data), None
    where = f'tensor "{DAY}"'
    shape_of_days = _column_shape(by_name[DAY], where, limits, INT64)
    if shape_of_days[0] != shape[0]:
        raise BadRequest(f'{where}: another number of rows than "{SUBJECT}"')
    days = _flat(by_name[DAY], shape_of_days, where, "whole numbers")
    if not isinstance(days, np.ndarray):
        if not all(map(_whole, days)):
            raise BadRequest(f'{where}: "data" holds something other than whole numbers')
        if max(map(abs, days)) > FARTHEST_DAY:
            raise BadRequest(f"{where}: a day is farther than {FARTHEST_DAY} days away")
        days = np.array(days, dtype=np.int64)
    if (days == 0).any() or (days > FARTHEST_DAY).any() or (days < -FARTHEST_DAY).any():
        raise BadRequest(f"{where}: study day 0 does not exist, and none is farther than {FARTHEST_DAY} days away")
    return tuple(data), days


def metadata(
    name: str,
    version: str,
    kind: str,
    digest: str,
    features: Sequence[str],
    *,
    online: bool = False,
    interval: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The model metadata response: tensors; under "parameters" the feature order, the bundle's digest and more."""
    inputs = [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, len(features)]}]
    outputs = [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1]}]
    if interval:
        outputs += [{"name": bound, "datatype": DATATYPE, "shape": [-1]} for bound in (LOW, HIGH)]
    if online:
        inputs.insert(0, {"name": SUBJECT, "datatype": BYTES, "shape": [-1]})
        inputs.insert(1, {"name": DAY, "datatype": INT64, "shape": [-1]})
        outputs.append({"name": DAY, "datatype": INT64, "shape": [-1]})
    outputs.append({"name": CONTRIBUTIONS, "datatype": DATATYPE, "shape": [-1, len(features) + 1]})
    return {
        "name": name,
        "versions": [version],
        "platform": f"trialops_{kind}",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {"features": list(features), "bundle_digest": digest, **(parameters or {})},
    }


def prediction_digest(probability: NDArray[np.float64]) -> str:
    """SHA-256 of the probabilities as little-endian float64: matches an answer without holding its value."""
    return hashlib.sha256(np.ascontiguousarray(probability, dtype="<f8").tobytes()).hexdigest()
