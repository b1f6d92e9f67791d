"""Feast's Redis online store, written: comparison and write in one script on the server."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import Any

from trialops.stores.online import layout
from trialops.stores.online.redis import connection_pool, packed, unreachable
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
from trialops.stores.online.writer import Batch, OnlineWriter

#: Bytes of a timestamp's slot in a packed row: its length, then google.protobuf.Timestamp (at most 17 bytes).
_SLOT = 18
#: Scripts sent before the first answer is read: client and server then work at the same time.
_AHEAD = 4
# KEYS are subjects. ARGV: the view's timestamp field, the packed rows, the fields.
# A row is the timestamp's slot, then nine bytes for each value, which begin with 0 where there is none.
# Times are compared as (seconds, nanoseconds); seconds before 1970 are ten bytes of two's complement.
SCRIPT = """
local at, rows, columns = ARGV[1], ARGV[2], #ARGV - 2
local width = SLOT + 9 * columns
local byte, sub = string.byte, string.sub
local function number(data, from)
  local value, scale, last = 0, 1, from
  while byte(data, last) > 127 do last = last + 1 end
  if last - from == 9 then
    for place = from, last - 1 do value = value + (255 - byte(data, place)) * scale; scale = scale * 128 end
    return -value - 1, last + 1
  end
  for place = from, last do value = value + byte(data, place) % 128 * scale; scale = scale * 128 end
  return value, last + 1
end
local function moment(data)
  local seconds, nanos, place = 0, 0, 1
  while place <= #data do
    if byte(data, place) == 8 then seconds, place = number(data, place + 1)
    else nanos, place = number(data, place + 1) end
  end
  return seconds, nanos
end
local written, set = 0, {}
for column = 1, columns do set[2 * column - 1] = ARGV[column + 2] end
set[2 * columns + 1] = at
for row, key in ipairs(KEYS) do
  local from = (row - 1) * width + 1
  local new = sub(rows, from + 1, from + byte(rows, from))
  local old, newer = redis.call('HGET', key, at), true
  if old and old ~= new then
    local s, n = moment(old)
    local t, m = moment(new)
    newer = t > s or (t == s and m >= n)
  end
  if newer then
    local place = from + SLOT
    for column = 1, columns do
      if byte(rows, place) == 0 then set[2 * column] = '' else set[2 * column] = sub(rows, place, place + 8) end
      place = place + 9
    end
    set[2 * columns + 2] = new
    redis.call('HSET', key, unpack(set))
    written = written + 1
  end
end
return written
""".replace("SLOT", str(_SLOT))


class RedisWriter(OnlineWriter):
    """Writes over one connection.

    A script that fails on the way may be sent again: it only ever moves a subject's values forward in time.
    """

    def __init__(self, url: str, spec: FeatureServiceSpec) -> None:
        super().__init__(spec)
        self._pool = connection_pool(url, seconds=60.0)
        self._connection: Any = None
        self._waiting: deque[int] = deque()

    def _open(self) -> None:
        import redis

        try:
            self._connection = self._pool.get_connection()
        except redis.RedisError as error:
            raise unreachable(error) from None

    def _put(self, view: ViewSpec, batch: Batch) -> int:
        import redis

        keys = layout.redis_keys(batch.subjects, self.spec.join_keys, self.spec.project)
        request = b"".join(
            (
                b"*%d\r\n" % (5 + len(keys) + len(view.columns)),
                packed(b"EVAL", SCRIPT.encode()),
                packed(str(len(keys)).encode()),
                packed(*keys),
                packed(layout.redis_time_field(view.name), packed_rows(batch)),
                packed(*(layout.redis_field(view.name, column) for column in view.columns)),
            )
        )
        try:
            self._connection.send_packed_command((request,), check_health=False)
        except redis.RedisError as error:
            raise self._broken(error) from None
        self._waiting.append(len(keys))
        return self._answer() if len(self._waiting) >= _AHEAD else 0

    def _answer(self) -> int:
        import redis

        self._waiting.popleft()
        try:
            return int(self._connection.read_response())
        except redis.RedisError as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> Exception:
        """Give up the connection: answers that are still to come belong to requests nobody waits for."""
        self._waiting.clear()
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection, self._ready = None, False
        return unreachable(error)

    def _end(self, view: ViewSpec) -> int:
        written = 0
        while self._waiting:
            written += self._answer()
        return written

    def close(self) -> None:
        """Close the connection."""
        self._connection, self._ready = None, False
        self._pool.disconnect()


def packed_rows(batch: Batch) -> bytes:
    """Rows as the script takes them."""
    import numpy as np

    n, p = batch.values.shape
    rows = np.zeros((n, _SLOT + 9 * p), np.uint8)
    moments, which = np.unique(batch.event_us, return_inverse=True)
    slots = b"".join([_slot(us) for us in moments.tolist()])
    rows[:, :_SLOT] = np.frombuffer(slots, np.uint8).reshape(-1, _SLOT)[which]
    cells = rows[:, _SLOT:].reshape(n, p, 9)
    cells[:, :, 0] = np.where(np.isnan(batch.values), 0, layout.DOUBLE[0])
    cells[:, :, 1:] = np.ascontiguousarray(batch.values, "<f8").view(np.uint8).reshape(n, p, 8)
    rows[:, _SLOT:] = cells.reshape(n, -1)
    return rows.tobytes()


@lru_cache(maxsize=65536)
def _slot(us: int) -> bytes:
    data = layout.encode_timestamp(us)
    return bytes((len(data),)) + data.ljust(_SLOT - 1, b"\0")
