"""Request metrics in the Prometheus text exposition format, without a client library.

Labels carry the model, its version, its digest, the status code and the kind of refusal: nothing a subject could be
found by. The families, all with labels model and version:

* trialops_inference_requests_total{code}, trialops_inference_rows_total: requests answered, rows predicted
* trialops_inference_refusals_total{kind}: malformed, unknown subject, stale, ahead, incomplete, unavailable, internal
* trialops_inference_warnings_total{kind}: rows predicted with a doubt (stale, incomplete) where the policy warns
* trialops_inference_latency_seconds: histogram, from the first byte of a request to its answer
* trialops_feature_lookup_seconds: histogram, a lookup in the online store; several requests may share one
* trialops_prediction_probability: histogram of answers
* trialops_inference_in_flight, trialops_ready
* trialops_prediction_log_rows_total, trialops_prediction_log_queue_rows, trialops_prediction_log_failures_total:
  rows written, rows waiting, failed attempts to write. There is no count of dropped rows because none is dropped.
* trialops_model_info{digest}
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trialops.serving.line_writer import LineWriter

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LOOKUP_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
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
        self._refusals: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._rows = 0
        self._latency = Histogram(LATENCY_SECONDS)
        self._lookup = Histogram(LOOKUP_SECONDS)
        self._probability = Histogram(PROBABILITY)
        self.in_flight = 0

    def observe(self, status: int, seconds: float, probability: list[float]) -> None:
        """Count one answered inference request.

        Args:
            status: HTTP status code, or the one a gRPC answer corresponds to.
            seconds: From the first byte of the request to the answer.
            probability: Predictions returned; empty when refused.
        """
        self._requests[status] += 1
        self._rows += len(probability)
        self._latency.observe((seconds,))
        self._probability.observe(probability)

    def refused(self, kind: str) -> None:
        """Count a request that got no prediction."""
        self._refusals[kind] += 1

    def warned(self, kind: str, rows: int) -> None:
        """Count rows that were predicted with a doubt."""
        self._warnings[kind] += rows

    def looked_up(self, seconds: float) -> None:
        """Count a lookup in the online store."""
        self._lookup.observe((seconds,))

    def exposition(self, *, ready: bool, log: LineWriter | None = None) -> str:
        """The page at /metrics.

        Args:
            ready: Whether the server is ready.
            log: The queue of the prediction log; None without one.
        """
        labels, out = self._labels, []

        def family(name: str, kind: str, text: str, lines: list[str]) -> None:
            out.extend([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines])

        def counted(name: str, label: str, text: str, counts: Counter[str] | Counter[int]) -> None:
            rows = sorted((str(key), count) for key, count in counts.items())
            family(name, "counter", text, [f'{name}{{{labels},{label}="{key}"}} {count}' for key, count in rows])

        def single(name: str, kind: str, text: str, value: int) -> None:
            family(name, kind, text, [f"{name}{{{labels}}} {value}"])

        def histogram(name: str, text: str, values: Histogram) -> None:
            family(name, "histogram", text, values.lines(name, labels))

        counted(
            "trialops_inference_requests_total",
            "code",
            "Inference requests answered, by status code.",
            self._requests,
        )
        counted("trialops_inference_refusals_total", "kind", "Requests without a prediction, by why.", self._refusals)
        counted("trialops_inference_warnings_total", "kind", "Rows predicted with a doubt.", self._warnings)
        single("trialops_inference_rows_total", "counter", "Rows predicted.", self._rows)
        histogram("trialops_inference_latency_seconds", "Time to answer an inference request.", self._latency)
        histogram("trialops_feature_lookup_seconds", "Time of a lookup in the online store.", self._lookup)
        histogram("trialops_prediction_probability", "Predicted probabilities.", self._probability)
        single("trialops_inference_in_flight", "gauge", "Inference requests being answered.", self.in_flight)
        if log is not None:
            single("trialops_prediction_log_rows_total", "counter", "Predictions written to the log.", log.written)
            single("trialops_prediction_log_queue_rows", "gauge", "Predictions waiting to be written.", log.depth)
            single("trialops_prediction_log_failures_total", "counter", "Failed writes, tried again.", log.failures)
        single("trialops_ready", "gauge", "1 when ready.", int(ready))
        digest = f'{labels},digest="{_escape(self._digest)}"'
        family("trialops_model_info", "gauge", "The model served.", [f"trialops_model_info{{{digest}}} 1"])
        return "\n".join(out) + "\n"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
