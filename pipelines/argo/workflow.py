"""The workflow `trial-data-aggregation` for Argo 3.7 and 4: the same order as the embedded runner, one pod a step.

Only fields that both generations know: lists of schedules, mutexes and semaphores, no pod priority. hera drops fields
it does not know without a word, so the documents are checked against the CRDs and not by having been built.
"""

from __future__ import annotations

from typing import Any

from components.base import IMAGE, QUIET, RUN_AS, SECRETS_NAME, SETTINGS_CONFIG_MAP
from pipelines.argo.own_hera import import_hera
from trialops.transfer.failures import EXIT_CODES
from trialops.transfer.functions import KEY_VARIABLE
from trialops.transfer.graph import NODES
from trialops.transfer.policy import Policy, transfer_policy

NAME = "trial-data-aggregation"
SERVICE_ACCOUNT = "trialops-transfer"
CONFIG_MAP = "trialops-transfer"
QUOTAS = "trialops-transfer-quotas"
SCHEDULE = "0 2 * * *"
WORK = "/work"
CONFIG_FILE = "/etc/trialops/transfer.yaml"
AZURE_TOKEN = "/var/run/secrets/azure/token"
FLOWS_FILE = f"{WORK}/flows.json"
RUN_ID = "{{workflow.parameters.run_id}}"
AGAIN = "{{workflow.parameters.again}}"
GRACE_SECONDS = 900
"""How much longer a pod may live than its job: to be pulled, scheduled, and to write the job's end down."""

RETRY_EXPRESSION = f"lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [{EXIT_CODES['retryable']}, 137, 143]"
"""Again after a node's or the executor's fault, exit code "retryable", an eviction (143) and a kill (137)."""

RESOURCES: dict[str, tuple[str, str]] = {"validate": ("2", "8Gi"), "fallback": ("1", "4Gi"), "cleanse": ("2", "8Gi")}
"""CPU and memory of steps that read tables; the others wait for somebody else's job."""

