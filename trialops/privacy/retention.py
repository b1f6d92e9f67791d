"""Retention: which records are due for disposal, what keeps them, and their disposal under a certificate."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.privacy.holds import Hold, active
from trialops.stores.chain_log import ChainLog

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore

MILESTONES = ("end_of_trial", "approval_or_discontinuation")
State = Literal["kept", "held", "in use", "due"]


@dataclass(frozen=True)
class RecordClass:
    """One class of records; see retention.yaml."""

    name: str
    basis: str
    lake: tuple[str, ...]
    objects: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]
    dispose: bool
    newest: bool


@dataclass(frozen=True)
class RetentionPolicy:
    """The policy: version, audit window in days, classes in order."""

    version: str
    audit_window_days: int
    classes: tuple[RecordClass, ...]

    def class_of(self, name: str, *, table: bool) -> RecordClass | None:
        """The class of a table or an object; None for what no class names, which is never disposed of."""
        for one in self.classes:
            if any(fnmatchcase(name, pattern) for pattern in (one.lake if table else one.objects)):
                return one
        return None


@dataclass(frozen=True)
class Record:
    """One table version or object, and what becomes of it.

    Attributes:
        record_class: Its class.
        name: Table or key.
        version: Of a table; None for an object.
        created: Day it was written.
        due: Day from which it may go; None where a milestone has not come or it is never disposed of.
        state: kept, held (legal hold), in use (audit window) or due.
    """

    record_class: str
    name: str
    version: int | None
    created: dt.date
    due: dt.date | None
    state: State


@cache
def default_retention_policy() -> RetentionPolicy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("retention.yaml").read_text("utf-8")))


def parse(data: Mapping[str, Any]) -> RetentionPolicy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: A class starts at something unknown, or can be disposed of without a rule.
    """
    classes = []
    for item in data["classes"]:
        rules = tuple((str(r["starts"]), int(r["years"])) for r in item.get("rules", ()))
        dispose = bool(item.get("dispose", True))
        unknown = {start for start, _ in rules} - {"created", *MILESTONES}
        if unknown or (dispose and not rules):
            raise TrialOpsError(
                "A class of records has no usable rule.",
                where=f"retention.yaml, {item['name']}",
                fix=f"Let it start at created, {' or '.join(MILESTONES)}, or set dispose: false.",
            )
        classes.append(
            RecordClass(
                str(item["name"]),
                " ".join(str(item["basis"]).split()),
                tuple(item.get("lake", ())),
                tuple(item.get("objects", ())),
                rules,
                dispose,
                bool(item.get("newest", False)),
            )
        )
    return RetentionPolicy(str(data["version"]), int(data["audit_window_days"]), tuple(classes))


def record_milestone(objects: ObjectStore, name: str, day: dt.date, *, actor: str, reason: str) -> None:
    """Record a milestone of the trial; a later entry of the same name corrects an earlier one, which stays readable.

    Raises:
        TrialOpsError: The milestone is unknown, or actor or reason is empty.
    """
    if name not in MILESTONES or not actor.strip() or not reason.strip():
        raise TrialOpsError(
            "A milestone needs a name, who records it and why.",
            where="milestone",
            fix=f"Use {' or '.join(MILESTONES)}.",
        )
    body = {"milestone": name, "day": day.isoformat(), "actor": actor, "reason": reason}
    _milestone_log(objects).append(body)


def milestones(objects: ObjectStore) -> dict[str, dt.date]:
    """Milestone -> day, as last recorded."""
    return {
        str(link.body["milestone"]): dt.date.fromisoformat(link.body["day"]) for link in _milestone_log(objects).links()
    }


def _milestone_log(objects: ObjectStore) -> ChainLog:
    return ChainLog(objects, "retention/milestones", "trial milestones")


def due_day(one: RecordClass, created: dt.date, reached: Mapping[str, dt.date], floor_days: int) -> dt.date | None:
    """The day from which a record may go: the latest of its rules' ends, and not before the floor.

    Args:
        one: Class of the record.
        created: Day it was written.
        reached: Milestones that have come.
        floor_days: DATA_RETENTION_DAYS, counted from `created`.

    Returns:
        The day; None where a milestone has not come, or the class is never disposed of.
    """
    if not one.dispose:
        return None
    starts = {"created": created, **reached}
    if any(start not in starts for start, _ in one.rules):
        return None
    ends = [_years_later(starts[start], years) for start, years in one.rules]
    return max([*ends, created + dt.timedelta(days=floor_days)])


