"""The ``trialops`` command. Each command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from pipelines.catalog import CATALOG, Entry, find
from pipelines.cli_output import JSON, home, panel, table
from trialops.errors import TrialOpsError

SET = click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Value of a parameter; repeatable.")
RESUME = "Continue the latest unfinished run of this pipeline, or RUN."


class Commands(click.Group):
    """A group whose commands end with a readable error and a fixed exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; 2 for an error with a remedy, 1 for an unexpected one."""
        try:
            return super().invoke(ctx)
        except TrialOpsError as error:
            panel(error)
            ctx.exit(2)
        except (click.exceptions.Exit, click.ClickException, click.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if os.environ.get("TRIALOPS_DEBUG"):
                traceback.print_exc()
            last = traceback.extract_tb(error.__traceback__)[-1]
            click.echo(
                f"Unexpected {type(error).__name__} in {Path(last.filename).name}:{last.lineno}. "
                "Its message is withheld because it may quote data; set TRIALOPS_DEBUG=1 to see it.",
                err=True,
            )
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--home", "folder", type=click.Path(path_type=Path), help="Embedded stores [.trialops].")
@click.version_option(package_name="trialops")
def cli(folder: Path | None) -> None:
    """Clinical-trial data, models and regulatory documents on Kubeflow, or here without a cluster."""
    if folder is not None:
        os.environ["TRIALOPS_HOME"] = str(folder.resolve())


@cli.command("pipelines")
@click.argument("name", required=False)
@JSON
def list_pipelines(name: str | None, as_json: bool) -> None:
    """List the catalogue; with NAME, one pipeline: its parameters and its steps."""
    from dataclasses import asdict

    if name is not None:
        show_pipeline(find(name), as_json)
        return
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in CATALOG], indent=1))
        return
    rows = [[e.name, e.title, e.category, e.schedule or "", ", ".join(e.triggers), ", ".join(e.needs)] for e in CATALOG]
    table(["name", "title", "category", "schedule (UTC)", "triggers", "needs"], rows)


def show_pipeline(entry: Entry, as_json: bool) -> None:
    """Print a pipeline's parameters and steps."""
    from dataclasses import asdict

    from pipelines.catalog import load
    from pipelines.graph import unfold
    from pipelines.parameters import signature

    spec = load(entry).pipeline_spec
    parameters, steps = signature(spec), [item.title for item in unfold(spec)[1]]
    if as_json:
        click.echo(json.dumps(asdict(entry) | {"parameters": parameters, "steps": steps}, indent=1))
        return
    when = "; ".join([*([f"{entry.schedule} (UTC)"] if entry.schedule else []), *entry.triggers])
    click.echo(f"{entry.name}: {entry.title}. Owner: {entry.owner}. When: {when or 'on demand'}.\n")
    rows = [
        [
            f"--set {name}=",
            facts["type"],
            "required" if facts["required"] else json.dumps(facts["default"]),
            facts["description"],
        ]
        for name, facts in sorted(parameters.items(), key=lambda item: (not item[1]["required"], item[0]))
    ]
    table(["parameter", "type", "default", "what"], rows)
    click.echo("\nSteps: " + ", ".join(steps))


@cli.command()
@click.argument("name")
@click.option("--source", type=click.Path(path_type=Path), help="The parameter 'source', as a path.")
@SET
@click.option(
    "--resume",
    is_flag=False,
    flag_value="latest",
    metavar="[RUN]",
    help="Continue the latest unfinished run, or RUN.",
)
@click.option("--no-cache", is_flag=True, help="Run every step, also unchanged ones.")
def run(name: str, source: Path | None, sets: tuple[str, ...], resume: str | None, no_cache: bool) -> None:
    """Run a pipeline here."""
    entry = find(name)
    from pipelines import local, progress
    from pipelines.parameters import pairs

    values = pairs(sets)
    if source is not None:
        if not source.exists():
            raise TrialOpsError(
                "The source does not exist", where=str(source), fix="Give a folder or file that exists."
            )
        values["source"] = str(source.resolve())
    result = local.run(
        entry,
        values,
        home=home(),
        resume=True if resume == "latest" else resume,
        cache=not no_cache,
        progress=progress.view(),
    )
    sys.exit({"succeeded": 0, "interrupted": 130}.get(result.state, 1))


@cli.command()
@click.option("--limit", default=20, show_default=True, help="How many, newest first.")
@JSON
def runs(limit: int, as_json: bool) -> None:
    """List local runs."""
    from pipelines.runs import all_runs

    found = []
    for folder in all_runs(home())[:limit]:
        record = folder.read()
        counts = record.get("counts", {})
        found.append(
            {
                "run": folder.run_id,
                "pipeline": record["pipeline"],
                "state": folder.state(),
                "started": record["started"][:19],
                "seconds": record.get("seconds"),
                "ran": counts.get("ran"),
                "reused": counts.get("reused"),
                "page": folder.page.as_uri() if folder.page.exists() else "",
            }
        )
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    columns = ["run", "pipeline", "state", "started", "seconds", "ran", "reused", "page"]
    table(columns, [["" if item[c] is None else str(item[c]) for c in columns] for item in found])


