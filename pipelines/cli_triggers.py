"""Commands for requests to start a pipeline: what monitoring has asked for, and starting it."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--run", "start", is_flag=True, help="Start what is waiting, one after the other.")
@click.option("--all", "every", is_flag=True, help="Show those that were started too.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=VALUE", help="A parameter for what is started.")
def triggers(start: bool, every: bool, pairs: tuple[str, ...]) -> None:
    """Show what runs have asked for, such as a retraining after drift; with --run, start it.

    Each request is started once. One whose run fails stays, and can be tried again.
    """
    from pipelines import local, progress
    from pipelines.catalog import find
    from pipelines.cli_output import home, table
    from pipelines.parameters import pairs as parsed
    from trialops.monitoring import triggers as requests
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    objects = open_store(settings().objects)
    found = requests.triggers(objects, waiting=not every)
    if not found:
        click.echo("Nothing is waiting.")
        return
    table(
        ["asked", "pipeline", "by run", "why", "started as"],
        [[t.at[:19], t.pipeline, t.run_id, t.reason, t.done_by or "–"] for t in found],
    )
    if not start:
        return
    for trigger in found:
        if trigger.done_by:
            continue
        entry = find(trigger.pipeline)
        arguments = {**dict(entry.arguments), **trigger.arguments, **parsed(pairs)}
        result = local.run(entry, arguments, home=home(), progress=progress.view())
        if result.state != "succeeded":
            sys.exit(130 if result.state == "interrupted" else 1)
        requests.done(objects, trigger, result.run_id)
