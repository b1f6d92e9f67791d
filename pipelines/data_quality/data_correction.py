"""Corrections from sites: shown first, signed where data are locked, applied, and carried forward.

1. Read the delivery as it is, with the corrections applied so far, as far as informed consent covers it.
2. Check the correction file line by line; show what would change.
3. Decide: dry run, hold for a signature, or apply.
4. Apply: enter it in the register, make anew what depends on the subjects concerned, judge the quality again.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.intake import ingest_sdtm
from components.privacy import check_consent
from components.quality import apply_corrections, decide_corrections, propose_corrections

DATASET = "clean"
TRIAL = "TRIAL"


@dsl.pipeline(name="data-correction", display_name="Data correction")
def data_correction(source: str, corrections: str, apply: bool = False, dataset: str = DATASET) -> None:
    """Check, show, and apply a file of corrections.

    Args:
        source: Folder with the SDTM XPORT files that the corrections are about.
        corrections: CSV file of corrections, or a folder of them.
        apply: Apply what was accepted; without it the run is a dry run.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="data_correction").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        allowed = check_consent(raw=ingested.outputs["raw"], purpose=TRIAL).set_display_name("Consent")
        permitted = allowed.outputs["permitted"]
        proposed = propose_corrections(raw=permitted, corrections=corrections).set_display_name("Propose corrections")
        decided = decide_corrections(
            proposal=proposed.outputs["proposal"], apply=apply, dataset=dataset
        ).set_display_name("Decide")
        applied = apply_corrections(
            raw=permitted,
            proposal=proposed.outputs["proposal"],
            decision=decided.outputs["Output"],
            dataset=dataset,
        ).set_display_name("Apply corrections")
        # The file, the register, locks and signatures are state outside the run.
        for task, memory in (
            (ingested, "4Gi"),
            (allowed, "4Gi"),
            (proposed, "4Gi"),
            (decided, "1Gi"),
            (applied, "8Gi"),
        ):
            harden(task, memory=memory).set_caching_options(False)
