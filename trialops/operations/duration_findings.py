"""What durations and ended runs say as findings: slow steps, long waits, pipelines that fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trialops.operations.durations import DurationPolicy, Trend
from trialops.operations.health import Finding


def duration_findings(found: Sequence[Trend], policy: DurationPolicy) -> list[Finding]:
    """One finding per pipeline: the slow steps and those that wait, or that none is; none where nothing is known."""
    grouped: dict[str, list[Trend]] = {}
    for trend in found:
        grouped.setdefault(trend.pipeline, []).append(trend)
    findings = []
    for pipeline, steps in sorted(grouped.items()):
        slow = [trend for trend in steps if trend.slow]
        waits = [trend for trend in steps if trend.queue > policy.queue_seconds]
        judged = [trend for trend in steps if trend.z is not None]
        if judged or slow:
            worst = max(judged, key=lambda trend: trend.z or 0.0)
            words = "; ".join(_words(trend) for trend in slow[:3]) or f"{len(judged)} steps take as long as before"
            findings.append(
                Finding(
                    pipeline,
                    "durations",
                    "degraded" if slow else "healthy",
                    words,
                    round(worst.z or 0.0, 3),
                    policy.z,
                    _fix(slow),
                    "records of its runs",
                )  # fmt: skip
            )
        if waits:
            longest = max(waits, key=lambda trend: trend.queue)
            findings.append(
                Finding(
                    pipeline,
                    "queue",
                    "degraded",
                    f"{longest.step} waits {longest.queue:.0f} s before it starts",
                    round(longest.queue, 1),
                    policy.queue_seconds,
                    "Look for pods that wait for a node, quota, or a parallelism limit.",
                    "records of its runs",
                )  # fmt: skip
            )
    return findings


def _words(trend: Trend) -> str:
    return f"{trend.step} takes {trend.recent:.1f} s, {trend.ratio:.1f} times as long as before"


def _fix(slow: Sequence[Trend]) -> str:
    if not slow:
        return ""
    first = slow[0]
    if first.cpu_recent < first.cpu_before / first.ratio * 1.25 if first.ratio else False:
        return f"{first.step} waits: look at the stores and the network it reads from."
    return f"{first.step} computes more: compare its inputs' rows, and the processors it gets."


def failure_findings(ended: Mapping[str, tuple[int, int]], limit: float, least: int) -> list[Finding]:
    """Share of failed runs per pipeline, judged from a number of runs on; before that, whether every one failed.

    Args:
        ended: Pipeline -> ended runs, failed ones (`trialops.alerts.measures.ended_runs`).
        limit: Share from which it counts.
        least: Fewest runs.
    """
    findings = []
    for pipeline, (runs, failed) in sorted(ended.items()):
        share, judged = failed / runs, runs >= least
        # Of a few runs no rate can be told; that none has ever succeeded can.
        bad = share > limit if judged else failed == runs >= 2
        words = f"{failed} of {runs} runs failed" + ("" if judged else f"; judged from {least} runs on")
        findings.append(
            Finding(
                pipeline,
                "failure rate",
                "degraded" if bad else "healthy",
                words,
                round(share, 6),
                limit,
                f"trialops runs: read the failed runs of {pipeline}." if bad else "",
                "the run log",
            )  # fmt: skip
        )
    return findings
