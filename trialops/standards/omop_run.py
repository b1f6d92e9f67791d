"""OMOP tables in the lake: written as one load, and read back for the next one.

The tables of a load are versions that belong together. A chain of manifests names them, with what the load was made
with; a load that died half-way has no manifest, and the next one goes on from the last whole one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.standards import omop_cdm
from trialops.standards.transformer import Load, Transformed
from trialops.standards.vocabulary import Vocabulary, load, none
from trialops.stores.lake import IntegrityError

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.stores.refs import Snapshot

DATASET = "omop_load"
"""Name of the chain."""
BESIDE = ("provenance", "outcomes", "references", "index")
"""Frames of a load that are no tables of the CDM."""


def vocabulary_of(run: Step, folder: str) -> Vocabulary:
    """The vocabulary in a folder of Athena files; the built-in concepts when there is no folder."""
    if not folder:
        return none()
    return load(Path(folder), run.settings.home / "vocabularies", progress=run.progress)


def keep(run: Step, artifact: Artifact, result: Transformed) -> Snapshot:
    """Write a load's tables to the zone omop and add it to the chain."""
    made = result.made
    beside = {
        "provenance": made.provenance,
        "outcomes": made.outcomes,
        "references": made.references,
        "index": result.index,
    }
    snapshot = run.write(artifact, {**made.tables, **beside}, zone="omop")
    run.lake.mark_validated(
        DATASET,
        snapshot,
        {
            "mapping": omop_cdm.MAPPING,
            "privacy": run.settings.hipaa_compliance_mode,
            "vocabulary": made.vocabulary,
            "study_days": made.study_days,
            "read": dict(made.read),
            "ignored": dict(made.ignored),
        },
        run_id=run.run_id,
    )
    return snapshot


def tables_of(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The tables of the CDM among what :func:`keep` wrote."""
    return {name: frame for name, frame in frames.items() if name not in BESIDE}


def kept(run: Step, snapshot: Snapshot) -> omop_cdm.Cdm:
    """A load by its snapshot.

    Raises:
        IntegrityError: When the chain does not know it or a table is damaged.
    """
    for link in reversed(run.lake.manifests(DATASET)):
        if link.snapshot.digest == snapshot.digest:
            return _made({name: run.lake.read(ref) for name, ref in snapshot.tables.items()}, dict(link.evidence))
    raise IntegrityError(
        "These tables are not a load that standardize has kept",
        where=DATASET,
        fix="Connect the output of the standardize step.",
    )


def last(run: Step) -> Load | None:
    """The last whole load that a new one may go on from; None when there is none.

    It must have been made with the rules and under the privacy mode in force, and from FHIR alone.
    """
    link = run.lake.last_validated(DATASET)
    if link is None:
        return None
    evidence = dict(link.evidence)
    if evidence.get("mapping") != omop_cdm.MAPPING or evidence.get("privacy") != run.settings.hipaa_compliance_mode:
        return None
    frames = {name: run.lake.read(ref) for name, ref in link.snapshot.tables.items()}
    run.audit("data.read", "omop", link.snapshot.digest)
    return Load(_made(frames, evidence), frames["index"]) if frames["index"].height else None


def _made(frames: dict[str, pl.DataFrame], evidence: dict[str, Any]) -> omop_cdm.Cdm:
    return omop_cdm.Cdm(
        tables={name: frames[name] for name in omop_cdm.TABLES},
        provenance=frames["provenance"],
        outcomes=frames["outcomes"],
        read={kind: int(count) for kind, count in evidence["read"].items()},
        ignored=evidence["ignored"],
        study_days=bool(evidence["study_days"]),
        vocabulary=str(evidence["vocabulary"]),
        references=frames["references"],
    )
