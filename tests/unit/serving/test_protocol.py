"""Decoding and encoding of Open Inference Protocol messages."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trialops.serving import protocol
from trialops.serving.protocol import BadRequest, Limits, decode, encode

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


def test_the_response_carries_probabilities_version_and_digest() -> None:
    p = np.array([0.1, 1 / 3])
    answer = json.loads(encode("a", "withdrawal", "3", "d" * 64, p))
    assert answer["outputs"] == [{"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.1, 1 / 3]}]
    assert answer["parameters"] == {"model_version": "3", "bundle_digest": "d" * 64}
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a", "withdrawal", "3")


def test_the_prediction_digest_depends_on_every_bit() -> None:
    p = np.array([0.1, 0.2])
    assert protocol.prediction_digest(p) == protocol.prediction_digest(p.copy())
    assert protocol.prediction_digest(p) != protocol.prediction_digest(np.nextafter(p, 1))