def _years_later(day: dt.date, years: int) -> dt.date:
    try:
        return day.replace(year=day.year + years)
    except ValueError:  # 29 February
        return dt.date(day.year + years, 3, 1)


def plan(
    lake: Lake,
    objects: ObjectStore,
    engine: Engine,
    *,
    today: dt.date,
    policy: RetentionPolicy | None = None,
    floor_days: int | None = None,
) -> list[Record]:
    """Every record of every class and what becomes of it. Nothing is changed.

    Args:
        lake: Tables.
        objects: Objects.
        engine: Database with holds and audit trail.
        today: The day to judge by.
        policy: The platform's own by default.
        floor_days: DATA_RETENTION_DAYS; the lake's by default.

    Returns:
        Records by class, name and version. A record that is due twice over (hold, audit window) names the hold.
    """
    policy = policy or default_retention_policy()
    floor = lake.retention_days if floor_days is None else floor_days
    reached, holds = milestones(objects), active(engine)
    used = recently_used(engine, today - dt.timedelta(days=policy.audit_window_days))
    needed = {f"{r.table}@{r.version}" for r in _validated(lake, objects)}
    records = []
    for table in lake.tables():
        one = policy.class_of(table, table=True)
        for place, commit in enumerate(lake.versions(table)):
            if one is None or lake.disposed(table, commit["version"]):
                continue
            created = dt.datetime.fromisoformat(commit["at"]).date()
            due = due_day(one, created, reached, floor)
            name = f"{table}@{commit['version']}"
            kept = (one.newest and place == 0) or (one.newest and name in needed)
            state = _state(one, table, due, today, holds, kept=kept, used=name in used)
            records.append(Record(one.name, table, commit["version"], created, due, state))
    for key, created in _objects(objects):
        one = policy.class_of(key, table=False)
        if one is not None:
            due = due_day(one, created, reached, floor)
            state = _state(one, key, due, today, holds, kept=False, used=key in used)
            records.append(Record(one.name, key, None, created, due, state))
    return sorted(records, key=lambda r: (r.record_class, r.name, r.version if r.version is not None else -1))


def _state(
    one: RecordClass, name: str, due: dt.date | None, today: dt.date, holds: Iterable[Hold], *, kept: bool, used: bool
) -> State:
    if due is None or due > today or kept:
        return "kept"
    if any(hold.covers(one.name, name) for hold in holds):
        return "held"
    return "in use" if used else "due"


def _validated(lake: Lake, objects: ObjectStore) -> list[Any]:
    """Table versions that a validated manifest names."""
    datasets = sorted({key.split("/")[1] for key in objects.list("validated") if key.count("/") >= 2})
    return [ref for d in datasets for link in lake.manifests(d) for ref in link.snapshot.tables.values()]


def _objects(objects: ObjectStore) -> Iterable[tuple[str, dt.date]]:
    """Keys and the day they were written."""
    for key in objects.list(""):
        written = objects.written(key)
        if written is not None:
            yield key, written.date()


def recently_used(engine: Engine, since: dt.date) -> frozenset[str]:
    """Names ("table@version", keys) that the audit trail mentions since a day: read, written or sealed."""
    import json

    import sqlalchemy as sa

    from trialops.stores.database import reading
    from trialops.stores.tables import audit_events as table

    query = sa.select(table.c.object, table.c.detail).where(
        table.c.at >= since.isoformat(), table.c.action.like("data.%")
    )
    found: set[str] = set()
    with reading(engine) as connection:
        for row in connection.execute(query):
            found.add(row.object)
            tables = json.loads(row.detail).get("tables")
            found.update(map(str, tables.values()) if isinstance(tables, dict) else ())
    return frozenset(found)


def dispose(
    records: Iterable[Record], lake: Lake, objects: ObjectStore, engine: Engine, *, actor: str, run_id: str = ""
) -> list[Record]:
    """Dispose of the records that are due, each written to the audit trail before it goes.

    Holds are looked at again: one placed since the plan was made counts.

    Returns:
        What went.
    """
    from trialops.governance.audit import AuditTrail

    gone = []
    trail = AuditTrail(engine)
    for record in records:
        if record.state != "due" or any(h.covers(record.record_class, record.name) for h in active(engine)):
            continue
        trail.append(
            actor=actor,
            action="retention.dispose",
            object=record.name,
            version="" if record.version is None else str(record.version),
            reason=f"class {record.record_class}, due {record.due}",
            run_id=run_id,
        )
        if record.version is None:
            objects.delete(record.name)
        else:
            lake.dispose(record.name, record.version, {"reason": f"retention, due {record.due}", "actor": actor})
        gone.append(record)
    return gone
