"""The data pipeline: the way new site data becomes usable.

1. Ingest the SDTM delivery; keep the files encrypted, count every row.
2. De-identify under the privacy mode in force.
3. Judge the quality; a delivery that fails is replaced by the last validated version.
4. Build the features, with the time at which each became known.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset

from components.alerts import notify
from components.base import harden
from components.features import build_features
from components.intake import ingest_sdtm
from components.privacy import deidentify
from components.quality import quality_gate

DATASET = "clean"


class Prepared(NamedTuple):
    """What later steps start from."""

    validated: Dataset
    features: Dataset


@dsl.pipeline(name="prepare-data", display_name="Prepare data")
def prepare_data(source: str, dataset: str = DATASET) -> Prepared:
    """From files to features.

    Args:
        source: Folder with the SDTM XPORT files, corrections below corrections/<date>.
        dataset: Name under which validated versions are chained.
    """
    ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
    # The folder may hold something new under the same name: look every time. Its content decides what is reused.
    ingested.set_caching_options(False)
    cleaned = deidentify(raw=ingested.outputs["raw"]).set_display_name("De-identify")
    # Reads and extends the chain of validated versions, which no cache key sees.
    judged = quality_gate(clean=cleaned.outputs["clean"], dataset=dataset).set_display_name("Quality gate")
    judged.set_caching_options(False)
    built = build_features(validated=judged.outputs["validated"]).set_display_name("Build features")
    for task, memory in ((ingested, "4Gi"), (cleaned, "4Gi"), (judged, "4Gi"), (built, "8Gi")):
        harden(task, memory=memory)
    return Prepared(validated=judged.outputs["validated"], features=built.outputs["features"])


@dsl.pipeline(name="data-pipeline", display_name="Data pipeline")
def data_pipeline(source: str, dataset: str = DATASET) -> None:
    """Intake, de-identification, quality gate and features for one delivery.

    Args:
        source: Folder with the SDTM XPORT files, corrections below corrections/<date>.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="data_pipeline").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        prepare_data(source=source, dataset=dataset).set_display_name("Prepare data")
