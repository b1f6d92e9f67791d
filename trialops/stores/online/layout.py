"""Feast 0.67's bytes: entity keys, hash fields, values and timestamps of its online stores.

Written from the behaviour of `feast.infra.key_encoding_utils`, `online_stores.helpers` and the three stores, and
compared with them byte for byte in the tests. Nothing here imports Feast or protobuf, so that it fits the model
server's image.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from trialops.errors import TrialOpsError

#: Number of STRING in feast.types.ValueType.
_STRING = 2
#: A double in feast.types.Value: field 5, eight bytes follow.
DOUBLE = b"\x29"
NULL = b""
_MASK = 0xFFFFFFFF
#: Value of the one join key, or a value for each.
Entity = str | tuple[str, ...]


def murmur3(data: bytes, seed: int = 0) -> int:
    """MurmurHash3, x86 32-bit variant, unsigned (Austin Appleby, MurmurHash3.cpp, public domain)."""
    h = seed & _MASK
    blocks = len(data) & ~3
    for (k,) in struct.iter_unpack("<I", data[:blocks]):
        h ^= _scrambled(k)
        h = (h << 13 | h >> 19) & _MASK
        h = (h * 5 + 0xE6546B64) & _MASK
    if tail := data[blocks:]:
        h ^= _scrambled(int.from_bytes(tail, "little"))
    h ^= len(data)
    h = ((h ^ h >> 16) * 0x85EBCA6B) & _MASK
    h = ((h ^ h >> 13) * 0xC2B2AE35) & _MASK
    return h ^ h >> 16


def _scrambled(k: int) -> int:
    k = (k * 0xCC9E2D51) & _MASK
    return ((k << 15 | k >> 17) * 0x1B873593) & _MASK


def entity_keys(entities: Sequence[Entity], join_keys: Sequence[str]) -> list[bytes]:
    """Serialized entity keys (serialization version 3), as the SQL stores hold them.

    Args:
        entities: Values of the join keys, all STRING: text for one join key, else a tuple in the order of `join_keys`.
        join_keys: Their names; Feast sorts by them.
    """
    prefix, head = _key_prefix(tuple(join_keys)), _LENGTH
    if len(join_keys) == 1:
        return [prefix + head(_STRING, len(v)) + v for v in [entity.encode() for entity in entities]]  # type: ignore[union-attr]
    order = [tuple(join_keys).index(name) for name in sorted(join_keys)]
    keys = []
    for entity in entities:
        values = [entity[place].encode() for place in order]
        keys.append(prefix + b"".join(head(_STRING, len(v)) + v for v in values))
    return keys


_LENGTH = struct.Struct("<II").pack


@lru_cache(maxsize=64)
def _key_prefix(join_keys: tuple[str, ...]) -> bytes:
    encoded = [name.encode() for name in sorted(join_keys)]
    return struct.pack("<I", len(encoded)) + b"".join(_LENGTH(_STRING, len(n)) + n for n in encoded)


def redis_keys(entities: Sequence[Entity], join_keys: Sequence[str], project: str) -> list[bytes]:
    """Redis keys: the entity key, then the project."""
    ending = project.encode()
    return [key + ending for key in entity_keys(entities, join_keys)]


def redis_field(view: str, column: str) -> bytes:
    """Field of a feature in a subject's hash: four bytes of MurmurHash3, little-endian."""
    return struct.pack("<I", murmur3(f"{view}:{column}".encode()))


def redis_time_field(view: str) -> bytes:
    """Field of a view's event timestamp in a subject's hash."""
    return f"_ts:{view}".encode()


def table_name(project: str, view: str) -> str:
    """Table of a view in the SQL stores."""
    return f"{project}_{view}"


def quoted(name: str) -> str:
    """An identifier in SQL."""
    return '"' + name.replace('"', '""') + '"'


def decode_number(data: bytes | None) -> float:
    """A feast.types.Value as a number, NaN where it holds nothing.

    Raises:
        TrialOpsError: It holds something that is not one number.
    """
    if not data:
        return math.nan
    tag, body = data[0], data[1:]
    if tag == 0x29 and len(body) == 8:
        return float(struct.unpack("<d", body)[0])
    if tag == 0x35 and len(body) == 4:  # field 6, float
        return float(struct.unpack("<f", body)[0])
    if tag in (0x18, 0x20, 0x38):  # fields 3, 4 and 7: int32, int64, bool
        value, end = _varint(body, 0)
        if end == len(body):
            return float(value)
    raise TrialOpsError(
        "A value in the online store is not a number.",
        where=f"feast.types.Value with tag {tag:#04x}",
        fix="Feature views hold Float64; materialise the view again from the current definitions.",
    )


def encode_timestamp(us: int) -> bytes:
    """Microseconds since 1970 as google.protobuf.Timestamp."""
    seconds, micros = divmod(us, 1_000_000)
    head = b"\x08" + _varint_bytes(seconds) if seconds else b""
    return head + (b"\x10" + _varint_bytes(micros * 1000) if micros else b"")


@lru_cache(maxsize=65536)
def decode_timestamp(data: bytes) -> int:
    """google.protobuf.Timestamp as microseconds since 1970.

    Raises:
        TrialOpsError: It is not one.
    """
    position, parts = 0, {0x08: 0, 0x10: 0}
    while position < len(data):
        tag = data[position]
        if tag not in parts:
            raise TrialOpsError(
                "A timestamp in the online store cannot be read.",
                where=f"tag {tag:#04x}",
                fix="Find out what writes there beside Feast and TrialOps.",
            )
        parts[tag], position = _varint(data, position + 1)
    return parts[0x08] * 1_000_000 + parts[0x10] // 1000


def _varint_bytes(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A 64-bit two's complement varint and the position after it."""
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            value &= 0xFFFFFFFFFFFFFFFF
            return (value - (1 << 64) if value >> 63 else value), position
    raise TrialOpsError(
        "A value in the online store ends too early.",
        where="varint",
        fix="Materialise the view again; find out what writes there beside Feast and TrialOps.",
    )


@lru_cache(maxsize=65536)
def sqlite_seconds(us: int) -> int:
    """Microseconds since 1970 UTC as Feast puts them into SQLite.

    It takes UTC's wall clock for local time: with a local zone other than UTC the number is off by the zone's offset,
    and `sqlite_us` takes the same way back.

    Raises:
        TrialOpsError: The time has a fraction of a second, which Feast's column cannot hold: two times within one
            second could then not be told apart, and an older value could replace a newer one.
    """
    seconds, micros = divmod(us, 1_000_000)
    if micros:
        raise TrialOpsError(
            "A timestamp has a fraction of a second, which the SQLite online store cannot hold.",
            where="event_timestamp",
            fix="Use whole seconds (study days are), or a Redis or PostgreSQL online store.",
        )
    return int(datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).timestamp())


@lru_cache(maxsize=65536)
def sqlite_us(seconds: int) -> int:
    """The way back from :func:`sqlite_seconds`."""
    return int(datetime.fromtimestamp(seconds).replace(tzinfo=UTC).timestamp()) * 1_000_000
