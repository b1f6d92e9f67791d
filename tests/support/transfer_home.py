"""A trial whose data arrive by cloud transfer: stand-ins of the services on loopback, what flows land, and processes.

The flows land the synthetic trial's own rows, one CSV per domain, split by site. QuickSight counts the rows of the file
that its manifest points to.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.aws_server import ACCOUNT, Cloud, serve
from tests.support.function_host import KEY, Host, serve_functions

FLOWS = ("trial-sites-a", "trial-sites-b")
TASK = f"arn:aws:datasync:us-east-1:{ACCOUNT}:task/task-0123456789abcdef0"
LEFT_OUT = frozenset({"LB", "VS", "MH", "CM", "SUPPDM"})
"""Domains that nothing here asks for; most of the rows are theirs."""
DATASETS = {"trial-subjects": "DM", "trial-events": "AE"}


def deliveries(folder: Path, *, subjects: int = 24, sites: int = 4, seed: int = 3) -> dict[str, dict[str, str]]:
    """CSV text by flow and domain of a synthetic trial."""
    import polars as pl

    from trialops.intake.xport_read import read_transport
    from trialops.synthetic import generate

    generate(folder, subjects=subjects, sites=sites, seed=seed, formats=("sdtm",))
    found: dict[str, dict[str, str]] = {flow: {} for flow in FLOWS}
    for path in sorted((folder / "sdtm").glob("*.xpt")):
        if path.stem.upper() in LEFT_OUT:
            continue
        frame = read_transport(path.read_bytes()).frame
        if "USUBJID" not in frame.columns:
            continue
        half = pl.col("USUBJID").str.split("-").list.get(1).str.strip_chars_start("0").cast(pl.Int64, strict=False) % 2
        for number, flow in enumerate(FLOWS):
            part = frame.filter(half.fill_null(0) == number)
            if part.height:
                found[flow][path.stem.upper()] = part.write_csv()
    return found


@dataclass
class TransferHome:
    """Where a transfer runs.

    Attributes:
        folder: Home, landing zone, cleansed zone and configuration.
        cloud: The AWS services.
        host: The report function's host.
        content: What the flows land: CSV text by flow and domain.
        environment: Of the processes.
    """

    folder: Path
    cloud: Cloud
    host: Host
    content: dict[str, dict[str, str]]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.folder / "transfer.yaml"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def land(self, flow: str, execution: str) -> int:
        """Write what a flow's execution lands; gives the rows."""
        rows = 0
        for domain, text in self.content[flow].items():
            path = self.folder / "landing" / flow / execution / f"{domain}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            rows += len(list(csv.reader(io.StringIO(text)))) - 1
        return rows

    def rows(self, dataset: str) -> int:
        """Rows of the file that a data set's manifest points to."""
        manifest = json.loads((self.folder / "cleansed" / "trial" / dataset / "manifest.json").read_text())
        text = Path(manifest["fileLocations"][0]["URIs"][0]).read_text()
        return len(list(csv.reader(io.StringIO(text)))) - 1

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `trialops transfer ...` as a process."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "transfer", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        )

    def checkpoint(self, run_id: str, step: str, part: str = "_") -> dict[str, Any]:
        """A checkpoint as it lies on disk; empty where there is none."""
        path = self.home / "transfer" / "runs" / run_id / step / f"{part}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def alerts(self) -> list[Any]:
        """The alerts in the register."""
        from trialops.alerts.register import AlertRegister
        from trialops.stores.database import connect
        from trialops.stores.objects import open_store
        from trialops.stores.study import bound_study

        engine = connect(f"sqlite:///{self.home / 'trialops.db'}")
        return list(AlertRegister(engine, bound_study(open_store(str(self.home)))).known().values())

    def starts(self) -> dict[str, int]:
        """Provider jobs started, by service."""
        found = {
            service: len(self.cloud.started(service)) for service in ("appflow", "backup", "quicksight", "datasync")
        }
        return {**found, "functions": len(self.host.starts)}


