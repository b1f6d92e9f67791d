"""Anchors of the audit trail: its head, written to the object store, so that records cut off the end are missed.

The embedded default keeps both in one home, which finds accidents. Against whoever administers the database, put the
objects into a bucket with a retention lock that this person cannot lift.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.governance.audit import Anchor, AuditTrail

if TYPE_CHECKING:
    from trialops.settings import Settings
    from trialops.stores.objects import ObjectStore

PREFIX = "audit/anchors"
LONGEST = timedelta(days=1)
"""How long a record may stand in the trail before an anchor covers it: a run ends with one, and so does a signature."""


def anchor_head(trail: AuditTrail, objects: ObjectStore) -> Anchor:
    """Write the trail's head to the object store; a head that is anchored already keeps its first anchor."""

    def put(key: str, body: bytes) -> None:
        objects.put(key, body, if_absent=True)

    return trail.anchor(put)


def stored_anchors(objects: ObjectStore) -> list[Anchor]:
    """All anchors, by position.

    Raises:
        TrialOpsError: An object among them is not an anchor.
    """
    return [Anchor.from_json(objects.get(key)) for key in objects.list(PREFIX)]


def anchors_of(settings: Settings) -> list[Anchor]:
    """All anchors of an installation, which need not exist yet and is not made by looking."""
    from trialops.stores.objects import open_store

    place = settings.objects
    if "://" not in place and not Path(place).exists():
        return []
    return stored_anchors(open_store(place))


def unanchored(trail: AuditTrail, anchors: Sequence[Anchor], now: datetime | None = None) -> str:
    """What the anchors leave unprotected, in one sentence; empty where that is nothing or recent.

    Args:
        trail: The trail.
        anchors: All its anchors.
        now: Instead of the time now, UTC.
    """
    last = max((anchor.seq for anchor in anchors), default=0)
    first = next(iter(trail.events(after=last, limit=1)), None)
    if first is None:
        return ""
    count = trail.head()[0] - last
    if not anchors:
        return f"no anchors: none of {count} records would be missed if they were cut off the end"
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(first.at)
    if age <= LONGEST:
        return ""
    return f"the newest anchor is old: {count} records behind it, the first {age.days} days ago, have none"
