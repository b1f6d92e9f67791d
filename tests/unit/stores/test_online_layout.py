"""Our bytes are Feast's bytes."""

from __future__ import annotations

import math
import random
import struct
import time
from datetime import UTC, datetime

import mmh3
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.stores.features import load_feast
from trialops.stores.online import layout

load_feast()

from feast.infra.key_encoding_utils import serialize_entity_key  # noqa: E402
from feast.infra.online_stores.helpers import _mmh3, _redis_key  # noqa: E402
from feast.infra.online_stores.sqlite import adapt_datetime_epoch, convert_timestamp  # noqa: E402
from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: E402
from feast.protos.feast.types.Value_pb2 import Value  # noqa: E402
from feast.utils import to_naive_utc  # noqa: E402
from google.protobuf.timestamp_pb2 import Timestamp  # noqa: E402

subjects = st.text(max_size=40).filter(lambda s: not any(0xD800 <= ord(c) <= 0xDFFF for c in s))


@given(st.binary(max_size=70), st.integers(0, 2**32 - 1))
def test_murmur3_is_that_of_mmh3(data: bytes, seed: int) -> None:
    assert layout.murmur3(data, seed) == mmh3.hash(data, seed, signed=False)


@given(subjects)
@example("")
@example("Patient ß/Ω")
def test_keys_are_those_of_feast(subject: str) -> None:
    key = EntityKey(join_keys=["subject_id"], entity_values=[Value(string_val=subject)])
    assert layout.entity_keys([subject], ["subject_id"]) == [serialize_entity_key(key, 3)]
    assert layout.redis_keys([subject], ["subject_id"], "trialops") == [_redis_key("trialops", key, 3)]


@given(subjects, subjects)
def test_keys_of_several_parts_are_those_of_feast(subject: str, visit: str) -> None:
    values = [Value(string_val=visit), Value(string_val=subject)]
    key = EntityKey(join_keys=["visit", "subject_id"], entity_values=values)
    assert layout.entity_keys([(visit, subject)], ["visit", "subject_id"]) == [serialize_entity_key(key, 3)]
    assert layout.redis_keys([(subject, visit)], ["subject_id", "visit"], "p") == [_redis_key("p", key, 3)]


@given(st.text(st.characters(codec="ascii"), min_size=1), st.text(st.characters(codec="ascii"), min_size=1))
def test_fields_are_those_of_feast(view: str, column: str) -> None:
    assert layout.redis_field(view, column) == _mmh3(f"{view}:{column}")


@given(st.floats())
@example(-0.0)
def test_doubles_are_those_of_protobuf(number: float) -> None:
    theirs = Value() if math.isnan(number) else Value(double_val=number)
    back = layout.decode_number(theirs.SerializeToString())
    assert math.isnan(back) if math.isnan(number) else struct.pack("<d", back) == struct.pack("<d", number)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(int64_val=-5), -5),
        (Value(int64_val=2**40), 2**40),
        (Value(int32_val=7), 7),
        (Value(bool_val=True), 1),
        (Value(float_val=1.5), 1.5),
        (Value(double_val=0.0), 0.0),
    ],
)
def test_other_numbers_are_read(value: Value, expected: float) -> None:
    assert layout.decode_number(value.SerializeToString()) == expected


@pytest.mark.parametrize(
    "data",
    [
        Value(string_val="x").SerializeToString(),
        b"\x29\x00",
        b"\x20\xff",
        Value(bytes_val=b"12345678").SerializeToString(),
    ],
)
def test_what_is_no_number_is_refused(data: bytes) -> None:
    with pytest.raises(TrialOpsError):
        layout.decode_number(data)


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
@example(0)
@example(-1)
@example(946_684_800_000_000)
def test_timestamps_are_those_of_protobuf(us: int) -> None:
    theirs = Timestamp()
    theirs.FromMicroseconds(us)
    assert layout.encode_timestamp(us) == theirs.SerializeToString()
    assert layout.decode_timestamp(layout.encode_timestamp(us)) == us


def test_a_timestamp_that_is_none_is_refused() -> None:
    for data in (b"\x1a\x01x", b"\x08\xff"):
        with pytest.raises(TrialOpsError):
            layout.decode_timestamp(data)


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
def test_sqlite_times_are_those_of_feast_in_any_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    layout.sqlite_seconds.cache_clear()
    layout.sqlite_us.cache_clear()
    try:
        rng = random.Random(4)
        for _ in range(300):
            seconds = rng.randrange(900_000_000, 1_900_000_000)
            theirs = adapt_datetime_epoch(to_naive_utc(datetime.fromtimestamp(seconds, UTC)))
            assert layout.sqlite_seconds(seconds * 1_000_000) == theirs
            back = convert_timestamp(str(theirs).encode()).replace(tzinfo=UTC)
            assert layout.sqlite_us(theirs) == int(back.timestamp()) * 1_000_000
    finally:
        monkeypatch.undo()
        time.tzset()
        layout.sqlite_seconds.cache_clear()
        layout.sqlite_us.cache_clear()


def test_sqlite_takes_no_fraction_of_a_second() -> None:
    with pytest.raises(TrialOpsError, match="fraction"):
        layout.sqlite_seconds(1_500_000)
