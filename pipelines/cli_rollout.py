"""Commands of a model in service: its router, and a rollout behind it."""

from __future__ import annotations

from pathlib import Path

import click

from trialops.errors import TrialOpsError


@click.command()
@click.argument("model")
@click.option("--stable", default="", metavar="HOST:PORT", help="Server of the model in use, for the first start.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8090, show_default=True, help="Port to listen on; 0 for a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="File that receives the port.")
@click.option("--drain", default=5.0, show_default=True, help="Seconds to keep answering after SIGTERM.")
def route(model: str, stable: str, host: str, port: int, port_file: Path | None, drain: float) -> None:
    """Answer for MODEL at one address, whatever versions stand behind it.

    The first start needs the champion's server; later ones go on as rollouts and rollbacks have left it.
    """
    from trialops.serving import router
    from trialops.serving.live import CALLS
    from trialops.serving.rollback import routing_file
    from trialops.serving.routing import Backend, Routing, write_routing
    from trialops.settings import settings
    from trialops.stores.registry import ModelRegistry

    chosen = settings()
    home = chosen.home.resolve()
    file = routing_file(home, model)
    if stable:
        champion = ModelRegistry(chosen.mlflow, str(home / "models")).by_alias(model, "champion")
        if champion is None:
            raise TrialOpsError(
                "No version is in service", where=f"model {model}", fix="Deploy one: trialops run model_deployment"
            )
        at, number = address(stable)
        write_routing(file, Routing(model, Backend(at, number, champion.version, champion.digest)))
    arguments = ["--routing", str(file), "--calls", str(file.parent / CALLS), "--host", host, "--port", str(port)]
    arguments += ["--drain", str(drain), *(("--port-file", str(port_file)) if port_file else ())]
    raise SystemExit(router.main(arguments))


@click.command()
@click.argument("model")
@click.option("--version", required=True, help="Registered version, approved by signature.")
@click.option("--candidate", required=True, metavar="HOST:PORT", help="Server that serves it.")
@click.option("--policy", type=click.Path(path_type=Path, exists=True), help="Steps and limits [the project's].")
@click.option("--outcomes", type=click.Path(path_type=Path), help="CSV of subject_id, label; read at every look.")
@click.option("--poll", default=1.0, show_default=True, help="Seconds between two looks at the record.")
@click.option("--wait", default=86_400.0, show_default=True, help="Longest wait for a step's requests, seconds.")
def rollout(
    model: str, version: str, candidate: str, policy: Path | None, outcomes: Path | None, poll: float, wait: float
) -> None:
    """Lead the rollout of a version of MODEL under its real callers: shadow, 5, 25, 50, 100 %, or back.

    Stop it whenever you like: traffic stays as it is, and the same command goes on where it stood.
    """
    from trialops.serving.live import roll_out_live
    from trialops.serving.policy import load_policy
    from trialops.settings import settings

    host, port = address(candidate)
    result = roll_out_live(
        settings(),
        model,
        version,
        host,
        port,
        policy=load_policy(policy) if policy is not None else None,
        outcomes=outcomes,
        poll_seconds=poll,
        most_seconds=wait,
        progress=lambda message, fraction: click.echo(f"{fraction:4.0%}  {message}"),
    )
    for reason in result.reasons:
        click.echo(reason)
    click.echo(f"Version {version}: {'promoted' if result.decision == 'promote' else 'rolled back'}.")
    raise SystemExit(0 if result.decision == "promote" else 1)


def address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Raises:
        TrialOpsError: The text is something else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise TrialOpsError(f"{text!r} is no address", where="command line", fix="Give HOST:PORT.")
    return host, int(port)
