"""Trial enrolment: who may enter, how many have, and when the trial will be full.

1. Ingest the delivery; nothing is read twice where nothing is new.
2. Judge every subject on the criteria of entry, three-valued; compare with the sites' records and the time before.
3. Count the way through the trial (CONSORT), per site; forecast with interval against the plan; one page of counts.

Who they are, and counts by arm, are for `trialops trial eligibility` and `trialops trial consort`, and roles that may.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_sdtm
from components.trial import evaluate_eligibility, report_enrolment


@dsl.pipeline(name="trial-enrollment", display_name="Trial enrollment")
def trial_enrollment(source: str, study: str = "", as_of: str = "") -> None:
    """Follow the enrolment of a trial.

    Args:
        source: Folder with the SDTM XPORT files, or with sdtm/ below it.
        study: Study file with criteria, planned enrolment, sites; the demonstration trial's by default.
        as_of: ISO 8601 day or moment the trial is looked at; now by default.
    """
    closing = notify(pipeline="trial_enrollment").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        harden(ingested, memory="4Gi").set_caching_options(False)
        raw = ingested.outputs["raw"]
        # The study file, the day, the queries and the evaluation before are no inputs of these steps.
        judged = evaluate_eligibility(raw=raw, study=study, as_of=as_of).set_display_name("Evaluate eligibility")
        harden(judged, memory="4Gi").set_caching_options(False)
        reported = report_enrolment(raw=raw, judged=judged.outputs["judged"], study=study, as_of=as_of)
        harden(reported.set_display_name("Report enrolment"), memory="4Gi").set_caching_options(False)
