"""What a trial's transfer jobs are: flows, vault, data sets, task and function, from one file.

Names and addresses alone. Credentials come from the pod's identity, the function's key from a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

VARIABLE = "TRIALOPS_TRANSFER_CONFIG"


@dataclass(frozen=True)
class Flow:
    """One AppFlow flow: its name, the site it extracts from, and the SDTM domain where the file names do not say it."""

    name: str
    site: str
    domain: str = ""


@dataclass(frozen=True)
class DataSet:
    """One QuickSight data set, the cleansed table it shows, and whether that may show who gets what."""

    id: str
    table: str
    unblinded: bool = False


@dataclass(frozen=True)
class TransferConfig:
    """The jobs of one trial.

    Attributes:
        trial: Name of the trial; the mutex, the alerts and the chain of validated versions go by it.
        region: AWS region.
        account: AWS account id, for QuickSight.
        flows: Flows to extract with.
        landing: Where the flows write: a folder or ``s3://bucket/prefix``.
        landed: Where below it one execution's files are; ``{flow}`` and ``{execution}`` stand for names.
        cleansed: Where the cleansed tables go for QuickSight: a folder or ``s3://bucket/prefix``.
        vault: Backup vault.
        resource: ARN that is backed up.
        role: ARN of the role AWS Backup takes on.
        datasets: QuickSight data sets.
        task: ARN of the DataSync task.
        function: start, status, stop (addresses) and scope of the report function.
        digest: SHA-256 of all of it.
    """

    trial: str
    region: str
    account: str
    flows: tuple[Flow, ...]
    landing: str
    landed: str
    cleansed: str
    vault: str
    resource: str
    role: str
    datasets: tuple[DataSet, ...]
    task: str
    function: Mapping[str, str]
    digest: str

    def parts(self, step: str) -> tuple[str, ...]:
        """The parts a step is made of: flows, data sets, or one without a name."""
        if step == "extract":
            return tuple(flow.name for flow in self.flows)
        if step == "ingest":
            return tuple(dataset.id for dataset in self.datasets)
        return ("",)


def read_config(path: str) -> TransferConfig:
    """Read the file.

    Raises:
        TrialOpsError: It is missing, or lacks something; all of it is named.
    """
    import yaml

    try:
        data = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError):
        raise TrialOpsError(
            "The transfer's configuration cannot be read",
            where=path or VARIABLE,
            fix=f"Name it with --config or {VARIABLE}; manifests/argo/trial.yaml has an example.",
        ) from None
    return parse_config(data, path)


def parse_config(data: Any, where: str = "") -> TransferConfig:
    """A configuration from the content of its file; see `read_config`."""
    names = ("trial", "region", "account", "flows", "landing", "cleansed", "backup", "datasets", "task", "function")
    data = data if isinstance(data, dict) else {}
    lacking = [name for name in names if not data.get(name)]
    for name, keys in {"backup": ("vault", "resource", "role"), "function": ("start", "status")}.items():
        lacking += [f"{name}.{key}" for key in keys if data.get(name) and not data[name].get(key)]
    unknown = sorted(set(data) - {*names, "landed"})
    flows = tuple(Flow(str(f["name"]), str(f["site"]), str(f.get("domain", ""))) for f in data.get("flows") or ())
    datasets = tuple(
        DataSet(str(d["id"]), str(d["table"]).upper(), d.get("unblinded") is True) for d in data.get("datasets") or ()
    )
    twice = len({f.name for f in flows}) < len(flows) or len({d.id for d in datasets}) < len(datasets)
    if lacking or unknown or twice:
        said = [f"lacks {', '.join(lacking)}"] if lacking else []
        said += [f"has unknown {', '.join(unknown)}"] if unknown else []
        said += ["names a flow or data set twice"] if twice else []
        raise TrialOpsError(f"The transfer's configuration {'; '.join(said)}", where=where, fix="Correct the file.")
    return TransferConfig(
        trial=str(data["trial"]),
        region=str(data["region"]),
        account=str(data["account"]),
        flows=flows,
        landing=str(data["landing"]),
        landed=str(data.get("landed", "{flow}/{execution}")),
        cleansed=str(data["cleansed"]),
        vault=str(data["backup"]["vault"]),
        resource=str(data["backup"]["resource"]),
        role=str(data["backup"]["role"]),
        datasets=datasets,
        task=str(data["task"]),
        function={key: str(value) for key, value in data["function"].items()},
        digest=document_digest(data),
    )
