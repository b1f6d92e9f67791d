"""What REST and gRPC share: a decoded request in, predictions or a refusal out; counted and logged.

Requests that arrive together are looked up and predicted together. The lookup of one request is a round trip; that
of those that came in the same moment is the same round trip. A lookup of few rows runs where requests are read: it
takes less than handing it to a thread. When the store is slow, lookups go to a thread until it is fast again, so
that it never holds up health checks for more than one lookup.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trialops.errors import TrialOpsError
from trialops.serving.online_features import OK, OnlineFeatures, Rows
from trialops.serving.prediction_log import Predicted, PredictionLog
from trialops.serving.protocol import CONTRIBUTIONS, DAY, HIGH, LOW, OUTPUT, Request
from trialops.serving.refusals import Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trialops.models.bundle import Bundle
    from trialops.serving.metrics import Metrics

INLINE_ROWS = 64
"""Up to this many rows, predicting costs less than a thread does; above, it would hold up health checks."""
BATCH_ROWS = 1024
"""Most rows of several requests that are looked up together."""
SLOW_SECONDS = 0.005
"""A lookup of few rows that takes longer sends the next ones to a thread."""


@dataclass(frozen=True)
class Prediction:
    """The answer to a request.

    Attributes:
        outputs: Tensors by name, in the order they are returned; float64 or int64, first side n.
        probability: float64 [n], whether asked for or not.
        warnings: Rows predicted although the policy has a doubt, by status.
    """

    outputs: dict[str, NDArray[np.float64] | NDArray[np.int64]]
    probability: NDArray[np.float64]
    warnings: dict[str, int]


@dataclass
class _Waiting:
    request: Request
    future: asyncio.Future[tuple[Rows, NDArray[np.float64]]]


class Predictor:
    """Predicts with one model.

    Args:
        bundle: The model.
        metrics: Counts.
        online: Where rows named by subject come from; None where only features are taken.
        log: Where predictions are written; None for nowhere.
        arm: Arm in the log where a request does not name one.
    """

    def __init__(
        self,
        bundle: Bundle,
        metrics: Metrics,
        *,
        online: OnlineFeatures | None = None,
        log: PredictionLog | None = None,
        arm: str = "",
    ) -> None:
        self.bundle, self.online, self.log = bundle, online, log
        self._metrics, self._arm = metrics, arm
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self._lookups = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lookup")
        self._waiting: list[_Waiting] = []
        self._looking = self._slow = False

    def warm_up(self) -> None:
        """Predict one row and one batch, look one subject up, so that the first caller does not pay for it.

        Raises:
            TrialOpsError: The model does not answer with probabilities, or the store cannot be read.
        """
        for rows in (1, INLINE_ROWS + 1):
            try:
                x = np.full((rows, len(self.bundle.features)), np.nan)
                self.predict(x)
                self.bundle.contributions(x)
            except Exception as error:
                raise TrialOpsError(
                    f"the model failed its warm-up prediction: {type(error).__name__}",
                    where=f"bundle {self.bundle.name}, digest {self.bundle.digest}",
                    fix="check the bundle: its features, fill values and booster must belong together",
                ) from error
        if self.online is not None:
            self.online.reader.ping()
            self.online.rows(["warm-up"], None)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities, float64 [n].

        Raises:
            ValueError: The model returned something else.
        """
        return _checked(self.bundle.predict(x), len(x))

    async def answer(self, request: Request, request_id: str, arm: str = "") -> Prediction:
        """Predict the rows of a request and log them.

        Args:
            request: The decoded request.
            request_id: Id for the logs; never the caller's own text.
            arm: Arm of a rollout for the log.

        Raises:
            Refusal: A subject is unknown, its features do not meet the policy, or a store cannot be used.
            ValueError: The model failed.
        """
        log = self.log
        if log is not None and log.writer.full and not await log.writer.room():
            raise Unavailable("the prediction log cannot keep up; no prediction is made that is not logged")
        if request.features is None:
            rows, p = await self._looked_up(request)
            x, days = rows.x, rows.days
            clean, status = rows.clean, OnlineFeatures.status(rows)
        else:
            x, days, clean = request.features, None, True
            p = await self._predicted(x)
            status = [OK] * len(x)
        bounds = self.bundle.interval.bounds(p) if self.bundle.interval is not None else None
        outputs = self._outputs(request, x, p, bounds, days)
        if log is not None:
            log.put(Predicted(time.time(), request_id, arm or self._arm, request.subjects, days, x, p, bounds, status))
        warnings = {} if clean else {word: status.count(word) for word in sorted(set(status) - {OK})}
        for word, count in warnings.items():
            self._metrics.warned(word, count)
        return Prediction(outputs, p, warnings)

    def _outputs(
        self,
        request: Request,
        x: NDArray[np.float64],
        p: NDArray[np.float64],
        bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
        days: NDArray[np.int64] | None,
    ) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        made: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {OUTPUT: p}
        if bounds is not None:
            made[LOW], made[HIGH] = bounds
        if days is not None:
            made[DAY] = days
        if request.outputs is None:
            return made
        if any(name == CONTRIBUTIONS for name, _ in request.outputs):
            made[CONTRIBUTIONS] = self.bundle.contributions(x)
        return {name: made[name] for name, _ in request.outputs}

    async def _predicted(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(x) <= INLINE_ROWS:
            return self.predict(x)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self.predict, x)

    # -- rows named by subject ---------------------------------------------------------------------------------

    async def _looked_up(self, request: Request) -> tuple[Rows, NDArray[np.float64]]:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, loop.create_future())
        self._waiting.append(waiting)
        if not self._looking:
            self._looking = True
            loop.call_soon(self._start, loop)
        rows, p = await waiting.future
        refusal = self.online.refusal(rows) if self.online is not None else None
        if refusal is not None:
            raise refusal
        return rows, _checked(p, len(rows.x))  # of this request alone: a neighbour's failure is not its own

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look up what waits, up to `BATCH_ROWS`; then the next, until nothing waits."""
        taken, size = 0, 0
        while taken < len(self._waiting) and (not taken or size <= BATCH_ROWS):
            size += len(self._waiting[taken].request.subjects)
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        if not batch:
            self._looking = False
            return
        requests = [waiting.request for waiting in batch]
        if size > INLINE_ROWS or self._slow:
            work = loop.run_in_executor(self._lookups, self._look_up, requests)
            work.add_done_callback(lambda done: self._hand_out(loop, batch, done.exception() or done.result()))
            return
        found: tuple[Rows, NDArray[np.float64], float] | BaseException
        try:
            found = self._look_up(requests)
        except Exception as error:
            found = error
        self._hand_out(loop, batch, found)

    def _hand_out(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Waiting],
        found: tuple[Rows, NDArray[np.float64], float] | BaseException,
    ) -> None:
        """Give each request its rows, or the error."""
        if self._waiting:
            loop.call_soon(self._start, loop)
        else:
            self._looking = False
        if isinstance(found, BaseException):
            self._slow = True
            error = Unavailable("the online store cannot be read now") if isinstance(found, TrialOpsError) else found
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        rows, p, seconds = found
        self._metrics.looked_up(seconds)
        self._slow = seconds > (SLOW_SECONDS if len(p) <= INLINE_ROWS else 1.0)
        if len(batch) == 1:
            if not batch[0].future.done():
                batch[0].future.set_result((rows, p))
            return
        start = 0
        for waiting in batch:
            stop = start + len(waiting.request.subjects)
            if not waiting.future.done():  # its caller may have gone
                waiting.future.set_result((rows.part(start, stop), p[start:stop]))
            start = stop

    def _look_up(self, requests: list[Request]) -> tuple[Rows, NDArray[np.float64], float]:
        """Inputs and probabilities of all rows of some requests, and the seconds of the lookup."""
        if self.online is None:
            raise RuntimeError("no online store")
        subjects = [subject for request in requests for subject in request.subjects]
        days = None
        if any(request.days is not None for request in requests):
            days = np.concatenate([np.zeros(len(r.subjects), np.int64) if r.days is None else r.days for r in requests])
        started = time.perf_counter()
        rows = self.online.rows(subjects, days)
        seconds = time.perf_counter() - started
        return rows, self.bundle.predict(rows.x), seconds

    def close(self) -> bool:
        """End the threads and write what is left of the log; False when it could not be written."""
        self._pool.shutdown()
        self._lookups.shutdown()
        if self.online is not None:
            self.online.reader.close()
        return self.log.close() if self.log is not None else True


def _checked(p: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    if p.shape != (rows,) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("the model returned something other than one probability per row")
    return p
