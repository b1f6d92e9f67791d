"""Callers of a router, in threads of their own, who note everything that is not a proper answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from trialops.serving.client import InferenceClient


class Callers:
    """Send rows without pause until stopped.

    Attributes:
        answers: Answers by the digest of the bundle that gave them.
        failures: What was not an answer with status 200 and a probability.
    """

    def __init__(self, port: int, name: str, x: np.ndarray, features: Sequence[str], *, callers: int = 2) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port, self._name, self._x, self._features = port, name, x, list(features)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(k, callers), daemon=True) for k in range(callers)]

    def _call(self, first: int, step: int) -> None:
        k = first
        with InferenceClient(self._port, self._name, timeout=30.0) as client:
            while not self._stop.is_set():
                row = k % len(self._x)
                answer = client.infer(self._x[row : row + 1], self._features)
                if answer.status != 200 or answer.error or not 0 <= answer.probability[0] <= 1:
                    self.failures.append(f"{answer.status} {answer.error}")
                else:
                    self.answers[answer.digest] += 1
                k += step

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
