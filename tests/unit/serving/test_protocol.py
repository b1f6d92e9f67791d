"""Decoding and encoding of Open Inference Protocol messages."""

from __future__ import annotations

import json
import struct
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trialops.serving import protocol, rest
from trialops.serving.predictor import Prediction
from trialops.serving.protocol import BadRequest, Limits, Request, decode

FEATURES = ("age", "weight_slope", "ae_count")
LIMITS = Limits(rows=5, body=4096)


def tensor(
    name: str = "features", data: Any = (1.0, None, 3.0), shape: Any = (1, 3), datatype: str = "FP64"
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}


def body(*tensors: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **more}).encode()


@pytest.mark.parametrize("data", [[1.0, None, 3, 4, 5, 6], [[1.0, None, 3], [4, 5, 6]]], ids=["flat", "nested"])
def test_one_matrix_is_read_row_by_row_and_null_is_missing(data: list[Any]) -> None:
    request = decode(body(tensor(data=data, shape=(2, 3)), id="a"), FEATURES, LIMITS)
    np.testing.assert_array_equal(request.features, [[1, np.nan, 3], [4, 5, 6]])
    assert request.id == "a"


def test_named_columns_are_put_into_the_models_order() -> None:
    request = decode(
        body(
            tensor("ae_count", (3, 6), (2,)),
            tensor("age", (1, 4), (2, 1)),
            tensor("weight_slope", ([None], [5]), (2, 1)),
        ),
        FEATURES,
        LIMITS,
    )
    np.testing.assert_array_equal(request.features, [[1, np.nan, 3], [4, 5, 6]])


def test_an_absent_id_is_replaced_by_a_fresh_uuid() -> None:
    first, second = (decode(body(tensor()), FEATURES, LIMITS).id for _ in range(2))
    assert first != second and uuid.UUID(first).version == 4


def test_a_model_with_a_feature_called_features_takes_it_as_a_column() -> None:
    request = decode(body(tensor("features", (1, 2), (2,))), ("features",), LIMITS)
    assert request.features.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 3000, "not JSON"),
        (b"[]", "must be a JSON object"),
        (
            b'{"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 3], "data": [NaN, 1, 2]}]}',
            "send null",
        ),
        (body(tensor(data=(1e308, 2, 3))).replace(b"1e+308", b"1e999"), "range of FP64"),
        (body(tensor(data=(10**400, 2, 3))), "range of FP64"),
        (body(), "inputs"),
        (body("age"), "inputs"),
        (b'{"inputs": 3}', "inputs"),
        (body(tensor(), id=7), '"id" must be a string'),
        (body(tensor(), outputs=[{"name": "odds"}]), '"outputs" may only name "probability"'),
        (body(tensor(datatype="FP32")), '"datatype" must be "FP64"'),
        (body(tensor(shape=(1, 2), data=(1, 2))), "expected [n, 3]"),
        (body(tensor(shape=(3,))), "expected [n, 3]"),
        (body(tensor(shape=(1, -3))), "whole numbers"),
        (body(tensor(shape=(True, 3))), "whole numbers"),
        (body(tensor(shape=(2, 3))), "has 3 values; shape [2, 3] needs 6"),
        (body(tensor(data=((1, 2), (3,)))), "does not have the shape"),
        (body(tensor(data=(1, "2", 3))), "something other than numbers"),
        (body(tensor(data=(1, True, 3))), "something other than numbers"),
        (body(tensor(data=(1, [2], 3))), "something other than numbers"),
        (body({**tensor(), "data": "123"}), '"data" must be a list'),
        (body(tensor(shape=(0, 3), data=())), "at least 1"),
        (body(tensor(shape=(6, 3), data=[0] * 18)), "6 rows; at most 5"),
        (body(tensor("age", (1,), (1,))), "missing: weight_slope, ae_count"),
        (body(*(tensor(n, (1,), (1,)) for n in (*FEATURES, "shoe"))), "unknown tensors: 1"),
        (body(*(tensor(n, (1,), (1,)) for n in (*FEATURES, "age"))), "repeated: 1"),
        (body(tensor("age", (1, 2), (2,)), *(tensor(n, (1,), (1,)) for n in FEATURES[1:])), "all must agree"),
        (
            body(tensor("age", (1, 2), (1, 2)), *(tensor(n, (1,), (1,)) for n in FEATURES[1:])),
            "expected [n] or [n, 1]",
        ),
        (b" " * 5000, "5000 bytes; at most 4096"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(text: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as error:
        decode(text, FEATURES, LIMITS)
    assert says in str(error.value)


def test_no_error_repeats_a_value_or_an_unknown_name() -> None:
    for text in (body(tensor(data=(1, "01-701-1015", 3))), body(tensor("01-701-1015", (1,), (1,)))):
        with pytest.raises(BadRequest) as error:
            decode(text, FEATURES, LIMITS)
        assert "1015" not in str(error.value)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.just(3)), elements=st.floats(allow_infinity=False)))
