"""Messages of the protocol's gRPC form, from a table of its fields.

Names and numbers are those of `inference.GRPCInferenceService` in the Open Inference Protocol v2
(open_inference_grpc.proto), so that any client of it can be used. They live in a pool of their own: a
client library in the same process may register messages of the same names.
"""

from __future__ import annotations

from functools import cache
from typing import Any

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

# Message -> fields in the order of their numbers from 1: "name type", with * for repeated, % for a map from string.
_TENSOR = "name string, datatype string, *shape int64"
MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready bool",
    "ModelReadyRequest": "name string, version string",
    "ModelReadyResponse": "ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name string, version string, *extensions string",
    "ModelMetadataRequest": "name string, version string",
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelMetadataResponse": "name string, *versions string, platform string, "
    "*inputs ModelMetadataResponse.TensorMetadata, *outputs ModelMetadataResponse.TensorMetadata",
    "ModelInferRequest.InferInputTensor": _TENSOR + ", %parameters InferParameter, contents InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name string, %parameters InferParameter",
    "ModelInferRequest": "model_name string, model_version string, id string, %parameters InferParameter, "
    "*inputs ModelInferRequest.InferInputTensor, *outputs ModelInferRequest.InferRequestedOutputTensor, "
    "*raw_input_contents bytes",
    "ModelInferResponse.InferOutputTensor": _TENSOR + ", %parameters InferParameter, contents InferTensorContents",
    "ModelInferResponse": "model_name string, model_version string, id string, %parameters InferParameter, "
    "*outputs ModelInferResponse.InferOutputTensor, *raw_output_contents bytes",
    "InferParameter": "bool_param bool, int64_param int64, string_param string, double_param double, "
    "uint64_param uint64",
    "InferTensorContents": "*bool_contents bool, *int_contents int32, *int64_contents int64, *uint_contents uint32, "
    "*uint64_contents uint64, *fp32_contents float, *fp64_contents double, *bytes_contents bytes",
}
_ONEOF = {"InferParameter": "parameter_choice"}


@cache
def messages() -> dict[str, Any]:
    """Message classes by name; nested ones as ``Outer.Inner``."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for name in sorted(MESSAGES, key=lambda n: "." in n):  # outer messages before those in them
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner or name)
        if name in _ONEOF:
            made[name].oneof_decl.add(name=_ONEOF[name])
    for name, fields in MESSAGES.items():
        for number, field in enumerate(filter(None, fields.split(", ")), 1):
            _add(made[name], name, field, number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


def _add(message: Any, owner: str, field: str, number: int) -> None:
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    name, kind = field.split(" ")
    mark, name = (name[0], name[1:]) if name[0] in "*%" else ("", name)
    made = message.field.add(name=name, number=number, label=Field.LABEL_REPEATED if mark else Field.LABEL_OPTIONAL)
    if owner in _ONEOF:
        made.oneof_index = 0
    if mark == "%":
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add(entry, "", "key string", 1)
        _add(entry, "", f"value {kind}", 2)
        made.type, made.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{owner}.{entry.name}"
    elif kind in MESSAGES:
        made.type, made.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        made.type = Field.Type.Value(f"TYPE_{kind.upper()}")
