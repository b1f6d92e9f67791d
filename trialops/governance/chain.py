"""Verification of the audit chain: one streamed pass, and a diagnosis of the first break.

How a break is read. `s` is the position where the pass stops:

* no record at `s` but later ones: `s` was deleted;
* the record at `s` does not have its own digest: its fields were altered, or it was written at another
  position `m`; for `m` before `s` the records from `m` on were inserted, for `m` behind `s` it was moved;
* the record at `s` has its own digest but does not follow `s - 1`: if its successor still follows it, then it
  is as written and `s - 1` was altered and given a new digest; otherwise `s` itself was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trialops.governance.audit import GENESIS, Anchor, Verification, _recomputed
from trialops.stores.database import reading

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Row

_YIELD = 2_000


def verify(
    engine: Engine, anchors: Sequence[Anchor], progress: Callable[[str, float], None] | None = None
) -> Verification:
    """Check the whole trail; see AuditTrail.verify."""
    import sqlalchemy as sa

    from trialops.stores.tables import audit_events as table

    expected = {anchor.seq: anchor.digest for anchor in anchors}
    wrong_anchor: int | None = 0 if expected.get(0, GENESIS) != GENESIS else None
    for one in anchors:
        if expected[one.seq] != one.digest and wrong_anchor is None:
            wrong_anchor = one.seq  # two anchors of one position that disagree
    with reading(engine) as connection:
        total = int(connection.execute(sa.select(sa.func.max(table.c.seq))).scalar() or 0)
        last, digest, anchored, checked = 0, GENESIS, 0, 0
        rows = connection.execution_options(yield_per=_YIELD).execute(sa.select(table).order_by(table.c.seq))
        for row in rows:
            if row.seq != last + 1 or row.previous != digest or _recomputed(row) != row.digest:
                rows.close()
                bad, problem = _diagnose(connection, row, last, digest, total)
                return Verification(False, min(checked, bad - 1), (last, digest), bad, problem, anchored)
            last, digest, checked = row.seq, row.digest, checked + 1
            if last in expected:
                anchored += 1
                if expected[last] != digest and wrong_anchor is None:
                    wrong_anchor = last
            if progress is not None and checked % _YIELD == 0:
                progress(f"{checked:,} audit records verified", checked / max(total, 1))
    head = (last, digest)
    if wrong_anchor is not None:
        sound = max((one.seq for one in anchors if 0 < one.seq < wrong_anchor), default=0)
        problem = (
            f"record {wrong_anchor} is not the one that was anchored: "
            f"records from {sound + 1} on were rewritten with new digests"
        )
        return Verification(False, sound, head, sound + 1, problem, anchored)
    cut = max(expected, default=0)
    if cut > last:
        problem = f"records {last + 1} to {cut} were cut off the end: the anchor was written at record {cut}"
        return Verification(False, checked, head, last + 1, problem, anchored)
    return Verification(True, checked, head, None, "", anchored + (0 in expected))


def _diagnose(connection: Connection, row: Row[Any], last: int, digest: str, total: int) -> tuple[int, str]:
    """The first record that is not as written, and what happened to it."""
    expected = last + 1
    if row.seq > expected:
        return expected, f"record {expected} was deleted: the next one found is {row.seq}"
    if row.seq < expected:
        return int(row.seq), f"record {row.seq} was inserted"
    if _recomputed(row) != row.digest:
        written = _written_at(row, total)
        if written is None:
            return expected, f"record {expected} was altered: its fields do not give its digest"
        if written < expected:
            there = _at(connection, written)
            if there is not None and there.digest == row.digest:
                return expected, f"record {expected} was overwritten with a copy of record {written}"
            return written, f"record {written} was inserted: the one written there now stands at {expected}"
        return (
            expected,
            f"record {expected} was moved or its predecessors removed: it was written as record {written}",
        )
    follower = _at(connection, expected + 1)
    if last == 0 or (follower is not None and follower.previous != row.digest):
        return (
            expected,
            f"record {expected} was altered and given a new digest: it does not follow record {last}",
        )
    return last, f"record {last} was altered and given a new digest: record {expected} does not follow it"


def _written_at(row: Row[Any], total: int) -> int | None:
    """The position a moved record was written at: the one that gives its digest."""
    for seq in range(1, total + 2):
        if seq != row.seq and _recomputed(row, seq) == row.digest:
            return seq
    return None


def _at(connection: Connection, seq: int) -> Row[Any] | None:
    import sqlalchemy as sa

    from trialops.stores.tables import audit_events as table

    return connection.execute(sa.select(table).where(table.c.seq == seq)).first()
