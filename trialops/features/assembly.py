"""Assemble a training set: labels, point-in-time features, and the part each site plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.models.split import HELD_OUT, TRAIN

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step

__all__ = ["HELD_OUT", "TRAIN", "Assembly", "assemble"]


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


def assemble(
    tables: Mapping[str, pl.DataFrame], views: Mapping[str, pl.DataFrame], task: Task, run: Step, *, seed: int = 1
) -> Assembly:
    """Build the training set of a task.

    A site once held out stays held out and a site once learnt from stays in training, in this and every later run:
    the lake remembers both in ``splits/<task>``. So a champion is never judged on subjects it has learnt from, and
    can always be compared.

    Args:
        tables: Clean tables.
        views: Feature views.
        task: The task.
        run: The step, for the lake and a folder to work in.
        seed: Decides between sites that have no role yet.

    Raises:
        TrialOpsError: No subject's outcome is settled yet, or the sites cannot be divided.
    """
    import polars as pl

    from trialops.features.labels import WINDOW_OPEN, attrition, label
    from trialops.features.training_set import build

    run.progress("labelling", 0.1)
    labels = label(tables, task)
    flow = attrition(labels)
    if flow["subjects"][-1] == 0:
        waiting = int(flow.filter(pl.col("reason") == WINDOW_OPEN)["left"].sum())
        raise TrialOpsError(
            f"No subject can be learnt from yet: the outcome window of {waiting} subjects is still open.",
            where=f"task {task.name}",
            fix=f"Wait until subjects have been followed to day {task.settled_day}, or shorten the window of the task.",
        )
    run.progress("joining features as of the landmark", 0.3)
    frame = _with_cut_day(build(views, labels, task, run.workdir), tables["DM"])
    held, notes = _held_out(frame, task, run, seed)
    split = pl.when(pl.col("site_id").is_in(list(held))).then(pl.lit(HELD_OUT)).otherwise(pl.lit(TRAIN))
    return Assembly(frame.with_columns(split=split), flow, notes)


def _with_cut_day(frame: pl.DataFrame, dm: pl.DataFrame) -> pl.DataFrame:
    """Add the study day of the data cut: later for whoever enrolled earlier, the only order in time there is."""
    import polars as pl

    from trialops.features.labels import CUT
    from trialops.intake.domains import current_rows
    from trialops.models.temporal import CUT_DAY

    if CUT not in dm.columns:
        return frame.with_columns(pl.lit(None, pl.Int32).alias(CUT_DAY))
    known = current_rows("DM", dm).unique("USUBJID", keep="last", maintain_order=True)
    days = known.select(
        pl.col("USUBJID").cast(pl.String).alias("subject_id"), pl.col(CUT).cast(pl.Int32).alias(CUT_DAY)
    )
    return frame.join(days, on="subject_id", how="left", maintain_order="left")


def _held_out(frame: pl.DataFrame, task: Task, run: Step, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Held-out sites and notes; what the sites of this training set were given is remembered."""
    import polars as pl

    from trialops.models.split import split_sites

    table = f"splits/{task.name}"
    known = run.read_latest(table)
    roles: dict[str, str] = {} if known is None else dict(known.select("site_id", "role").iter_rows())
    split = split_sites(frame, task, seed=seed, roles=roles)
    # Sites without a subject in the set now keep their role: their subjects may come back.
    given = roles | dict.fromkeys(split.train_sites, TRAIN) | dict.fromkeys(split.held_out_sites, HELD_OUT)
    if given != roles:
        rows = pl.DataFrame(sorted(given.items()), schema={"site_id": pl.String, "role": pl.String}, orient="row")
        run.write_named(table, rows)
    return split.held_out_sites, split.notes
