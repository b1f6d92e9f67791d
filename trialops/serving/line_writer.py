"""Writes lines in the background: a request appends to a queue, a thread writes what has gathered.

Nothing is dropped. Whoever adds more than the queue holds waits (`room`), so a full disk slows requests down and
then refuses them, and never loses a line silently.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

PATIENCE = 2.0
"""Seconds a request waits for room before it is refused."""


@lru_cache(maxsize=8)
def _second(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def utc_text(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, with milliseconds."""
    second = int(at)
    return f"{_second(second)}.{int((at - second) * 1000):03d}+00:00"


class LineWriter:
    """A bounded queue and the thread that empties it.

    Args:
        write: Writes items, all or none of them; raises OSError when it cannot now, and is called again.
        name: Name of the thread, and of the log in a message.
        capacity: Most weight in the queue.
        every: Seconds between two writes.
    """

    def __init__(
        self, write: Callable[[Sequence[Any]], None], name: str, *, capacity: int = 50_000, every: float = 0.1
    ) -> None:
        self._write, self._name, self._capacity, self._every = write, name, capacity, every
        self._items: deque[tuple[Any, int]] = deque()
        self._added = self.written = self.failures = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Weight in the queue, waiting to be written."""
        return self._added - self.written

    async def room(self) -> bool:
        """Wait until the queue is below its capacity; False when it still is not after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while self.depth >= self._capacity:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    @property
    def full(self) -> bool:
        """Whether `room` would wait."""
        return self._added - self.written >= self._capacity

    def put(self, item: Any, weight: int = 1) -> None:
        """Add an item; called from one thread."""
        self._items.append((item, weight))
        self._added += weight

    def close(self, patience: float = 30.0) -> bool:
        """Write what is left and end the thread; False when it could not be written in time."""
        self._closing.set()
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._items

    def _run(self) -> None:
        while True:
            closing = self._closing.wait(self._every)
            if not self._flush() and closing:
                time.sleep(self._every)
                continue
            if closing and not self._items:
                return

    def _flush(self) -> bool:
        count = len(self._items)
        if not count:
            return True
        batch = [self._items[number] for number in range(count)]
        try:
            self._write([item for item, _ in batch])
        except OSError as error:
            self.failures += 1
            if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
                what = type(error).__name__
                print(f"{self._name} cannot be written ({what}), {self.depth} wait", file=sys.stderr, flush=True)
            return False
        for _ in range(count):
            self._items.popleft()
        self.written += sum(weight for _, weight in batch)
        return True
