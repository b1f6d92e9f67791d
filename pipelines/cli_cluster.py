"""Commands that talk to a Kubeflow Pipelines server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _server(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--ca", type=click.Path(path_type=Path, exists=True), help="Certificate authority."),
        click.option("--token", envvar="TRIALOPS_KFP_TOKEN", help="Bearer token [TRIALOPS_KFP_TOKEN]."),
        click.option("--namespace", help="Namespace (multi-user installations)."),
        click.option("--host", envvar="KF_PIPELINES_ENDPOINT", required=True, help="URL of the server."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("name")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Value of a parameter; repeatable.")
@_server
@click.option("--experiment", default="trialops", show_default=True)
@click.option("--wait", is_flag=True, help="Return when the run has ended.")
def submit(
    name: str,
    sets: tuple[str, ...],
    host: str,
    namespace: str | None,
    token: str | None,
    ca: Path | None,
    experiment: str,
    wait: bool,
) -> None:
    """Run a pipeline on a cluster."""
    from pipelines.catalog import find
    from pipelines.parameters import pairs
    from pipelines.submit import submit as start

    done = start(
        find(name),
        pairs(sets),
        host=host,
        namespace=namespace,
        experiment=experiment,
        wait=wait,
        token=token,
        ca=ca,
        told=click.echo,
    )
    if wait and done.state != "SUCCEEDED":
        sys.exit(1)


@click.group()
def schedules() -> None:
    """Recurring runs on a cluster, kept equal to the catalogue."""


def _pinned(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--pinned/--latest",
        envvar="TRIALOPS_SCHEDULES_PINNED",
        default=False,
        show_default=True,
        help="Run the version compiled now, or the latest one uploaded.",
    )(command)


@schedules.command("diff")
@_server
@_pinned
def show_diff(host: str, namespace: str | None, token: str | None, ca: Path | None, pinned: bool) -> None:
    """Show what apply would do; exit code 1 when there is something to do."""
    from pipelines.schedules import diff
    from pipelines.submit import connect

    changes = diff(connect(host, namespace=namespace, token=token, ca=ca), namespace=namespace, pinned=pinned)
    _show(changes)
    if any(change.action != "same" for change in changes):
        sys.exit(1)


@schedules.command("apply")
@_server
@_pinned
@click.option("--experiment", default="trialops", show_default=True)
@click.option("--service-account", help="Kubernetes service account of the runs.")
def apply_changes(
    host: str,
    namespace: str | None,
    token: str | None,
    ca: Path | None,
    pinned: bool,
    experiment: str,
    service_account: str | None,
) -> None:
    """Make the recurring runs equal to the catalogue."""
    from pipelines.schedules import apply
    from pipelines.submit import connect

    client = connect(host, namespace=namespace, token=token, ca=ca)
    _show(apply(client, namespace=namespace, pinned=pinned, experiment=experiment, service_account=service_account))


def _show(changes: list[Any]) -> None:
    from pipelines.cli_output import table

    table(["action", "recurring run", "why"], [[change.action, change.name, change.why] for change in changes])
