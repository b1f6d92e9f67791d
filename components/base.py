"""What every component shares: one image, one decorator, one way to harden a task for the cluster."""

import contextlib
import functools
import inspect
import os
import sys
import types
from collections.abc import Iterator

from kfp import dsl, kubernetes
from kfp.dsl import pipeline_task

DEFAULT_IMAGE = "ghcr.io/trialops/python-trialops:0.1.0"
IMAGE = os.environ.get("TRIALOPS_IMAGE", DEFAULT_IMAGE)
"""Image of every step. Use an immutable tag: KFP's cache does not see what a moving tag points to."""

component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)
"""The component decorator of this project, bare or with arguments."""

SETTINGS_CONFIG_MAP = "trialops-settings"
SECRETS_NAME = "trialops-secrets"
RUN_AS = 10001

INCOMING_CLAIM, INCOMING_PATH = "trialops-incoming", "/data/incoming"
"""Volume claim with what sites, laboratories and people have put in, and where a step finds it."""
FILES_NAMED_BY = frozenset(
    {"source", "corrections", "study", "agreement", "vocabulary", "dictionaries", "study_metadata"}
)
"""Inputs that name a file or folder: a step that has one gets the volume."""
CONFIG_VARIABLES = (
    "CLINICAL_DB_HOST",
    "CLINICAL_DB_PORT",
    "CLINICAL_DB_NAME",
    "CLINICAL_DB_USER",
    "FHIR_ENDPOINT",
    "LAB_SYSTEM_ENDPOINT",
    "REGULATORY_REPORTING_API",
    "HIPAA_COMPLIANCE_MODE",
    "DATA_RETENTION_DAYS",
    "AUDIT_LOG_ENABLED",
    "TRIALOPS_LAKE_URL",
    "TRIALOPS_OBJECTS_URL",
    "TRIALOPS_MLFLOW_URI",
    "TRIALOPS_PROFILE",
    "TRIALOPS_HOME",
    "TRIALOPS_SEARCH_BACKEND",
    "TRIALOPS_RAY_ADDRESS",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ALLOW_HTTP",
    "TRIALOPS_STUDY",
    "TRIALOPS_ACTOR",
    "OPENLINEAGE_URL",
)
"""Settings a pod reads from the ConfigMap; a key that the ConfigMap lacks leaves the default."""

SECRET_VARIABLES = (
    "CLINICAL_DB_PASSWORD",
    "TRIALOPS_DATABASE_URL",
    "TRIALOPS_ONLINE_URL",
    "TRIALOPS_VAULT_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "OPENLINEAGE_API_KEY",
)
"""Settings a pod reads from the Secret."""

QUIET = {"DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}
"""No usage statistics leave a place that holds patient data."""


def harden(
    task: dsl.PipelineTask,
    *,
    cpu: str = "1",
    memory: str = "2Gi",
    timeout_seconds: int = 3600,
    retries: int = 2,
) -> dsl.PipelineTask:
    """Give a task what it needs to run safely on a cluster.

    Requests equal limits (guaranteed quality of service), a time limit, a non-root user, retries with
    backoff, the run id from KFP's pod label, and the namespace's settings as environment variables. A local
    run ignores all of it: it shows its first failure at once, and ``--resume`` tries again.

    Args:
        task: The task to change.
        cpu: Request and limit, as Kubernetes writes it ("500m", "2").
        memory: Request and limit ("512Mi", "4Gi").
        timeout_seconds: Time after which the pod is ended.
        retries: Further attempts after the first; the wait doubles from 10 s up to 5 min.

    Returns:
        The same task.
    """
    with _callers_named_cheaply():
        task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
        for name, value in QUIET.items():
            task.set_env_variable(name, value)
    task.set_retry(retries, backoff_duration="10s", backoff_factor=2.0, backoff_max_duration="300s")
    kubernetes.set_timeout(task, timeout_seconds)
    kubernetes.set_security_context(task, run_as_user=RUN_AS, run_as_group=RUN_AS, run_as_non_root=True)
    kubernetes.use_field_path_as_env(task, env_name="TRIALOPS_RUN_ID", field_path="metadata.labels['pipeline/runid']")
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS_CONFIG_MAP,
        config_map_key_to_env={name: name for name in CONFIG_VARIABLES},
        optional=True,
    )
    kubernetes.use_secret_as_env(
        task,
        secret_name=SECRETS_NAME,
        secret_key_to_env={name: name for name in SECRET_VARIABLES},
        optional=True,
    )
    if FILES_NAMED_BY & set(task.component_spec.inputs or {}):
        kubernetes.mount_pvc(task, pvc_name=INCOMING_CLAIM, mount_path=INCOMING_PATH)
    return task


def with_role(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give a task the role its service account acts in: what it may read or hand out depends on it.

    Returns:
        The same task.
    """
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS_CONFIG_MAP,
        config_map_key_to_env={"TRIALOPS_ROLE": "TRIALOPS_ROLE"},
        optional=True,
    )
    return task


SERVICE_VARIABLES = (
    "TRIALOPS_SERVICES",
    "TRIALOPS_KAFKA_BOOTSTRAP",
    "TRIALOPS_KAFKA_GROUPS",
    "TRIALOPS_SPARK_URL",
    "TRIALOPS_MODEL_SERVER_URL",
    "TRIALOPS_INFERENCE_SERVICES",
    "TRIALOPS_NAMESPACE",
)
"""Where the services are that a health step asks besides the stores."""


def with_services(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Give a task the addresses of the services around the platform.

    Returns:
        The same task.
    """
    kubernetes.use_config_map_as_env(
        task,
        config_map_name=SETTINGS_CONFIG_MAP,
        config_map_key_to_env={name: name for name in SERVICE_VARIABLES},
        optional=True,
    )
    kubernetes.use_secret_as_env(
        task,
        secret_name=SECRETS_NAME,
        secret_key_to_env={"TRIALOPS_KAFKA_CONFIG": "TRIALOPS_KAFKA_CONFIG"},
        optional=True,
    )
    return task


@contextlib.contextmanager
def _callers_named_cheaply() -> Iterator[None]:
    """Let KFP's setters name their caller without the source of every frame on the stack.

    Each setter asks ``inspect.stack()`` for the name an error would show. That reads the source of every frame and,
    for frames without a file, walks all loaded modules: 5 ms a call with 1,700 modules, most of the time it takes to
    load the catalogue, and far more in a process that has loaded the rest of the project. Only name and caller are
    looked at.
    """

    def stack() -> list[tuple[types.FrameType | None, str, int, str]]:
        frames = (sys._getframe(1), sys._getframe(2))
        return [(frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name) for frame in frames]

    pipeline_task.inspect = types.SimpleNamespace(stack=stack)
    try:
        yield
    finally:
        pipeline_task.inspect = inspect
