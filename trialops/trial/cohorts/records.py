"""What earlier runs have kept of the cohorts: a chain of memberships, definitions and sealed standings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step
    from trialops.stores.lake import Manifest

DATASET = "cohorts"
"""Name of the chain of memberships."""
TABLES = ("cohort", "cohort_definition")
STANDING = "cohort_standing"
"""Table with a digest, by cohort, of where everybody stands: where that is as before, the run adds no version."""


@dataclass(frozen=True)
class Before:
    """The run before.

    Attributes:
        manifest: Its link in the chain.
        cohorts: Its membership table.
        definitions: Canonical JSON by cohort_definition_id.
    """

    manifest: Manifest
    cohorts: pl.DataFrame
    definitions: Mapping[int, str]

    def noted(self, name: str) -> Mapping[str, Any]:
        """What it noted of a cohort: digest and version; empty where it had none of that name."""
        found: Mapping[str, Any] = self.manifest.evidence["cohorts"].get(name, {})
        return found

    def standing(self, run: Step) -> pl.DataFrame | None:
        """Where everybody stood in each cohort; None where it can no longer be opened."""
        from trialops.stores.sealed import unseal

        sealed = self.manifest.evidence["sealed"]
        try:
            frames = unseal(sealed, vault=run.vault, objects=run.objects)
        except TrialOpsError:
            return None
        run.audit("data.unseal", "cohort standing", str(sealed["digest"]), reason="compare with the run before")
        return frames["standing"]


def last(run: Step) -> Before | None:
    """The newest memberships that still verify; None before the first run."""
    link = run.lake.last_validated(DATASET)
    if link is None:
        return None
    frames = {name: run.lake.read(link.snapshot.tables[name]) for name in TABLES}
    table = frames["cohort_definition"]
    syntax = dict(table.select("cohort_definition_id", "cohort_definition_syntax").iter_rows())
    return Before(link, frames["cohort"], syntax)


def standing_over_time(run: Step, links: Sequence[Manifest], name: str) -> pl.DataFrame:
    """Where each person stood in a cohort, whenever that changed: person_id, at, status, unmet; by person and time.

    Args:
        run: The step; who asks has been authorised.
        links: Runs that had the cohort, oldest first.
        name: The cohort.
    """
    import polars as pl

    parts = []
    for link in links:
        frame = Before(link, pl.DataFrame(), {}).standing(run)
        if frame is not None:
            mine = frame.filter(pl.col("cohort") == name)
            parts.append(mine.select("person_id", pl.lit(link.at[:19]).alias("at"), "status", "unmet"))
    whole = pl.concat(parts).sort("person_id", "at", maintain_order=True)
    same = pl.struct("status", "unmet") == pl.struct("status", "unmet").shift(1).over("person_id")
    return whole.filter(~same.fill_null(False))
