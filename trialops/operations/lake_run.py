"""Upkeep of the lake as steps: compaction, removal, storage report; each proves that it changed nothing that stays."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.operations.health import Finding, alert_on
from trialops.operations.lake_compaction import Compaction, compact
from trialops.operations.lake_cost import Storage, storage
from trialops.operations.lake_layout import Layout, layouts
from trialops.operations.lake_policy import LakePolicy, default_lake_policy
from trialops.operations.lake_proof import Version, contents, differences
from trialops.operations.lake_references import References, collect
from trialops.operations.lake_retention import (
    Fate,
    Orphan,
    due_run_records,
    fates,
    old_work,
    orphans,
    remove_orphans,
    remove_versions,
    remove_work,
)
from trialops.stores.chain_log import IntegrityError

if TYPE_CHECKING:
    from trialops.stores.context import Step

RUNBOOK = "lake-maintenance"


@dataclass(frozen=True)
class Compacted:
    """What the compaction step found and did.

    Attributes:
        layouts: Every table before.
        done: What became of the tables that were to be compacted; empty where the plan was only shown.
        proof: Versions compared; 0 where nothing was done.
        damaged: Versions and tables that cannot be read, with the reason.
        decision: plan, nothing or identical.
    """

    layouts: tuple[Layout, ...]
    done: tuple[Compaction, ...]
    proof: int
    damaged: dict[str, str]
    decision: str


@dataclass(frozen=True)
class Removed:
    """What the removal step found and did.

    Attributes:
        fates: Every version of every table.
        references: What was found to refer to versions.
        orphans: Files that no version needs.
        records: Objects of runs that are due.
        work: Private folders of ended runs and their bytes.
        gone: Counts of what was removed; empty where the plan was only shown.
        proof: Versions compared.
        damaged: Versions that cannot be read, with the reason.
        left: Tables left alone, with the reason.
        decision: plan, nothing or identical.
    """

    fates: tuple[Fate, ...]
    references: References
    orphans: tuple[Orphan, ...]
    records: int
    work: tuple[tuple[str, int], ...]
    gone: dict[str, int]
    proof: int
    damaged: dict[str, str]
    left: dict[str, str]
    decision: str


def moment(as_of: str, *, apply: bool) -> dt.datetime:
    """The moment a step looks from, UTC.

    Raises:
        TrialOpsError: It is no ISO 8601 moment, or lies ahead while something may be removed.
    """
    now = dt.datetime.now(dt.UTC)
    if not as_of:
        return now
    try:
        at = dt.datetime.fromisoformat(as_of)
    except ValueError:
        raise TrialOpsError("The moment to look from is no date.", where="as_of", fix="Use ISO 8601.") from None
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    if at > now and apply:
        raise TrialOpsError(
            "Nothing can be removed as of a moment to come.", where="as_of", fix="Leave it empty, or apply nothing."
        )
    return at


def compact_lake(run: Step, *, apply: bool, policy: LakePolicy | None = None) -> Compacted:
    """Compact the tables for which it pays; every version is read before and after.

    Raises:
        IntegrityError: Something is not as it was.
    """
    policy = policy or default_lake_policy()
    found, damaged = layouts(run.lake, {table: policy.rule(table) for table in run.lake.tables()})
    todo = [one for one in found if one.action != "none"]
    run.metrics |= {"tables": len(found), "to_compact": len(todo), "small_files": sum(one.small for one in found)}
    if not apply or not todo:
        decision = "nothing" if not todo else "plan"
        run.decide(decision, numbers=dict(run.metrics), policy=_named(policy))
        _tell(run, damaged, [one.table for one in found])
        return Compacted(tuple(found), (), 0, damaged, decision)
    before, unread = _all(run, [one.table for one in todo])
    damaged |= unread | _problems(before)
    sound = [one for one in todo if not any(name.split("@")[0] == one.table for name in damaged)]
    done: list[Compaction] = []
    for place, one in enumerate(sound):
        run.progress(f"compacting {one.table}: {one.reason}", place / len(sound))
        made = compact(run.lake, one.table, policy.rule(one.table), run_id=run.run_id, attempts=policy.attempts)
        done.append(made)
        if made.version is not None:
            run.audit("lake.compact", one.table, str(made.version), of=made.of, files=list(made.files))
    after, _ = _all(run, [one.table for one in sound])
    wrong = differences(before, after, _must_stay(before, damaged)) + _same_rows(done, after)
    numbers = {
        **run.metrics,
        "versions_compared": len(_must_stay(before, damaged)),
        "compacted": sum(one.outcome == "done" for one in done),
        "busy": sum(one.outcome == "busy" for one in done),
        "files_before": sum(one.files[0] for one in done),
        "files_after": sum(one.files[1] for one in done),
    }
    _judge(run, wrong, numbers, policy, damaged, [one.table for one in found])
    return Compacted(tuple(found), tuple(done), len(_must_stay(before, damaged)), damaged, "identical")


def clean_lake(run: Step, *, apply: bool, as_of: str = "", policy: LakePolicy | None = None) -> Removed:
    """Remove what retention lets go and nothing refers to; every version that stays is read before and after.

    Raises:
        IntegrityError: Something is not as it was; nothing is removed when it is found before the removal.
    """
    from trialops.privacy.retention import dispose, plan

    policy = policy or default_lake_policy()
    now = moment(as_of, apply=apply)
    found = collect(run, policy)
    run.progress("judging every version", 0.8)
    records = plan(run.lake, run.objects, run.engine, today=now.date())
    commits = {table: run.lake.versions(table) for table in run.lake.tables()}
    judged = fates(records, commits, found)
    removable = [fate for fate in judged if fate.state == "removable"]
    loose, left = orphans(run.lake, policy, now)
    due = due_run_records(records, found)
    work = old_work(run, policy, now)
    run.metrics |= {
        **{f"versions_{state.replace(' ', '_')}": n for state, n in sorted(Counter(f.state for f in judged).items())},
        "orphans": len(loose),
        "run_records_due": len(due),
        "work_folders": len(work),
        "unclear": len(found.unclear),
    }
    shown = tuple((folder.name, size) for folder, size in work)
    if not apply or not (removable or loose or due or work):
        decision = "plan" if removable or loose or due or work else "nothing"
        run.decide(decision, numbers=dict(run.metrics), policy=_named(policy))
        return Removed(tuple(judged), found, tuple(loose), len(due), shown, {}, 0, {}, left, decision)
    before, damaged = _all(run, sorted(commits))
    damaged |= _problems(before)
    broken = {name.split("@")[0] for name in damaged}
    removable = [fate for fate in removable if fate.table not in broken]
    run.progress("removing", 0.0)
    gone = remove_versions(run, removable, policy=policy)
    files = remove_orphans(run, [file for file in loose if file.table not in broken])
    objects = dispose(due, run.lake, run.objects, run.engine, actor=run.settings.who, run_id=run.run_id)
    folders = remove_work(folder for folder, _ in work)
    went = {f"{fate.table}@{fate.version}" for fate in gone}
    after, _ = _all(run, sorted(commits))
    stay = [name for name in _must_stay(before, damaged) if name not in went]
    counted = {
        "versions": len(gone), "files": len(files), "run_records": len(objects), "work_folders": folders,
    }  # fmt: skip
    numbers = {**run.metrics, "versions_compared": len(stay), **{f"removed_{k}": v for k, v in counted.items()}}
    _judge(run, differences(before, after, stay), numbers, policy, damaged, sorted(commits))
    if gone or objects:
        _certify(run, gone, len(objects), policy, now)
    return Removed(tuple(judged), found, tuple(loose), len(due), shown, counted, len(stay), damaged, left, "identical")


def report_storage(run: Step, *, as_of: str = "", policy: LakePolicy | None = None) -> Storage:
    """Bytes and price of everything that is stored."""
    policy = policy or default_lake_policy()
    found = storage(run.lake, run.objects, policy, moment(as_of, apply=False), run.progress)
    run.metrics |= {
        "lake_bytes": sum(table.size for table in found.tables),
        "object_bytes": sum(size for size, _, _ in found.objects.values()),
        "price_per_month": round(found.price, 4),
    }
    return found


def document(result: Compacted | Removed) -> dict[str, Any]:
    """Plain form of a step's result."""
    if isinstance(result, Compacted):
        return {
            "decision": result.decision,
            "layouts": [
                {"table": o.table, "version": o.version, "files": len(o.files), "small": o.small, "bytes": o.size,
                 "action": o.action, "reason": o.reason}
                for o in result.layouts
            ],
            "compacted": [asdict(one) for one in result.done],
            "versions_compared": result.proof,
            "damaged": dict(sorted(result.damaged.items())),
        }  # fmt: skip
    return {
        "decision": result.decision,
        "versions": [
            {**asdict(fate), "due": str(fate.due) if fate.due else "", "why": list(fate.why)[:5]}
            for fate in result.fates
        ],
        "orphans": [{"table": o.table, "file": o.name, "bytes": o.size, "written": o.written.isoformat()}
                    for o in result.orphans],
        "unclear": result.references.unclear,
        "run_records": result.records,
        "work": [list(item) for item in result.work],
        "removed": result.gone,
        "versions_compared": result.proof,
        "damaged": dict(sorted(result.damaged.items())),
        "left": dict(sorted(result.left.items())),
    }  # fmt: skip


