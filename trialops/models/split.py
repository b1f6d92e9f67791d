"""Hold-out and cross-validation by whole sites.

A model that has seen a site's other subjects is flattered on that site, so a site is never on both sides. That
holds over time too: a site once learnt from or once held out keeps that role for good (`roles`), so that any
earlier model can be compared with any later one on subjects neither has seen. Sites without a role are ordered
by a keyed hash of their id, and a prefix of that order joins the hold-out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.design_matrix import both_classes, labels, values
from trialops.models.record import plain

if TYPE_CHECKING:
    import numpy as np

    from trialops.models.task import SplitPlan, Task

ATTEMPTS = 500
#: Roles of a site, and of its subjects.
TRAIN, HELD_OUT = "train", "held out"


@dataclass(frozen=True)
class SiteSplit:
    """Which sites are held out.

    Attributes:
        seed: Seed of the order of sites.
        attempt: Which salt of that seed met the tolerance and the class rule.
        train_sites: Sites to learn from, sorted.
        held_out_sites: Sites to judge on, sorted.
        train_rows: Subjects to learn from.
        held_out_rows: Subjects to judge on.
        train_events: Events among them.
        held_out_events: Events among them.
        share: Held-out share of subjects.
        notes: What a reader should know.
    """

    seed: int
    attempt: int
    train_sites: tuple[str, ...]
    held_out_sites: tuple[str, ...]
    train_rows: int
    held_out_rows: int
    train_events: int
    held_out_events: int
    share: float
    notes: tuple[str, ...]

    def parts(self, frame: Any) -> tuple[Any, Any]:
        """Divide a frame.

        Args:
            frame: polars or pandas frame with `site_id`.

        Returns:
            Training part and held-out part, same type as the frame, rows in the same order.
        """
        import numpy as np

        held = np.isin(values(frame, "site_id").astype(str), self.held_out_sites)
        if hasattr(frame, "loc"):
            return frame.loc[~held].reset_index(drop=True), frame.loc[held].reset_index(drop=True)
        return frame.filter(~held), frame.filter(held)

    def as_dict(self) -> dict[str, Any]:
        """The split as JSON values."""
        return plain(self)


@dataclass(frozen=True)
class Folds:
    """Cross-validation folds.

    Attributes:
        fold: Fold number of each row, shape (n,).
        groups: Sites in each fold.
        notes: What a reader should know.
    """

    fold: np.ndarray
    groups: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1


def _rank(seed: int, attempt: int, site: str) -> str:
    return hashlib.sha256(f"{seed}/{attempt}/{site}".encode()).hexdigest()


def _site_table(frame: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sites (sorted), row counts, event counts and the row's site index; refuses what cannot be split."""
    import numpy as np

    y = labels(frame)
    both_classes(y, "training set, column label")
    sites = values(frame, "site_id")
    empty = int(sum(site is None or site != site for site in sites))
    if empty:
        raise TrialOpsError(
            f"{empty} subjects have no site.",
            where="training set, column site_id",
            fix="Complete DM.SITEID, or query it.",
        )
    subjects = values(frame, "subject_id")
    if len(np.unique(subjects.astype(str))) != len(subjects):
        raise TrialOpsError(
            f"{len(subjects) - len(np.unique(subjects.astype(str)))} rows repeat a subject.",
            where="training set, column subject_id",
            fix="Build the training set with one row per subject.",
        )
    names, index = np.unique(sites.astype(str), return_inverse=True)
    return names, np.bincount(index), np.bincount(index, weights=y).astype(int), index


def split_sites(frame: Any, task: Task, *, seed: int = 0, roles: Mapping[str, str] | None = None) -> SiteSplit:
    """Hold out whole sites.

    Args:
        frame: Training set, one row per subject: `subject_id`, `site_id`, `label`.
        task: Gives the wanted share and its tolerance.
        seed: Seed of the order of sites without a role. The result depends on seed, roles, site ids, counts and
            labels; never on row order.
        roles: Site -> `TRAIN` or `HELD_OUT` of sites that have played a part before. They keep it; the other
            sites are assigned so that the share comes near the wanted one.

    Returns:
        The split, with both classes on both sides.

    Raises:
        TrialOpsError: No rows, one class, fewer than two sites, or no division that respects the roles has both
        classes on both sides.
    """
    import numpy as np

    names, rows, events, _ = _site_table(frame)
    if len(names) < 2:
        raise TrialOpsError(
            f"The training set has {len(names)} site; a hold-out of whole sites needs two.",
            where="training set, column site_id",
            fix="Add sites, or wait until a second site has enrolled.",
        )
    plan, total = task.split, int(rows.sum())
    role = np.array([(roles or {}).get(str(name), "") for name in names])
    free = np.flatnonzero(role == "")
    best: tuple[float, int, np.ndarray] | None = None
    for attempt in range(ATTEMPTS if len(free) else 1):
        order = np.array(sorted(free, key=lambda i: _rank(seed, attempt, str(names[i]))), dtype=int)
        # Row k of the choices: the sites held out before, and the first k of those without a role.
        held_rows = rows[role == HELD_OUT].sum() + np.concatenate([[0], np.cumsum(rows[order])])
        held_events = events[role == HELD_OUT].sum() + np.concatenate([[0], np.cumsum(events[order])])
        feasible = _both(held_rows, held_events) & _both(total - held_rows, events.sum() - held_events)
        if not feasible.any():
            continue
        distance = np.where(feasible, np.abs(held_rows / total - plan.hold_out_share), np.inf)
        size = int(distance.argmin())
        if best is None or distance[size] < best[0]:
            best = (float(distance[size]), attempt, order[:size])
        if best[0] <= plan.tolerance:
            break
    if best is None:
        best = _smallest(rows, events, role, plan.hold_out_share)
    if best is None:
        fixed = f" {len(names) - len(free)} of them have a role from earlier runs." if len(free) < len(names) else ""
        raise TrialOpsError(
            f"No division of the {len(names)} sites leaves both outcomes on both sides "
            f"({int(events.sum())} events in {total} subjects).{fixed}",
            where="training set, columns site_id and label",
            fix="Wait for more outcomes or more sites.",
        )
    held = role == HELD_OUT
    held[best[2]] = True
    share = float(rows[held].sum() / total)
    return SiteSplit(
        seed=seed,
        attempt=best[1],
        train_sites=tuple(map(str, names[~held])),
        held_out_sites=tuple(map(str, names[held])),
        train_rows=int(rows[~held].sum()),
        held_out_rows=int(rows[held].sum()),
        train_events=int(events[~held].sum()),
        held_out_events=int(events[held].sum()),
        share=share,
        notes=_notes(share, plan, int((role == TRAIN).sum()), int((role == HELD_OUT).sum()), len(free)),
    )


