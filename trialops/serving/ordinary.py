"""The ordinary request in few steps: a few subjects, the usual outputs, all in JSON.

That is what an endpoint is asked nearly always, and where what each layer costs is felt: for one row an array or a task
costs more than the model. Here it is answered with plain numbers, without a task of the event loop. Whatever is not
ordinary about a request, its subjects, the store, a log or the answer is left to `Application`, which begins anew: what
this module answers, it answers as the application would, byte for byte, and it refuses nothing itself. (The last bit of
a logistic model's probability depends on how many rows numpy multiplies at once, here and there.)

Requests that arrive in the same moment share one round trip to the store, as in `predictor`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Literal

import msgspec

from trialops.serving.line_writer import utc_text
from trialops.serving.predictor import ALONE, INLINE_ROWS, SLOW_SECONDS
from trialops.serving.protocol import (
    DATATYPE,
    DAY,
    FARTHEST_DAY,
    HIGH,
    INT64,
    LONGEST_SUBJECT,
    LOW,
    OUTPUT,
    SUBJECT,
    fresh_id,
)

if TYPE_CHECKING:
    from trialops.models.interval import IntervalTable
    from trialops.serving.application import Application
    from trialops.serving.online_features import OneRow

MOST_ROWS = 16
"""Above, arrays are worth what they cost."""
LONGEST_BODY = 8192
"""Bytes; a request of one row has about a hundred."""
_Stored = tuple[tuple[float, ...], tuple[int, ...]]


class _Subjects(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="name", tag=SUBJECT):
    datatype: Literal["BYTES"]
    shape: tuple[int]
    data: list[str]


class _Days(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="name", tag=DAY):
    datatype: Literal["INT64"]
    shape: tuple[int]
    data: list[int]


class _Ordinary(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: list[_Subjects | _Days]
    id: str | None = None


@dataclass(slots=True)
class Asked:
    """An ordinary request that waits for its answer.

    Attributes:
        subjects: Pseudonyms.
        days: Study days; None for each subject's newest.
        id: The caller's id; None where it sent none.
        arm: Arm of a rollout.
        started: Its first byte, by `time.perf_counter`.
        answered: Called with the id for the logs and the body; or with None where the application is to answer.
    """

    subjects: list[str]
    days: list[int] | None
    id: str | None
    arm: str
    started: float
    answered: Callable[[str, bytes | None], None]


class OrdinaryRequests:
    """Answers the ordinary requests of an application with an online store and an interval.

    Args:
        app: The application.
        row: From stored values to the model's input.
        interval: Bounds of a probability.
    """

    def __init__(self, app: Application, row: OneRow, interval: IntervalTable) -> None:
        self._app, self._row, self._interval = app, row, interval
        self._metrics, self._predictor, self._log_id = app.metrics, app.predictor, app.log_id
        self._decode = msgspec.json.Decoder(_Ordinary).decode
        self._encode = msgspec.json.Encoder().encode
        self._together: list[Asked] = []
        self._alone = self._turn = 0
        self._body = app.writer.template({OUTPUT: DATATYPE, LOW: DATATYPE, HIGH: DATATYPE, DAY: INT64})

    @classmethod
    def of(cls, app: Application) -> OrdinaryRequests | None:
        """Those of an application; None where no request can be ordinary."""
        online, bundle = app.predictor.online, app.bundle
        if online is None or bundle.interval is None or SUBJECT in bundle.features:
            return None
        return cls(app, online.one_row(), bundle.interval)

    def take(self, body: bytes, arm: str, started: float, answered: Callable[[str, bytes | None], None]) -> bool:
        """Answer a request, now or with others in the next turn of the event loop.

        Args:
            body: Its body.
            arm: Arm of a rollout for the log.
            started: When it began, by `time.perf_counter`.
            answered: See :class:`Asked`.

        Returns:
            Whether it is ordinary; where it is not, `answered` is not called.
        """
        log = self._predictor.log
        if self._predictor.slow or (log is not None and log.writer.full):
            return False
        try:
            document = self._decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        rows = _rows(document.inputs)
        if rows is None:
            return False
        self._metrics.in_flight += 1
        asked = Asked(*rows, document.id, arm, started, answered)
        if self._together:
            self._together.append(asked)
            if sum(len(waits.subjects) for waits in self._together) >= INLINE_ROWS:
                self.answer_now()
            return True
        self._turn += 1
        if self._alone < ALONE or self._turn % ALONE == 0:  # where the last came alone, only each eighth waits
            self._together.append(asked)
            asyncio.get_running_loop().call_soon(self.answer_now)
        else:
            self._answer([asked])
        return True

    def answer_now(self) -> None:
        """Answer the requests that wait."""
        asked, self._together = self._together, []
        if asked:
            self._alone = self._alone + 1 if len(asked) == 1 else 0
            self._answer(asked)

    def _answer(self, requests: list[Asked]) -> None:
        found: list[_Stored] | None = None
        began = time.perf_counter()
        try:
            found = self._row.reader.each([subject for asked in requests for subject in asked.subjects])
        except Exception:  # the application meets it again, and says what it is
            self._predictor.slow = True
        else:
            seconds = time.perf_counter() - began
            self._metrics.looked_up(seconds)
            self._predictor.slow = seconds > SLOW_SECONDS
        start, now = 0, time.time()
        for asked in requests:
            stop = start + len(asked.subjects)
            request_id, body = "", None
            try:
                if found is not None and (made := self._made(asked, found[start:stop], now)) is not None:
                    request_id, body = made
            except Exception:
                request_id, body = "", None
            start = stop
            self._metrics.in_flight -= 1
            asked.answered(request_id, body)

    def _made(self, asked: Asked, stored: Sequence[_Stored], now: float) -> tuple[str, bytes] | None:
        """Id and body of an answer, counted and logged; None where a row is not ordinary."""
        judge, predict, bound = self._row.judge, self._app.bundle.predict_row, self._interval.around_one
        inputs, days, probability, low, high = [], [], [], [], []
        for (values, event_us), asked_day in zip(stored, asked.days or repeat(None), strict=False):
            judged = judge(values, event_us, asked_day)
            if judged is None:
                return None
            x, day = judged
            p = predict(x)
            if not 0 <= p <= 1:
                return None
            lowest, highest = bound(p)
            inputs.append(x)
            days.append(day)
            probability.append(p)
            low.append(lowest)
            high.append(highest)
        request_id = fresh_id() if asked.id is None else self._log_id(asked.id)
        encode, n = self._encode, len(days)
        text_id = encode(request_id if asked.id is None else asked.id)
        body = self._body % (text_id, n, encode(probability), n, encode(low), n, encode(high), n, encode(days))
        log = self._predictor.log
        if log is not None:
            at, arm = utc_text(now), asked.arm or self._predictor.arm
            for row in zip(asked.subjects, days, inputs, probability, low, high, strict=True):
                log.put_row(at, request_id, arm, *row)
        self._app.done_rows(now, request_id, asked.started, probability)
        return request_id, body


def _rows(inputs: list[_Subjects | _Days]) -> tuple[list[str], list[int] | None] | None:
    """Subjects and days; None where they are not ordinary, or not what the protocol allows."""
    subjects: list[str] | None = None
    days: list[int] | None = None
    for tensor in inputs:
        if tensor.shape[0] != len(tensor.data):
            return None
        if isinstance(tensor, _Subjects):
            if subjects is not None or not 0 < len(tensor.data) <= MOST_ROWS:
                return None
            subjects = tensor.data
            if max(map(len, subjects)) > LONGEST_SUBJECT:
                return None
        else:
            if days is not None:
                return None
            days = tensor.data
            if not all(days) or any(abs(day) > FARTHEST_DAY for day in days):
                return None
    if subjects is None or (days is not None and len(days) != len(subjects)):
        return None
    return subjects, days