def _all(run: Step, tables: Sequence[str]) -> tuple[dict[str, Version], dict[str, str]]:
    """Every version of the tables; tables whose history cannot be told, with the reason."""
    found: dict[str, Version] = {}
    damaged: dict[str, str] = {}
    for table in tables:
        try:
            found |= contents(run.lake, [table], progress=run.progress)
        except TrialOpsError as error:
            damaged[table] = error.what
    return found, damaged


def _problems(found: Mapping[str, Version]) -> dict[str, str]:
    return {name: one.problem for name, one in found.items() if one.problem}


def _must_stay(before: Mapping[str, Version], damaged: Mapping[str, str]) -> list[str]:
    return [name for name in before if name not in damaged]


def _same_rows(done: Sequence[Compaction], after: Mapping[str, Version]) -> list[str]:
    """A compacted version holds the rows of the version it was made from, in whatever order."""
    wrong = []
    for one in done:
        if one.version is None:
            continue
        old, new = after.get(f"{one.table}@{one.of}"), after.get(f"{one.table}@{one.version}")
        if old is None or new is None or (old.rows, old.bag) != (new.rows, new.bag):
            wrong.append(f"{one.table}@{one.version} does not hold the rows of version {one.of}")
    return wrong


def _judge(
    run: Step,
    wrong: Sequence[str],
    numbers: Mapping[str, Any],
    policy: LakePolicy,
    damaged: Mapping[str, str],
    tables: Sequence[str],
) -> None:
    """Record the decision; what is not identical fails the step and is told at once."""
    run.metrics |= dict(numbers)
    if wrong:
        from trialops.alerts.raise_alert import Alert, raise_alert

        run.decide("different", numbers={**numbers, "different": len(wrong)}, policy=_named(policy))
        raise_alert(
            run,
            Alert("LakeNotIdentical", "critical", {"area": "data", "step": run.name},
                  f"{len(wrong)} versions of the lake are not as they were before its upkeep.", RUNBOOK),
        )  # fmt: skip
        raise IntegrityError(
            f"{len(wrong)} versions are not as they were: {'; '.join(wrong[:3])}",
            where=run.name,
            fix="Stop the pipeline's schedule; use the last validated versions; compare with the store's own backup.",
        )
    run.decide("identical", numbers=dict(numbers), policy=_named(policy))
    _tell(run, damaged, tables)


