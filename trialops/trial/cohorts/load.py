"""The OMOP tables that cohorts are evaluated over: the newest kept load, without what tells the treatment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.trial.cohorts.sql_criteria import STUDY_TREATMENT

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Artifact, Step
    from trialops.stores.refs import Snapshot

TREATMENT_SOURCES = ("EX", "MedicationAdministration")
"""Kinds of source rows that are exposures to the trial's own treatment."""
KEPT = ("drug_exposure_id", "person_id", "drug_exposure_start_date", "drug_exposure_end_date", "drug_type_concept_id")
"""Columns of such an exposure that a blinded reader may have, beside the visit; its concepts become 0."""
ERAS = ("drug_era", "dose_era")
CONCEPTS = ("drug_concept_id", "drug_source_concept_id")


@dataclass(frozen=True)
class Load:
    """A load of OMOP tables.

    Attributes:
        tables: By name; drug_exposure has the column study_treatment.
        study_days: Whether dates are study days.
        digest: SHA-256 of the load's content.
        names: Concept names by id.
        snapshot: The versions of its tables.
        eras_withheld: Whether drug eras were left out to keep the blinding.
    """

    tables: Mapping[str, pl.DataFrame]
    study_days: bool
    digest: str
    names: Mapping[int, str]
    snapshot: Snapshot
    eras_withheld: bool = False

    @property
    def persons(self) -> pl.Series:
        """person_id of everybody."""
        return self.tables["person"]["person_id"]


def read_load(run: Step, artifact: Artifact | None = None, *, blinded: bool) -> Load:
    """Read the newest load that standardization has kept, or the one that an earlier step has read.

    Args:
        run: The step.
        artifact: Names the load; None for the newest.
        blinded: Whether product, dose and route of the study treatment are taken out.

    Raises:
        TrialOpsError: There is no load, or the one named is not one.
    """
    from trialops.regulatory.research_database import newest_load
    from trialops.standards.omop_run import DATASET, tables_of

    if artifact is None:
        kept = newest_load(run)
        frames = run.read_snapshot(f"validated/{DATASET}", kept.snapshot)
    else:
        frames = run.read(artifact)
        wanted = run.reference(artifact).digest
        found = [link for link in run.lake.manifests(DATASET) if link.snapshot.digest == wanted]
        if not found:
            raise TrialOpsError(
                "These tables are not a load that standardization has kept",
                where=DATASET,
                fix="Connect the output of the step that evaluates the cohorts.",
            )
        kept = found[-1]
    tables = _marked(tables_of(frames), frames["provenance"], blinded=blinded)
    concepts = tables["concept"].select("concept_id", "concept_name")
    withheld = any(frames[name].height > tables[name].height for name in ERAS)
    named = dict(concepts.iter_rows())
    return Load(tables, bool(kept.evidence["study_days"]), kept.snapshot.digest, named, kept.snapshot, withheld)


def _marked(tables: Mapping[str, pl.DataFrame], origin: pl.DataFrame, *, blinded: bool) -> dict[str, pl.DataFrame]:
    """Mark exposures to the study treatment; blinded, leave of them that there was one and when.

    Eras are made of exposures by ingredient, and which of them the study treatment has made cannot be told from the
    eras. Where any exposure to study treatment has a concept, a blinded reader gets no drug and dose eras at all:
    leaving out those of the persons concerned would tell who they are. The page says so.
    """
    import polars as pl

    own = origin.filter(pl.col("table") == "drug_exposure", pl.col("kind").is_in(TREATMENT_SOURCES))["row_id"]
    exposures = tables["drug_exposure"].with_columns(
        pl.col("drug_exposure_id").is_in(own.implode()).alias(STUDY_TREATMENT)
    )
    made = dict(tables)
    if blinded:
        if exposures.filter(pl.col(STUDY_TREATMENT), pl.col("drug_concept_id") > 0).height:
            made |= {name: tables[name].clear() for name in ERAS}
        exposures = blind_exposures(exposures)
    return made | {"drug_exposure": exposures}


def blind_exposures(exposures: pl.DataFrame) -> pl.DataFrame:
    """Exposures with nothing but days, visit and type left of those to the study treatment."""
    import polars as pl

    columns = []
    for name, kind in exposures.schema.items():
        if name in KEPT or name in ("visit_occurrence_id", STUDY_TREATMENT):
            continue
        blank = pl.lit(0, kind) if name in CONCEPTS else pl.lit(None, kind)
        columns.append(pl.when(pl.col(STUDY_TREATMENT)).then(blank).otherwise(pl.col(name)).alias(name))
    return exposures.with_columns(columns)
