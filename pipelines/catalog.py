"""The one list of pipelines. Compiling, the CLI, recurring runs, event triggers, docs and tests read it."""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from trialops.errors import TrialOpsError


@dataclass(frozen=True)
class Entry:
    """One pipeline of the catalogue.

    Attributes:
        name: Name of the pipeline, its module and its function; the KFP name has dashes.
        title: What a person calls it.
        category: Folder below ``pipelines/``.
        module: Importable module that holds the pipeline function.
        schedule: Five-field cron expression in UTC, or None.
        triggers: Events that start it, in words.
        owner: Role that answers for it.
        alert_policy: Name of the routing policy used when it fails.
        needs: Settings or connections without which it cannot do its work.
        caching: Whether unchanged steps may be reused by a later run.
        parameters: What each parameter means, by name.
        arguments: Values a recurring run starts with, by name, where a parameter has no default.
    """

    name: str
    title: str
    category: str
    module: str
    schedule: str | None
    triggers: tuple[str, ...]
    owner: str
    alert_policy: str
    needs: tuple[str, ...] = ()
    caching: bool = True
    parameters: tuple[tuple[str, str], ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()

    @property
    def kfp_name(self) -> str:
        """Name of the pipeline in KFP."""
        return self.name.replace("_", "-")


INCOMING = "/data/incoming/sdtm"
"""Where the cluster mounts what sites have delivered."""
INCOMING_EXTERNAL = "/data/incoming/external"
"""Where it mounts what laboratories, imaging sites and sequencing centres deliver."""
DELIVERIES = "/data/incoming"
"""Where deliveries with a folder for each kind lie."""

CATALOG: tuple[Entry, ...] = (
    Entry(
        name="alerting",
        title="Alerting",
        category="alerting",
        module="pipelines.alerting.alerting",
        schedule="* * * * *",
        triggers=("alert raised",),
        owner="SRE",
        alert_policy="alerting",
        parameters=(
            ("study", "Study file, for the reporting clocks; empty: the demonstration trial's."),
            ("as_of", "ISO 8601 time of the pass; empty is now. Not before what the register of alerts knows."),
        ),
    ),
    Entry(
        name="notification",
        title="Notification",
        category="alerting",
        module="pipelines.alerting.notification",
        schedule="* * * * *",
        triggers=("message queued",),
        owner="SRE",
        alert_policy="alerting",
        parameters=(("as_of", "ISO 8601 time of the pass; empty is now. Not before what the register knows."),),
    ),
    Entry(
        name="adverse_event_monitoring",
        title="Adverse event monitoring",
        category="clinical_data",
        module="pipelines.clinical_data.adverse_event_monitoring",
        schedule="*/15 * * * *",
        triggers=("new adverse event",),
        owner="safety physician",
        alert_policy="safety",
        parameters=(
            ("source", "Folder of SDTM transport files, or with sdtm/ below it."),
            ("study", "Study file: products, reference safety information, authorities, time zone of the safety desk."),
            ("as_of", "ISO 8601 time the clocks are read at; empty is now. A run that looks back sends nothing."),
            ("purpose", "Why reports are handed over; it goes into the audit trail."),
            ("destination", "Where reports for FDA go, a name of destinations.yaml."),
            ("reports", "File or folder of spontaneous reports from outside the trial; none by default."),
            ("reports_form", "rows (CSV or Parquet: report, product, event) or faers (quarterly files)."),
        ),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="data_pipeline",
        title="Clinical data pipeline",
        category="clinical_data",
        module="pipelines.clinical_data.data_pipeline",
        schedule="0 */6 * * *",
        triggers=(),
        owner="data engineer",
        alert_policy="data",
        parameters=(
            ("source", "Folder with sdtm/ and, where there is FHIR, fhir/ below it."),
            ("purpose", "Purpose of use that the patients' FHIR Consents are asked for."),
            ("vocabulary", "Folder of an Athena vocabulary download; empty: every code is concept 0."),
        ),
        arguments=(("source", DELIVERIES),),
    ),
    Entry(
        name="patient_data_ingestion",
        title="Patient data ingestion",
        category="clinical_data",
        module="pipelines.clinical_data.patient_data_ingestion",
        schedule="0 * * * *",
        triggers=("new file",),
        owner="data engineer",
        alert_policy="data",
        parameters=(
            ("source", "Folder with sdtm/, fhir/ and hl7/ below it; any may be missing."),
            ("server", "Base URL of a FHIR server to ask too; empty is FHIR_ENDPOINT, none is no server."),
            ("since", "FHIR instant to ask the server from; empty is where the last complete pull began."),
            ("purpose", "Purpose of use that the patients' FHIR Consents are asked for."),
        ),
        arguments=(("source", DELIVERIES),),
    ),
    Entry(
        name="trial_enrollment",
        title="Trial enrollment",
        category="clinical_data",
        module="pipelines.clinical_data.trial_enrollment",
        schedule="0 6 * * *",
        triggers=(),
        owner="clinical operations",
        alert_policy="data",
        parameters=(
            ("source", "Folder of SDTM transport files, or with sdtm/ below it."),
            ("study", "Study file: criteria, planned enrolment, sites, milestones; empty: the demonstration's."),
            ("as_of", "ISO 8601 day or moment the trial is looked at; empty is now. Later entries are left out."),
        ),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="cohort_management",
        title="Cohort management",
        category="compliance",
        module="pipelines.compliance.cohort_management",
        schedule="30 4 * * *",
        triggers=(),
        owner="data manager",
        alert_policy="data",
        parameters=(
            ("definitions", "Folder with cohort definitions, ATLAS JSON or YAML; empty: what was imported or ships."),
            ("vocabulary", "Folder of an Athena vocabulary download; empty: descendants are not looked up."),
            ("study", "Study file; it says whether outputs are blinded."),
        ),
    ),
    Entry(
        name="regulatory_reporting",
        title="Regulatory reporting",
        category="compliance",
        module="pipelines.compliance.regulatory_reporting",
        schedule="0 5 1 * *",
        triggers=("on demand",),
        owner="regulatory affairs",
        alert_policy="compliance",
        parameters=(
            ("source", "Folder of SDTM transport files."),
            ("study", "Study file; the demonstration trial's by default."),
            ("kinds", "Reports, comma-separated: due (those whose period ended last month), all, or names."),
            ("audience", "blinded, or unblinded for the role that may and with a purpose."),
            ("cut", "Data cut; the end of the last period that the data reach by default."),
            ("as_of", "Day of the run; today (UTC) by default."),
            ("stamp", "Time stamped into the documents; midnight UTC of the day of the run by default."),
            ("purpose", "Why, for an unblinded report."),
        ),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="study_progress",
        title="Study progress",
        category="compliance",
        module="pipelines.compliance.study_progress",
        schedule="0 5 * * 1",
        triggers=(),
        owner="clinical operations",
        alert_policy="trial",
        parameters=(
            ("source", "Folder of SDTM transport files, one per domain."),
            ("study", "YAML file of the study; empty: the demonstration trial's."),
            ("as_of", "ISO 8601 day or moment the trial is looked at; empty: now."),
            ("purpose", "Why retention is compared by arm, for a role that may see the arms; empty: it is not."),
        ),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="data_correction",
        title="Data correction",
        category="data_quality",
        module="pipelines.data_quality.data_correction",
        schedule=None,
        triggers=(),
        owner="data manager",
        alert_policy="data",
        parameters=(
            ("source", "Folder of SDTM transport files that the corrections are about."),
            ("corrections", "CSV file of corrections, or a folder of them."),
            ("apply", "Apply what was accepted; without it the run is a dry run."),
        ),
    ),
    Entry(
        name="data_quality",
        title="Data quality",
        category="data_quality",
        module="pipelines.data_quality.data_quality",
        schedule="0 * * * *",
        triggers=("on demand",),
        owner="data manager",
        alert_policy="data",
        parameters=(
            ("source", "Folder of SDTM transport files, one per domain."),
            ("mode", "What a failed gate does: report, block or fallback."),
        ),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="data_standardization",
        title="Data standardization",
        category="data_quality",
        module="pipelines.data_quality.data_standardization",
        schedule="0 4 * * *",
        triggers=(),
        owner="data engineer",
        alert_policy="data",
        parameters=(
            ("source", "Folder of a delivery, sdtm/ and fhir/ below it; or of SDTM transport files alone."),
            ("fhir", "Folder of FHIR documents elsewhere, or the base URL of a FHIR server."),
            ("vocabulary", "Folder of an Athena vocabulary download; empty: every code is concept 0."),
            ("dictionaries", "Folder of LOINC, ICD-10-CM, MedDRA and WHODrug; empty: what was imported or ships."),
        ),
        arguments=(("source", DELIVERIES),),
    ),
    Entry(
        name="feature_backfill",
        title="Feature backfill",
        category="features",
        module="pipelines.features.feature_backfill",
        schedule="0 5 * * 0",
        triggers=("on demand",),
        owner="ML engineer",
        alert_policy="data",
        parameters=(
            ("window_days", "Study days per window of history."),
            ("block_subjects", "Subjects per block."),
        ),
    ),
    Entry(
        name="feature_engineering",
        title="Feature engineering",
        category="features",
        module="pipelines.features.feature_engineering",
        schedule="30 */6 * * *",
        triggers=(),
        owner="ML engineer",
        alert_policy="data",
    ),
    Entry(
        name="feature_validation",
        title="Feature validation",
        category="features",
        module="pipelines.features.feature_validation",
        schedule="30 5 * * *",
        triggers=(),
        owner="data engineer",
        alert_policy="data",
        parameters=(("task", "Prediction task whose features must have a contract."),),
    ),
    Entry(
        name="database_maintenance",
        title="Database maintenance",
        category="infrastructure",
        module="pipelines.infrastructure.database_maintenance",
        schedule="0 1 * * *",
        triggers=(),
        owner="platform engineer",
        alert_policy="operations",
        caching=False,
        parameters=(
            ("apply", "Run VACUUM, ANALYZE and REINDEX; otherwise they are only shown. A backup is made in any case."),
            ("as_of", "ISO 8601 moment that the age of backups is counted to; empty is now."),
        ),
    ),
    Entry(
        name="lake_maintenance",
        title="Lake maintenance",
        category="infrastructure",
        module="pipelines.infrastructure.lake_maintenance",
        schedule="0 2 * * 0",
        triggers=(),
        owner="data engineer",
        alert_policy="operations",
        caching=False,
        parameters=(
            ("apply", "Do it; otherwise the plan is shown and nothing is changed."),
            ("as_of", "ISO 8601 moment that retention and growth are judged from; empty is now."),
        ),
    ),
    Entry(
        name="service_health",
        title="Service health",
        category="infrastructure",
        module="pipelines.infrastructure.service_health",
        schedule="*/30 * * * *",
        triggers=(),
        owner="platform engineer",
        alert_policy="operations",
        caching=False,
        parameters=(("as_of", "ISO 8601 time the answers are judged at; empty is now."),),
    ),
    Entry(
        name="data_export",
        title="Data export",
        category="integration",
        module="pipelines.integration.data_export",
        schedule=None,
        triggers=(),
        owner="data steward",
        alert_policy="data",
        parameters=(
            ("what", "submission, research or partner."),
            ("purpose", "Why, in a sentence; it goes into the audit trail."),
            ("source", "Submission: folder of SDTM transport files."),
            ("target", "Folder of the submission, URL of the research database, or folder for a copy of the package."),
            ("agreement", "Partner: YAML file of the data-use agreement."),
        ),
    ),
    Entry(
        name="external_data_ingestion",
        title="External data ingestion",
        category="integration",
        module="pipelines.integration.external_data_ingestion",
        schedule=None,
        triggers=("as data arrives",),
        owner="data engineer",
        alert_policy="data",
        parameters=(
            ("source", "Folder with hl7/, dicom/ and vcf/ below it; any of them may be missing."),
            ("build", "Genome build of the trial: GRCh37 or GRCh38."),
            ("split_alleles", "Split variant rows with several alternate alleles."),
            ("imaging_options", "Options of the DICOM profile, comma-separated."),
        ),
        arguments=(("source", INCOMING_EXTERNAL),),
    ),
    Entry(
        name="model_deployment",
        title="Model deployment",
        category="models",
        module="pipelines.models.model_deployment",
        schedule=None,
        triggers=("evaluation passed", "signature"),
        owner="ML engineer",
        alert_policy="model",
        parameters=(
            ("alias", "Alias of the registered version to deploy where no version is given."),
            ("version", "Registered version to deploy; empty for the alias."),
        ),
    ),
    Entry(
        name="model_evaluation",
        title="Model evaluation",
        category="models",
        module="pipelines.models.model_evaluation",
        schedule=None,
        triggers=("after training",),
        owner="biostatistician",
        alert_policy="model",
        parameters=(
            ("alias", "Alias of the registered version to judge where no version is given."),
            ("version", "Registered version to judge; empty for the alias."),
        ),
    ),
    Entry(
        name="model_training",
        title="Model training",
        category="models",
        module="pipelines.models.model_training",
        schedule="0 2 * * 0",
        triggers=("data threshold",),
        owner="ML engineer",
        alert_policy="model",
        parameters=(("force", "Train even where too little is new."),),
    ),
    Entry(
        name="scheduled_retraining",
        title="Scheduled retraining",
        category="models",
        module="pipelines.models.scheduled_retraining",
        schedule="0 3 * * 1",
        triggers=("drift verdict", "data threshold"),
        owner="ML engineer",
        alert_policy="model",
        parameters=(("source", "Folder of SDTM transport files, one per domain."),),
        arguments=(("source", INCOMING),),
    ),
    Entry(
        name="data_drift_detection",
        title="Data drift detection",
        category="monitoring",
        module="pipelines.monitoring.data_drift_detection",
        schedule="0 5 * * *",
        triggers=(),
        owner="ML engineer",
        alert_policy="model",
        parameters=(
            ("task", "Prediction task whose model's inputs are watched."),
            ("evidently", "Write Evidently's report on a sample too."),
        ),
    ),
    Entry(
        name="infrastructure_health",
        title="Infrastructure health",
        category="monitoring",
        module="pipelines.monitoring.infrastructure_health",
        schedule="*/15 * * * *",
        triggers=(),
        owner="platform engineer",
        alert_policy="operations",
        caching=False,
        parameters=(("as_of", "ISO 8601 time it is judged at; empty is now."),),
    ),
    Entry(
        name="model_monitoring",
        title="Model monitoring",
        category="monitoring",
        module="pipelines.monitoring.model_monitoring",
        schedule="0 */2 * * *",
        triggers=(),
        owner="ML engineer",
        alert_policy="model",
        parameters=(("task", "Prediction task whose model is watched."),),
    ),
    Entry(
        name="model_performance_monitoring",
        title="Model performance monitoring",
        category="monitoring",
        module="pipelines.monitoring.model_performance_monitoring",
        schedule="0 * * * *",
        triggers=(),
        owner="ML engineer",
        alert_policy="model",
        parameters=(("task", "Prediction task whose model is judged."),),
    ),
    Entry(
        name="data_privacy",
        title="Data privacy",
        category="security",
        module="pipelines.security.data_privacy",
        schedule="0 1 * * *",
        triggers=(),
        owner="privacy officer",
        alert_policy="security",
        parameters=(
            ("scope", "Pattern of the tables to look at for personal data."),
            ("mask", "Write masked copies of tables with personal data."),
            ("dry_run", "Say what retention has ended for, and dispose of nothing."),
            ("today", "Day to judge retention by; empty is today."),
            ("rotate_master", "Replace the vault's master key after an erasure."),
        ),
    ),
    Entry(
        name="security_monitoring",
        title="Security monitoring",
        category="security",
        module="pipelines.security.security_monitoring",
        schedule="30 2 * * *",
        triggers=(),
        owner="security officer",
        alert_policy="security",
        parameters=(
            ("kubernetes_logs", "Folder or file of Kubernetes audit logs, JSON lines; empty: none."),
            ("fhir_audit", "Folder or file of FHIR R4 AuditEvents, NDJSON or bundles; empty: none."),
            ("roster", "CSV list of accounts: actor, kind, role, joined, left; empty: none."),
            ("networks", "YAML table of networks and where they are; empty: the one that ships."),
            ("rbac", "Folder of manifests with RBAC objects, for the access review; empty: none."),
            ("scans", "Folder of results of vulnerability scanners, for the evidence; empty: none."),
            ("days", "Days to screen; 0: those since the last screening."),
            ("month", "Month of access review and evidence, YYYY-MM; empty: the last whole one."),
            ("as_of", "ISO 8601 moment of the run; that day and later ones are left out. Empty is now."),
        ),
    ),
)
"""Sorted by category, then name."""


def find(name: str, catalog: tuple[Entry, ...] | None = None) -> Entry:
    """The entry of that name; dashes and underscores are the same.

    Raises:
        TrialOpsError: When there is none; the message names the nearest ones.
    """
    entries = CATALOG if catalog is None else catalog
    wanted = name.strip().replace("-", "_")
    for entry in entries:
        if entry.name == wanted:
            return entry
    names = [entry.name for entry in entries]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.9) or difflib.get_close_matches(
        wanted, names, cutoff=0.5
    )
    fix = f"Did you mean {' or '.join(near)}?" if near else "See the list with: trialops pipelines"
    raise TrialOpsError(f"There is no pipeline called {name!r}", where="pipelines/catalog.py", fix=fix)


def load(entry: Entry) -> Any:
    """Import the entry's module and return its KFP pipeline.

    Raises:
        TrialOpsError: When the module is missing or does not hold a pipeline of the entry's name.
    """
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        if error.name is None or not entry.module.startswith(error.name):
            raise
        raise TrialOpsError(
            f"Pipeline {entry.name} is in the catalogue, but its module does not exist",
            where=entry.module,
            fix="Add the module, or remove the entry from pipelines/catalog.py.",
        ) from None
    pipeline: Any = getattr(module, entry.name, None)
    if getattr(pipeline, "pipeline_spec", None) is None:
        raise TrialOpsError(
            f"The module of pipeline {entry.name} holds no KFP pipeline of that name",
            where=entry.module,
            fix=f"Define it there: @dsl.pipeline(name={entry.kfp_name!r}) def {entry.name}(...).",
        )
    found = pipeline.pipeline_spec.pipeline_info.name
    if found != entry.kfp_name:
        raise TrialOpsError(
            f"The KFP name of pipeline {entry.name} is {found!r}, not {entry.kfp_name!r}",
            where=entry.module,
            fix="Name = module = CLI name = KFP name with dashes: change the decorator.",
        )
    return pipeline