def _tell(run: Step, damaged: Mapping[str, str], tables: Sequence[str]) -> None:
    """An alert for each table with a version that cannot be read; it ends when all can be read again."""
    broken: dict[str, list[str]] = {}
    for name, problem in sorted(damaged.items()):
        broken.setdefault(name.split("@")[0], []).append(f"{name}: {problem}")
    findings = [
        Finding(
            f"lake table {table}",
            "versions readable",
            "broken" if table in broken else "healthy",
            f"{len(broken[table])} versions cannot be read" if table in broken else "every version was read",
            value=float(len(broken.get(table, ()))),
            threshold=0.0,
            fix="The table was left alone; read at the last validated version." if table in broken else "",
        )
        for table in sorted({*tables, *broken})
    ]
    alert_on(run, findings, name="LakeVersionDamaged", area="data", runbook=RUNBOOK)


def _certify(run: Step, gone: Sequence[Fate], objects: int, policy: LakePolicy, now: dt.datetime) -> None:
    """Sign what was removed, as retention does."""
    from trialops.privacy import certificate

    body = {
        "dry_run": False,
        "day": now.date().isoformat(),
        "records": [[f.record_class, f.table, f.version, str(f.due)] for f in gone],
        "run_objects": objects,
        "policy": policy.digest,
    }
    signed = certificate.issue("retention", body, vault=run.vault, objects=run.objects)
    run.audit("retention.certificate", "lake", signed["digest"], records=len(gone), public_key=signed["key"])


def _named(policy: LakePolicy) -> dict[str, str]:
    return {"version": policy.version, "digest": policy.digest}
