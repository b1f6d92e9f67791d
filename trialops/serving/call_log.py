"""The router's record: every inference request with what each model answered, and first exposures.

JSON lines, only ever appended to. A line is whole or it is the last one of a process that was killed; readers leave
an unfinished line for later.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trialops.serving.routing import Routing

SEGMENT_BYTES = 64 * 2**20
REMEMBERED = 65_536
"""Exposures a router remembers, so that it does not write most of them twice; readers count the first anyway."""
CALLS, EXPOSURES = "calls", "exposures"


class CallLog:
    """Appends records to segments <folder>/calls-<start>-<process>-<n>.jsonl.

    Args:
        folder: Created when absent.
        kind: First part of the file names.
        segment_bytes: Size after which the next segment begins.
    """

    def __init__(self, folder: Path, kind: str = CALLS, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._kind, self._most = folder, kind, segment_bytes
        self._start, self._number = f"{time.time_ns():020d}-{os.getpid()}", 0
        self._encode = msgspec.json.Encoder().encode
        self._open()

    def _open(self) -> None:
        self._file = (self._folder / f"{self._kind}-{self._start}-{self._number:04d}.jsonl").open("ab", buffering=0)
        self._size = 0

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record in one write."""
        line = self._encode(record) + b"\n"
        if self._size and self._size + len(line) > self._most:
            self._file.close()
            self._number += 1
            self._open()
        self._file.write(line)
        self._size += len(line)

    def close(self) -> None:
        """Close the segment."""
        self._file.close()


class Exposures:
    """Appends who was first answered by which arm of a rollout or experiment.

    Args:
        folder: As for `CallLog`.
    """

    def __init__(self, folder: Path) -> None:
        self._log = CallLog(folder, EXPOSURES)
        self._seen: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def note(self, routing: Routing, unit: str, arm: str) -> None:
        """Record an exposure unless it was recorded before."""
        self.add(routing.rollout, unit, arm)

    def add(self, experiment: str, unit: str, arm: str) -> None:
        """Record an exposure unless it was recorded before.

        Args:
            experiment: Rollout or experiment.
            unit: From `trialops.serving.routing.unit_of`.
            arm: Name of the arm.
        """
        key = (experiment, unit, arm)
        if key in self._seen:
            self._seen.move_to_end(key)
            return
        self._seen[key] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._log.write({"at": at, "experiment": experiment, "unit": unit, "arm": arm})

    def close(self) -> None:
        """Close the file."""
        self._log.close()


class LogReader:
    """Reads records as they come; each record once.

    Args:
        folder: Where a router writes.
        kind: "calls" or "exposures".
    """

    def __init__(self, folder: Path, kind: str = CALLS) -> None:
        self._folder, self._kind = folder, kind
        self._offsets: dict[Path, int] = {}

    def new(self) -> Iterator[dict[str, Any]]:
        """The records appended since the last call, oldest segment first."""
        for path in sorted(self._folder.glob(f"{self._kind}-*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                yield json.loads(line)
