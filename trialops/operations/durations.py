"""How long steps take, against their own history: taken from the records that runs leave.

Each ended run is read once and its steps' durations are kept as rows, so that a look costs a query. A step is slow when
the median of its newest runs lies far from the earlier ones, by a robust z-score of the logarithm, *and* the difference
is large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from trialops.models.task import Reader, read_yaml
from trialops.stores.digest import document_digest

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.objects import ObjectStore

SHIPPED = Path(__file__).parent / "durations.yaml"
READ = ""
"""Step of the row that says that a run was read."""
MOST_RUNS = 200
"""Runs read in one pass; a backlog is worked off over passes, oldest first."""
MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation: 1 / Phi^-1(3/4)."""
SHORTEST = 0.05
"""Seconds below which durations are taken as equal: the clock's and the scheduler's noise."""


@dataclass(frozen=True)
class DurationPolicy:
    """When a step counts as slow; see durations.yaml. `digest` is the SHA-256 of its content."""

    version: int
    keep_days: int
    window_days: int
    history: int
    recent: int
    z: float
    spread: float
    ratio: float
    seconds: float
    queue_seconds: float
    digest: str


@dataclass(frozen=True)
class Duration:
    """One step of one run.

    Attributes:
        run_id: Run.
        pipeline: Catalogue name.
        step: Step.
        state: finished or failed.
        started: When, UTC text.
        seconds: How long it ran.
        queue_seconds: From the end of the last step whose output it reads (or the run's start) to its own start.
        cpu_seconds: CPU time of its process and its children.
        peak_mb: Largest memory of its process, MB.
    """

    run_id: str
    pipeline: str
    step: str
    state: str
    started: str
    seconds: float
    queue_seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Trend:
    """A step's newest runs against the earlier ones.

    Attributes:
        pipeline: Catalogue name.
        step: Step.
        runs: Finished runs looked at, the newest included.
        before: Median of the earlier runs, seconds; None where there are too few.
        recent: Median of the newest runs, seconds.
        z: Robust z-score of the logarithm; None where there are too few.
        share: Median share of its runs' time.
        queue: Median time it waits before it starts, seconds.
        cpu_before: CPU seconds per second before.
        cpu_recent: CPU seconds per second in the newest runs.
        peak_mb: Median of the largest memory in the newest runs, MB.
        slow: Whether it counts as slow.
        series: Seconds of all runs, the oldest first.
    """

    pipeline: str
    step: str
    runs: int
    before: float | None
    recent: float
    z: float | None
    share: float
    queue: float
    cpu_before: float
    cpu_recent: float
    peak_mb: float
    slow: bool
    series: tuple[float, ...]

    @property
    def ratio(self) -> float | None:
        """Newest runs over the earlier ones."""
        return None if self.before is None else self.recent / max(self.before, SHORTEST)


def load_policy(source: Path = SHIPPED) -> DurationPolicy:
    """Read and check the policy.

    Raises:
        TrialOpsError: A key is missing, unknown or not possible; it names file and key.
    """
    content = read_yaml(source)
    top = Reader(content, source)
    top.choice("name", ("durations",))
    policy = DurationPolicy(
        version=top.whole("version", 1),
        keep_days=top.whole("keep_days", 1),
        window_days=top.whole("window_days", 1),
        history=top.whole("history", 3),
        recent=top.whole("recent", 1),
        z=top.number("z", 0.5, 100),
        spread=top.number("spread", 0.001, 10),
        ratio=top.number("ratio", 1, 1000),
        seconds=top.number("seconds", 0, 1e6),
        queue_seconds=top.number("queue_seconds", 0, 1e6),
        digest=document_digest(content),
    )
    top.done()
    return policy


# -- from records to rows ----------------------------------------------------------------------------------------


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def steps_of(records: Sequence[Mapping[str, Any]], pipeline: str, started: str) -> list[Duration]:
    """Durations of the steps of one run.

    Args:
        records: Their records.
        pipeline: Catalogue name.
        started: When the run started.
    """
    ends = {f"runs/{r['run_id']}/steps/{r['step']}/record.json": _moment(r["finished"]) for r in records}
    found = []
    for record in records:
        began = _moment(record["started"])
        ready = [ends[item["record"]] for item in record["inputs"] if item.get("record") in ends]
        waited = (began - max(ready, default=_moment(started))).total_seconds()
        found.append(
            Duration(
                run_id=str(record["run_id"]),
                pipeline=pipeline,
                step=str(record["step"]),
                state=str(record["state"]),
                started=began.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                seconds=float(record["seconds"]),
                queue_seconds=max(0.0, waited),
                cpu_seconds=float(record.get("cpu_seconds", 0.0)),
                peak_mb=float(record.get("peak_mb", 0.0)),
            )
        )
    return found


