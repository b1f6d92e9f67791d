"""What the two steps of the pipeline cohort_management do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.trial.cohorts.attrition import MEMBERS
from trialops.trial.cohorts.circe import read_expression
from trialops.trial.cohorts.concept_sets import tables_of
from trialops.trial.cohorts.describe import Described, describe, document
from trialops.trial.cohorts.evaluate import CdmTables
from trialops.trial.cohorts.load import read_load
from trialops.trial.cohorts.manage import Managed, manage
from trialops.trial.cohorts.page import SUPPRESSED, cohort_sections, description_section, overview_page

if TYPE_CHECKING:
    from trialops.pages import Page
    from trialops.stores.context import Artifact, Step


@dataclass(frozen=True)
class Evaluation:
    """Result of the first step: pages, and a document for the second."""

    managed: Managed
    page: Page
    summary: dict[str, Any]


def evaluate_step(
    run: Step,
    *,
    definitions: str,
    vocabulary: str,
    study: str,
    cdm: Artifact,
    cohorts: Artifact,
    changes: Artifact,
) -> Evaluation:
    """Evaluate the cohorts and write their members.

    Args:
        run: The step.
        definitions: Folder with definitions; empty: imported ones, else those that ship.
        vocabulary: Folder with an Athena download.
        study: Study file; it says whether outputs are blinded.
        cdm: Takes the name of the load.
        cohorts: Takes the tables cohort and cohort_definition.
        changes: Takes the sealed changes.
    """
    from trialops.trial.study_file import study_file

    blinded = study_file(study).blinded
    managed = manage(
        run,
        folder=definitions,
        vocabulary=vocabulary,
        blinded=blinded,
        cdm=cdm,
        cohorts=cohorts,
        changes=changes,
    )
    summary = {
        "blinded": blinded,
        "source": managed.source,
        "cohorts": {
            one.definition.name: {
                "id": one.definition.id,
                "title": one.definition.title,
                "compare": one.definition.compare,
                "version": one.version,
                "digest": one.definition.digest,
                "members": one.attrition.shown[MEMBERS],
                "since": one.difference.words,
            }
            for one in managed.cohorts
        },
    }
    for one in managed.cohorts:
        run.audit("cohort.evaluate", one.definition.name, one.definition.digest, version_number=one.version)
    return Evaluation(managed, overview_page(managed), summary)


def write_pages(managed: Managed, folder: Path) -> None:
    """One HTML page per cohort."""
    from trialops.pages import Page, Section, Text, render

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.html"):
        old.unlink()
    for one in managed.cohorts:
        sections = [*cohort_sections(one), Section("About the counts", [Text(SUPPRESSED, quiet=True)])]
        (folder / f"{one.definition.name}.html").write_text(render(Page(one.definition.title, sections)), "utf-8")


def describe_step(
    run: Step, *, cdm: Artifact, cohorts: Artifact, summary: Artifact, vocabulary: str
) -> tuple[list[Described], Page, dict[str, Any]]:
    """Table 1 of every cohort of the first step, over the same tables and definitions.

    Args:
        run: The step.
        cdm: The load.
        cohorts: The tables of the first step.
        summary: Its document.
        vocabulary: Folder with an Athena download.
    """
    import json

    from trialops.pages import Page, Section, Text
    from trialops.standards.omop_run import vocabulary_of

    told = run.read_json(summary)
    load = read_load(run, cdm, blinded=bool(told["blinded"]))
    kept = run.read(cohorts)["cohort_definition"]
    syntax = dict(kept.select("cohort_definition_name", "cohort_definition_syntax").iter_rows())
    words = vocabulary_of(run, vocabulary)
    tables = CdmTables(load.tables, study_days=load.study_days, vocabulary=tables_of(words))
    try:
        found = {name: tables.evaluate(read_expression(json.loads(text))) for name, text in sorted(syntax.items())}
        sizes = {name: told["cohorts"][name]["members"] for name in found}
        made = []
        for place, name in enumerate(found):
            run.progress(f"describing {name}", place / len(found))
            other = told["cohorts"][name]["compare"]
            made.append(describe(name, other if other in found else "", found, sizes, tables, load))
    finally:
        tables.close()
    persons = len(load.persons)
    sections = []
    for one in made:
        size = sizes[one.name]
        other = sizes.get(one.beside, persons - size if isinstance(size, int) else "")
        title = told["cohorts"][one.name]["title"]
        sections.append(description_section(title, one.beside, (str(size), str(other)), one.lines))
    page = Page("Characteristics of cohorts", [*sections, Section("About the counts", [Text(SUPPRESSED, quiet=True)])])
    return made, page, document(made)
