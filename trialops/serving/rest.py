"""The REST form of the protocol: bodies to documents, predictions to bodies, with tensors in JSON or in binary.

The binary tensor data extension puts tensors behind the JSON part of a body, little-endian and row-major, in the
order in which they are listed; "Inference-Header-Content-Length" says where the JSON part ends. A string is four
bytes of length and its UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from trialops.serving import protocol
from trialops.serving.protocol import BYTES, DATATYPE, INT64, Limits, Request
from trialops.serving.refusals import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trialops.serving.predictor import Prediction

JSON, OCTETS = b"application/json", b"application/octet-stream"
SPLIT_HEADER = b"inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
_NUMPY = {DATATYPE: "<f8", INT64: "<i8"}


def read(body: bytes, split: bytes | None, features: Sequence[str], limits: Limits, **model: bool) -> Request:
    """Decode a request body.

    Args:
        body: The body.
        split: Value of the header that says where the JSON part ends; None where all of it is JSON.
        features: The model's features in its order.
        limits: Rows and bytes allowed.
        **model: `online` and `interval`, as `protocol.decode` takes them.

    Raises:
        BadRequest: The body is not a request for this model.
    """
    if split is None:
        return protocol.decode(body, features, limits, **model)
    if not split.isdigit() or int(split) > len(body):
        raise BadRequest("Inference-Header-Content-Length is not the length of the JSON part of the body")
    document = protocol.parse(body[: int(split)])
    tensors = document.get("inputs")
    rest = memoryview(body)[int(split) :]
    for tensor in tensors if isinstance(tensors, list) else []:
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue
        if type(size) is not int or not 0 <= size <= len(rest):
            raise BadRequest('"binary_data_size" of a tensor does not fit the body')
        if "data" in tensor:
            raise BadRequest('a tensor has both "data" and "binary_data_size"')
        tensor["data"] = unpack(bytes(rest[:size]), tensor.get("datatype"))
        rest = rest[size:]
    if len(rest):
        raise BadRequest(f"the body has {len(rest)} bytes that belong to no tensor")
    return protocol.interpret(
        document, features, limits, online=model.get("online", False), interval=model.get("interval", False)
    )


def unpack(data: bytes, datatype: object) -> NDArray[np.float64] | NDArray[np.int64] | list[str]:
    """Values of a binary tensor.

    Raises:
        BadRequest: The type is not one that is taken, or the bytes are not of it.
    """
    if datatype in _NUMPY:
        if len(data) % 8:
            raise BadRequest(f"a binary tensor of {datatype} has {len(data)} bytes, not a multiple of 8")
        return np.frombuffer(data, _NUMPY[str(datatype)])
    if datatype != BYTES:
        raise BadRequest(f'"datatype" must be "{DATATYPE}", "{INT64}" or "{BYTES}"')
    texts, position = [], 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        if start > len(data) or position > len(data):
            raise BadRequest(f"a binary tensor of {BYTES} ends within a string")
        texts.append(text(data[start:position]))
    return texts


def text(data: bytes) -> str:
    """A string of a tensor.

    Raises:
        BadRequest: It is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadRequest("a string is not UTF-8") from None


class Writer:
    """Encodes answers of one model; what never changes is encoded once.

    Args:
        name: Model name.
        version: Model version.
        digest: Bundle digest.
        columns: Columns of the tensor "contributions".
    """

    def __init__(self, name: str, version: str, digest: str, columns: Sequence[str]) -> None:
        encode = msgspec.json.encode
        self._head = b'{"model_name":%b,"model_version":%b,"id":' % (encode(name), encode(version))
        self._parameters = b',"parameters":{"model_version":%b,"bundle_digest":%b' % (encode(version), encode(digest))
        self._outputs: dict[str, bytes] = {}
        self._columns = b',"parameters":{"columns":%b' % encode(",".join(columns))
        self._encode = msgspec.json.Encoder().encode

    def template(self, tensors: Mapping[str, str]) -> bytes:
        """The body of an answer without warnings, for `%`: the id in JSON, then rows and values of each tensor.

        Args:
            tensors: Name and datatype of each, in the order in which they are returned.
        """
        made = [
            b'{"name":"%b","datatype":"%b","shape":[%%d],"data":%%b}' % (name.encode(), datatype.encode())
            for name, datatype in tensors.items()
        ]
        head, parameters = (part.replace(b"%", b"%%") for part in (self._head, self._parameters))
        return b'%b%%b%b},"outputs":[%b]}' % (head, parameters, b",".join(made))

    def write(self, request: Request, prediction: Prediction) -> tuple[bytes, int | None]:
        """The body, and the length of its JSON part where tensors follow it in binary."""
        as_binary = dict(request.outputs or ())
        tensors, tail = [], []
        for name, values in prediction.outputs.items():
            head = self._tensor(name, values)
            if as_binary.get(name, request.binary):
                data = values.astype("<f8" if values.dtype.kind == "f" else "<i8", copy=False).tobytes()
                tail.append(data)
                sized = b'"binary_data_size":%d}}' % len(data)
                tensors.append(head + (b"," if head.endswith(b'"') else b',"parameters":{') + sized)
            else:
                closed = b"}" if b'"parameters"' in head else b""
                tensors.append(b'%b%b,"data":%b}' % (head, closed, self._encode(values.ravel().tolist())))
        warned = b',"warnings":%b' % self._encode(warnings(prediction.warnings)) if prediction.warnings else b""
        body = b'%b%b%b%b},"outputs":[%b]}' % (
            self._head,
            self._encode(request.id),
            self._parameters,
            warned,
            b",".join(tensors),
        )
        return body + b"".join(tail), len(body) if tail else None

    def _tensor(self, name: str, values: NDArray[Any]) -> bytes:
        """A tensor up to its data; open behind its own parameters where it has any."""
        shape = b",".join(b"%d" % side for side in values.shape)
        datatype = b"FP64" if values.dtype.kind == "f" else b"INT64"
        head = b'{"name":"%b","datatype":"%b","shape":[%b]' % (name.encode(), datatype, shape)
        return head + self._columns if name == protocol.CONTRIBUTIONS else head


def warnings(counts: Mapping[str, int]) -> str:
    """Warnings as the text of a response parameter, such as ``stale: 2 rows``."""
    return "; ".join(f"{kind}: {count} row{'s' * (count != 1)}" for kind, count in counts.items())
