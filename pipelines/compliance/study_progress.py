"""Study progress: which sites ask for a look, how milestones stand, whether subjects stay.

1. Read the delivery.
2. Sites: key risk indicators with overdispersion, reporting of adverse events, lags; compared with the cut before.
3. Milestones against their baselines, enrolment, retention with its reasons; by arm for who may see it, sealed.
4. One page with what needs attention.
"""

from kfp import dsl, kubernetes

from components.alerts import notify
from components.base import SETTINGS_CONFIG_MAP, harden
from components.intake import ingest_sdtm
from components.trial import follow_progress, monitor_sites, show_progress


@dsl.pipeline(name="study-progress", display_name="Study progress")
def study_progress(source: str, study: str = "", as_of: str = "", purpose: str = "") -> None:
    """Follow the progress of a study.

    Args:
        source: Folder with the SDTM XPORT files.
        study: Study file; the demonstration trial's by default.
        as_of: ISO 8601 day or moment the trial is looked at; now by default.
        purpose: Why retention is compared by arm; empty: it is not.
    """
    closing = notify(pipeline="study_progress").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        harden(ingested, memory="4Gi").set_caching_options(False)
        watched = monitor_sites(raw=ingested.outputs["raw"], study=study, as_of=as_of)
        harden(watched.set_display_name("Monitor sites"), memory="4Gi").set_caching_options(False)
        followed = follow_progress(raw=ingested.outputs["raw"], study=study, as_of=as_of, purpose=purpose)
        harden(followed.set_display_name("Follow milestones and retention"), memory="4Gi").set_caching_options(False)
        kubernetes.use_config_map_as_env(
            followed,
            config_map_name=SETTINGS_CONFIG_MAP,
            config_map_key_to_env={"TRIALOPS_ROLE": "TRIALOPS_ROLE"},
            optional=True,
        )
        shown = show_progress(findings=watched.outputs["findings"], progress=followed.outputs["progress"])
        harden(shown.set_display_name("Show progress"), memory="1Gi")
