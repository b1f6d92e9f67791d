"""Gradings are kept: encrypted tables, and a chain of them. The chain holds digests and no subject data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import ChainLog, Link

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.stores.objects import ObjectStore


def _log(objects: ObjectStore, study: str) -> ChainLog:
    return ChainLog(objects, f"safety/grading/{study}", "the gradings")


def keep(run: Step, artifact: Artifact, study: str, basis: Mapping[str, str]) -> None:
    """Add a grading that has been sealed to the chain, unless the newest was made from the same.

    Args:
        run: The step.
        artifact: What was sealed.
        study: STUDYID.
        basis: What it was made from: delivery, CTCAE version, policy, criteria.
    """

    def same(chain: Iterable[Link]) -> Link | None:
        last = next(reversed(list(chain)), None)
        return last if last is not None and last.body["basis"] == dict(basis) else None

    sealed = json.loads(Path(artifact.path).read_text("utf-8"))
    _log(run.objects, study).append({"basis": dict(basis), "sealed": sealed}, unless=same)


def newest(run: Step, study: str, *, reason: str) -> dict[str, pl.DataFrame]:
    """Tables of the newest grading; the caller has made sure that the role may.

    Raises:
        TrialOpsError: There is none.
    """
    from trialops.stores.sealed import unseal

    links = list(_log(run.objects, study).links())
    if not links:
        raise TrialOpsError(
            "Nothing has been graded yet",
            where=study or str(run.settings.home),
            fix="Run adverse_event_monitoring first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    sealed = links[-1].body["sealed"]
    run.audit("data.unseal", "grading", str(sealed["digest"]), reason=reason)
    return unseal(sealed, vault=run.vault, objects=run.objects)
