"""Evaluations of eligibility and of enrolment are kept: encrypted tables, and a chain that says which came after which.

The chain holds no subject data: digests, counts of verdicts, and where the sealed tables lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.stores.chain_log import ChainLog, Link

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.stores.objects import ObjectStore

KINDS = ("eligibility", "enrolment")
"""Verdicts on subjects, and their stages with the counts by arm."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation as it is kept.

    Attributes:
        basis: What it was made from: delivery, criteria or study file, cut.
        sealed: The document that names the encrypted tables.
        counts: Subjects by verdict or by stage.
    """

    basis: Mapping[str, str]
    sealed: Mapping[str, Any]
    counts: Mapping[str, int]


def _log(objects: ObjectStore, kind: str, study: str) -> ChainLog:
    return ChainLog(objects, f"trial/{kind}/{study}", f"the evaluations of {kind}")


def evaluations(objects: ObjectStore, kind: str, study: str) -> list[Evaluation]:
    """All evaluations of a study, oldest first."""
    return [
        Evaluation(link.body["basis"], link.body["sealed"], link.body["counts"])
        for link in _log(objects, kind, study).links()
    ]


def earlier(run: Step, kind: str, study: str, basis: Mapping[str, str]) -> dict[str, pl.DataFrame]:
    """Tables of the evaluation before this one; empty where there is none.

    Where the newest was made from the same, it is this one: a repeated run compares with what the first compared with.
    """
    from trialops.stores.sealed import unseal

    known = evaluations(run.objects, kind, study)
    if known and dict(known[-1].basis) == dict(basis):
        known.pop()
    return unseal(known[-1].sealed, vault=run.vault, objects=run.objects) if known else {}


def keep(
    run: Step,
    artifact: Artifact,
    kind: str,
    study: str,
    tables: Mapping[str, pl.DataFrame],
    basis: Mapping[str, str],
    counts: Mapping[str, int],
) -> None:
    """Seal an evaluation and add it to the chain, unless the newest was made from the same."""
    import json
    from pathlib import Path

    run.seal(artifact, tables)
    sealed = json.loads(Path(artifact.path).read_text("utf-8"))

    def same(chain: Iterable[Link]) -> Link | None:
        last = next(reversed(list(chain)), None)
        return last if last is not None and last.body["basis"] == dict(basis) else None

    _log(run.objects, kind, study).append({"basis": dict(basis), "sealed": sealed, "counts": dict(counts)}, unless=same)


def newest(run: Step, kind: str, study: str) -> dict[str, pl.DataFrame]:
    """Tables of the newest evaluation.

    Raises:
        TrialOpsError: There is none.
    """
    from trialops.stores.sealed import unseal

    known = evaluations(run.objects, kind, study)
    if not known:
        raise TrialOpsError(
            f"There is no evaluation of {kind} yet",
            where=study or str(run.settings.home),
            fix="Run trial_enrollment first, or point TRIALOPS_HOME (or --home) at the right folder.",
        )
    return unseal(known[-1].sealed, vault=run.vault, objects=run.objects)
