"""Every prediction as a JSON line, for monitoring: pseudonym, study day, inputs, answer; no date of birth, no name.

Segments are ``<folder>/<server id>-<n>.jsonl``. A server appends whole lines to its newest segment and starts the
next when it is full; a segment that is not a server's newest never changes again. No two servers, and no two lives
of one, share a segment: the id is made at start. A server that is killed outright loses what it had not
written, at most about a tenth of a second; one that is ended in order loses nothing.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trialops.errors import TrialOpsError
from trialops.serving.line_writer import LineWriter, utc_text

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

ARMS = ("", "stable", "candidate", "shadow")
SEGMENT_ROWS = 100_000


class Line(msgspec.Struct):
    """One predicted row; a feature that is not a number is null."""

    at: str
    request_id: str
    subject_id: str
    site_id: str
    study_day: int | None
    model: str
    version: str
    bundle_digest: str
    arm: str
    probability: float
    low: float | None
    high: float | None
    features: list[float]
    status: str


@dataclass(frozen=True)
class Predicted:
    """The predictions of one request.

    Attributes:
        at: Seconds since 1970, UTC.
        request_id: Id in the request log.
        arm: "stable", "candidate", "shadow" or "".
        subjects: Pseudonyms; empty where the caller brought features.
        days: Study days, int64 [n]; None where the caller brought features.
        x: Inputs, float64 [n, p].
        probability: float64 [n].
        bounds: Lower and upper bound, float64 [n] each; None without intervals.
        status: Of each row: "ok", or what the policy warns of.
    """

    at: float
    request_id: str
    arm: str
    subjects: Sequence[str]
    days: NDArray[np.int64] | None
    x: NDArray[np.float64]
    probability: NDArray[np.float64]
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    status: Sequence[str]


class PredictionLog:
    """Writes predictions of one server to segments of its own.

    Args:
        folder: Folder of the model's segments; made when it is not there.
        model: Model name.
        version: Model version.
        digest: Bundle digest.
        server_id: Names the segments; a fresh one by default.
        segment_rows: Rows after which a segment is full.
        capacity: Most rows waiting to be written.

    Raises:
        TrialOpsError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        version: str,
        digest: str,
        server_id: str = "",
        segment_rows: int = SEGMENT_ROWS,
        capacity: int = 50_000,
    ) -> None:
        self._folder, self._names = Path(folder), (model, version, digest)
        self.server_id = server_id or uuid.uuid4().hex[:12]
        self._segment_rows, self._segment, self._rows = segment_rows, 0, 0
        self._encode = msgspec.json.Encoder().encode
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = self._open(0)
        except OSError as error:
            raise TrialOpsError(
                f"The prediction log cannot be written: {error.strerror or type(error).__name__}.",
                where=str(folder),
                fix="Give a folder this account can write to with --prediction-log.",
            ) from None
        self.writer = LineWriter(self._write, "prediction log", capacity=capacity)

    def put(self, predicted: Predicted) -> None:
        """Add the predictions of a request."""
        self.writer.put(predicted, len(predicted.x))

    def put_row(
        self,
        at: str,
        request_id: str,
        arm: str,
        subject: str,
        day: int,
        x: list[float],
        probability: float,
        low: float,
        high: float,
    ) -> None:
        """Add the prediction of one row of status "ok".

        Its line is made here and not by the thread that writes: a thread that computes makes the others wait.
        """
        model, version, digest = self._names
        line = Line(at, request_id, subject, "", day, model, version, digest, arm, probability, low, high, x, "ok")
        self.writer.put(self._encode(line))

    def close(self) -> bool:
        """Write what is left; False when it could not be."""
        written = self.writer.close()
        os.close(self._file)
        return written

    def _open(self, segment: int) -> int:
        path = self._folder / f"{self.server_id}-{segment:06d}.jsonl"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)

    def _write(self, items: Sequence[Predicted | bytes]) -> None:
        if self._rows >= self._segment_rows:
            full, self._file = self._file, self._open(self._segment + 1)
            self._segment, self._rows = self._segment + 1, 0
            os.fsync(full)
            os.close(full)
        lines: list[bytes] = []
        for item in items:
            if isinstance(item, bytes):
                lines.append(item)
            else:
                lines += map(self._encode, self._lines(item))
        data = b"\n".join(lines) + b"\n"
        end = os.fstat(self._file).st_size
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            os.ftruncate(self._file, end)  # whole batches only: it comes again
            raise
        self._rows += len(lines)

    def _lines(self, item: Predicted) -> list[Line]:
        model, version, digest = self._names
        at = utc_text(item.at)
        n = len(item.x)
        subjects = item.subjects or [""] * n
        days = [None] * n if item.days is None else item.days.tolist()
        low, high = ([None] * n, [None] * n) if item.bounds is None else (b.tolist() for b in item.bounds)
        columns = zip(subjects, days, item.probability.tolist(), low, high, item.x.tolist(), item.status, strict=True)
        return [
            Line(at, item.request_id, subject, "", day, model, version, digest, item.arm, p, lo, hi, row, status)
            for subject, day, p, lo, hi, row, status in columns
        ]


def read_segments(folder: Path | str) -> pl.DataFrame:
    """All predictions below a folder, in the order of segments and lines.

    A last line that is not whole yet, because its server is writing or was killed, is left out.

    Args:
        folder: Folder of a model's segments.

    Returns:
        One row per prediction: at (datetime ms UTC), request_id, subject_id, site_id, study_day, model, version,
        bundle_digest, arm, probability, low, high, features (list of Float64, null where unknown), status. Empty
        where there are no segments.

    Raises:
        TrialOpsError: A line within a segment is not a prediction.
    """
    import polars as pl

    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "at": pl.String,
        "request_id": pl.String,
        "subject_id": pl.String,
        "site_id": pl.String,
        "study_day": pl.Int64,
        "model": pl.String,
        "version": pl.String,
        "bundle_digest": pl.String,
        "arm": pl.String,
        "probability": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "features": pl.List(pl.Float64),
        "status": pl.String,
    }
    frames = [pl.DataFrame(schema=schema)]
    for path in sorted(Path(folder).glob("*-*.jsonl")):
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            continue
        try:
            frames.append(pl.read_ndjson(data, schema=schema))
        except pl.exceptions.PolarsError:
            raise TrialOpsError(
                "A segment of the prediction log holds something that is not a prediction.",
                where=path.name,
                fix="Find out what else writes there; move the segment away to go on without it.",
            ) from None
    return pl.concat(frames).with_columns(pl.col("at").str.to_datetime("%+", time_unit="ms", time_zone="UTC"))
