"""Feast's Redis online store, read: one hash per subject, one HMGET for all views."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.online import layout
from trialops.stores.online.reader import OnlineReader
from trialops.stores.online.spec import NEVER, FeatureServiceSpec
from trialops.stores.online.tables import decode_column

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Requests written before the first answer is read.
_AHEAD = 1000


def connection_pool(url: str, seconds: float) -> Any:
    """Redis connections to a URL; what its query says of time limits comes first.

    Raises:
        TrialOpsError: The driver is not installed, or the URL has a part it does not know.
    """
    try:
        import redis
    except ModuleNotFoundError:
        raise TrialOpsError(
            "The Redis online store needs the redis package.", where="online store", fix="Install redis and hiredis."
        ) from None
    try:
        return redis.ConnectionPool.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
    except (ValueError, TypeError):
        raise TrialOpsError(
            "The URL of the Redis online store cannot be read.",
            where="TRIALOPS_ONLINE_URL",
            fix="Write it as redis://[user:password@]host:port/db, with a password URL-encoded.",
        ) from None


def packed(*parts: bytes) -> bytes:
    """Arguments in Redis's protocol, without the count before them."""
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def unreachable(error: Exception) -> TrialOpsError:
    """The error for a server that does not answer; its own message may hold an address with a password."""
    import redis

    if isinstance(error, redis.ConnectionError | redis.TimeoutError) and not isinstance(
        error, redis.AuthenticationError | redis.BusyLoadingError
    ):
        return TrialOpsError(
            f"The Redis online store does not answer ({type(error).__name__}).",
            where="TRIALOPS_ONLINE_URL",
            fix="Check the address, TLS and the network policy; then try again.",
        )
    return TrialOpsError(
        f"The Redis online store refused a command ({type(error).__name__}).",
        where="TRIALOPS_ONLINE_URL",
        fix="Check the account's rights, that it is one server (no cluster), and that its database is Feast's own.",
    )


class RedisReader(OnlineReader):
    """Reads over a pool of connections; a broken connection is replaced once before a read fails.

    The requests are put together here and not by redis-py's pipeline: all but the key is the same for every subject,
    and packing takes longer than the server does.
    """

    def __init__(self, url: str, spec: FeatureServiceSpec, seconds: float = 5.0) -> None:
        super().__init__(spec)
        self._pool = connection_pool(url, seconds)
        # redis-py's own pool looks at the socket and keeps statistics at each use; that is a fifth of a short read.
        self._idle: deque[Any] = deque()
        self._process = os.getpid()
        fields = [layout.redis_field(view.name, column) for view in spec.views for column in view.columns]
        fields += [layout.redis_time_field(view.name) for view in spec.views]
        self._head = b"*%d\r\n%b" % (2 + len(fields), packed(b"HMGET"))
        self._tail = packed(*fields)

    def _request(self, subjects: Sequence[layout.Entity]) -> bytes:
        head, tail = self._head, self._tail
        keys = layout.redis_keys(subjects, self.spec.join_keys, self.spec.project)
        return b"".join([b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, tail) for key in keys])

    def _ask(self, request: bytes, answers: int) -> list[list[bytes | None]]:
        """Send requests and read their answers; tried again once over a new connection, which a read allows."""
        import redis

        connection = self._taken()
        try:
            for last in (False, True):
                try:
                    connection.send_packed_command((request,), check_health=False)
                    return [connection.read_response(disable_decoding=True) for _ in range(answers)]
                except (redis.ConnectionError, redis.TimeoutError) as error:
                    connection.disconnect()
                    if last or isinstance(error, redis.AuthenticationError):
                        raise unreachable(error) from None
        except BaseException as error:
            connection.disconnect()  # answers may be left on it that belong to nobody
            if isinstance(error, redis.RedisError):
                raise unreachable(error) from None
            raise
        finally:
            self._idle.append(connection)
        raise AssertionError

    def _taken(self) -> Any:
        """A connection nobody else uses, connected or not; never one of the process this one was forked from."""
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return self._pool.make_connection()

    def _fetch(self, subjects: Sequence[layout.Entity]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        import numpy as np

        width, views = len(self.spec.columns), len(self.spec.views)
        cells: list[bytes | None] = []
        moments: list[int] = []
        decode = layout.decode_timestamp
        for start in range(0, len(subjects), _AHEAD):
            some = subjects[start : start + _AHEAD]
            for answer in self._ask(self._request(some), len(some)):
                cells += answer[:width]
                moments += [NEVER if cell is None else decode(cell) for cell in answer[width:]]
        return (
            decode_column(cells).reshape(len(subjects), width),
            np.array(moments, np.int64).reshape(len(subjects), views),
        )

    def ping(self) -> None:
        """Ask the server for a key that is no subject's."""
        self._ask(self._request([("",) * len(self.spec.join_keys) if len(self.spec.join_keys) > 1 else ""]), 1)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().disconnect()
