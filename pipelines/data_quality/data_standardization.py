"""Standardization: one trial's FHIR and SDTM data in the OMOP Common Data Model, and back.

1. Ingest the SDTM delivery and the FHIR resources; keep them encrypted, count everything.
2. De-identify both under the privacy mode in force: SDTM as far as informed consent covers it, FHIR of subjects whose
   FHIR Consent permits research.
3. Code conditions, tests, events and medications; what is not certain waits for a person.
4. Map to OMOP CDM 5.4 by concept domain; what has no concept is concept 0 and counted.
5. Turn the OMOP tables back into FHIR and check every resource.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_fhir, ingest_sdtm
from components.privacy import check_consent, deidentify, deidentify_fhir
from components.standards import code_terms, omop_to_fhir, standardize

TRIAL = "TRIAL"


@dsl.pipeline(name="data-standardization", display_name="Data standardization")
def data_standardization(source: str, fhir: str, vocabulary: str = "", dictionaries: str = "") -> None:
    """Bring SDTM and FHIR data into OMOP.

    Args:
        source: Folder with the SDTM XPORT files, corrections below corrections/<date>.
        fhir: Folder with FHIR bundles or NDJSON files, or the base URL of a FHIR server.
        vocabulary: Folder with an Athena vocabulary download; empty: every code is concept 0.
        dictionaries: Folder with LOINC, ICD-10-CM, MedDRA and WHODrug; empty: what was imported, or what ships.
    """
    closing = notify(pipeline="data_standardization").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        received = ingest_fhir(source=fhir).set_display_name("Ingest FHIR")
        allowed = check_consent(raw=ingested.outputs["raw"], purpose=TRIAL).set_display_name("Consent")
        cleaned = deidentify(raw=allowed.outputs["permitted"]).set_display_name("De-identify SDTM")
        released = deidentify_fhir(raw=received.outputs["raw"]).set_display_name("De-identify FHIR")
        coded = code_terms(clean=cleaned.outputs["clean"], vocabulary=dictionaries).set_display_name("Code terms")
        mapped = standardize(
            clean=cleaned.outputs["clean"],
            clean_fhir=released.outputs["clean"],
            coded=coded.outputs["coded"],
            vocabulary=vocabulary,
        ).set_display_name("Standardize")
        returned = omop_to_fhir(omop=mapped.outputs["omop"]).set_display_name("OMOP to FHIR")
        # The folders may hold something new under the same name, consent is asked when data is read, and the queue,
        # the decisions and the vocabulary are state outside the run.
        for task in (ingested, allowed, received, released, coded, mapped):
            task.set_caching_options(False)
        for task, memory in (
            (ingested, "4Gi"),
            (allowed, "4Gi"),
            (received, "4Gi"),
            (cleaned, "4Gi"),
            (released, "8Gi"),
            (coded, "4Gi"),
            (mapped, "8Gi"),
            (returned, "8Gi"),
        ):
            harden(task, memory=memory)
