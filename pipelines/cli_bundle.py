"""Command that fetches a registered model: what a pod does before a model server starts beside it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("task", default="withdrawal")
@click.option("--version", default="", help="Registered version; by default the one with the alias.")
@click.option("--alias", default="champion", show_default=True, help="champion, challenger or candidate.")
@click.option("--to", "into", required=True, type=click.Path(path_type=Path), help="Folder that receives the bundle.")
def bundle(task: str, version: str, alias: str, into: Path) -> None:
    """Copy the bundle of TASK's model from the registry and verify it against its digest.

    A model server is started on the folder: python -m trialops.serving.server --bundle FOLDER.
    """
    from trialops.errors import TrialOpsError
    from trialops.settings import settings
    from trialops.stores.registry import ModelRegistry

    chosen = settings()
    registry = ModelRegistry(chosen.mlflow, str(chosen.home.resolve() / "models"))
    if not version:
        registered = registry.by_alias(task, alias)
        if registered is None:
            raise TrialOpsError(
                f"There is no {alias} of this task",
                where=f"model {task}",
                fix="Run scheduled_retraining, or name a --version or an --alias that exists.",
            )
        version = registered.version
    into.mkdir(parents=True, exist_ok=True)
    click.echo(f"version {version}: {registry.fetch(task, version, into)}")
