"""The ordinary request in few steps: one subject at its newest day, the usual outputs, all in JSON.

That is what an endpoint is asked nearly always, and where what each layer costs is felt: for one row an array or a task
costs more than the model. Here it is answered with plain numbers, without a task of the event loop. Whatever is not
ordinary about a request, its subject, the store, a log or the answer is left to `Application`, which begins anew: what
this module answers, it answers as the application would, byte for byte, and it refuses nothing itself.

Requests that arrive in the same moment share one round trip to the store, as in `predictor`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from trialops.serving.line_writer import utc_text
from trialops.serving.predictor import ALONE, INLINE_ROWS, SLOW_SECONDS
from trialops.serving.protocol import BYTES, DATATYPE, DAY, HIGH, INT64, LONGEST_SUBJECT, LOW, OUTPUT, SUBJECT, fresh_id

if TYPE_CHECKING:
    from trialops.models.interval import IntervalTable
    from trialops.serving.application import Application
    from trialops.serving.online_features import OneRow

LONGEST_BODY = 4096
"""Bytes; an ordinary request has about a hundred."""


class _Subject(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: Literal["subject_id"]
    datatype: Literal["BYTES"]
    shape: tuple[Literal[1]]
    data: tuple[str]


class _Ordinary(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    inputs: tuple[_Subject]
    id: str | None = None


assert (SUBJECT, BYTES) == ("subject_id", "BYTES")  # noqa: S101 - Literal takes no names


@dataclass(slots=True)
class Asked:
    """An ordinary request that waits for its answer.

    Attributes:
        subject: The pseudonym.
        id: The caller's id; None where it sent none.
        arm: Arm of a rollout.
        started: Its first byte, by `time.perf_counter`.
        answered: Called with the id for the logs and the body; or with None where the application is to answer.
    """

    subject: str
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
        subject = document.inputs[0].data[0]
        if len(subject) > LONGEST_SUBJECT:
            return False
        self._metrics.in_flight += 1
        asked = Asked(subject, document.id, arm, started, answered)
        if self._together:
            self._together.append(asked)
            if len(self._together) >= INLINE_ROWS:
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
        found: list[tuple[tuple[float, ...], tuple[int, ...]]] = []
        began = time.perf_counter()
        try:
            found = self._row.reader.each([asked.subject for asked in requests])
        except Exception:  # the application meets it again, and says what it is
            self._predictor.slow = True
        else:
            seconds = time.perf_counter() - began
            self._metrics.looked_up(seconds)
            self._predictor.slow = seconds > SLOW_SECONDS
        now = time.time()
        for number, asked in enumerate(requests):
            try:
                request_id, body = self._one(asked, *found[number], now) if found else ("", None)
            except Exception:
                request_id, body = "", None
            self._metrics.in_flight -= 1
            asked.answered(request_id, body)

    def _one(
        self, asked: Asked, values: tuple[float, ...], event_us: tuple[int, ...], now: float
    ) -> tuple[str, bytes | None]:
        made = self._row.judge(values, event_us)
        if made is None:
            return "", None
        x, day = made
        app, encode, log = self._app, self._encode, self._predictor.log
        p = app.bundle.predict_row(x)
        if not 0 <= p <= 1:
            return "", None
        low, high = self._interval.bound(p)
        request_id = fresh_id() if asked.id is None else self._log_id(asked.id)
        text_id = encode(request_id if asked.id is None else asked.id)
        body = self._body % (text_id, encode(p), encode(low), encode(high), b"%d" % day)
        if log is not None:
            arm = asked.arm or self._predictor.arm
            log.put_row(utc_text(now), request_id, arm, asked.subject, day, x, p, low, high)
        app.done_row(now, request_id, asked.started, p)
        return request_id, body
