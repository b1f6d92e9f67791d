"""Spark over its REST API, of a driver's page or the history server: failed stages, skew, spill, lost executors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trialops.operations.health import STATES, Finding
from trialops.operations.http_probe import client, question

if TYPE_CHECKING:
    import httpx

    from trialops.operations.probing import Ask

API = "/api/v1/applications"
_SKEW_FIX = "Repartition by another key, salt it, or switch adaptive execution on (spark.sql.adaptive.skewJoin)."


def probe(ask: Ask) -> Iterator[Finding]:
    """The newest applications: their stages, the tasks of the longest, their executors."""
    with client(ask, ask.address) as http:
        listed, failed = question(ask, http, "reach", "GET", API)
        if failed is not None:
            yield failed
            return
        if not isinstance(listed, list):
            yield ask.say("reach", "broken", "it answers, but not as Spark does", asked=f"GET {API}",
                          fix=f"Correct the address. ({ask.variable})")  # fmt: skip
            return
        yield ask.say("reach", "healthy", f"{len(listed)} applications", asked=f"GET {API}", value=len(listed))
        worst: dict[str, Finding] = {}
        for application in listed[: int(ask.limits["applications"])]:
            for found in _application(ask, http, str(application["id"])):
                known = worst.get(found.check)
                if known is None or _rank(found) > _rank(known):
                    worst[found.check] = found
        yield from worst.values()


def _rank(found: Finding) -> tuple[int, float]:
    """What makes one application's finding worse than another's."""
    return STATES.index(found.state), found.value or 0.0


def _application(ask: Ask, http: httpx.Client, app: str) -> Iterator[Finding]:
    """The checks of one application; their names are the same for all, so that an alert outlives an application."""
    stages, failed = question(ask, http, "failed stages", "GET", f"{API}/{app}/stages")
    if failed is not None:
        yield failed
        return
    yield _failed_stages(ask, app, stages)
    yield _spill(ask, app, stages)
    yield _skew(ask, http, app, stages)
    executors, failed = question(ask, http, "executors", "GET", f"{API}/{app}/allexecutors")
    yield failed or _executors(ask, app, executors)


def _failed_stages(ask: Ask, app: str, stages: Sequence[Mapping[str, Any]]) -> Finding:
    """Stages whose last attempt failed; an attempt that was repeated with success does not count against it."""
    last: dict[int, Mapping[str, Any]] = {}
    for stage in sorted(stages, key=lambda s: (s["stageId"], s["attemptId"])):
        last[stage["stageId"]] = stage
    bad = [stage for stage in last.values() if stage["status"] == "FAILED"]
    tasks, lost = sum(s["numTasks"] for s in stages), sum(s["numFailedTasks"] for s in stages)
    share = lost / tasks if tasks else 0.0
    asked, names = f"stages of {app}", ", ".join(str(stage["stageId"]) for stage in bad[:5])
    if bad:
        return ask.say("failed stages", "broken", f"{app}: {len(bad)} of {len(last)} stages failed: {names}",
                       asked=asked, value=len(bad), threshold=0,
                       fix="Read the stage's error on the driver's page and the executors' logs.")  # fmt: skip
    words = f"{app}: none of {len(last)} stages failed; {lost} of {tasks} tasks had to be repeated"
    return ask.judge("failed stages", share, "failed_share", words, asked=asked,
                     fix="Read the executors' logs: tasks fail and are repeated.")  # fmt: skip


def _spill(ask: Ask, app: str, stages: Sequence[Mapping[str, Any]]) -> Finding:
    spilled = sum(stage.get("diskBytesSpilled", 0) for stage in stages)
    most = max(stages, key=lambda stage: stage.get("diskBytesSpilled", 0), default=None)
    where = f", most in stage {most['stageId']}" if most is not None and spilled else ""
    return ask.judge("spill", spilled, "spill_bytes", f"{app}: {spilled / 2**20:.1f} MB went to disk{where}",
                     asked=f"stages of {app}", fix="Give executors more memory, or use more partitions.")  # fmt: skip


def _skew(ask: Ask, http: httpx.Client, app: str, stages: Sequence[Mapping[str, Any]]) -> Finding:
    """Longest task over the median one, of the stage in which that costs most time."""
    least = ask.limits["skew_tasks"]
    done = [s for s in stages if s["status"] == "COMPLETE" and s["numCompleteTasks"] >= least]
    longest = sorted(done, key=lambda s: -s.get("executorRunTime", 0))[:3]
    check, asked = "task skew", f"taskSummary of stages of {app}"
    worst: tuple[float, float, int] | None = None
    for stage in longest:
        path = f"{API}/{app}/stages/{stage['stageId']}/{stage['attemptId']}/taskSummary"
        summary, failed = question(ask, http, check, "GET", path, params={"quantiles": "0.5,1.0"})
        if failed is not None:
            return failed
        median, top = (value / 1000 for value in summary["executorRunTime"])
        found = (top - median, top / max(median, 0.001), stage["stageId"])
        worst = max(worst, found) if worst else found
    if worst is None:
        return ask.say(check, "healthy", f"{app}: no stage with {least:.0f} tasks or more", asked=asked)
    extra, ratio, number = worst
    detail = f"{app}: the longest task of stage {number} took {ratio:.1f} times the median, {extra:.1f} s more"
    if extra < ask.limits["skew_seconds"]:  # a ratio of milliseconds costs nobody anything
        return ask.say(check, "healthy", detail, asked=asked, value=round(ratio, 3), threshold=ask.limits["skew"])
    return ask.judge(check, ratio, "skew", detail, asked=asked, fix=_SKEW_FIX)


def _executors(ask: Ask, app: str, executors: Sequence[Mapping[str, Any]]) -> Finding:
    """Executors that are gone, and not because Spark had no work for them."""
    gone = [e for e in executors if e["id"] != "driver" and not e.get("isActive", True)]
    lost = [e for e in gone if "idle" not in str(e.get("removeReason", "")).lower()
            and "driver" not in str(e.get("removeReason", "")).lower()]  # fmt: skip
    left = sum(1 for e in executors if e["id"] != "driver" and e.get("isActive", True))
    names = ", ".join(str(e["id"]) for e in lost[:5])
    words = f"{app}: {left} executors, none lost"
    if lost:
        words = f"{app}: {len(lost)} executors were lost: {names}; {left} are left"
    return ask.say(
        "executors", ("degraded" if left else "broken") if lost else "healthy", words,
        asked=f"allexecutors of {app}", value=len(lost), threshold=0,
        fix="Read their logs: out of memory, preempted, or a node that went away.",
    )  # fmt: skip
