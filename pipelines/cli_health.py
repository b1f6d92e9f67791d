"""Health of the services the platform stands on, from the command line."""

from __future__ import annotations

import json

import click


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.option("--quick", is_flag=True, help="Only whether each service can be reached.")
@click.pass_context
def health(context: click.Context, as_json: bool, quick: bool) -> None:
    """Ask every service over its own protocol; exit code 0 healthy, 1 degraded or broken, 2 unknown.

    What could not be reached is unknown. Which services are asked: TRIALOPS_SERVICES and the addresses in the settings.
    """
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from pipelines.cli_output import table
    from trialops.operations.health import exit_code, in_order, verdict
    from trialops.operations.look import document
    from trialops.operations.services import load_policy, survey
    from trialops.settings import settings

    looked = survey(settings(), load_policy(), datetime.now(UTC), quick=quick)
    if as_json:
        found = document(looked.findings, unused=dict(looked.unused), policy=looked.policy.digest)
        click.echo(json.dumps(found, indent=1, sort_keys=True))
    else:
        rows = [[f.component, f.check, f.state, f.detail, f.fix] for f in in_order(looked.findings)]
        table(["component", "check", "state", "found", "what to do"], rows)
        for name, why in looked.unused.items():
            click.echo(f"{name}: not used ({why})")
        told = verdict(looked.findings)
        click.echo(f"{told.label}: {told.text}")
    context.exit(exit_code(looked.findings))


@health.command()
@click.argument("task", default="withdrawal")
@click.option("--alias", default="champion", show_default=True, help="champion, challenger or candidate.")
def example(task: str, alias: str) -> None:
    """Store the example by which the model server of TASK is asked, with the answer of the registered version."""
    from pipelines.cli_serve import registered_bundle
    from trialops.models.bundle import Bundle
    from trialops.operations.probe_model import store_example
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    folder, version = registered_bundle(task, "", alias, None)
    stored = store_example(open_store(settings().objects), task, version, Bundle.load(folder))
    click.echo(f"{task} version {version}: example stored, bundle {stored['bundle'][:12]}")
