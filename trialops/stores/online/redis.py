"""Feast's Redis online store, read: one hash per subject, one HMGET for all views."""

from __future__ import annotations

import os
import socket
import struct
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


class _Line:
    """A connection of redis-py, with its socket where that can be used directly.

    redis-py waits for the socket to be ready before each use, which is a system call more each time, and takes an
    answer through several calls. On a plain socket the kernel keeps the time limit instead, and hiredis reads at once.
    """

    def __init__(self, connection: Any, seconds: float) -> None:
        self.connection = connection
        self._limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self._socket: socket.socket | None = None
        self._reader: Any = None

    def ask(self, request: bytes, answers: int) -> list[Any]:
        """Send requests and read their answers.

        Raises:
            redis.RedisError: As redis-py does.
        """
        direct = self._socket
        if direct is None or direct is not getattr(self.connection, "_sock", None):
            self.connection.connect()
            direct = self._direct()
        if direct is None:
            self.connection.send_packed_command((request,), check_health=False)
            return [self.connection.read_response(disable_decoding=True) for _ in range(answers)]
        import redis

        found: list[Any] = []
        read = self._reader.gets
        try:
            direct.sendall(request)
            while len(found) < answers:
                answer = read()
                if answer is False:  # not whole yet
                    data = direct.recv(65536)
                    if not data:
                        raise redis.ConnectionError("closed by the server")
                    self._reader.feed(data)
                elif type(answer) is list:
                    found.append(answer)
                else:
                    raise redis.ResponseError("not a list")
        except BlockingIOError:
            raise redis.TimeoutError("no answer in time") from None
        except OSError as error:
            raise redis.ConnectionError(type(error).__name__) from None
        return found

    def _direct(self) -> socket.socket | None:
        found = getattr(self.connection, "_sock", None)
        self._socket = None
        if type(found) is not socket.socket or str(getattr(self.connection, "protocol", "")) != "2":
            return None
        try:
            import hiredis
        except ModuleNotFoundError:
            return None
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            found.setsockopt(socket.SOL_SOCKET, option, self._limit)
        found.settimeout(None)
        self._socket, self._reader = found, hiredis.Reader()
        return found

    def disconnect(self) -> None:
        """Close it; it connects again when it is used."""
        self._socket = None
        self.connection.disconnect()


class RedisReader(OnlineReader):
    """Reads over a pool of connections; a broken connection is replaced once before a read fails.

    The requests are put together here and not by redis-py's pipeline: all but the key is the same for every subject,
    and packing takes longer than the server does.
    """

    def __init__(self, url: str, spec: FeatureServiceSpec, seconds: float = 5.0) -> None:
        super().__init__(spec)
        self._pool = connection_pool(url, seconds)
        # redis-py's own pool looks at the socket and keeps statistics at each use; that is a fifth of a short read.
        self._idle: deque[_Line] = deque()
        self._process = os.getpid()
        fields = [layout.redis_field(view.name, column) for view in spec.views for column in view.columns]
        fields += [layout.redis_time_field(view.name) for view in spec.views]
        self._head = b"*%d\r\n%b" % (2 + len(fields), packed(b"HMGET"))
        self._tail = packed(*fields)
        self._width = len(spec.columns)
        self._doubles = struct.Struct("<" + "xd" * self._width).unpack
        self._tags = layout.DOUBLE * self._width

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
                    return connection.ask(request, answers)
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

    def _taken(self) -> _Line:
        """A connection nobody else uses, connected or not; never one of the process this one was forked from."""
        if self._process != os.getpid():
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
            return _Line(connection, connection.socket_timeout or 0.0)

    def _fetch(self, subjects: Sequence[layout.Entity]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        import numpy as np

        width, views = len(self.spec.columns), len(self.spec.views)
        cells: list[bytes | None] = []
        moments: list[int] = []
        for start in range(0, len(subjects), _AHEAD):
            some = subjects[start : start + _AHEAD]
            for answer in self._ask(self._request(some), len(some)):
                cells += answer[:width]
                moments += map(_moment, answer[width:])
        return (
            decode_column(cells).reshape(len(subjects), width),
            np.array(moments, np.int64).reshape(len(subjects), views),
        )

    def each(self, subjects: Sequence[layout.Entity]) -> list[tuple[tuple[float, ...], tuple[int, ...]]]:
        """As in :class:`OnlineReader`."""
        width, moment = self._width, _moment
        return [
            (self._numbers(answer[:width]), tuple(map(moment, answer[width:])))
            for answer in self._ask(self._request(subjects), len(subjects))
        ]

    def _numbers(self, cells: list[bytes | None]) -> tuple[float, ...]:
        try:
            data = b"".join(cells)  # type: ignore[arg-type]
        except TypeError:  # a field that is not there
            data = b""
        if len(data) == 9 * self._width and data[::9] == self._tags:
            return self._doubles(data)
        return tuple(map(layout.decode_number, cells))

    def ping(self) -> None:
        """Ask the server for a key that is no subject's."""
        self._ask(self._request([("",) * len(self.spec.join_keys) if len(self.spec.join_keys) > 1 else ""]), 1)

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().disconnect()


def _moment(cell: bytes | None) -> int:
    """Event time of a view, in microseconds since 1970."""
    return NEVER if cell is None else layout.decode_timestamp(cell)
