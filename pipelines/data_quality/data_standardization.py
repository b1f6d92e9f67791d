"""Standardization: one trial's FHIR and SDTM data in the OMOP Common Data Model, and back.

1. Ingest the SDTM delivery and, where there are any, FHIR resources; keep them encrypted, count everything.
2. De-identify them under the privacy mode in force: SDTM as far as informed consent covers it, FHIR of subjects whose
   FHIR Consent permits research.
3. Code conditions, tests, events and medications; what is not certain waits for a person.
4. Map to OMOP CDM 5.4 by concept domain; what has no concept is concept 0 and counted.
5. Turn the OMOP tables back into FHIR and check every resource.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import find_delivery, ingest_fhir, ingest_sdtm
from components.privacy import check_consent, deidentify, deidentify_fhir
from components.standards import code_terms, omop_to_fhir, standardize

TRIAL = "TRIAL"


@dsl.pipeline(name="data-standardization", display_name="Data standardization")
def data_standardization(source: str, fhir: str = "", vocabulary: str = "", dictionaries: str = "") -> None:
    """Bring SDTM and FHIR data into OMOP.

    Args:
        source: Folder with sdtm/ and, where there is FHIR, fhir/ below it; or with the SDTM XPORT files themselves.
        fhir: Folder with FHIR bundles or NDJSON files, or the base URL of a FHIR server; empty: fhir/ below the source
            where there is one, and the server at FHIR_ENDPOINT where that is set.
        vocabulary: Folder with an Athena vocabulary download; empty: every code is concept 0.
        dictionaries: Folder with LOINC, ICD-10-CM, MedDRA and WHODrug; empty: what was imported, or what ships.
    """
    closing = notify(pipeline="data_standardization").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        allowed = check_consent(raw=ingested.outputs["raw"], purpose=TRIAL).set_display_name("Consent")
        cleaned = deidentify(raw=allowed.outputs["permitted"]).set_display_name("De-identify SDTM")
        coded = code_terms(clean=cleaned.outputs["clean"], vocabulary=dictionaries).set_display_name("Code terms")
        resources = find_delivery(source=source, kind="fhir", server=fhir).set_display_name("Is there FHIR")
        # The folders may hold something new under the same name, consent is asked when data is read, and the queue,
        # the decisions and the vocabulary are state outside the run.
        for task in (ingested, allowed, coded, resources):
            task.set_caching_options(False)
        for task in (ingested, allowed, cleaned, coded):
            harden(task, memory="4Gi")
        harden(resources, memory="1Gi")
        with dsl.If(resources.output == "yes", name="FHIR was delivered"):
            received = ingest_fhir(source=source, server=fhir).set_display_name("Ingest FHIR")
            released = deidentify_fhir(raw=received.outputs["raw"]).set_display_name("De-identify FHIR")
            mapped = standardize(
                clean=cleaned.outputs["clean"],
                clean_fhir=released.outputs["clean"],
                coded=coded.outputs["coded"],
                vocabulary=vocabulary,
            ).set_display_name("Standardize")
            returned = omop_to_fhir(omop=mapped.outputs["omop"]).set_display_name("OMOP to FHIR")
            for task in (received, released, mapped):
                task.set_caching_options(False)
            harden(received, memory="4Gi")
            for task in (released, mapped, returned):
                harden(task, memory="8Gi")
        with dsl.Else(name="SDTM alone"):
            mapped = standardize(
                clean=cleaned.outputs["clean"], coded=coded.outputs["coded"], vocabulary=vocabulary
            ).set_display_name("Standardize")
            mapped.set_caching_options(False)
            returned = omop_to_fhir(omop=mapped.outputs["omop"]).set_display_name("OMOP to FHIR")
            for task in (mapped, returned):
                harden(task, memory="8Gi")