@cli.command("compile")
@click.argument("names", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/pipelines"), show_default=True)
def compile_command(names: tuple[str, ...], out: Path) -> None:
    """Compile pipelines to KFP IR and Kubernetes manifests."""
    from pipelines.compile import compile_all

    done = compile_all(out, names or None)
    table(["pipeline", "version", "kB", "IR", "Kubernetes"], [
        [c.name, c.version, f"{c.size / 1024:.1f}", str(c.ir), str(c.kubernetes)] for c in done
    ])  # fmt: skip


def _synthesize(out: Path, **how: Any) -> None:
    """Generate a trial with a progress bar."""
    from rich.console import Console
    from rich.progress import Progress

    from trialops.synthetic import generate

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("synthetic trial", total=1.0)
        generate(out, progress=lambda said, done: bar.update(task, completed=done, description=said), **how)


SUBJECTS = click.option("--subjects", default=1000, show_default=True, help="Screened subjects.")
SITES = click.option("--sites", default=20, show_default=True, help="Recruiting sites.")
SEED = click.option("--seed", default=1, show_default=True, help="Same seed, same bytes.")


@cli.command()
@SUBJECTS
@SITES
@SEED
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the files.")
@click.option("--formats", default="sdtm,fhir,hl7", show_default=True, help="Comma-separated.")
@click.option("--defects", default="none", show_default=True, help="none, all, or kinds, comma-separated.")
@click.option(
    "--plant",
    multiple=True,
    metavar="EFFECT",
    help="Effect of known size: signal=0, bias=sex:F:0.15, drift=ALT:0.5,effect.irritation:-1@0.5; repeatable.",
)
def synthesize(
    subjects: int, sites: int, seed: int, out: Path, formats: str, defects: str, plant: tuple[str, ...]
) -> None:
    """Write a synthetic trial: files as sites would send them."""
    from trialops.synthetic.planted import parse

    if defects == "all":
        from trialops.synthetic.defects import KINDS

        kinds = tuple(KINDS)
    else:
        kinds = () if defects == "none" else _listed(defects)
    how = {"formats": _listed(formats), "defects": kinds, "planted": parse(plant)}
    _synthesize(out, subjects=subjects, sites=sites, seed=seed, **how)
    click.echo(str(out))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@cli.command()
@SUBJECTS
@SITES
@SEED
def demo(subjects: int, sites: int, seed: int) -> None:
    """Synthesize a trial and run the main job on it, up to the released model.

    Works in a home of its own (.trialops/demo) and on embedded stores alone. When the decision waits for a
    signature, the demo's approver gives it, and the job runs again: what is done is reused, the canary follows.
    """
    from pipelines import cli_demo, local, progress

    os.environ.setdefault("TRIALOPS_HOME", str(Path(".trialops/demo").resolve()))
    cli_demo.refuse_configured_stores()
    cli_demo.settle_pseudonyms()
    out = home() / "trial" / f"{subjects}-{sites}-{seed}"
    if not (out / "trial.json").exists():
        _synthesize(out, subjects=subjects, sites=sites, seed=seed, formats=("sdtm",))
    source = {"source": str(out / "sdtm")}
    for attempt in (1, 2):
        result = local.run(find("scheduled_retraining"), source, home=home(), progress=progress.view())
        if result.state != "succeeded":
            sys.exit(130 if result.state == "interrupted" else 1)
        if attempt == 2 or not cli_demo.waits_for_signature(result.run_id):
            return
        cli_demo.sign(result.run_id)
        click.echo("\nThe decision waits for a signature. The demo's approver has signed; running again.\n")


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """Check every store and connection; says what to do about each."""
    from pipelines.doctor import examine

    checks = examine(home())
    if as_json:
        click.echo(json.dumps([check.__dict__ for check in checks], indent=1))
    else:
        table(["", "check", "found", "what to do"], [[c.mark, c.name, c.found, c.fix] for c in checks])
    if any(check.broken for check in checks):
        sys.exit(1)


@cli.command("component")
@click.argument("name")
@click.option("--area", required=True, help="Area of trialops/ it belongs to.")
def new_component(name: str, area: str) -> None:
    """Start a component: logic, wrapper and a test that passes."""
    from pipelines.scaffold import component

    for path in component(name, area):
        click.echo(str(path))


@cli.command("pipeline")
@click.argument("name")
@click.option("--category", required=True, help="Folder below pipelines/.")
@click.option("--area", default="operations", show_default=True, help="Area of its first component.")
def new_pipeline(name: str, category: str, area: str) -> None:
    """Start a pipeline: component, module, catalogue entry and tests that pass."""
    from pipelines.scaffold import pipeline

    for path in pipeline(name, category, area):
        click.echo(str(path))
    click.echo("Next: make golden-update, then read the snapshots it wrote below tests/compile/golden.")


COMMANDS = (
    ("cli_bundle", "bundle"),
    ("cli_alerts", "alerts"),
    ("cli_alerts", "metrics"),
    ("cli_cluster", "schedules"),
    ("cli_cluster", "submit"),
    ("cli_coding", "coding"),
    ("cli_corrections", "corrections"),
    ("cli_database", "database"),
    ("cli_documents", "documents"),
    ("cli_experiment", "experiment"),
    ("cli_export", "export"),
    ("cli_features", "features"),
    ("cli_governance", "audit"),
    ("cli_health", "health"),
    ("cli_labs", "labs"),
    ("cli_privacy", "privacy"),
    ("cli_queries", "queries"),
    ("cli_release", "approve"),
    ("cli_release", "rollback"),
    ("cli_rollout", "rollout"),
    ("cli_rollout", "route"),
    ("cli_safety", "safety"),
    ("cli_security", "security"),
    ("cli_serve", "score"),
    ("cli_serve", "serve"),
    ("cli_transfer", "transfer"),
    ("cli_trial", "trial"),
    ("cli_triggers", "triggers"),
)
"""Commands that live in modules of their own, beside this one: module, name."""


def _register() -> None:
    from importlib import import_module

    for module, name in COMMANDS:
        cli.add_command(getattr(import_module(f"pipelines.{module}"), name))


_register()


def main() -> None:
    """Entry point of the ``trialops`` command."""
    cli(prog_name="trialops")


if __name__ == "__main__":
    main()
