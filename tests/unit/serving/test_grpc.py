"""The gRPC form, over a real channel and against messages that protoc made from field numbers written out here."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from online_trial import EMPTY, FEATURES, GOOD, OLD, expected, model, served, write

from trialops.serving.grpc_messages import MESSAGES, METHODS, SERVICE, messages
from trialops.serving.prediction_log import read_segments

PROTO = """
syntax = "proto3";
package independent;
message Parameter { oneof parameter_choice { bool bool_param = 1; int64 int64_param = 2; string string_param = 3;
                    double double_param = 4; uint64 uint64_param = 5; } }
message Contents { repeated bool bool_contents = 1; repeated int32 int_contents = 2; repeated int64 int64_contents = 3;
  repeated uint32 uint_contents = 4; repeated uint64 uint64_contents = 5; repeated float fp32_contents = 6;
  repeated double fp64_contents = 7; repeated bytes bytes_contents = 8; }
message Tensor { string name = 1; string datatype = 2; repeated int64 shape = 3; map<string, Parameter> parameters = 4;
                 Contents contents = 5; }
message Wanted { string name = 1; map<string, Parameter> parameters = 2; }
message Request { string model_name = 1; string model_version = 2; string id = 3; map<string, Parameter> parameters = 4;
                  repeated Tensor inputs = 5; repeated Wanted outputs = 6; repeated bytes raw_input_contents = 7; }
message Response { string model_name = 1; string model_version = 2; string id = 3;
                   map<string, Parameter> parameters = 4; repeated Tensor outputs = 5;
                   repeated bytes raw_output_contents = 6; }
message Named { string name = 1; string version = 2; }
message Flag { bool value = 1; }
message Server { string name = 1; string version = 2; repeated string extensions = 3; }
message About { string name = 1; repeated string versions = 2; string platform = 3; repeated Tensor inputs = 4;
                repeated Tensor outputs = 5; }
