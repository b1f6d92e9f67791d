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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trialops.models.bundle import Bundle
    from trialops.serving.metrics import Metrics

INLINE_ROWS = 64
"""Up to this many rows, predicting costs less than a thread does; above, it would hold up health checks."""
ALONE = 8
"""After this many requests that came alone, not every request waits for others."""
LEAVING = "the server is going away"
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


_Found = tuple[Rows, "NDArray[np.float64]"]
_Others = list[tuple[Request, "asyncio.Future[_Found]"]]


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
        self._metrics, self.arm = metrics, arm
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self._lookups = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lookup")
        self._gathering: _Others | None = None
        self._alone = self._turn = 0
        self.slow = False

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
        bounds = self.bundle.interval.around(p) if self.bundle.interval is not None else None
        outputs = self._outputs(request, x, p, bounds, days)
        if log is not None:
            log.put(Predicted(time.time(), request_id, arm or self.arm, request.subjects, days, x, p, bounds, status))
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
        if self._gathering is None:
            found = await self._lead(request)
        else:
            future: asyncio.Future[_Found] = asyncio.get_running_loop().create_future()
            self._gathering.append((request, future))
            found = await future
        rows, p = found
        refusal = self.online.refusal(rows) if self.online is not None else None
        if refusal is not None:
            raise refusal
        return rows, _checked(p, len(rows.x))  # of this request alone: a neighbour's failure is not its own

    async def _lead(self, request: Request) -> _Found:
        """Look up a request with those that arrive in the same moment, and hand them theirs.

        Where the last requests came alone, only every eighth waits a turn of the event loop for others.
        """
        self._turn += 1
        others: _Others = []
        if self._alone < ALONE or self._turn % ALONE == 0:
            self._gathering = others
            try:
                await asyncio.sleep(0)
            finally:
                self._gathering = None
            self._alone = 0 if others else self._alone + 1
        requests = [request, *(other for other, _ in others)]
        try:
            rows, p = await self._run(requests)
        except BaseException as error:
            for _, future in others:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else Unavailable(LEAVING))
            raise
        if not others:
            return rows, p
        start = first = len(request.subjects)
        for other, future in others:
            stop = start + len(other.subjects)
            if not future.done():  # its caller may have gone
                future.set_result((rows.part(start, stop), p[start:stop]))
            start = stop
        return rows.part(0, first), p[:first]

    async def _run(self, requests: list[Request]) -> _Found:
        size = sum(len(request.subjects) for request in requests)
        try:
            if size > INLINE_ROWS or self.slow:
                loop = asyncio.get_running_loop()
                rows, p, seconds = await loop.run_in_executor(self._lookups, self._look_up, requests)
            else:
                rows, p, seconds = self._look_up(requests)
        except TrialOpsError:
            self.slow = True
            raise Unavailable("the online store cannot be read now") from None
        self._metrics.looked_up(seconds)
        self.slow = seconds > (SLOW_SECONDS if size <= INLINE_ROWS else 1.0)
        return rows, p

    def _look_up(self, requests: list[Request]) -> tuple[Rows, NDArray[np.float64], float]:
        """Inputs and probabilities of all rows of some requests, and the seconds of the lookup."""
        if self.online is None:
            raise RuntimeError("no online store")
        subjects: Sequence[str] = requests[0].subjects
        days = requests[0].days
        if len(requests) > 1:
            subjects = [subject for request in requests for subject in request.subjects]
            days = None
        if len(requests) > 1 and any(request.days is not None for request in requests):
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