def test_any_matrix_survives_the_wire_bit_for_bit(x: np.ndarray) -> None:
    rows = [[None if np.isnan(v) else v for v in row] for row in x.tolist()]
    request = decode(body(tensor(data=rows, shape=x.shape)), FEATURES, Limits())
    np.testing.assert_array_equal(request.features, x)


def subject(data: Any = ("P1", "P2"), shape: Any = (2,), datatype: str = "BYTES") -> dict[str, Any]:
    return tensor("subject_id", data, shape, datatype)


def day(data: Any = (28, -3), shape: Any = (2,), datatype: str = "INT64") -> dict[str, Any]:
    return tensor("study_day", data, shape, datatype)


def by_subject(text: bytes) -> Request:
    return decode(text, FEATURES, LIMITS, online=True, interval=True)


def test_rows_are_named_by_subject_with_and_without_a_day_in_any_order() -> None:
    latest = by_subject(body(subject()))
    assert (latest.subjects, latest.days, latest.features) == (("P1", "P2"), None, None)
    for tensors in ((subject(), day()), (day(shape=(2, 1), data=([28], [-3])), subject())):
        dated = by_subject(body(*tensors))
        assert dated.days is not None and dated.days.tolist() == [28, -3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (body(subject(datatype="FP64")), '"datatype" must be "BYTES"'),
        (body(subject(data=("P1", 7))), "something other than strings"),
        (body(subject(data=("P1",))), "has 1 values; shape [2] needs 2"),
        (body(subject(shape=(1, 2))), "expected [n] or [n, 1]"),
        (body(subject(data=("x" * 257, "P2"))), "more than 256 characters"),
        (body(subject(data=["P"] * 6, shape=(6,))), "6 rows; at most 5"),
        (body(subject(), tensor()), 'one tensor "study_day" and no other'),
        (body(subject(), subject()), "and no other"),
        (body(subject(), day(datatype="INT32")), '"datatype" must be "INT64"'),
        (body(subject(), day(data=(1, 0))), "study day 0 does not exist"),
        (body(subject(), day(data=(1, 2.5))), "something other than whole numbers"),
        (body(subject(), day(data=(1, True))), "something other than whole numbers"),
        (body(subject(), day(data=(1, 10**30))), "farther than"),
        (body(subject(), day(data=(1,), shape=(1,))), 'another number of rows than "subject_id"'),
        (body(subject(), outputs=[{"name": "low"}, {"name": "low"}]), "names a tensor twice"),
        (body(tensor(), outputs=[{"name": "study_day"}]), '"outputs" may only name'),
        (body(subject(), parameters=3), '"parameters" must be an object'),
        (body(subject(), parameters={"binary_data_output": "yes"}), "true or false"),
    ],
)
def test_a_bad_request_by_subject_is_told_what_is_wrong(text: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as error:
        by_subject(text)
    assert says in str(error.value)
    assert "P1" not in str(error.value) and "xxx" not in str(error.value)


def test_a_server_without_an_online_store_does_not_take_subjects() -> None:
    with pytest.raises(BadRequest, match="missing: age"):
        decode(body(subject()), FEATURES, LIMITS)


def test_outputs_are_those_asked_for() -> None:
    asked = by_subject(
        body(
            subject(),
            outputs=[{"name": "high"}, {"name": "contributions", "parameters": {"binary_data": True}}],
        )
    )
    assert asked.outputs == (("high", False), ("contributions", True))
    assert by_subject(body(subject(), outputs=[])).outputs is None


# -- the binary tensor data extension --------------------------------------------------------------------------


def binary(*parts: bytes, tensors: list[dict[str, Any]], **more: Any) -> tuple[bytes, bytes]:
    for made, part in zip(tensors, parts, strict=True):
        made.pop("data")
        made["parameters"] = {"binary_data_size": len(part)}
    head = json.dumps({"inputs": tensors, **more}).encode()
    return head + b"".join(parts), str(len(head)).encode()


def strings(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def test_binary_tensors_say_the_same_as_json() -> None:
    x = np.array([[1.5, np.nan, -2.0], [4, 5, 6]])
    text, split = binary(x.astype("<f8").tobytes(), tensors=[tensor(shape=(2, 3))])
    np.testing.assert_array_equal(rest.read(text, split, FEATURES, LIMITS).features, x)
    text, split = binary(strings("P1", "P\u00e92"), np.array([28, -3], "<i8").tobytes(), tensors=[subject(), day()])
    asked = rest.read(text, split, FEATURES, LIMITS, online=True, interval=True)
    assert asked.subjects == ("P1", "P\u00e92")
    assert asked.days is not None and asked.days.tolist() == [28, -3]


@pytest.mark.parametrize(
    ("text", "split", "says"),
    [
        (*binary(b"\0" * 23, tensors=[tensor(shape=(1, 3))]), "not a multiple of 8"),
        (*binary(b"\0" * 16, tensors=[tensor(shape=(1, 3))]), "has 2 values"),
        (*binary(strings("P1")[:-1], tensors=[subject(shape=(1,))]), "ends within a string"),
        (*binary(b"\2\0", tensors=[subject(shape=(1,))]), "ends within a string"),
        (*binary(b"\1\0\0\0\xff", tensors=[subject(shape=(1,))]), "not UTF-8"),
        (*binary(b"\0" * 8, tensors=[tensor(datatype="FP32")]), '"datatype" must be'),
        (binary(strings("P1"), tensors=[subject(shape=(1,))])[0], b"x", "not the length of the JSON part"),
        (binary(strings("P1"), tensors=[subject(shape=(1,))])[0], b"99999", "not the length of the JSON part"),
        (body(subject()) + b"12", str(len(body(subject()))).encode(), "2 bytes that belong to no tensor"),
        (
            json.dumps({"inputs": [{**subject(), "parameters": {"binary_data_size": 0}}]}).encode(),
            str(len(json.dumps({"inputs": [{**subject(), "parameters": {"binary_data_size": 0}}]}))).encode(),
            "has both",
        ),
    ],
)
def test_bad_binary_tensors_are_told_what_is_wrong(text: bytes, split: bytes, says: str) -> None:
    with pytest.raises(BadRequest) as error:
        rest.read(text, split, FEATURES, LIMITS, online=True, interval=True)
    assert says in str(error.value)


def test_infinity_in_binary_is_refused() -> None:
    text, split = binary(np.array([1, np.inf, 2], "<f8").tobytes(), tensors=[tensor()])
    with pytest.raises(BadRequest, match="range of FP64"):
        rest.read(text, split, FEATURES, LIMITS)


@given(st.binary(max_size=60), st.integers(0, 70))
def test_no_body_whatever_ends_in_anything_but_an_answer_or_a_refusal(text: bytes, split: int) -> None:
    with pytest.raises(BadRequest):
        rest.read(text, str(split).encode(), FEATURES, LIMITS, online=True)


WRITER = rest.Writer("withdrawal", "3", "d" * 64, (*FEATURES, "base"))


def predicted(warnings: dict[str, int] | None = None) -> Prediction:
    p = np.array([0.1, 1 / 3])
    parts = np.arange(8.0).reshape(2, 4)
    outputs = {"probability": p, "study_day": np.array([28, -3]), "contributions": parts}
    return Prediction(outputs, p, warnings or {})


def test_the_response_carries_tensors_version_and_digest() -> None:
    text, split = WRITER.write(Request("a", None), predicted())
    answer = json.loads(text)
    assert split is None
    assert answer["outputs"] == [
        {"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.1, 1 / 3]},
        {"name": "study_day", "datatype": "INT64", "shape": [2], "data": [28, -3]},
        {
            "name": "contributions",
            "datatype": "FP64",
            "shape": [2, 4],
            "parameters": {"columns": "age,weight_slope,ae_count,base"},
            "data": [0, 1, 2, 3, 4, 5, 6, 7],
        },
    ]
    assert answer["parameters"] == {"model_version": "3", "bundle_digest": "d" * 64}
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a", "withdrawal", "3")
    warned = json.loads(WRITER.write(Request("a", None), predicted({"stale": 2}))[0])
    assert warned["parameters"]["warnings"] == "stale: 2 rows"


def test_a_response_in_binary_holds_the_same_numbers() -> None:
    text, split = WRITER.write(Request('a"b', None, binary=True), predicted())
    assert split is not None
    answer, rest_ = json.loads(text[:split]), text[split:]
    assert answer["id"] == 'a"b'
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in answer["outputs"]]
    assert sizes == [16, 16, 64] and sum(sizes) == len(rest_)
    assert np.frombuffer(rest_[:16], "<f8").tolist() == [0.1, 1 / 3]
    assert np.frombuffer(rest_[16:32], "<i8").tolist() == [28, -3]
    one = Request("a", None, outputs=(("probability", False), ("study_day", True), ("contributions", False)))
    text, split = WRITER.write(one, predicted())
    answer = json.loads(text[:split])
    assert [("data" in tensor) for tensor in answer["outputs"]] == [True, False, True]
    assert len(text) - (split or 0) == 16


def test_the_prediction_digest_depends_on_every_bit() -> None:
    p = np.array([0.1, 0.2])
    assert protocol.prediction_digest(p) == protocol.prediction_digest(p.copy())
    assert protocol.prediction_digest(p) != protocol.prediction_digest(np.nextafter(p, 1))
