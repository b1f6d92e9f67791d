"""Regulatory reporting: the periodic reports to FDA, EMA, the monitoring board and the trial's own team.

1. Read the delivery, with the corrections applied to it.
2. Make the reports whose period has ended (or those asked for) from one data cut, as HTML and PDF/A, each table with
   data cut, source, program and population; register them encrypted and numbered. They are signed and filed by people.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden, with_role
from components.intake import ingest_sdtm
from components.regulatory import generate_reports

KINDS = "due"
AUDIENCE = "blinded"


@dsl.pipeline(name="regulatory-reporting", display_name="Regulatory reporting")
def regulatory_reporting(
    source: str,
    study: str = "",
    kinds: str = KINDS,
    audience: str = AUDIENCE,
    cut: str = "",
    as_of: str = "",
    stamp: str = "",
    purpose: str = "",
) -> None:
    """Make the reports that are due.

    Args:
        source: Folder of SDTM transport files.
        study: Study file; the demonstration trial's by default.
        kinds: Reports, comma-separated: due, all, or names.
        audience: blinded, or unblinded for the role that may and with a purpose.
        cut: Data cut; the end of the last period that the data reach by default.
        as_of: Day of the run; today (UTC) by default.
        stamp: Time stamped into the documents; midnight UTC of the day of the run by default.
        purpose: Why, for an unblinded report.
    """
    closing = notify(pipeline="regulatory_reporting").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        ingested = ingest_sdtm(source=source).set_display_name("Ingest SDTM")
        harden(ingested, memory="4Gi").set_caching_options(False)
        made = generate_reports(
            raw=ingested.outputs["raw"],
            study=study,
            kinds=kinds,
            audience=audience,
            cut=cut,
            as_of=as_of,
            stamp=stamp,
            purpose=purpose,
        ).set_display_name("Generate reports")
        with_role(harden(made, memory="8Gi")).set_caching_options(False)