SECRETS = (
    "CLINICAL_DB_PASSWORD",
    "TRIALOPS_DATABASE_URL",
    "TRIALOPS_VAULT_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)
"""Of the namespace's secrets what a step reads; the AWS keys only where a pod has no identity of its own."""

WAITING = ("250m", "512Mi")
BUCKETS: Any = [30, 60, 300, 900, 1800, 3600, 7200, 14400, 28800]


def documents(policy: Policy | None = None) -> dict[str, dict[str, Any]]:
    """The generated documents by file name: workflow template, cron workflow, quotas, kustomization."""
    import_hera()
    policy = policy or transfer_policy()
    return {
        "workflow-template.yaml": _template(policy),
        "cron-workflow.yaml": _cron(),
        "quotas.yaml": _quotas(policy),
        "kustomization.yaml": {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["trial.yaml", "quotas.yaml", "workflow-template.yaml", "cron-workflow.yaml"],
        },
    }


def _template(policy: Policy) -> dict[str, Any]:
    from hera.workflows import DAG, Parameter, Task, WorkflowTemplate
    from hera.workflows import models as m

    with WorkflowTemplate(
        name=NAME,
        entrypoint="transfer",
        on_exit="finish",
        arguments=[
            Parameter(name="run_id", description="Name of the run; the same name goes on with the same run."),
            Parameter(name="again", value="false", description="true: one more attempt of what failed for good."),
        ],
        service_account_name=SERVICE_ACCOUNT,
        labels={"app.kubernetes.io/name": NAME},
        workflow_metadata=m.WorkflowMetadata(labels={"app.kubernetes.io/name": NAME}),
        pod_metadata=m.Metadata(labels={"app.kubernetes.io/name": NAME, "trialops/transfer": "true"}),
        # One namespace holds one trial, and a mutex is the namespace's: one transfer of a trial at a time.
        synchronization=m.Synchronization(mutexes=[m.Mutex(name=NAME)]),
        active_deadline_seconds=int(sum(step.deadline_seconds + GRACE_SECONDS for step in policy.steps.values())),
        # KFP's controller has defaults of its own for every workflow, an hour to live among them: both are said here.
        ttl_strategy=m.TTLStrategy(
            seconds_after_success=86400, seconds_after_failure=1209600, seconds_after_completion=1209600
        ),
        pod_gc=m.PodGC(strategy="OnPodSuccess", delete_delay_duration="10m"),
        security_context=m.PodSecurityContext(
            run_as_non_root=True,
            run_as_user=RUN_AS,
            run_as_group=RUN_AS,
            fs_group=RUN_AS,
            seccomp_profile=m.SeccompProfile(type="RuntimeDefault"),
        ),
        volumes=_volumes(m),
    ) as workflow:
        for node in NODES:
            _step(node.name, policy, fan=node.fan)
        _step("finish", policy, fan=False)
        with DAG(name="transfer"):
            for node in NODES:
                Task(
                    name=node.name,
                    template=node.name,
                    depends=node.depends or None,
                    with_param="{{tasks.plan.outputs.parameters.flows}}" if node.fan else None,
                    arguments={"part": "{{item}}"} if node.fan else None,
                )
    return _plain(workflow)


def _step(name: str, policy: Policy, *, fan: bool) -> None:
    """Add the template of one step to the workflow that is being built."""
    from hera.workflows import Container, Metrics, Parameter, RetryStrategy
    from hera.workflows import models as m

    known = policy.steps.get(name)
    deadline = int(known.deadline_seconds if known else 600) + GRACE_SECONDS
    cpu, memory = RESOURCES.get(name, WAITING)
    size = {key: m.Quantity(value) for key, value in {"cpu": cpu, "memory": memory, "ephemeral-storage": "4Gi"}.items()}
    retry = policy.retry
    command = ["trialops", "transfer", *(["finish"] if name == "finish" else ["run", name]), "--run-id", RUN_ID]
    command += [] if name == "finish" else ["--again", AGAIN]
    command += ["--part", "{{inputs.parameters.part}}"] if fan else []
    command += ["--out", FLOWS_FILE] if name == "plan" else []
    shared = known is not None and bool(known.provider)
    Container(
        name=name,
        image=IMAGE,
        image_pull_policy="IfNotPresent",
        command=command[:1],
        args=command[1:],
        inputs=[Parameter(name="part")] if fan else None,
        outputs=[Parameter(name="flows", value_from=m.ValueFrom(path=FLOWS_FILE))] if name == "plan" else None,
        env=_environment(m, name),
        env_from=[m.EnvFromSource(config_map_ref=m.ConfigMapEnvSource(name=SETTINGS_CONFIG_MAP, optional=True))],
        volume_mounts=_mounts(m, name),
        resources=m.ResourceRequirements(requests=size, limits=size),
        security_context=m.SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            capabilities=m.Capabilities(drop=["ALL"]),
        ),
        active_deadline_seconds=deadline,
        # No maxDuration: it counts from the first pod's start, and a job may take hours before a pod is evicted.
        retry_strategy=RetryStrategy(
            limit=str(int(retry["limit"])),
            retry_policy="Always",
            expression=RETRY_EXPRESSION,
            backoff=m.Backoff(
                duration=f"{int(retry['first_seconds'])}s",
                factor=m.IntOrString(str(int(retry["factor"]))),
                cap=f"{int(retry['cap_seconds'])}s",
            ),
        ),
        synchronization=m.Synchronization(
            semaphores=[m.SemaphoreRef(config_map_key_ref=m.ConfigMapKeySelector(name=QUOTAS, key=known.provider))]
        )
        if shared and known is not None
        else None,
        metrics=Metrics(metrics=_metrics(name)),
    )


def _metrics(name: str) -> list[Any]:
    """What the controller measures of a step; never by run: every run would be a series of its own."""
    from hera.workflows import Counter, Histogram, Label

    job = Label(key="job", value=name)
    return [
        Histogram(
            name="trialops_transfer_job_duration_seconds",
            help="Wall time of a step of the cloud transfer.",
            value="{{duration}}",
            buckets=BUCKETS,
            labels=[job, Label(key="status", value="{{status}}")],
        ),
        Counter(
            name="trialops_transfer_job_failures_total",
            help="Steps of the cloud transfer that failed.",
            value="1",
            when="{{status}} != Succeeded",
            labels=[job],
        ),
    ]


