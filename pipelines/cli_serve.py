"""Commands that put a model to use here: a server on this machine, and scores of all subjects."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from trialops.errors import TrialOpsError

VERSION = click.option("--version", default="", help="Registered version; by default the one with the alias.")
ALIAS = click.option("--alias", default="champion", show_default=True, help="champion, challenger or candidate.")
BUNDLE = click.option("--bundle", type=click.Path(path_type=Path), help="Folder of a bundle, instead of the registry.")


@click.command()
@click.argument("task", default="withdrawal")
@VERSION
@ALIAS
@BUNDLE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port; 0 for a free one.")
@click.option("--grpc-port", type=int, help="Port of the gRPC form; without it there is none.")
@click.option("--features-only", is_flag=True, help="Take features alone; needs no online store.")
@click.option("--policy", type=click.Path(path_type=Path), help="YAML file of the input policy.")
def serve(
    task: str,
    version: str,
    alias: str,
    bundle: Path | None,
    host: str,
    port: int,
    grpc_port: int | None,
    features_only: bool,
    policy: Path | None,
) -> None:
    """Serve the model of TASK on this machine, until Ctrl-C.

    Subjects are looked up in the online store of the settings; every prediction is logged below the home for
    monitoring. It is the server that runs under KServe.
    """
    from trialops.settings import settings

    chosen = settings()
    folder, found = registered_bundle(task, version, alias, bundle)
    command = [sys.executable, "-m", "trialops.serving.server", "--bundle", str(folder), "--name", task]
    command += ["--version", found, "--host", host, "--port", str(port), "--announce"]
    command += ["--prediction-log", str(chosen.home.resolve() / "predictions" / task)]
    command += ["--request-log", str(chosen.home.resolve() / "serving" / f"{task}-requests.jsonl")]
    command += ["--arm", "stable" if alias == "champion" and not version and bundle is None else ""]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port)]
    if policy is not None:
        command += ["--input-policy", str(policy)]
    environment = {key: value for key, value in os.environ.items() if key != "TRIALOPS_ONLINE_URL"}
    if not features_only:
        command += ["--service", str(_service(folder))]
        environment["TRIALOPS_ONLINE_URL"] = chosen.online  # it may hold a password: not on the command line
    sys.stdout.flush()
    # In place of this process, which holds the registry's libraries: signals and exit code are the server's own.
    os.execve(sys.executable, command, environment)


@click.command()
@click.argument("task", default="withdrawal")
@VERSION
@ALIAS
@BUNDLE
@click.option("--day", type=int, help="Study day, from what was known then; without it each subject's newest day.")
def score(task: str, version: str, alias: str, bundle: Path | None, day: int | None) -> None:
    """Predict all subjects from the newest features of the lake with the model of TASK.

    Writes the table scores/TASK to the lake. Subjects whose features the input policy does not predict on get no
    probability and the reason.
    """
    from trialops.pages import suppressed
    from trialops.serving.batch import score_subjects, table_of
    from trialops.stores import step

    folder, found = registered_bundle(task, version, alias, bundle)
    with step("score-subjects", task=task, version=found, day=day) as run:
        table = score_subjects(run, folder, task, found, day=day)
        written = run.metrics["table_version"]
    counts = table["status"].value_counts().sort("status").iter_rows()
    click.echo(f"{table.height} subjects, table {table_of(task)} version {written}")
    for status, count in counts:
        click.echo(f"  {status}: {suppressed(count)}")


def registered_bundle(task: str, version: str, alias: str, bundle: Path | None) -> tuple[Path, str]:
    """Folder and version of the model asked for."""
    from trialops.settings import settings

    if bundle is not None:
        return bundle.resolve(), version or "0"
    from trialops.stores.registry import ModelRegistry

    chosen = settings()
    home = chosen.home.resolve()
    registry = ModelRegistry(chosen.mlflow, str(home / "models"))
    if not version:
        registered = registry.by_alias(task, alias)
        if registered is None:
            raise TrialOpsError(
                f"There is no {alias} of this task",
                where=f"model {task}",
                fix="Run scheduled_retraining, or name a --version or an --alias that exists.",
            )
        version = registered.version
    return registry.fetch(task, version, home / "serving"), version


def _service(folder: Path) -> Path:
    """The specification of the bundle's features, made from the current definitions where it came without one."""
    from trialops.models.bundle import Bundle
    from trialops.serving.service_file import SERVICE, write_service

    path = folder / SERVICE
    if not path.exists() and write_service(folder, Bundle.load(folder)) is None:
        raise TrialOpsError(
            "The current feature definitions lack a feature of the model",
            where=f"bundle {folder.name}",
            fix="Train it again on the current definitions, or serve it with --features-only.",
        )
    return path
