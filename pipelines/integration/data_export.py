"""Data export: to a regulator, to a research database, or to a partner.

1. Admit the export: a role that may, and a purpose.
2. Submission: read the delivery, write transport files, define.xml, Dataset-JSON, guide and checksums to a folder.
3. Research database: load the newest OMOP tables into a database and compare what arrived.
4. Partner: share validated, de-identified tables under an agreement, as an encrypted package that can be revoked.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden, with_role
from components.intake import ingest_sdtm
from components.regulatory import admit_export, export_research_database, export_submission, share_with_partner

DATASET = "clean"
SUBMISSION, RESEARCH = "submission", "research"


def outward(task: dsl.PipelineTask, *, memory: str) -> None:
    """Harden a task that hands data out: it runs each time, once, under the role of its service account."""
    with_role(harden(task, memory=memory, retries=0)).set_caching_options(False)


@dsl.pipeline(name="data-export", display_name="Data export")
def data_export(
    what: str,
    purpose: str,
    source: str = "",
    target: str = "",
    agreement: str = "",
    stamp: str = "",
    study_metadata: str = "",
    schema: str = "",
    replace: bool = False,
    dataset: str = DATASET,
) -> None:
    """Export what is asked for.

    Args:
        what: submission, research or partner.
        purpose: Why, in a sentence; it goes into the audit trail.
        source: Submission: folder with the SDTM XPORT files.
        target: Folder of the submission, URL of the research database, or folder for a copy of the package.
        agreement: Partner: YAML file of the data-use agreement.
        stamp: Submission: time stamped into the documents; midnight UTC of today by default.
        study_metadata: Submission: YAML file with description, protocol and versions of the standards.
        schema: Research: schema for PostgreSQL and DuckDB.
        replace: Research: replace CDM tables that are there.
        dataset: Partner: chain of validated versions to share from.
    """
    closing = notify(pipeline="data_export").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        admitted = admit_export(what=what, purpose=purpose).set_display_name("Admit export")
        outward(admitted, memory="1Gi")
        with dsl.If(admitted.output == SUBMISSION, name="Submission"):
            ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
            harden(ingested, memory="4Gi").set_caching_options(False)
            submitted = export_submission(
                raw=ingested.outputs["raw"],
                quarantine=ingested.outputs["quarantine"],
                target=target,
                purpose=purpose,
                stamp=stamp,
                study_metadata=study_metadata,
            ).set_display_name("Export submission")
            outward(submitted, memory="8Gi")
        with dsl.Elif(admitted.output == RESEARCH, name="Research database"):
            loaded = export_research_database(
                target=target, purpose=purpose, schema=schema, replace=replace
            ).set_display_name("Export research database")
            outward(loaded, memory="8Gi")
        with dsl.Else(name="Partner"):
            shared = share_with_partner(
                agreement=agreement, purpose=purpose, dataset=dataset, target=target
            ).set_display_name("Share with partner")
            outward(shared, memory="8Gi")
