"""Adverse event monitoring: from a delivery to cases with running clocks.

1. Ingest the delivery; nothing is read twice where nothing is new.
2. Keep the case register: seriousness from every criterion, expectedness, both causality assessments, the SUSAR
   decision for each authority, a new version where an event has changed, and the reporting clocks.

The page shows clocks by case id. Who a case is about, and the treatment of a subject, are for the commands of
`trialops safety` and the roles that may.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_sdtm
from components.safety import assess_safety_cases


@dsl.pipeline(name="adverse-event-monitoring", display_name="Adverse event monitoring")
def adverse_event_monitoring(source: str, study: str = "", as_of: str = "") -> None:
    """Look at the adverse events of a delivery.

    Args:
        source: Folder of SDTM transport files, or with sdtm/ below it.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 time the clocks are read at; now by default.
    """
    closing = notify(pipeline="adverse_event_monitoring").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        harden(ingested, memory="4Gi").set_caching_options(False)
        assessed = assess_safety_cases(raw=ingested.outputs["raw"], study=study, as_of=as_of)
        # The register, the queries and the clock are no inputs of the step.
        harden(assessed, memory="4Gi").set_caching_options(False).set_display_name("Assess cases")
