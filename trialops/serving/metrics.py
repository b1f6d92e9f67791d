"""Request metrics in the Prometheus text exposition format, without a client library.

Labels carry the model, its version, its digest and the status code: nothing a subject could be found by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PROBABILITY = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """A cumulative histogram with fixed upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        """Count each value in the first bucket whose upper bound is not below it."""
        for value in values:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Exposition lines of the buckets, the sum and the count."""
        out, running = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            running += count
            out.append(f'{name}_bucket{{{labels},le="{bound}"}} {running}')
        return [*out, f"{name}_sum{{{labels}}} {self._sum!r}", f"{name}_count{{{labels}}} {running}"]


class Metrics:
    """What one model server counts.

    Args:
        name: Model name.
        version: Model version.
        digest: Bundle digest.
    """

    def __init__(self, name: str, version: str, digest: str) -> None:
        self._labels = f'model="{_escape(name)}",version="{_escape(version)}"'
        self._digest = digest
        self._requests: Counter[int] = Counter()
        self._rows = 0
        self._latency = Histogram(LATENCY_SECONDS)
        self._probability = Histogram(PROBABILITY)

    def observe(self, status: int, seconds: float, probability: list[float]) -> None:
        """Count one answered inference request.

        Args:
            status: HTTP status code.
            seconds: From the first byte of the request to the answer.
            probability: Predictions returned; empty when refused.
        """
        self._requests[status] += 1
        self._rows += len(probability)
        self._latency.observe((seconds,))
        self._probability.observe(probability)

    def exposition(self, *, ready: bool, in_flight: int) -> str:
        """The page at /metrics."""
        labels, out = self._labels, []

        def family(name: str, kind: str, text: str, lines: list[str]) -> None:
            out.extend([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines])

        family(
            "trialops_inference_requests_total",
            "counter",
            "Inference requests answered, by status code.",
            [
                f'trialops_inference_requests_total{{{labels},code="{code}"}} {count}'
                for code, count in sorted(self._requests.items())
            ],
        )
        family(
            "trialops_inference_rows_total",
            "counter",
            "Rows predicted.",
            [f"trialops_inference_rows_total{{{labels}}} {self._rows}"],
        )
        name = "trialops_inference_latency_seconds"
        family(name, "histogram", "Time to answer an inference request.", self._latency.lines(name, labels))
        name = "trialops_prediction_probability"
        family(name, "histogram", "Predicted probabilities.", self._probability.lines(name, labels))
        family(
            "trialops_inference_in_flight",
            "gauge",
            "Inference requests being answered.",
            [f"trialops_inference_in_flight{{{labels}}} {in_flight}"],
        )
        family("trialops_ready", "gauge", "1 when ready.", [f"trialops_ready{{{labels}}} {int(ready)}"])
        family(
            "trialops_model_info",
            "gauge",
            "The model served.",
            [f'trialops_model_info{{{labels},digest="{_escape(self._digest)}"}} 1'],
        )
        return "\n".join(out) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