def _both(rows: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Where both outcomes are present."""
    both: np.ndarray = (events > 0) & (events < rows)
    return both


def _smallest(
    rows: np.ndarray, events: np.ndarray, role: np.ndarray, wanted: float
) -> tuple[float, int, np.ndarray] | None:
    """The best hold-out that adds one or two sites to those held out before; None when no division can serve.

    A hold-out that serves needs at most one site for each outcome; without its other sites it still serves, and
    what remains to learn from only grows. So when no pair serves, nothing does.
    """
    import numpy as np

    free = np.flatnonzero(role == "")
    first, second = (free[k] for k in np.triu_indices(len(free)))
    twice = first == second
    held_rows = rows[role == HELD_OUT].sum() + rows[first] + np.where(twice, 0, rows[second])
    held_events = events[role == HELD_OUT].sum() + events[first] + np.where(twice, 0, events[second])
    feasible = _both(held_rows, held_events) & _both(rows.sum() - held_rows, events.sum() - held_events)
    if not feasible.any():
        return None
    distance = np.where(feasible, np.abs(held_rows / rows.sum() - wanted), np.inf)
    pick = int(distance.argmin())
    return float(distance[pick]), ATTEMPTS, np.unique([first[pick], second[pick]])


def _notes(share: float, plan: SplitPlan, trained: int, held: int, free: int) -> tuple[str, ...]:
    notes = []
    outside = abs(share - plan.hold_out_share) > plan.tolerance
    if outside:
        why = "sites keep their role from earlier runs" if trained or held else "sites are whole"
        notes.append(f"Held-out share {share:.3f} is outside {plan.hold_out_share:.2f} ± {plan.tolerance:.2f}: {why}.")
    if trained or held:
        notes.append(
            f"{held} sites stay held out and {trained} stay in training from earlier runs; {free} are new or had no "
            "subject in the set before."
        )
    return tuple(notes)


def site_folds(frame: Any, task: Task, *, seed: int = 0) -> Folds:
    """Group sites into cross-validation folds of about equal size, small sites pooled.

    The largest site goes first, each next one to the fold with the fewest subjects (longest-processing-time
    rule). The number of folds falls until every fold, and the rest of it, holds both outcomes. With a single
    site the folds divide its subjects instead, and a note says so.

    Args:
        frame: Training part, one row per subject: `subject_id`, `site_id`, `label`.
        task: Gives the number of folds.
        seed: Breaks ties between sites of equal size.

    Returns:
        The folds.

    Raises:
        TrialOpsError: No rows, one class, or too few events for two folds.
    """
    import numpy as np

    names, rows, _, index = _site_table(frame)
    y = labels(frame)
    notes: list[str] = []
    if len(names) > 1:
        order = sorted(range(len(names)), key=lambda i: (-rows[i], _rank(seed, 0, str(names[i]))))
        for count in range(min(task.split.folds, len(names)), 1, -1):
            load, fold_of = np.zeros(count, dtype=int), np.zeros(len(names), dtype=int)
            for site in order:
                target = int(load.argmin())
                fold_of[site] = target
                load[target] += rows[site]
            fold = fold_of[index]
            if _both_in_every_fold(fold, y, count):
                if count < task.split.folds:
                    notes.append(f"{count} folds instead of {task.split.folds}: every fold needs both outcomes.")
                groups = tuple(tuple(str(names[i]) for i in range(len(names)) if fold_of[i] == k) for k in range(count))
                return Folds(fold, groups, tuple(notes))
    notes.append(
        "Folds divide subjects, not sites: too few sites with both outcomes. Scores are optimistic for a new site."
    )
    subjects = values(frame, "subject_id").astype(str)
    ranked = np.array([int(_rank(seed, 0, subject)[:15], 16) for subject in subjects])
    for count in range(task.split.folds, 1, -1):
        fold = np.empty(len(y), dtype=int)
        for outcome in (0, 1):
            members = np.flatnonzero(y == outcome)
            fold[members[np.argsort(ranked[members], kind="stable")]] = np.arange(len(members)) % count
        if _both_in_every_fold(fold, y, count):
            return Folds(fold, tuple(tuple(map(str, names)) for _ in range(count)), tuple(notes))
    raise TrialOpsError(
        f"Too few outcomes for cross-validation: {int(y.sum())} events in {len(y)} subjects.",
        where="training part, column label",
        fix="Wait for more outcomes; two of each kind are the least.",
    )


def _both_in_every_fold(fold: np.ndarray, y: np.ndarray, count: int) -> bool:
    import numpy as np

    size, events = np.bincount(fold, minlength=count), np.bincount(fold, weights=y, minlength=count)
    return bool(((events > 0) & (events < size)).all())
