"""Assemble a training set: labels, point-in-time features, and the part each site plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step

SPLIT_SEED = 1
TRAIN, HELD_OUT = "train", "held out"


@dataclass(frozen=True)
class Assembly:
    """A training set and how it came about.

    Attributes:
        training: Training set with a ``split`` column: ``train`` or ``held out``.
        flow: Flow of subjects from screening to the training set.
        notes: What a reader should know of the split.
    """

    training: pl.DataFrame
    flow: pl.DataFrame
    notes: tuple[str, ...]


def assemble(tables: Mapping[str, pl.DataFrame], views: Mapping[str, pl.DataFrame], task: Task, run: Step) -> Assembly:
    """Build the training set of a task.

    Sites that were once held out stay held out, in this and every later run: the lake remembers them, so that
    a champion is never judged on subjects it has learnt from.
    """
    import polars as pl

    from trialops.features.labels import attrition, label
    from trialops.features.training_set import build

    run.progress("labelling", 0.1)
    labels = label(tables, task)
    run.progress("joining features as of the landmark", 0.3)
    frame = build(views, labels, task, run.workdir)
    held, notes = _held_out(frame, task, run)
    split = pl.when(pl.col("site_id").is_in(list(held))).then(pl.lit(HELD_OUT)).otherwise(pl.lit(TRAIN))
    return Assembly(frame.with_columns(split=split), attrition(labels), notes)


def _held_out(frame: pl.DataFrame, task: Task, run: Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
    import polars as pl

    from trialops.models.split import split_sites
    from trialops.stores.refs import TableRef

    table = f"splits/{task.name}"
    earlier: tuple[str, ...] = ()
    versions = run.lake.versions(table)
    if versions:
        newest = versions[0]
        ref = TableRef(table, newest["version"], newest["rows"], newest["digest"])
        earlier = tuple(run.lake.read(ref)["site_id"].to_list())
    if earlier and _still_serves(frame, earlier, task):
        return earlier, (f"{len(earlier)} sites stay held out from an earlier split.",)
    split = split_sites(frame, task, seed=SPLIT_SEED, keep=earlier)
    held = tuple(sorted({*earlier, *split.held_out_sites}))
    run.lake.write(table, pl.DataFrame({"site_id": held}), run_id=run.run_id, step=run.name)
    return held, split.notes


def _still_serves(frame: pl.DataFrame, held: tuple[str, ...], task: Task) -> bool:
    """Whether the earlier hold-out has both outcomes on both sides and a share near the wanted one."""
    import polars as pl

    inside = frame.filter(pl.col("site_id").is_in(list(held)))
    outside = frame.filter(~pl.col("site_id").is_in(list(held)))
    share = inside.height / frame.height if frame.height else 0.0
    both = inside["label"].n_unique() == 2 and outside["label"].n_unique() == 2
    return both and abs(share - task.split.hold_out_share) <= 2 * task.split.tolerance
