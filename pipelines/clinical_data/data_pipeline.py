"""The data pipeline: the way new site data becomes usable.

1. Ingest the SDTM delivery; keep the files encrypted, count every row.
2. Let through what the informed consent to take part covers.
3. De-identify under the privacy mode in force.
4. Judge the quality; a delivery that fails is replaced by the last validated version.
5. Build the features, with the time at which each became known.
6. Where FHIR was delivered too: ingest it, and de-identify what the patients' FHIR Consents permit.
7. Standardize everything to OMOP CDM 5.4.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset

from components.alerts import notify
from components.base import harden
from components.features import build_features
from components.intake import find_delivery, ingest_fhir, ingest_sdtm
from components.privacy import check_consent, deidentify, deidentify_fhir
from components.quality import quality_gate
from components.standards import standardize

DATASET = "clean"
TRIAL = "TRIAL"
PURPOSE = "HRESCH"


class Prepared(NamedTuple):
    """What later steps start from."""

    validated: Dataset
    features: Dataset


@dsl.pipeline(name="prepare-data", display_name="Prepare data")
def prepare_data(source: str, dataset: str = DATASET) -> Prepared:
    """From files to features.

    Args:
        source: Folder with the SDTM XPORT files (or sdtm/ below it), corrections below corrections/<date>.
        dataset: Name under which validated versions are chained.
    """
    ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
    # The folder may hold something new under the same name: look every time. Its content decides what is reused.
    ingested.set_caching_options(False)
    allowed = check_consent(raw=ingested.outputs["raw"], purpose=TRIAL).set_display_name("Consent")
    # Consent holds on a day, and this is another day.
    allowed.set_caching_options(False)
    cleaned = deidentify(raw=allowed.outputs["permitted"]).set_display_name("De-identify")
    # Reads and extends the chain of validated versions, which no cache key sees.
    judged = quality_gate(clean=cleaned.outputs["clean"], dataset=dataset).set_display_name("Quality gate")
    judged.set_caching_options(False)
    built = build_features(validated=judged.outputs["validated"]).set_display_name("Build features")
    for task, memory in ((ingested, "4Gi"), (allowed, "4Gi"), (cleaned, "4Gi"), (judged, "4Gi"), (built, "8Gi")):
        harden(task, memory=memory)
    return Prepared(validated=judged.outputs["validated"], features=built.outputs["features"])


@dsl.pipeline(name="data-pipeline", display_name="Data pipeline")
def data_pipeline(source: str, dataset: str = DATASET, purpose: str = PURPOSE, vocabulary: str = "") -> None:
    """Intake, consent, de-identification, quality gate, features and standardization for one delivery.

    Args:
        source: Folder with sdtm/ and, where there is FHIR, fhir/ below it; or with the SDTM XPORT files themselves.
        dataset: Name under which validated versions are chained.
        purpose: What FHIR data will be used for, a v3-ActReason code; consent is checked for it, deny by default.
        vocabulary: Folder with an Athena vocabulary download; empty: every code is concept 0.
    """
    closing = notify(pipeline="data_pipeline").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = prepare_data(source=source, dataset=dataset).set_display_name("Prepare data")
        resources = find_delivery(source=source, kind="fhir", server="none").set_display_name("Is there FHIR")
        harden(resources, memory="1Gi").set_caching_options(False)
        with dsl.If(resources.output == "yes", name="FHIR was delivered"):
            received = ingest_fhir(source=source, server="none").set_display_name("Ingest FHIR")
            released = deidentify_fhir(raw=received.outputs["raw"], purpose=purpose).set_display_name(
                "De-identify FHIR"
            )
            both = standardize(
                clean=data.outputs["validated"], clean_fhir=released.outputs["clean"], vocabulary=vocabulary
            ).set_display_name("Standardize")
            for task in (received, released, both):
                harden(task, memory="8Gi").set_caching_options(False)
        with dsl.Else(name="SDTM alone"):
            alone = standardize(clean=data.outputs["validated"], vocabulary=vocabulary).set_display_name("Standardize")
            harden(alone, memory="8Gi").set_caching_options(False)
