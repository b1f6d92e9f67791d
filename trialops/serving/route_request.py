"""What the router reads of a request and of an answer: who it is about, and whether it is an answer at all."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trialops.serving.routing import unit_of

SUBJECT = "subject_id"
PREDICTION = "probability"


class _Tensor(msgspec.Struct):
    name: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    data: msgspec.Raw


class _Response(msgspec.Struct):
    outputs: list[_Output]
    parameters: dict[str, Any] = {}


_REQUEST = msgspec.json.Decoder(_Request)
_RESPONSE = msgspec.json.Decoder(_Response)
_NUMBERS = msgspec.json.Decoder(list[float])


@dataclass(frozen=True)
class Asked:
    """A request as far as routing is concerned.

    Attributes:
        id: The caller's id where it is a UUID; else a new one, because a caller's own id may be a subject's.
        unit: What is assigned: the subject, the set of subjects, or the values asked about.
    """

    id: str
    unit: str


@dataclass(frozen=True)
class Answered:
    """A valid prediction: the first row's probability, and the digest of the bundle that made it."""

    probability: float
    digest: str


def asked(body: bytes) -> Asked | None:
    """Read a request.

    The unit is the subject named by the tensor or the request parameter ``subject_id``. A request about several
    subjects is one unit, so that it is answered by one model. Without a subject it is what is asked, so that the
    same question always gets its answer from the same model.

    Returns:
        None where the body is not a request; the stable model then says what is wrong with it.
    """
    try:
        request = _REQUEST.decode(body)
        tensor = next((t for t in request.inputs if t.name == SUBJECT), None)
        subjects = _flat(msgspec.json.decode(tensor.data)) if tensor is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    named = request.parameters.get(SUBJECT)
    if not subjects and isinstance(named, str) and named:
        subjects = [named]
    if subjects:
        unit = unit_of("\0".join(sorted(set(subjects))))
    else:
        hashed = hashlib.sha256()
        for item in sorted(request.inputs, key=lambda t: t.name):
            hashed.update(item.name.encode() + b"\0" + bytes(item.data) + b"\0")
        unit = hashed.hexdigest()[:16]
    return Asked(_uuid(request.id), unit)


def narrowed(body: bytes, features: Sequence[str]) -> bytes:
    """A request without the feature tensors a model does not take; unchanged where it has none too many.

    Args:
        body: A request that `asked` could read.
        features: What the model takes.
    """
    if not features:
        return body
    names = [tensor.name for tensor in _REQUEST.decode(body).inputs]
    if len(names) <= len(features) or not set(features) <= set(names):
        return body
    document = json.loads(body)
    document["inputs"] = [tensor for tensor in document["inputs"] if tensor["name"] in features]
    return json.dumps(document).encode()


def answered(body: bytes) -> Answered | None:
    """Read an answer.

    Returns:
        None where it is not an inference response with probabilities for every row.
    """
    try:
        response = _RESPONSE.decode(body)
        output = next((o for o in response.outputs if o.name == PREDICTION), None)
        values = _NUMBERS.decode(output.data) if output is not None else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not values or not all(0.0 <= value <= 1.0 for value in values):
        return None
    return Answered(values[0], str(response.parameters.get("bundle_digest", "")))


def _flat(data: Any) -> list[str]:
    if isinstance(data, list):
        return [text for item in data for text in _flat(item)]
    return [str(data)] if data is not None else []


def _uuid(text: str | None) -> str:
    try:
        if text is not None and str(uuid.UUID(text)) == text.lower():
            return text.lower()
    except ValueError:
        pass
    return str(uuid.uuid4())
