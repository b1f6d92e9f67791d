"""What the router counts, in the Prometheus text exposition format; labels name arms and outcomes alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trialops.serving.metrics import LATENCY_SECONDS, Histogram

if TYPE_CHECKING:
    from trialops.serving.routing import Routing

ARMS = ("stable", "candidate", "stable_mirror", "candidate_mirror")


class RouteMetrics:
    """Counters and latencies of one router.

    Attributes:
        unreadable: Looks at a routing file that could not be read.
        unmirrored: Requests that were not mirrored because too many were on their way.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self.unmirrored = 0
        self._served: Counter[tuple[str, int]] = Counter()
        self._fallbacks = 0
        self._calls: Counter[tuple[str, str]] = Counter()
        self._latency = {arm: Histogram(LATENCY_SECONDS) for arm in ARMS}
        self._answer = Histogram(LATENCY_SECONDS)

    def served(self, arm: str, status: int, seconds: float, *, fallback: bool) -> None:
        """Count an answered request.

        Args:
            arm: Who answered.
            status: HTTP status the caller got.
            seconds: From the request to the answer, a failed attempt of the candidate included.
            fallback: Whether the stable model answered in the candidate's place.
        """
        self._served[(arm, status)] += 1
        self._fallbacks += fallback
        self._answer.observe((seconds,))

    def called(self, arm: str, *, ok: bool, refused: bool, seconds: float) -> None:
        """Count a model's answer; mirrored ones under an arm of their own."""
        self._calls[(arm, "ok" if ok else "refused" if refused else "error")] += 1
        self._latency[arm].observe((seconds,))

    def exposition(self, routing: Routing, *, ready: bool, open_breaker: bool) -> str:
        """The page at /metrics."""
        out: list[str] = []

        def family(name: str, kind: str, text: str, lines: list[str]) -> None:
            out.extend([f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines])

        def single(name: str, kind: str, text: str, value: float) -> None:
            family(name, kind, text, [f"{name} {value:g}"])

        family(
            "trialops_router_requests_total",
            "counter",
            "Inference requests answered, by the arm that answered and status code.",
            [
                f'trialops_router_requests_total{{arm="{arm}",code="{code}"}} {n}'
                for (arm, code), n in sorted(self._served.items())
            ],
        )
        family(
            "trialops_router_calls_total",
            "counter",
            "Requests sent to the models, mirrored ones apart, by outcome.",
            [
                f'trialops_router_calls_total{{arm="{arm}",outcome="{outcome}"}} {n}'
                for (arm, outcome), n in sorted(self._calls.items())
            ],
        )
        name = "trialops_router_call_seconds"
        lines = [line for arm in ARMS for line in self._latency[arm].lines(name, f'arm="{arm}"')]
        family(name, "histogram", "Time each model took.", lines)
        name = "trialops_router_answer_seconds"
        family(name, "histogram", "Time until the caller had an answer.", self._answer.lines(name, 'arm="all"'))
        single(
            "trialops_router_fallbacks_total",
            "counter",
            "Requests of the candidate's share that the stable model answered.",
            self._fallbacks,
        )
        single("trialops_router_unmirrored_total", "counter", "Requests not mirrored: too many.", self.unmirrored)
        single("trialops_router_routing_unreadable_total", "counter", "Failed reads of the routing.", self.unreadable)
        single("trialops_router_candidate_percent", "gauge", "Share of the candidate.", routing.percent)
        single("trialops_router_breaker_open", "gauge", "1 when the candidate is no longer asked.", int(open_breaker))
        single("trialops_router_ready", "gauge", "1 when ready.", int(ready))
        return "\n".join(out) + "\n"
