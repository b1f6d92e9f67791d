"""What is measured now: read from the records that runs leave, the run log, the case register and this machine.

Each finished run is read once: its figures are kept in the database, so that a look every minute costs a query and not
a walk through every run's objects.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.alerts.register import utc_text, utc_time
from trialops.alerts.thresholds import Metric, Thresholds, duration
from trialops.stores.database import canonical

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.objects import ObjectStore

READ = ""
"""Metric of the row that says that a run was read."""
UNREAD = ("alerting", "notification")
"""Pipelines that run every minute and measure nothing of their own."""
MOST_RUNS = 200
"""Runs read in one pass; a backlog is worked off over passes, oldest first."""


@dataclass(frozen=True)
class Sample:
    """A value of a metric."""

    metric: str
    labels: Mapping[str, str]
    value: float

    @property
    def key(self) -> tuple[str, str]:
        """What sorts samples."""
        return self.metric, canonical(dict(self.labels))


@dataclass(frozen=True)
class Stores:
    """Where measures are read.

    Attributes:
        engine: The database, migrated.
        objects: Records of runs.
        study: The study.
        home: Folder whose disk is measured.
        study_file: Study file; the demonstration trial's where it is empty.
    """

    engine: Engine
    objects: ObjectStore
    study: str
    home: Path
    study_file: str = ""


@dataclass
class Measured:
    """Samples, sorted, and what could not be read: metric and why."""

    samples: list[Sample] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def measure(stores: Stores, thresholds: Thresholds, now: datetime) -> Measured:
    """All metrics as they stand at a time.

    A source that cannot be read is named, and does not keep the others from being read.
    """
    done, kinds = Measured(), _by_kind(thresholds.metrics)
    readers = {"record": _records, "runs": _runs, "host": _host, "clocks": _clocks, "alerts": _alerts}
    for kind, metrics in kinds.items():
        try:
            done.samples += readers[kind](stores, metrics, now)
        except Exception as error:  # whatever it is, the other sources still count
            done.unread |= {metric.name: type(error).__name__ for metric in metrics}
    done.samples = sorted((s for s in done.samples if math.isfinite(s.value)), key=lambda s: s.key)
    return done


def _by_kind(metrics: Iterable[Metric]) -> dict[str, list[Metric]]:
    kinds: dict[str, list[Metric]] = {}
    for metric in metrics:
        kinds.setdefault(str(metric.source["kind"]), []).append(metric)
    return kinds


# -- records of runs ---------------------------------------------------------------------------------------------


def _records(stores: Stores, metrics: list[Metric], now: datetime) -> list[Sample]:
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import alert_measures as table

    read_runs(stores, metrics, now)
    names = [metric.name for metric in metrics]
    newest = (
        sa.select(table.c.metric, table.c.labels, sa.func.max(table.c.at).label("at"))
        .where(table.c.study == stores.study, table.c.metric.in_(names), table.c.at <= utc_text(now))
        .group_by(table.c.metric, table.c.labels)
        .subquery()
    )
    query = (
        sa.select(table)
        .join(
            newest,
            (table.c.metric == newest.c.metric) & (table.c.labels == newest.c.labels) & (table.c.at == newest.c.at),
        )
        .where(table.c.study == stores.study)
        .order_by(table.c.id)
    )
    with reading(stores.engine) as connection:
        found = {(row.metric, row.labels): float(row.value) for row in connection.execute(query)}
    return [Sample(metric, json.loads(labels), value) for (metric, labels), value in found.items()]


def read_runs(stores: Stores, metrics: Iterable[Metric], now: datetime) -> int:
    """Read the figures of finished runs that were not read yet into the database; returns how many runs."""
    import sqlalchemy as sa

    from trialops.governance.lineage import run_records
    from trialops.stores.database import reading, writing
    from trialops.stores.tables import alert_measures as table
    from trialops.stores.tables import runs

    been = sa.select(table.c.id).where(
        table.c.run_id == runs.c.run_id, table.c.finished == runs.c.finished, table.c.metric == READ
    )
    query = (
        sa.select(runs.c.run_id, runs.c.finished)
        .where(runs.c.finished != "", runs.c.finished <= utc_text(now), runs.c.pipeline.not_in(UNREAD))
        .where(~sa.exists(been))
        .order_by(runs.c.finished)
        .limit(MOST_RUNS)
    )
    with reading(stores.engine) as connection:
        pending = connection.execute(query).all()
    chosen = list(metrics)
    for run_id, finished in pending:
        records = run_records(stores.objects, run_id)
        rows = {(READ, "{}"): (finished, 0.0)}
        for record in records:
            for sample in of_record(record, chosen, stores.objects):
                rows[sample.key] = (utc_text(utc_time(record["finished"])), sample.value)
        try:
            with writing(stores.engine) as connection:
                connection.execute(
                    table.insert(),
                    [
                        {"at": at, "study": stores.study, "run_id": run_id, "finished": finished, "metric": metric}
                        | {"labels": labels, "value": value}
                        for (metric, labels), (at, value) in rows.items()
                    ],
                )
        except sa.exc.IntegrityError:
            continue  # another pass has read it
    return len(pending)


def of_record(record: Mapping[str, Any], metrics: Iterable[Metric], objects: ObjectStore) -> list[Sample]:
    """The samples that one finished step gives."""
    if record.get("state") != "finished":
        return []
    found = []
    for metric in metrics:
        source = metric.source
        if source["kind"] != "record" or record["step"] not in source["steps"]:
            continue
        value = _value(record, source, objects)
        if value is None or not math.isfinite(value):
            continue
        own = {"@step": record["step"]}
        parameters = record.get("parameters", {})
        labels = {name: str(own.get(at, parameters.get(at, ""))) for name, at in metric.labels.items()}
        found.append(Sample(metric.name, labels, value))
    return found


def _value(record: Mapping[str, Any], source: Mapping[str, Any], objects: ObjectStore) -> float | None:
    if "decision" in source:
        value: Any = source["decision"].get((record.get("decision") or {}).get("decision"))
    elif "key" in source:
        value = record.get("metrics", {}).get(source["key"])
    else:
        try:
            value = json.loads(objects.get(f"runs/{record['run_id']}/steps/{record['step']}/{source['document']}"))
        except KeyError:
            return None
        for part in source["path"].split("."):
            value = value.get(part) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# -- the run log -------------------------------------------------------------------------------------------------


def _runs(stores: Stores, metrics: list[Metric], now: datetime) -> list[Sample]:
    found = []
    for metric in metrics:
        for pipeline, (finished, failed) in ended_runs(stores.engine, duration(metric.source["window"]), now).items():
            value = failed / finished if metric.source["what"] == "failure_ratio" else finished
            found.append(Sample(metric.name, {"pipeline": pipeline}, float(value)))
    return found


def ended_runs(engine: Engine, window: timedelta, now: datetime) -> dict[str, tuple[int, int]]:
    """Pipeline -> runs that succeeded or failed within the window up to now, and those of them that failed."""
    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import runs as table

    query = (
        sa.select(table.c.pipeline, table.c.state, sa.func.count())
        .where(table.c.finished > utc_text(now - window), table.c.finished <= utc_text(now))
        .where(table.c.state.in_(("succeeded", "failed")))
        .group_by(table.c.pipeline, table.c.state)
    )
    counts: dict[str, Counter[str]] = {}
    with reading(engine) as connection:
        for pipeline, state, number in connection.execute(query):
            counts.setdefault(pipeline, Counter())[state] = int(number)
    return {name: (states.total(), states["failed"]) for name, states in sorted(counts.items())}


# -- this machine ------------------------------------------------------------------------------------------------


def _host(stores: Stores, metrics: list[Metric], now: datetime) -> list[Sample]:
    from trialops.operations import machine

    shares = {use.resource: use.share for use in machine.measure(stores.home.resolve())}
    return [
        Sample(metric.name, {}, shares[what]) for metric in metrics if (what := str(metric.source["what"])) in shares
    ]


# -- reporting clocks and the alerts themselves ------------------------------------------------------------------


def _clocks(stores: Stores, metrics: list[Metric], now: datetime) -> list[Sample]:
    """Every open clock by case, authority and kind; the one that has used most where there are several of a kind."""
    from trialops.safety.case_run import case_clocks
    from trialops.safety.case_versions import authorities_of
    from trialops.safety.clocks import OPEN
    from trialops.safety.register import CaseRegister
    from trialops.safety.safety_policy import safety_policy
    from trialops.trial.study_file import study_file

    register = CaseRegister(stores.engine, stores.study)
    versions = register.versions()
    if not versions:
        return []
    stated = study_file(stores.study_file)
    policy, parties, actions = safety_policy(stated), authorities_of(stated), register.actions()
    used: dict[tuple[str, str, str], float] = {}
    for case, made in versions.items():
        for clock in case_clocks(made, actions.get(case, []), policy, parties):
            if clock.state == OPEN and clock.start <= now:
                key = (case, clock.authority, clock.kind)
                used[key] = max(used.get(key, 0.0), clock.used(now))
    return [
        Sample(metric.name, {"case": case, "authority": authority, "kind": kind}, share)
        for metric in metrics
        for (case, authority, kind), share in used.items()
    ]


def _alerts(stores: Stores, metrics: list[Metric], now: datetime) -> list[Sample]:
    from trialops.alerts.outbox import WAITING, AlertOutbox
    from trialops.alerts.register import AlertRegister
    from trialops.alerts.thresholds import SEVERITIES

    alerts = AlertRegister(stores.engine, stores.study).known().values()
    firing = Counter(alert.severity for alert in alerts if alert.firing)
    waiting = AlertOutbox(stores.engine, stores.study).messages(states=(*WAITING, "dead"))
    oldest = max((now - utc_time(message.queued)).total_seconds() for message in waiting) if waiting else 0.0
    found = []
    for metric in metrics:
        if metric.source["what"] == "active":
            found += [Sample(metric.name, {"severity": name}, float(firing[name])) for name in SEVERITIES]
        else:
            value = float(len(waiting)) if metric.source["what"] == "waiting" else max(oldest, 0.0)
            found.append(Sample(metric.name, {}, value))
    return found
