"""Adverse event monitoring: from a delivery to graded events, cases with running clocks, and reports handed over.

1. Ingest the delivery; nothing is read twice where nothing is new.
2. Grade results and events by CTCAE, and find what the results show and nobody has reported.
3. Keep the case register: seriousness from every criterion, expectedness, both causality assessments, the SUSAR
   decision for each authority, a new version where an event has changed, and the reporting clocks.
4. Compare the events under watch with their boundaries, arms together.
5. Screen spontaneous reports from outside the trial for disproportionality, where a file of them is given.
6. Hand over what a safety physician has released; read acknowledgements; count every released version once.

The pages show counts, and clocks by case id. Who a case is about, and the treatment of a subject, are for the commands
of `trialops safety` and the roles that may.
"""

from kfp import dsl, kubernetes

from components.alerts import notify
from components.base import SECRETS_NAME, SETTINGS_CONFIG_MAP, harden, with_role
from components.intake import ingest_sdtm
from components.safety import (
    assess_safety_cases,
    grade_adverse_events,
    hand_over_reports,
    screen_reports,
    screen_trial_events,
)

PURPOSE = "Hand-over of safety reports that a safety physician has released"
DESTINATION = "fda_ind_cder"
REPORTS_FORM = "rows"


@dsl.pipeline(name="adverse-event-monitoring", display_name="Adverse event monitoring")
def adverse_event_monitoring(
    source: str,
    study: str = "",
    as_of: str = "",
    purpose: str = PURPOSE,
    destination: str = DESTINATION,
    reports: str = "",
    reports_form: str = REPORTS_FORM,
) -> None:
    """Look at the adverse events of a delivery.

    Args:
        source: Folder of SDTM transport files, or with sdtm/ below it.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 time the clocks are read at; now by default. A run that looks back sends nothing.
        purpose: Why reports are handed over; it goes into the audit trail.
        destination: Where reports for FDA go, a name of destinations.yaml.
        reports: File or folder of spontaneous reports from outside the trial; none by default.
        reports_form: rows (CSV or Parquet: report, product, event) or faers (quarterly files).
    """
    closing = notify(pipeline="adverse_event_monitoring").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        harden(ingested, memory="4Gi").set_caching_options(False)
        # It keeps queries, and grades anew when the criteria have changed: it looks outside its inputs.
        graded = grade_adverse_events(raw=ingested.outputs["raw"], study=study, cut=as_of)
        harden(graded, memory="4Gi").set_caching_options(False).set_display_name("Grade adverse events")
        assessed = assess_safety_cases(raw=ingested.outputs["raw"], study=study, as_of=as_of)
        # The register, the queries and the clock are no inputs of the step.
        harden(assessed, memory="4Gi").set_caching_options(False).set_display_name("Assess cases")
        watched = screen_trial_events(raw=ingested.outputs["raw"], study=study, as_of=as_of)
        harden(watched, memory="4Gi").set_caching_options(False).set_display_name("Screen trial events")
        with dsl.If(reports != "", name="Spontaneous reports"):
            screened = screen_reports(source=reports, form=reports_form)
            harden(screened, memory="8Gi").set_caching_options(False).set_display_name("Screen reports")
        handed = hand_over_reports(study=study, purpose=purpose, destination=destination, as_of=as_of).after(assessed)
        with_role(harden(handed, memory="2Gi", retries=0)).set_caching_options(False).set_display_name(
            "Hand over reports"
        )
        kubernetes.use_secret_as_env(
            handed,
            secret_name=SECRETS_NAME,
            secret_key_to_env={"TRIALOPS_REGULATORY_TOKEN": "TRIALOPS_REGULATORY_TOKEN"},
            optional=True,
        )
        kubernetes.use_config_map_as_env(
            handed,
            config_map_name=SETTINGS_CONFIG_MAP,
            config_map_key_to_env={"TRIALOPS_REGULATORY_CA": "TRIALOPS_REGULATORY_CA"},
            optional=True,
        )
