"""Which backups are kept: the newest of so many days, weeks and months, the newest verified one, and what is held."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from trialops.operations.backup_archive import MANIFEST, ROOT, Backup, backups, last_check
from trialops.operations.database_policy import BackupPolicy
from trialops.privacy.holds import Hold, active

if TYPE_CHECKING:
    from trialops.stores.context import Step

CLASS = "database backups"


def kept(known: Sequence[Backup], verified: Iterable[str], policy: BackupPolicy, now: dt.datetime) -> dict[str, str]:
    """Id of every backup that is kept, to why.

    Args:
        known: Finished backups.
        verified: Ids of those whose last verification succeeded.
        policy: How many are kept.
        now: What days, weeks and months are counted back from.
    """
    good = set(verified)
    found: dict[str, str] = {}
    newest_first = sorted((b for b in known if b.started), key=lambda b: b.id, reverse=True)
    for label, number, key in (
        ("day", policy.days, lambda at: at.date().isoformat()),
        ("week", policy.weeks, lambda at: "{}-W{:02d}".format(*at.isocalendar())),
        ("month", policy.months, lambda at: f"{at:%Y-%m}"),
    ):
        # Of a period the newest verified backup, or the newest where none is.
        taken: dict[str, Backup] = {}
        for backup in [b for b in newest_first if b.id in good] + [b for b in newest_first if b.id not in good]:
            taken.setdefault(key(dt.datetime.fromisoformat(backup.started)), backup)
        for period in sorted(taken, reverse=True)[:number]:
            found.setdefault(taken[period].id, f"{label} {period}")
    last = next((b for b in newest_first if b.id in good), None)
    if last is not None:
        found[last.id] = "the newest verified"
    for backup in newest_first:
        if now - dt.datetime.fromisoformat(backup.started) < dt.timedelta(days=1):
            found.setdefault(backup.id, "younger than a day")
    return found


def held(backup: Backup, holds: Iterable[Hold]) -> bool:
    """Whether a legal hold keeps a backup. One on a subject keeps every backup: which hold them is not known."""
    return any(
        hold.covers(CLASS, f"{backup.prefix}/{MANIFEST}") or hold.object.startswith("subject/") for hold in holds
    )


def rotate(run: Step, database: str, policy: BackupPolicy, now: dt.datetime) -> tuple[list[str], dict[str, str]]:
    """Remove backups that the policy no longer keeps, and what was begun and never finished.

    The manifest goes first: what has none is no backup, and the next rotation finishes what this one could not.

    Returns:
        Ids removed, and ids kept with the reason.
    """
    known = backups(run.objects, database)
    verified = [b.id for b in known if (last_check(run.objects, b) or {}).get("outcome") == "verified"]
    reasons = kept(known, verified, policy, now)
    holds = active(run.engine)
    removed: list[str] = []
    for backup in known:
        if not backup.started:
            reasons[backup.id] = "its manifest cannot be read; somebody must look"
        elif backup.id not in reasons and held(backup, holds):
            reasons[backup.id] = "legal hold"
        elif backup.id not in reasons:
            run.audit("backup.dispose", backup.prefix, backup.manifest, reason="no longer kept by the backup policy")
            run.objects.delete(f"{backup.prefix}/{MANIFEST}")
            removed.append(backup.id)
    _sweep(run, database, policy, now)
    return removed, reasons


def _sweep(run: Step, database: str, policy: BackupPolicy, now: dt.datetime) -> None:
    """Objects of backups that have no manifest: removed ones at once, begun ones when nobody can be at work on them."""
    limit = now - dt.timedelta(hours=policy.unfinished_hours)
    there = list(run.objects.listing(f"{ROOT}/{database}"))
    whole = {key.split("/")[2] for key, _, _ in there if key.endswith(f"/{MANIFEST}")}
    for id_ in sorted({key.split("/")[2] for key, _, _ in there} - whole):
        own = [(key, written) for key, _, written in there if key.split("/")[2] == id_]
        if max(written for _, written in own) < limit or any("/checks/" in key for key, _ in own):
            for key, _ in own:
                run.objects.delete(key)
