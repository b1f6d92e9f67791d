"""FHIR and SDTM to OMOP CDM 5.4, and OMOP back to FHIR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.standards import cdm_load, omop, omop_delta
from trialops.standards.fhir_source import read_fhir
from trialops.standards.omop_cdm import Cdm
from trialops.standards.omop_combine import combine, consent_days
from trialops.standards.omop_events import Codes
from trialops.standards.sdtm_source import read_sdtm
from trialops.standards.vocabulary import Vocabulary, none

if TYPE_CHECKING:
    import polars as pl

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Load:
    """A load that a later one can go on from: its tables, and the index of the resources they were made from."""

    made: Cdm
    index: pl.DataFrame


@dataclass(frozen=True)
class Transformed:
    """What a run made.

    Attributes:
        made: Tables, provenance, dispositions.
        index: Of the FHIR resources, for the next run; without rows when there were SDTM tables.
        incremental: Whether only the persons with changes were mapped.
        changed: FHIR resources that were new, changed or gone since the last load.
    """

    made: Cdm
    index: pl.DataFrame
    incremental: bool
    changed: int


class FHIRTransformerOperator:
    """Maps clinical data to OMOP.

    Args:
        vocabulary: From `vocabulary.load`; without one every code is concept 0.
        texts: Whether the text of documents has been de-identified and may become notes.
    """

    def __init__(self, vocabulary: Vocabulary | None = None, *, texts: bool = False) -> None:
        self._vocabulary = vocabulary or none()
        self._texts = texts

    def run(
        self,
        fhir: Mapping[str, pl.DataFrame] | None = None,
        sdtm: Mapping[str, pl.DataFrame] | None = None,
        *,
        terms: pl.DataFrame | None = None,
        previous: Load | None = None,
        progress: Progress | None = None,
    ) -> Transformed:
        """Map FHIR resources, SDTM tables, or both.

        Args:
            fhir: Resource type -> rows with id, subject, digest and json.
            sdtm: Clean tables by domain, with DM. With both, the SDTM tables are the record: what FHIR repeats is
                left out.
            terms: What medical coding settled for SDTM terms, see `sdtm_source.read_sdtm`.
            previous: The last load. Given FHIR alone, only persons with changes are mapped again.
            progress: Told what is done and how far.

        Raises:
            TrialOpsError: Without any input, or when the result breaks a rule of the CDM.
        """
        if not fhir and not sdtm:
            raise TrialOpsError(
                "There is nothing to standardize", where="standardize", fix="Give FHIR resources, SDTM tables, or both."
            )
        if fhir and not sdtm and previous is not None:
            changed = omop_delta.changes(previous.index, fhir)
            made = omop_delta.update(
                previous.made, previous.index, fhir, self._vocabulary, texts=self._texts, progress=progress
            )
            whole = changed.everybody or previous.made.vocabulary != self._vocabulary.digest
            result = Transformed(made, omop_delta.index(fhir), not whole, changed.resources)
        else:
            made = self._full(fhir or {}, sdtm or {}, terms, progress)
            index = omop_delta.index({} if sdtm else fhir or {})
            result = Transformed(made, index, False, index.height)
        _require_valid(result.made)
        return result

    def _full(
        self,
        fhir: Mapping[str, pl.DataFrame],
        sdtm: Mapping[str, pl.DataFrame],
        terms: pl.DataFrame | None,
        progress: Progress | None,
    ) -> Cdm:
        codes = Codes()
        resources = read_fhir(fhir, texts=self._texts, codes=codes, progress=progress) if fhir else None
        if not sdtm:
            assert resources is not None  # run() has checked that there is one of the two
            return omop.build(resources, self._vocabulary)
        if progress is not None:
            progress("reading SDTM tables", None)
        trial = read_sdtm(sdtm, terms, codes=codes)
        if resources is None:
            return omop.build(trial, self._vocabulary)
        strict = trial.has_study_days
        both = combine(resources, trial, consent_days(sdtm["DM"]), study_days=strict)
        return omop.build(both, self._vocabulary, study_days=strict)


def _require_valid(made: Cdm) -> None:
    """Stop when tables break the CDM's specification: such tables must not be used."""
    problems = cdm_load.violations(made.tables)
    if problems.height:
        first = problems.row(0, named=True)
        raise TrialOpsError(
            f"{int(problems['rows'].sum()):,} values break the specification of the CDM: {first['rule']}",
            where=f"{first['table']}.{first['field']}",
            fix="This is a defect of the mapping: report it with the table and the rule.",
        )
