"""Commands of the cloud transfer: its steps as pods run them, the whole of it without Argo, and a look at it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from trialops.transfer.steps import Transfer

RUN = click.option("--run-id", required=True, help="Name of the run; the same name goes on with the same run.")
CONFIG = click.option(
    "--config", envvar="TRIALOPS_TRANSFER_CONFIG", required=True, help="The trial's jobs [TRIALOPS_TRANSFER_CONFIG]."
)
AGAIN = click.option("--again", type=bool, default=False, help="One more attempt of what has failed for good.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def transfer() -> None:
    """Cloud transfer: extract, back up, ingest, distribute, report.

    Exit codes of steps: 0 done, 75 run it again, 65 the data cannot be trusted, 78 a person has to act.
    """


def _open(config: str, run_id: str, again: bool = False) -> Transfer:
    from trialops.transfer.steps import open_transfer

    return open_transfer(config, run_id, again=again, told=lambda line: click.echo(line, err=True))


def _coded(work: Callable[[], Any]) -> Any:
    """Run, and end with the exit code that an orchestrator reads; what is not ours may pass, so it is retryable."""
    from pipelines.cli_output import panel
    from trialops.errors import TrialOpsError
    from trialops.stores.context import readable
    from trialops.transfer.failures import EXIT_CODES, TransferFailure

    try:
        return work()
    except TransferFailure as failure:
        panel(failure)
        sys.exit(failure.exit_code)
    except TrialOpsError as error:
        panel(error)
        # A step hides the message of what is not ours ("Unexpected ..."): a store that is away, most likely.
        sys.exit(EXIT_CODES["retryable" if error.what.startswith("Unexpected ") else "permanent"])
    except (SystemExit, KeyboardInterrupt, click.ClickException):
        raise
    except Exception as error:
        panel(readable(error))
        sys.exit(EXIT_CODES["retryable"])


@transfer.command("run")
@click.argument("step")
@RUN
@CONFIG
@click.option("--part", default="", help="One flow or data set of the step; all of them by default.")
@AGAIN
@click.option("--out", type=click.Path(path_type=Path), help="With plan: file for the names of the flows, as JSON.")
def run_step(step: str, run_id: str, config: str, part: str, again: bool, out: Path | None) -> None:
    """Run one step, or go on with it."""

    def work() -> None:
        done = _open(config, run_id, again).run_step(step, part)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(done[0].evidence.get("flows", [])))
        for checkpoint in done:
            click.echo(f"{checkpoint.label}: {checkpoint.state}", err=True)

    _coded(work)


@transfer.command("all")
@RUN
@CONFIG
@AGAIN
def run_all(run_id: str, config: str, again: bool) -> None:
    """Run the whole transfer here, or go on with it."""
    from trialops.transfer.runner import run_all as everything

    def work() -> None:
        ended = everything(_open(config, run_id, again))
        click.echo(f"{ended.state}: {ended.page}")
        if ended.state == "failed":
            sys.exit(1)

    _coded(work)


@transfer.command()
@RUN
@CONFIG
def finish(run_id: str, config: str) -> None:
    """End a run: raise alerts still due, keep durations, name the bottleneck, write the page."""
    from trialops.transfer.runner import finish as end

    _coded(lambda: click.echo(f"{run_id}: {end(_open(config, run_id)).state}"))


@transfer.command()
@RUN
@CONFIG
@click.option("--step", default="", help="This step alone.")
def cancel(run_id: str, config: str, step: str) -> None:
    """Ask the providers to stop what the run has running."""
    asked = _coded(lambda: _open(config, run_id).cancel(step))
    click.echo(f"asked to stop: {', '.join(asked)}" if asked else "nothing is running")


@transfer.command()
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(run_id: str, as_json: bool) -> None:
    """Show where a run stands."""
    from dataclasses import asdict

    from pipelines.cli_output import table
    from trialops.errors import TrialOpsError
    from trialops.settings import settings
    from trialops.stores.objects import open_store
    from trialops.transfer.checkpoints import Checkpoints
    from trialops.transfer.graph import STEPS

    known = Checkpoints(open_store(settings().objects), "status").of_run(run_id)
    if not known:
        raise TrialOpsError("No such run", where=run_id, fix="Give the run id that the transfer was started with.")
    known = sorted(known, key=lambda c: (STEPS.index(c.step), c.part))
    if as_json:
        click.echo(json.dumps([asdict(c) for c in known], indent=1))
        return
    table(
        ["job", "state", "provider says", "attempt", "resumes", "seconds", "alert", "failure"],
        [
            [
                c.label,
                c.state,
                c.native,
                str(c.attempt),
                str(c.resumes),
                "" if c.seconds is None else f"{c.seconds:.1f}",
                c.alert,
                c.failure.get("code", ""),
            ]
            for c in known
        ],
    )


@transfer.command("durations")
@click.option("--out", type=click.Path(path_type=Path), help="Write the page here.")
def show_durations(out: Path | None) -> None:
    """Compare the newest duration of every job with its history."""
    from pipelines.cli_output import table
    from trialops.pages import render
    from trialops.settings import settings
    from trialops.stores.objects import open_store
    from trialops.transfer import durations
    from trialops.transfer.graph import STEPS
    from trialops.transfer.page import durations_page
    from trialops.transfer.policy import transfer_policy

    objects, policy = open_store(settings().objects), transfer_policy()
    known = {step: durations.history(objects, step) for step in STEPS}
    judged = durations.judge_newest(known, policy)
    rows = [
        [one.label, f"{one.seconds:.1f}", str(one.runs), *("" if v is None else f"{v:.2f}" for v in (one.usual, one.z))]
        for one in judged
    ]
    table(["job", "seconds", "earlier runs", "usual", "z"], rows)
    found = durations.bottleneck(judged, policy)
    if found is not None:
        click.echo(f"bottleneck: {found.label} ({found.why}, {found.share:.0%} of the time)")
    if out is not None:
        out.write_text(render(durations_page(known, judged)))
