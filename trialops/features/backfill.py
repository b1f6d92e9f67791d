"""Build the history of the features anew, in blocks of subjects and windows of study days, resumably.

A block is computed from the rows known up to the end of the last window that is still to do; its rows are then cut into
windows. That a row depends on nothing later is what makes this equal to a build in one pass. A window of a block
is done when its mark is written, after its rows: whoever is killed in between does that window again and no other.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.features.versions import FeatureSet, feature_set, remember
from trialops.features.views import feature_views
from trialops.stores.refs import Snapshot, TableRef

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions
    from trialops.stores.context import Step

ROOT = "backfills"
#: Views of these entities depend on the rows of one subject alone, so they can be built in blocks.
IN_BLOCKS = ("subject", "subject_visit")


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        key: Prefix of the marks and parts of this backfill; the same data, version and plan give the same one.
        blocks: Subjects of each block.
        windows: First and last ordinal day of each window; they follow each other and hold every day there is.
    """

    key: str
    blocks: tuple[tuple[str, ...], ...]
    windows: tuple[tuple[int, int], ...]

    def mark(self, block: int, window: int) -> str:
        """Key of the mark of one window of one block."""
        return f"{self.key}/done/{block:05d}-{window:05d}.json"

    def part(self, view: str, block: int, window: int) -> str:
        """Key of the rows of one view."""
        return f"{self.key}/rows/{view}/{block:05d}-{window:05d}.arrow"


@dataclass(frozen=True)
class Backfill:
    """What a backfill left.

    Attributes:
        version: The feature set.
        snapshot: Tables of the version.
        views: The views, as they are in the tables.
        done: Windows computed by this call.
        found: Windows an earlier call had done.
        notes: Rows features could not use: table, what, rows.
    """

    version: FeatureSet
    snapshot: Snapshot
    views: dict[str, pl.DataFrame]
    done: int
    found: int
    notes: tuple[tuple[str, str, int], ...]