def collect(engine: Engine, objects: ObjectStore, now: datetime, policy: DurationPolicy) -> int:
    """Read the runs that have ended since the last look, and take out what is too old.

    Returns:
        Number of runs read.
    """
    import sqlalchemy as sa

    from trialops.governance.lineage import run_records
    from trialops.stores.database import reading, writing
    from trialops.stores.tables import runs as log
    from trialops.stores.tables import step_durations as table

    oldest = (now - timedelta(days=policy.keep_days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    # The row that says so holds the end that was read: a run that went on after its failure is read anew.
    read = sa.exists().where(table.c.run_id == log.c.run_id, table.c.step == READ, table.c.state == log.c.finished)
    query = (
        sa.select(log.c.run_id, log.c.pipeline, log.c.started, log.c.finished)
        .where(log.c.finished != "", log.c.started >= oldest, ~read)
        .order_by(log.c.started, log.c.run_id)
        .limit(MOST_RUNS)
    )
    with reading(engine) as connection:
        waiting = connection.execute(query).all()
    for run in waiting:
        rows = [vars(one) for one in steps_of(run_records(objects, run.run_id), run.pipeline, run.started)]
        empty = {"seconds": 0.0, "queue_seconds": 0.0, "cpu_seconds": 0.0, "peak_mb": 0.0}
        mark = {"run_id": run.run_id, "pipeline": run.pipeline, "step": READ, "state": run.finished, **empty}
        with writing(engine) as connection:
            connection.execute(table.delete().where(table.c.run_id == run.run_id))
            connection.execute(table.insert(), [*rows, mark | {"started": run.started}])
    with writing(engine) as connection:
        connection.execute(table.delete().where(table.c.started < oldest))
    return len(waiting)


def history(engine: Engine, since: datetime, until: datetime) -> list[Duration]:
    """Steps that started within a time, the oldest first."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import step_durations as table

    low, high = (at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for at in (since, until))
    columns = [table.c[name] for name in Duration.__dataclass_fields__]
    query = (
        sa.select(*columns)
        .where(table.c.step != READ, table.c.started >= low, table.c.started <= high)
        .order_by(table.c.started, table.c.run_id, table.c.step)
    )
    with reading(engine) as connection:
        return [Duration(**row._mapping) for row in connection.execute(query)]


# -- from rows to trends -----------------------------------------------------------------------------------------


def robust_z(recent: float, before: Sequence[float], spread: float) -> float:
    """Distance of a duration from earlier ones, in robust standard deviations of the logarithm.

    Args:
        recent: Seconds.
        before: Seconds of earlier runs.
        spread: Least standard deviation of the logarithm.
    """
    logs = [math.log(max(value, SHORTEST)) for value in before]
    centre = median(logs)
    deviation = MAD_TO_SD * median(abs(value - centre) for value in logs)
    return (math.log(max(recent, SHORTEST)) - centre) / max(deviation, spread)


def trends(rows: Iterable[Duration], policy: DurationPolicy) -> list[Trend]:
    """Each step's newest runs against its earlier ones; by pipeline, the step that takes most of a run first."""
    finished = [row for row in rows if row.state == "finished"]
    whole: dict[str, float] = {}
    for row in finished:
        whole[row.run_id] = whole.get(row.run_id, 0.0) + row.seconds
    steps: dict[tuple[str, str], list[Duration]] = {}
    for row in finished:
        steps.setdefault((row.pipeline, row.step), []).append(row)
    found = [_trend(pipeline, step, runs, whole, policy) for (pipeline, step), runs in steps.items()]
    return sorted(found, key=lambda trend: (trend.pipeline, -trend.share, trend.step))


def _trend(
    pipeline: str, step: str, runs: Sequence[Duration], whole: Mapping[str, float], policy: DurationPolicy
) -> Trend:
    newest, earlier = runs[-policy.recent :], runs[: -policy.recent]
    recent = median(run.seconds for run in newest)
    before, z, slow = None, None, False
    if len(earlier) >= policy.history and len(newest) == policy.recent:
        before = median(run.seconds for run in earlier)
        z = robust_z(recent, [run.seconds for run in earlier], policy.spread)
        far = recent >= policy.ratio * max(before, SHORTEST) and recent - before >= policy.seconds
        slow = z > policy.z and far
    return Trend(
        pipeline=pipeline,
        step=step,
        runs=len(runs),
        before=before,
        recent=recent,
        z=z,
        share=median(run.seconds / whole[run.run_id] if whole[run.run_id] else 0.0 for run in runs),
        queue=median(run.queue_seconds for run in newest),
        cpu_before=_cpu(earlier),
        cpu_recent=_cpu(newest),
        peak_mb=median(run.peak_mb for run in newest),
        slow=slow,
        series=tuple(run.seconds for run in runs),
    )


def _cpu(runs: Sequence[Duration]) -> float:
    return median([run.cpu_seconds / max(run.seconds, SHORTEST) for run in runs] or [0.0])


def bottlenecks(found: Sequence[Trend]) -> dict[str, Trend]:
    """Pipeline -> the step that takes the largest share of its runs."""
    result: dict[str, Trend] = {}
    for trend in found:
        if trend.pipeline not in result or trend.share > result[trend.pipeline].share:
            result[trend.pipeline] = trend
    return result
