"""One Settings object: which part stands behind each store, and who is acting.

Environment variables named by the catalogue keep their names (``FHIR_ENDPOINT``, ``HIPAA_COMPLIANCE_MODE``, ...);
everything else is prefixed ``TRIALOPS_``. Nothing is read at import time.
"""

from __future__ import annotations

import getpass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from trialops.errors import TrialOpsError

RETENTION_FLOOR_DAYS = 2555
"""Seven years: no record class may be kept for less; classes with longer duties say so themselves."""


def _plain(name: str) -> AliasChoices:
    return AliasChoices(name, name.lower())


class Settings(BaseSettings):
    """Where things are kept and under which rules; frozen, built once per process.

    Attributes:
        home: Folder of the embedded default; every store below it unless its own URL is set.
        lake_url: Folder or ``s3://bucket/prefix`` of the versioned tables; empty means ``home/lake``.
        objects_url: Folder or ``s3://`` prefix of run records and pages; empty means ``home``.
        database_url: SQLAlchemy URL; empty means SQLite below ``home``, or PostgreSQL when CLINICAL_DB_HOST is set.
        scratch_database_url: PostgreSQL server on which backups are restored to be verified; empty: the database's own.
        mlflow_uri: MLflow tracking URI; empty means SQLite below ``home``.
        online_url: Online feature store: ``sqlite:///path``, ``redis://``, ``rediss://`` or ``postgresql://``; empty
            means SQLite below ``home``.
        hipaa_compliance_mode: ``strict`` (Safe Harbor), ``limited`` (date shift under an agreement), or ``off``,
            which is for synthetic data alone.
        search_backend: ``ray``, ``inprocess``, or ``auto``: Ray where a cluster is given or the search is long enough.
        ray_address: Ray cluster to join; empty starts a local Ray.
        fhir_token: Bearer token for the server at FHIR_ENDPOINT.
        fhir_ca: PEM file of certificates to trust for it instead of the system's.
        regulatory_token: Bearer token for the gateway at REGULATORY_REPORTING_API.
        regulatory_ca: PEM file of certificates to trust for it instead of the system's.
        services: Services that must be there besides those of services.yaml, by name, separated by commas.
        kafka_bootstrap: Brokers to ask first, ``host:port`` separated by commas.
        kafka_config: Further properties of librdkafka, ``name=value``, one per line or separated by semicolons.
        kafka_groups: Consumer groups whose lag is measured; empty: all that the cluster lists.
        spark_url: Page of a Spark driver, or the history server.
        model_server_url: Model server by the Open Inference Protocol v2.
        inference_services: InferenceServices of KServe, ``namespace/name`` separated by commas.
        kubernetes_url: Kubernetes API without login (`kubectl proxy`); empty: the pod's own service account.
        namespace: Kubernetes namespace of the platform.
        alertmanager_url: Alertmanager that alerts are handed to first; empty: people are told by the platform itself.
        alerts_url: Address under which `trialops alerts serve` is reached; links to take an alert need it.
        alerts_key: Key that signs those links; at least 32 characters. Empty: one is made below `home`.
        alert_rules: ``embedded``: the platform evaluates its rules; ``prometheus``: Prometheus alone does.
        alert_routes: YAML file of routes, receivers and duty instead of the one that ships.
        repository_url: Final repository of transferred trials, in which the report function names its reports.
        report_study: Study file the report function's reports are made with; empty: the demonstration trial's.
        role: Role of the acting person or service account: exports of data are granted by role.
        profile: ``embedded``, or ``cluster``, which refuses any store that would live in a pod.
    """

    model_config = SettingsConfigDict(env_prefix="TRIALOPS_", frozen=True, extra="ignore", populate_by_name=True)

    profile: Literal["embedded", "cluster"] = "embedded"
    home: Path = Path(".trialops")
    lake_url: str = ""
    objects_url: str = ""
    database_url: str = ""
    scratch_database_url: str = ""
    mlflow_uri: str = ""
    online_url: str = ""
    search_backend: Literal["auto", "ray", "inprocess"] = "auto"
    ray_address: str = ""
    study: str = "trial"
    actor: str = ""
    services: str = ""
    kafka_bootstrap: str = ""
    kafka_config: SecretStr | None = None
    kafka_groups: str = ""
    spark_url: str = ""
    model_server_url: str = ""
    inference_services: str = ""
    kubernetes_url: str = ""
    namespace: str = "trialops"
    alertmanager_url: str = ""
    alerts_url: str = ""
    alerts_key: SecretStr | None = None
    alert_rules: Literal["embedded", "prometheus"] = "embedded"
    alert_routes: str = ""
    repository_url: str = ""
    report_study: str = ""
    role: str = ""
    run_id: str = ""
    pipeline: str = ""
    vault_key: SecretStr | None = None
    fhir_token: SecretStr | None = None
    fhir_ca: str = ""
    regulatory_token: SecretStr | None = None
    regulatory_ca: str = ""

    clinical_db_host: str = Field("", validation_alias=_plain("CLINICAL_DB_HOST"))
    clinical_db_port: int = Field(5432, validation_alias=_plain("CLINICAL_DB_PORT"))
    clinical_db_name: str = Field("trialops", validation_alias=_plain("CLINICAL_DB_NAME"))
    clinical_db_user: str = Field("trialops", validation_alias=_plain("CLINICAL_DB_USER"))
    clinical_db_password: SecretStr | None = Field(None, validation_alias=_plain("CLINICAL_DB_PASSWORD"))
    fhir_endpoint: str = Field("", validation_alias=_plain("FHIR_ENDPOINT"))
    regulatory_reporting_api: str = Field("", validation_alias=_plain("REGULATORY_REPORTING_API"))
    lab_system_endpoint: str = Field("", validation_alias=_plain("LAB_SYSTEM_ENDPOINT"))
    hipaa_compliance_mode: Literal["strict", "limited", "off"] = Field(
        "strict", validation_alias=_plain("HIPAA_COMPLIANCE_MODE")
    )
    data_retention_days: int = Field(RETENTION_FLOOR_DAYS, validation_alias=_plain("DATA_RETENTION_DAYS"))
    audit_log_enabled: bool = Field(True, validation_alias=_plain("AUDIT_LOG_ENABLED"))

    @model_validator(mode="after")
    def _rules(self) -> Settings:
        if self.data_retention_days < RETENTION_FLOOR_DAYS:
            raise TrialOpsError(
                f"DATA_RETENTION_DAYS is {self.data_retention_days}, below the floor of {RETENTION_FLOOR_DAYS} days",
                where="DATA_RETENTION_DAYS",
                fix="Raise it, or unset it to use the floor.",
            )
        if not self.audit_log_enabled and self.hipaa_compliance_mode != "off":
            raise TrialOpsError(
                "The audit trail can be switched off only for synthetic data",
                where="AUDIT_LOG_ENABLED",
                fix="Set AUDIT_LOG_ENABLED=true, or HIPAA_COMPLIANCE_MODE=off if the data is synthetic.",
            )
        return self

    @model_validator(mode="after")
    def _shared_stores(self) -> Settings:
        """On a cluster a store that is unset would silently be a file in one pod, the audit trail included."""
        if self.profile != "cluster":
            return self
        local = [
            name
            for name, value in (
                ("TRIALOPS_LAKE_URL", "://" in self.lake_url),
                ("TRIALOPS_OBJECTS_URL", "://" in self.objects_url),
                ("CLINICAL_DB_HOST", not self.database.startswith("sqlite")),
                ("TRIALOPS_MLFLOW_URI", bool(self.mlflow_uri) and not self.mlflow_uri.startswith("sqlite")),
                ("TRIALOPS_VAULT_KEY", self.vault_key is not None),
            )
            if not value
        ]
        if local:
            raise TrialOpsError(
                "The cluster profile needs stores that pods share; these are unset or local",
                where=", ".join(local),
                fix="Set them in ConfigMap trialops-settings and Secret trialops-secrets.",
            )
        return self

    @property
    def lake(self) -> str:
        """Root of the lake as a folder path or URL."""
        return self.lake_url or str(self.home.resolve() / "lake")

    @property
    def objects(self) -> str:
        """Root of the object store that holds run records, pages and evidence."""
        return self.objects_url or str(self.home.resolve())

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the database (password included: never log it)."""
        if self.database_url:
            return self.database_url
        if self.clinical_db_host:
            from urllib.parse import quote

            secret = self.clinical_db_password.get_secret_value() if self.clinical_db_password else ""
            login = quote(self.clinical_db_user, safe="") + (f":{quote(secret, safe='')}" if secret else "")
            address = f"{self.clinical_db_host}:{self.clinical_db_port}/{self.clinical_db_name}"
            return f"postgresql+psycopg://{login}@{address}"
        return f"sqlite:///{self.home.resolve() / 'trialops.db'}"

    @property
    def mlflow(self) -> str:
        """MLflow tracking URI."""
        return self.mlflow_uri or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def online(self) -> str:
        """URL of the online feature store (password included: never log it).

        Raises:
            TrialOpsError: On a cluster it would be a file in one pod.
        """
        url = self.online_url or f"sqlite:///{self.home.resolve() / 'features' / 'online.db'}"
        if self.profile == "cluster" and url.startswith("sqlite"):
            raise TrialOpsError(
                "The cluster profile needs an online store that pods share",
                where="TRIALOPS_ONLINE_URL",
                fix="Set it in Secret trialops-secrets.",
            )
        return url

    @property
    def who(self) -> str:
        """The acting person or service account, for the audit trail."""
        if self.actor:
            return self.actor
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "service"

    @property
    def master_key(self) -> bytes | None:
        """The vault's master key when it is supplied by the environment (base64), else None."""
        if self.vault_key is None:
            return None
        import base64
        import binascii

        try:
            key = base64.b64decode(self.vault_key.get_secret_value(), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != 32:
            raise TrialOpsError(
                "The vault's master key is not 32 bytes in base64",
                where="TRIALOPS_VAULT_KEY",
                fix="Create one with: python -c 'import base64,os; print(base64.b64encode(os.urandom(32)).decode())'",
            )
        return key


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process.

    Raises:
        TrialOpsError: When a variable has a value it may not have; the message names the variable.
    """
    from pydantic import ValidationError

    try:
        return Settings.model_validate({})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        raise TrialOpsError(
            f"A setting cannot be used: {first['msg']}", where=name, fix="Correct the environment variable."
        ) from None
