"""Data quality: every source judged in one score, with anomalies, and queries that live until they are settled.

1. Ingest the SDTM delivery; keep the files encrypted, count every row.
2. Let through what the informed consent to take part covers.
3. De-identify under the privacy mode in force.
4. Judge SDTM as received and clean, the newest FHIR and OMOP tables, and SDTM against FHIR; look for anomalies; open,
   re-open and close queries; decide the gate.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_sdtm
from components.privacy import check_consent, deidentify
from components.quality import validate_data

DATASET = "clean"
TRIAL = "TRIAL"


@dsl.pipeline(name="data-quality", display_name="Data quality")
def data_quality(source: str, mode: str = "report", dataset: str = DATASET) -> None:
    """Validate all sources, find anomalies, keep the queries.

    Args:
        source: Folder with the SDTM XPORT files, corrections below corrections/<date>.
        mode: What a failed gate does: report, block or fallback.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="data_quality").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        # The folder may hold something new under the same name: look every time. Its content decides what is reused.
        ingested.set_caching_options(False)
        allowed = check_consent(raw=ingested.outputs["raw"], purpose=TRIAL).set_display_name("Consent")
        allowed.set_caching_options(False)
        cleaned = deidentify(raw=allowed.outputs["permitted"]).set_display_name("De-identify")
        judged = validate_data(
            raw=allowed.outputs["permitted"], clean=cleaned.outputs["clean"], mode=mode, dataset=dataset
        ).set_display_name("Validate data")
        # The newest FHIR and OMOP tables and the queries are state outside the run.
        judged.set_caching_options(False)
        for task, memory in ((ingested, "4Gi"), (allowed, "4Gi"), (cleaned, "4Gi"), (judged, "8Gi")):
            harden(task, memory=memory)
