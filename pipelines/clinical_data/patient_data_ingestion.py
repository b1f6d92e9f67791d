"""Patient data ingestion: what sites, hospitals and laboratories send, made usable under consent.

1. Look which kinds of data the delivery holds: SDTM transport files, FHIR documents or a FHIR server, HL7 v2 messages.
2. SDTM: ingest; let through what the informed consent to take part covers; de-identify.
3. Laboratory messages: ingest, match to the subjects known by now; check consent; de-identify with their study days.
4. FHIR: ingest and merge with what is held; de-identify what the patients' FHIR Consents permit for the purpose.

Each intake counts every item (read = loaded + quarantined + ignored) and recognises what it has seen. A kind that was
not delivered is left out; laboratory messages that come alone wait, sealed, for the trial's data.
"""

from kfp import dsl, kubernetes

from components.alerts import notify
from components.base import SECRETS_NAME, SETTINGS_CONFIG_MAP, harden
from components.intake import find_delivery, ingest_fhir, ingest_hl7, ingest_sdtm
from components.privacy import check_consent, deidentify, deidentify_fhir, deidentify_labs

PURPOSE = "HRESCH"
TRIAL = "TRIAL"


def _outward(task: dsl.PipelineTask, *, memory: str, name: str) -> dsl.PipelineTask:
    """A step that looks at a folder, a server, the day or a register: it runs in every run."""
    return harden(task, memory=memory).set_caching_options(False).set_display_name(name)


@dsl.pipeline(name="patient-data-ingestion", display_name="Patient data ingestion")
def patient_data_ingestion(source: str, server: str = "", since: str = "", purpose: str = PURPOSE) -> None:
    """Take in one delivery of patient data.

    Args:
        source: Folder with sdtm/, fhir/ and hl7/ below it (any may be missing), or with the files of one kind.
        server: Base URL of a FHIR server to ask too; empty is FHIR_ENDPOINT where that is set; "none" is no server.
        since: FHIR instant to ask the server from; empty is where the last complete pull began, "all" is everything.
        purpose: What FHIR data will be used for, a v3-ActReason code; consent is checked for it, deny by default.
    """
    closing = notify(pipeline="patient_data_ingestion").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        files = _outward(find_delivery(source=source, kind="sdtm"), memory="1Gi", name="Is there SDTM")
        with dsl.If(files.output == "yes", name="SDTM was delivered"):
            ingested = _outward(ingest_sdtm(source=source), memory="4Gi", name="Ingest SDTM")
            allowed = _outward(
                check_consent(raw=ingested.outputs["raw"], purpose=TRIAL),
                memory="4Gi",
                name="Consent to the trial",
            )
            cleaned = deidentify(raw=allowed.outputs["permitted"]).set_display_name("De-identify SDTM")
            harden(cleaned, memory="4Gi")
            # Messages are matched to the subjects that the step before has written.
            labs = _outward(ingest_hl7(source=source).after(cleaned), memory="4Gi", name="Laboratory messages")
            _outward(
                deidentify_labs(trial=allowed.outputs["permitted"], labs=labs.outputs["raw"]),
                memory="4Gi",
                name="De-identify laboratory results",
            )
        with dsl.Else(name="SDTM was not delivered"):
            _outward(ingest_hl7(source=source), memory="4Gi", name="Laboratory messages alone")

        resources = _outward(
            find_delivery(source=source, kind="fhir", server=server), memory="1Gi", name="Is there FHIR"
        )
        with dsl.If(resources.output == "yes", name="FHIR was delivered"):
            asked = _outward(ingest_fhir(source=source, since=since, server=server), memory="8Gi", name="Ingest FHIR")
            kubernetes.use_secret_as_env(
                asked,
                secret_name=SECRETS_NAME,
                secret_key_to_env={"TRIALOPS_FHIR_TOKEN": "TRIALOPS_FHIR_TOKEN"},
                optional=True,
            )
            kubernetes.use_config_map_as_env(
                asked,
                config_map_name=SETTINGS_CONFIG_MAP,
                config_map_key_to_env={"TRIALOPS_FHIR_CA": "TRIALOPS_FHIR_CA"},
                optional=True,
            )
            # Consent and restrictions are asked at the moment of reading, in every run.
            _outward(deidentify_fhir(raw=asked.outputs["raw"], purpose=purpose), memory="8Gi", name="De-identify FHIR")