@contextmanager
def transfer_home(folder: Path, content: dict[str, dict[str, str]]) -> Iterator[TransferHome]:
    """A home with its services."""
    cloud, host = Cloud(), Host()
    cloud.page = 50
    with serve(cloud) as url, serve_functions(host) as functions:
        made = TransferHome(folder, cloud, host, content)
        cloud.land, cloud.rows = made.land, made.rows
        (folder / "landing").mkdir(parents=True)
        made.config.write_text(yaml.safe_dump(configuration(folder, functions)))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRIALOPS_", "AWS_", "AZURE_", "KUBERNETES_"))}
        made.environment = {
            **kept,
            "TRIALOPS_HOME": str(made.home),
            "TRIALOPS_ACTOR": "transfer",
            "TRIALOPS_TRANSFER_CONFIG": str(made.config),
            "TRIALOPS_TRANSFER_HASTE": "0.004",
            "TRIALOPS_REPORT_FUNCTION_KEY": KEY,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMP_NUM_THREADS": "1",
            "POLARS_MAX_THREADS": "2",
            **{f"AWS_ENDPOINT_URL_{name}": url for name in ("APPFLOW", "BACKUP", "QUICKSIGHT", "DATASYNC")},
        }
        yield made


def configuration(folder: Path, functions: str) -> dict[str, Any]:
    """The trial's jobs."""
    return {
        "trial": "trial",
        "region": "us-east-1",
        "account": ACCOUNT,
        "flows": [{"name": flow, "site": flow[-1]} for flow in FLOWS],
        "landing": str(folder / "landing"),
        "cleansed": str(folder / "cleansed"),
        "backup": {"vault": "raw", "resource": "arn:aws:s3:::landing", "role": f"arn:aws:iam::{ACCOUNT}:role/backup"},
        "datasets": [{"id": name, "table": table} for name, table in DATASETS.items()],
        "task": TASK,
        "function": {
            "start": f"{functions}/api/reports/{{instance}}",
            "status": f"{functions}/api/reports/{{instance}}",
            "stop": f"{functions}/api/reports/{{instance}}/terminate",
        },
    }


SERVICES = {"extract": "appflow", "backup": "backup", "ingest": "quicksight", "distribute": "datasync"}
PARTS = {"extract": FLOWS, "ingest": tuple(DATASETS)}


def hold(home: TransferHome, step: str, part: str = "", *, on: bool = True) -> None:
    """Keep a provider's job in the state it is in, or let it go on."""
    if step == "report":
        home.host.held = on
    elif step in SERVICES:
        (home.cloud.held.add if on else home.cloud.held.discard)(part or SERVICES[step])


def in_the_middle(home: TransferHome, run_id: str, step: str, part: str = "") -> bool:
    """Whether a step's provider jobs run, or a step of our own has begun."""
    wanted = {"running"} if step in SERVICES or step == "report" else {"claimed", "succeeded"}
    if step == "finish":
        return (home.home / "transfer" / "runs" / run_id / "page.html").exists()
    parts = (part,) if part else PARTS.get(step, ("_",))
    return all(home.checkpoint(run_id, step, one).get("state") in wanted for one in parts)


def is_done(home: TransferHome, run_id: str, step: str) -> bool:
    """Whether all of a step has succeeded."""
    return all(home.checkpoint(run_id, step, one).get("state") == "succeeded" for one in PARTS.get(step, ("_",)))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> bool:
    """Whether a condition came true before the process ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        if process.poll() is not None:
            return condition()
        time.sleep(0.01)
    raise TimeoutError


def result(home: TransferHome, run_id: str) -> Mapping[str, Any]:
    """What a run came to, apart from times, processes and the providers' own ids."""
    found = {}
    for path in sorted((home.home / "transfer" / "runs" / run_id).rglob("*.json")):
        held = json.loads(path.read_text())
        evidence = {
            k: v
            for k, v in held["evidence"].items()
            if k not in ("execution", "job", "ingestion", "instance", "recovery_point", "reports")
        }
        found[f"{held['step']} {held['part']}"] = {"state": held["state"], "attempt": held["attempt"], **evidence}
    return found