def _environment(m: Any, name: str) -> list[Any]:
    """What is this workflow's own, the secrets a step needs, and the function's key and identity where it is asked."""
    found = [
        m.EnvVar(name=key, value=value)
        for key, value in {"TRIALOPS_HOME": WORK, "TRIALOPS_TRANSFER_CONFIG": CONFIG_FILE, **QUIET}.items()
    ]

    def secret(key: str) -> Any:
        selector = m.SecretKeySelector(name=SECRETS_NAME, key=key, optional=True)
        return m.EnvVar(name=key, value_from=m.EnvVarSource(secret_key_ref=selector))

    found += [secret(key) for key in SECRETS]
    if name == "report":
        found += [m.EnvVar(name="AZURE_FEDERATED_TOKEN_FILE", value=AZURE_TOKEN), secret(KEY_VARIABLE)]
    return found


def _volumes(m: Any) -> list[Any]:
    """A folder to work in, /tmp, the trial's configuration, and the token that Entra ID takes for the account."""
    projection = m.ServiceAccountTokenProjection(
        audience="api://AzureADTokenExchange", expiration_seconds=3600, path=AZURE_TOKEN.rsplit("/", 1)[1]
    )
    return [
        m.Volume(name="work", empty_dir=m.EmptyDirVolumeSource(size_limit=m.Quantity("2Gi"))),
        m.Volume(name="tmp", empty_dir=m.EmptyDirVolumeSource(size_limit=m.Quantity("2Gi"))),
        m.Volume(
            name="trial",
            config_map=m.ConfigMapVolumeSource(
                name=CONFIG_MAP, items=[m.KeyToPath(key="transfer.yaml", path="transfer.yaml")]
            ),
        ),
        m.Volume(
            name="azure-token",
            projected=m.ProjectedVolumeSource(sources=[m.VolumeProjection(service_account_token=projection)]),
        ),
    ]


def _mounts(m: Any, name: str) -> list[Any]:
    mounts = [
        m.VolumeMount(name="work", mount_path=WORK),
        m.VolumeMount(name="tmp", mount_path="/tmp"),
        m.VolumeMount(name="trial", mount_path=CONFIG_FILE.rsplit("/", 1)[0], read_only=True),
    ]
    if name == "report":
        mounts.append(m.VolumeMount(name="azure-token", mount_path=AZURE_TOKEN.rsplit("/", 1)[0], read_only=True))
    return mounts


def _cron() -> dict[str, Any]:
    from hera.workflows import CronWorkflow, Parameter
    from hera.workflows import models as m

    # The time it was due names the run: a night that is run again goes on with that night's jobs.
    workflow = CronWorkflow(
        name=NAME,
        labels={"app.kubernetes.io/name": NAME},
        schedules=[SCHEDULE],
        timezone="UTC",
        concurrency_policy="Forbid",
        starting_deadline_seconds=3600,
        successful_jobs_history_limit=7,
        failed_jobs_history_limit=14,
        workflow_template_ref=m.WorkflowTemplateRef(name=NAME),
        arguments=[Parameter(name="run_id", value="{{workflow.scheduledTime}}")],
    )
    return _plain(workflow)


def _quotas(policy: Policy) -> dict[str, Any]:
    """How many jobs may run at a provider at one time, over all workflows of the namespace: Argo's semaphores."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": QUOTAS, "labels": {"app.kubernetes.io/name": NAME}},
        "data": {step.provider: str(step.concurrent) for step in policy.steps.values() if step.provider},
    }


def _plain(workflow: Any) -> dict[str, Any]:
    """A document as plain data."""
    import yaml

    return dict(yaml.safe_load(workflow.to_yaml()))


def render(document: dict[str, Any]) -> str:
    """A document as YAML, with a word on where it comes from."""
    import yaml

    class Readable(yaml.SafeDumper):
        """Text of several lines as a block."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Readable.add_representer(str, text)
    body = yaml.dump(document, Dumper=Readable, sort_keys=False, width=120)
    return f"# Made by python -m pipelines.argo from pipelines/argo and trialops/transfer/policy.yaml.\n{body}"
