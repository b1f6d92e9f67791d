"""One coding run: dictionaries, decisions remembered, the queue filled, the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.standards.coding import Coded, MedicalCodingOperator
from trialops.standards.coding_page import coding_page
from trialops.standards.coding_policy import policy
from trialops.standards.dictionaries import dictionary_folder, load_dictionaries
from trialops.standards.review import Item, ReviewQueue
from trialops.standards.standard_units import DOMAINS, standard_units
from trialops.stores.study import bound_study

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step


@dataclass(frozen=True)
class CodingRun:
    """What :func:`code_tables` made.

    Attributes:
        coded: Of the operator.
        units: Findings tables with standard results, by domain.
        waiting: This run's items that are not settled.
        page: For a person.
    """

    coded: Coded
    units: dict[str, pl.DataFrame]
    waiting: list[Item]
    page: Page


def code_tables(run: Step, tables: Mapping[str, pl.DataFrame], vocabulary: str = "") -> CodingRun:
    """Code a run's tables and put into the queue what needs a person.

    Args:
        run: The step; its database holds the queue.
        tables: By SDTM domain or FHIR resource type.
        vocabulary: Folder of dictionaries; empty for the imported ones.
    """
    folder = dictionary_folder(run.settings.home, vocabulary)
    run.progress("reading dictionaries", None)
    dictionaries = load_dictionaries(folder)
    study = bound_study(run.objects) or run.settings.study
    queue = ReviewQueue(run.engine, study)
    operator = MedicalCodingOperator(dictionaries, study=study, remembered=queue.decided())
    coded = operator.run(tables, progress=run.progress)
    new = queue.add(coded.waiting, run_id=run.run_id, reviewers=policy().reviewers)
    keys = {item.key(study) for item in coded.waiting}
    waiting = [item for item in queue.items() if item.item in keys]
    run.audit("coding.run", "coding queue", policy().digest, new=new, waiting=len(waiting), releases=coded.releases)
    units = {
        name.upper(): standard_units(frame, name.upper())
        for name, frame in tables.items()
        if name.upper() in DOMAINS and f"{name.upper()}ORRES" in frame.columns
    }
    return CodingRun(coded, units, waiting, coding_page(coded, units, queued=new))


def waiting_table(items: Sequence[Item]) -> pl.DataFrame:
    """Items of the queue as a table: key, what waits, why, the first candidate."""
    import polars as pl

    rows = [
        (
            item.item,
            item.kind,
            item.system,
            item.verbatim,
            item.state,
            item.reason,
            item.candidates[0].code if item.candidates else "",
            item.candidates[0].score if item.candidates else None,
            item.rows,
        )
        for item in items
    ]
    text = dict.fromkeys(("item", "kind", "system", "verbatim", "state", "reason", "first_code"), pl.String())
    schema = text | {"first_score": pl.Float64(), "rows": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("system", "verbatim", "item")