"""


@pytest.fixture(scope="module")
def independent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same wire format, compiled by protoc under other names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from grpc_tools import protoc

    folder = tmp_path_factory.mktemp("proto")
    (folder / "independent.proto").write_text(PROTO)
    made = folder / "set.pb"
    assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={made}", "independent.proto"]) == 0
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    pool.Add(files.file[0])
    return type(
        "Independent",
        (),
        {
            m.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"independent.{m.name}"))
            for m in files.file[0].message_type
        },
    )


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("grpc")
    url = f"sqlite:///{folder}/online.db"
    write(url)
    named = folder / "grpc-port"
    with served(folder, url, grpc_port=0, grpc_port_file=named, prediction_log=folder / "log"):
        yield int(named.read_text())


Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(port: int, independent: Any) -> Iterator[Call]:
    answers = {
        "ServerLive": independent.Flag,
        "ServerReady": independent.Flag,
        "ModelReady": independent.Flag,
        "ServerMetadata": independent.Server,
        "ModelMetadata": independent.About,
        "ModelInfer": independent.Response,
    }
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

        def make(method: str, request: Any = None, **more: Any) -> Any:
            stub = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=answers[method].FromString,
            )
            return stub(request if request is not None else independent.Named(), timeout=20, **more)

        yield make


def by_subject(independent: Any, subjects: list[str], days: list[int] | None = None, **more: Any) -> Any:
    request = independent.Request(model_name="withdrawal", **more)
    tensor = request.inputs.add(name="subject_id", datatype="BYTES", shape=[len(subjects)])
    tensor.contents.bytes_contents.extend(subject.encode() for subject in subjects)
    if days is not None:
        request.inputs.add(name="study_day", datatype="INT64", shape=[len(days)]).contents.int64_contents.extend(days)
    return request


def test_every_message_and_field_of_the_table_is_in_the_pool() -> None:
    made = messages()
    assert set(made) == set(MESSAGES)
    request = made["ModelInferRequest"].DESCRIPTOR
    assert request.full_name == "inference.ModelInferRequest"
    assert request.fields_by_name["inputs"].message_type.full_name == "inference.ModelInferRequest.InferInputTensor"
    assert made["InferParameter"].DESCRIPTOR.oneofs_by_name.keys() == ["parameter_choice"]
    assert len(METHODS) == 6


def test_server_and_model_say_what_they_are(call: Call, independent: Any) -> None:
    assert call("ServerLive").value and call("ServerReady").value
    assert call("ModelReady", independent.Named(name="withdrawal")).value
    assert call("ModelReady", independent.Named(name="withdrawal", version="3")).value
    server = call("ServerMetadata")
    assert (server.name, list(server.extensions)) == ("trialops", ["binary_tensor_data"])
    about = call("ModelMetadata", independent.Named(name="withdrawal"))
    assert (about.name, list(about.versions), about.platform) == ("withdrawal", ["3"], "trialops_logistic")
    assert [(t.name, t.datatype, list(t.shape)) for t in about.inputs] == [
        ("subject_id", "BYTES", [-1]),
        ("study_day", "INT64", [-1]),
        ("features", "FP64", [-1, 4]),
    ]
    assert [t.name for t in about.outputs] == ["probability", "low", "high", "study_day", "contributions"]


def test_typed_contents_by_subject(call: Call, independent: Any) -> None:
    answer = call("ModelInfer", by_subject(independent, list(GOOD), [28, 60, 14], id="visit"))
    assert (answer.model_name, answer.model_version, answer.id) == ("withdrawal", "3", "visit")
    assert answer.parameters["bundle_digest"].string_param == model().digest
    found = {t.name: t for t in answer.outputs}
    p = model().predict(expected(dict(zip(GOOD, (28, 60, 14), strict=True))))
    np.testing.assert_allclose(found["probability"].contents.fp64_contents, p, rtol=0, atol=1e-12)
    assert list(found["study_day"].contents.int64_contents) == [28, 60, 14]
    assert not answer.raw_output_contents


def test_a_request_without_an_id_gets_one(call: Call, independent: Any) -> None:
    assert len(call("ModelInfer", by_subject(independent, [GOOD[0]])).id) == 36


def test_raw_contents_of_all_three_types(call: Call, independent: Any) -> None:
    request = independent.Request(model_name="withdrawal", model_version="3")
    request.inputs.add(name="subject_id", datatype="BYTES", shape=[1])
    request.inputs.add(name="study_day", datatype="INT64", shape=[1])
    request.outputs.add(name="contributions")
    request.outputs.add(name="study_day")
    name = GOOD[0].encode()
    request.raw_input_contents.extend([struct.pack("<I", len(name)) + name, struct.pack("<q", 60)])
    answer = call("ModelInfer", request)
    assert [t.name for t in answer.outputs] == ["contributions", "study_day"]
    parts = np.frombuffer(answer.raw_output_contents[0], "<f8").reshape(answer.outputs[0].shape)
    np.testing.assert_array_equal(parts, model().contributions(expected({GOOD[0]: 60})))
    assert struct.unpack("<q", answer.raw_output_contents[1]) == (60,)
    assert answer.outputs[0].parameters["columns"].string_param == ",".join((*FEATURES, "base"))
    x = np.array([[1.0, np.nan, 3.0, 0.5]])
    request = independent.Request(model_name="withdrawal")
    request.inputs.add(name="features", datatype="FP64", shape=[1, 4])
    request.raw_input_contents.append(x.astype("<f8").tobytes())
    assert np.frombuffer(call("ModelInfer", request).raw_output_contents[0], "<f8") == model().predict(x)


def refused(call: Call, request: Any, method: str = "ModelInfer") -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(method, request)
    return error.value.code().name, error.value.details()


def test_refusals_have_the_codes_of_their_kind_and_no_values(call: Call, independent: Any) -> None:
    wrong_field = independent.Request(model_name="withdrawal")
    tensor = wrong_field.inputs.add(name="subject_id", datatype="BYTES", shape=[1])
    tensor.contents.fp64_contents.append(1.0)
    few_raw = by_subject(independent, [GOOD[0]], [28], raw_input_contents=[b"x"])
    both = by_subject(independent, [GOOD[0]], raw_input_contents=[b"x"])
    not_text = independent.Request(model_name="withdrawal")
    not_text.inputs.add(name="subject_id", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"\xff")
    single = independent.Request(model_name="withdrawal")
    single.inputs.add(name="features", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([1] * 4)
    cases = [
        (by_subject(independent, ["01-999-0000"]), "NOT_FOUND", "not in the online store"),
        (by_subject(independent, [OLD]), "FAILED_PRECONDITION", "older"),
        (by_subject(independent, [EMPTY]), "FAILED_PRECONDITION", "missing"),
        (by_subject(independent, [GOOD[0]], [0]), "INVALID_ARGUMENT", "day 0"),
        (independent.Request(model_name="withdrawal"), "INVALID_ARGUMENT", "inputs"),
        (independent.Request(model_name="other"), "NOT_FOUND", "only model"),
        (by_subject(independent, [GOOD[0]], model_version="4"), "NOT_FOUND", "only model"),
        (wrong_field, "INVALID_ARGUMENT", "bytes_contents"),
        (few_raw, "INVALID_ARGUMENT", "1 raw_input_contents for 2 inputs"),
        (both, "INVALID_ARGUMENT", "raw_input_contents"),
        (not_text, "INVALID_ARGUMENT", "UTF-8"),
        (single, "INVALID_ARGUMENT", "datatype"),
    ]
    for request, code, says in cases:
        found = refused(call, request)
        assert found[0] == code and says in found[1], found
        assert "01-" not in found[1]
    assert refused(call, independent.Named(name="other"), "ModelReady")[0] == "NOT_FOUND"
    assert refused(call, independent.Named(name="withdrawal", version="9"), "ModelMetadata")[0] == "NOT_FOUND"


def test_grpc_predictions_are_logged_and_counted_like_rest(tmp_path: Path, independent: Any) -> None:
    url = f"sqlite:///{tmp_path}/online.db"
    write(url)
    named = tmp_path / "grpc-port"
    with served(tmp_path, url, grpc_port=0, grpc_port_file=named, prediction_log=tmp_path / "log") as server:
        with grpc.insecure_channel(f"127.0.0.1:{named.read_text()}") as channel:
            stub = channel.unary_unary(
                f"/{SERVICE}/ModelInfer",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=independent.Response.FromString,
            )
            stub(by_subject(independent, list(GOOD)), metadata=(("x-trialops-arm", "shadow"),), timeout=20)
        page = server.client().send("GET", "/metrics")[1].decode()
        assert 'trialops_inference_rows_total{model="withdrawal",version="3"} 3' in page
        assert server.stop() == 0
    rows = read_segments(tmp_path / "log")
    assert rows["subject_id"].to_list() == list(GOOD) and set(rows["arm"]) == {"shadow"}
