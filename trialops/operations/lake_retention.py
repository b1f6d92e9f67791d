"""What may go from the lake: versions, files that no version needs, run records and private folders."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError
from trialops.operations.lake_policy import LakePolicy
from trialops.operations.lake_references import References, named_by_holds, named_by_manifests, table_classes
from trialops.stores.chain_log import IntegrityError
from trialops.stores.objects import open_store

if TYPE_CHECKING:
    from trialops.privacy.retention import Record
    from trialops.stores.context import Step
    from trialops.stores.lake import Lake

State = Literal["newest", "kept", "held", "in use", "referenced", "removable"]
RUNS = "runs/"


@dataclass(frozen=True)
class Fate:
    """What becomes of one version.

    Attributes:
        table: Full name.
        version: Number.
        record_class: Class of records it belongs to.
        state: newest; kept (its period has not ended); held; in use (audit window); referenced; removable.
        due: Day from which its class lets it go; None where a milestone has not come.
        why: What refers to it.
    """

    table: str
    version: int
    record_class: str
    state: State
    due: dt.date | None
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Orphan:
    """A data file that no version needs: table, name, bytes, time of writing."""

    table: str
    name: str
    size: int
    written: dt.datetime


def fates(
    records: Iterable[Record], commits: Mapping[str, Sequence[Mapping[str, object]]], found: References
) -> list[Fate]:
    """What becomes of every version, from what retention says and what refers to it.

    Args:
        records: Of trialops.privacy.retention.plan; those of objects are passed over.
        commits: Table to its commits, newest first.
        found: Every reference.

    Returns:
        By table and version. Removable is only what is due by its class, not the newest, and named by nothing.
    """
    digests = {(t, int(str(c["version"]))): str(c["digest"]) for t, versions in commits.items() for c in versions}
    newest = {t: int(str(versions[0]["version"])) for t, versions in commits.items() if versions}
    result = []
    for record in records:
        if record.version is None:
            continue
        why = tuple(found.why(record.name, record.version, digests.get((record.name, record.version), "")))
        state: State
        if newest.get(record.name, record.version) == record.version:
            state = "newest"
        elif record.state != "due":
            state = record.state
        elif why or (record.name, record.version) not in digests:
            state = "referenced"
        else:
            state = "removable"
        result.append(Fate(record.name, record.version, record.record_class, state, record.due, why))
    return sorted(result, key=lambda fate: (fate.table, fate.version))


def due_run_records(records: Iterable[Record], found: References) -> list[Record]:
    """Records of runs that are due and are no evidence of anything kept."""
    return [
        r
        for r in records
        if r.version is None and r.name.startswith(RUNS) and r.state == "due" and not found.keeps_object(r.name)
    ]


def remove_versions(run: Step, removable: Sequence[Fate], *, policy: LakePolicy) -> list[Fate]:
    """Dispose of versions, each written to the audit trail before it goes.

    Holds, manifests and the audit trail are looked at again: what was placed, marked or used since the plan was made
    counts.

    Returns:
        What went.
    """
    from trialops.governance.audit import AuditTrail
    from trialops.privacy.holds import active
    from trialops.privacy.retention import default_retention_policy, recently_used

    window = default_retention_policy().audit_window_days
    gone: list[Fate] = []
    for table in sorted({fate.table for fate in removable}):
        since = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=window)
        used = recently_used(run.engine, since)
        late = References()
        named_by_holds(late, active(run.engine), table_classes())
        named_by_manifests(late, run.objects)
        newest = int(run.lake.versions(table)[0]["version"])
        digests = {int(c["version"]): c["digest"] for c in run.lake.versions(table)}
        going = [
            fate
            for fate in removable
            if fate.table == table
            and fate.version != newest
            and f"{table}@{fate.version}" not in used
            and not late.why(table, fate.version, digests[fate.version])
        ]
        for fate in going:
            AuditTrail(run.engine).append(
                actor=run.settings.who,
                action="retention.dispose",
                object=table,
                version=str(fate.version),
                reason=f"class {fate.record_class}, due {fate.due}, no reference",
                run_id=run.run_id,
                detail={"policy": policy.digest},
            )
        note = {"reason": "retention, no reference", "actor": run.settings.who, "policy": policy.digest}
        if going:
            run.lake.dispose_all(table, [fate.version for fate in going], note)
        gone += going
    return gone


def orphans(lake: Lake, policy: LakePolicy, now: dt.datetime) -> tuple[list[Orphan], dict[str, str]]:
    """Data files that no version needs and that are older than the policy says.

    The files are listed before the versions are opened: what is committed meanwhile is seen. Files in folders below a
    table are left alone, and so is a table one of whose versions cannot be opened.

    Returns:
        The files, and tables left alone with the reason.
    """
    store = open_store(lake.url)
    found: list[Orphan] = []
    left: dict[str, str] = {}
    limit = now - dt.timedelta(days=policy.orphan_days)
    for table in lake.tables():
        files = [
            Orphan(table, key.rsplit("/", 1)[-1], size, written)
            for key, size, written in store.listing(table)
            if key.rpartition("/")[0] == table and key.endswith(".parquet")
        ]
        try:
            needed = needed_files(lake, table)
        except TrialOpsError as error:
            left[table] = error.what
            continue
        found += [file for file in files if file.name not in needed and file.written < limit]
    return found, left


def needed_files(lake: Lake, table: str) -> set[str]:
    """Names of the data files of every version whose rows were not disposed of.

    Raises:
        IntegrityError: A version cannot be opened.
    """
    from urllib.parse import unquote

    return {
        unquote(uri).rsplit("/", 1)[-1]
        for commit in lake.versions(table)
        if not lake.disposed(table, int(commit["version"]))
        for uri in lake.opened(table, int(commit["version"])).file_uris()
    }


def remove_orphans(run: Step, files: Sequence[Orphan]) -> list[Orphan]:
    """Remove files that no version needs, having looked once more."""
    store = open_store(run.lake.url)
    gone: list[Orphan] = []
    for table in sorted({file.table for file in files}):
        try:
            needed = needed_files(run.lake, table)
        except IntegrityError:
            continue
        here = [file for file in files if file.table == table and file.name not in needed]
        for file in here:
            store.delete(f"{table}/{file.name}")
        if here:
            run.audit("lake.orphans", table, reason="files no version needs", files=len(here))
        gone += here
    return gone


def old_work(run: Step, policy: LakePolicy, now: dt.datetime) -> list[tuple[Path, int]]:
    """Private folders of runs that have ended and were not written to for so long, with their bytes."""
    from trialops.stores.run_log import runs

    root = run.settings.home.resolve() / "work"
    if not root.is_dir():
        return []
    running = {one.run_id for one in runs(run.engine, state="running", limit=10_000)} | {run.run_id}
    limit = (now - dt.timedelta(days=policy.work_days)).timestamp()
    found = []
    for folder in sorted(root.iterdir()):
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        last = max([folder.stat().st_mtime, *(path.stat().st_mtime for path in files)])
        if folder.is_dir() and folder.name not in running and last < limit:
            found.append((folder, sum(path.stat().st_size for path in files)))
    return found


def remove_work(folders: Iterable[Path]) -> int:
    """Remove private folders; returns how many."""
    number = 0
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        number += not folder.exists()
    return number
