"""Training sets made anew after the features changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step


def rebuild(
    tables: Mapping[str, pl.DataFrame], views: Mapping[str, pl.DataFrame], run: Step, *, seed: int = 1
) -> list[tuple[str, int, int, str]]:
    """Build and write the training set of every shipped task whose features are there.

    A task without a settled outcome has no training set yet; one that names a feature no longer defined keeps the one
    it has. Both are said, neither stops the others.

    Args:
        tables: Clean tables.
        views: Feature views of one version.
        run: The step.
        seed: Decides between sites without a part.

    Returns:
        Task, subjects, features, and what was done, by task.
    """
    from trialops.features.assembly import assemble
    from trialops.models.task import TASKS, load_task

    made: list[tuple[str, int, int, str]] = []
    names = sorted(path.stem for path in TASKS.glob("*.yaml"))
    for number, name in enumerate(names):
        run.progress(name, number / len(names))
        task = load_task(name)
        try:
            assembled = assemble(tables, views, task, run, seed=seed)
        except TrialOpsError as error:
            made.append((name, 0, len(task.features), f"not made: {error.what}"))
            continue
        ref = run.write_named(f"training/{name}", assembled.training)
        made.append((name, assembled.training.height, len(task.features), f"training/{name}@{ref.version}"))
    return made