def plan(
    tables: Mapping[str, pl.DataFrame], version: FeatureSet, data: str, *, window_days: int, block_subjects: int
) -> Plan:
    """Divide the history.

    Args:
        tables: Clean tables.
        version: The feature set to build.
        data: Digest of the clean tables.
        window_days: Study days per window; windows begin at multiples of it, counted from day 1.
        block_subjects: Subjects per block.

    Raises:
        TrialOpsError: A size is not positive.
    """
    import polars as pl

    if window_days < 1 or block_subjects < 1:
        raise TrialOpsError(
            "A window has at least one day and a block at least one subject.",
            where="window_days, block_subjects",
            fix="Use 84 and 200, for example.",
        )
    subjects = pl.concat([f["USUBJID"].cast(pl.String).unique() for f in tables.values() if "USUBJID" in f.columns])
    ids = subjects.drop_nulls().unique().sort().to_list()
    blocks = tuple(tuple(ids[i : i + block_subjects]) for i in range(0, len(ids), block_subjects))
    low, high = _span(tables)
    span = range(low // window_days, high // window_days + 1)
    windows = tuple((w * window_days, (w + 1) * window_days - 1) for w in span)
    own = hashlib.sha256(f"{version.digest}/{data}/{window_days}/{block_subjects}".encode()).hexdigest()
    return Plan(f"{ROOT}/{version.name}/{own[:16]}", blocks, windows)


def backfill(
    tables: Mapping[str, pl.DataFrame],
    run: Step,
    data: str,
    *,
    definitions: Definitions | None = None,
    window_days: int = 84,
    block_subjects: int = 200,
) -> Backfill:
    """Build every view of the current feature set from all history, and write the tables of that version.

    Args:
        tables: Clean tables.
        run: The step: its objects hold marks and parts, its lake the tables.
        data: Digest of the clean tables: another state of the data is another backfill.
        definitions: Feature definitions; the shipped ones by default.
        window_days: Study days per window.
        block_subjects: Subjects per block.

    Returns:
        The tables, byte for byte those of a build in one pass.
    """
    from trialops.features.definition_file import load

    definitions = definitions or load()
    version = feature_set(definitions)
    remember(run.objects, version)
    todo = plan(tables, version, data, window_days=window_days, block_subjects=block_subjects)
    found = sum(run.objects.exists(todo.mark(b, w)) for b in range(len(todo.blocks)) for w in range(len(todo.windows)))
    done = 0
    for block in range(len(todo.blocks)):
        run.progress(f"block {block + 1} of {len(todo.blocks)}", 0.9 * block / len(todo.blocks))
        done += _block(tables, run, todo, block, definitions)
    run.progress("putting the windows together", 0.9)
    views = _together(run, todo, definitions)
    whole = feature_views(tables, definitions, entities=("site",))
    views |= {name: whole[name] for name in definitions.all_views if name in whole}
    views = {name: views[name] for name in definitions.all_views}
    refs: dict[str, TableRef] = {
        name: run.lake.write(version.table(name), frame, run_id=run.run_id, step=run.name)
        for name, frame in views.items()
    }
    notes = _notes(run, todo) | {(n.table, n.what): n.rows for n in whole.notes}
    _clear(run, todo)
    listed = tuple((table, what, rows) for (table, what), rows in sorted(notes.items()))
    return Backfill(version, Snapshot(refs), views, done, found, listed)


def _span(tables: Mapping[str, pl.DataFrame]) -> tuple[int, int]:
    """First and last ordinal day on which anything can have become known."""
    import polars as pl

    low, high = [0], [0]
    for frame in tables.values():
        days = [c for c, t in frame.schema.items() if t.is_numeric() and c.endswith("DY") and c != "VISITDY"]
        for column in days:
            day = study_time.ordinal(pl.col(column))
            first, last = frame.select(day.min().alias("first"), day.max().alias("last")).row(0)
            low.append(0 if first is None else first)
            # An end takes effect on the day after it.
            high.append(0 if last is None else last + 1)
    return min(low), max(high)


def _block(tables: Mapping[str, pl.DataFrame], run: Step, todo: Plan, block: int, definitions: Definitions) -> int:
    """Do the windows of one block that have no mark; returns how many."""
    import polars as pl

    waiting = [w for w in range(len(todo.windows)) if not run.objects.exists(todo.mark(block, w))]
    if not waiting:
        return 0
    until = todo.windows[waiting[-1]][1]
    own = {name: _known(frame, todo.blocks[block], definitions, name, until) for name, frame in tables.items()}
    views = feature_views(own, definitions, entities=IN_BLOCKS)
    # Rows that nobody can use are the same in every window; they are told with the last one.
    notes = [[n.table, n.what, n.rows] for n in views.notes]
    for window in waiting:
        first, last = (study_time.DAY_ONE + study_time.timedelta(days=d) for d in todo.windows[window])
        rows = 0
        for name, frame in views.items():
            part = frame.filter(pl.col("event_timestamp").is_between(first, last))
            rows += part.height
            run.objects.put(todo.part(name, block, window), _packed(part))
        mark = {"rows": rows, "notes": notes if window == len(todo.windows) - 1 else [], "run_id": run.run_id}
        run.objects.put(todo.mark(block, window), json.dumps(mark, sort_keys=True).encode())
    return len(waiting)


def _known(
    frame: pl.DataFrame, subjects: Sequence[str], definitions: Definitions, name: str, until: int
) -> pl.DataFrame:
    """Rows of some subjects that are known by a day; rows that never become known stay, to be counted."""
    import polars as pl

    if "USUBJID" not in frame.columns:
        return frame
    own = frame.filter(pl.col("USUBJID").is_in(list(subjects)))
    source = definitions.tables.get(name)
    if source is None or "KNOWNDY" not in frame.columns:
        return own
    days = [c for c in ("KNOWNDY", source.event) if c and c in frame.columns]
    late = pl.any_horizontal((study_time.ordinal(pl.col(c)) > until).fill_null(False) for c in days)
    return own.filter(~late)


def _packed(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def _together(run: Step, todo: Plan, definitions: Definitions) -> dict[str, pl.DataFrame]:
    import polars as pl

    views = {}
    for name, view in definitions.all_views.items():
        if view.entity not in IN_BLOCKS:
            continue
        parts = [
            pl.read_ipc(io.BytesIO(run.objects.get(todo.part(name, block, window))))
            for block in range(len(todo.blocks))
            for window in range(len(todo.windows))
        ]
        # Blocks hold subjects in order, windows days in order: sorting by key and day gives the order of one pass.
        views[name] = pl.concat(parts).sort(*view.join_keys, "event_timestamp", maintain_order=True)
    return views


def _notes(run: Step, todo: Plan) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    last = len(todo.windows) - 1
    for block in range(len(todo.blocks)):
        for table, what, rows in json.loads(run.objects.get(todo.mark(block, last)))["notes"]:
            found[(table, what)] = found.get((table, what), 0) + int(rows)
    return found


def _clear(run: Step, todo: Plan) -> None:
    """Remove the parts: the tables hold the rows now. The marks go last, so that a kill in between is harmless."""
    for kind in ("rows", "done"):
        for key in sorted(run.objects.list(f"{todo.key}/{kind}/")):
            run.objects.delete(key)
