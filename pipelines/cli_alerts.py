"""Commands over alerts: list, take, silence, end, duty, the server of links; and the metrics of the platform."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.cli_output import JSON, table

if TYPE_CHECKING:
    from trialops.alerts.desk import AlertDesk

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=HELP)
def alerts() -> None:
    """Alerts: list, show, ack, silence, resolve, oncall, messages, test, serve, config."""


def _desk() -> AlertDesk:
    from trialops.alerts.desk import open_desk

    return open_desk()


def _now() -> datetime:
    return datetime.now(UTC)


def _audit(desk: AlertDesk, action: str, subject: str, reason: str) -> None:
    """Append to the audit trail what a person did."""
    from trialops.governance.audit import AuditTrail

    if desk.settings.audit_log_enabled:
        AuditTrail(desk.register.engine).append(
            actor=desk.settings.who, action=action, object=subject, reason=reason or "from the command line"
        )


def _span(text: str) -> timedelta:
    from trialops.alerts.thresholds import duration
    from trialops.errors import TrialOpsError

    try:
        return duration(text)
    except ValueError:
        raise TrialOpsError(f"{text!r} is no time span", where="--for", fix="Write 30m, 4h or 7d.") from None


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Those that have ended too.")
@click.option("--severity", type=click.Choice(["critical", "warning", "info"]), help="Only this severity.")
@click.option("--area", default="", help="Only this area.")
@JSON
def list_alerts(everything: bool, severity: str | None, area: str, as_json: bool) -> None:
    """Show alerts: what is told before what is held back, the gravest and oldest first."""
    import json
    from dataclasses import asdict

    from trialops.alerts.digest import GRAVEST_FIRST
    from trialops.alerts.silences import silences
    from trialops.alerts.telling import inhibited, silenced

    desk, now = _desk(), _now()
    known = list(desk.register.known().values())
    firing = [alert for alert in known if alert.firing]
    quiet = silenced(firing, silences(desk.register), now)
    needless = inhibited(firing, desk.routes)
    rank = {name: number for number, name in enumerate(GRAVEST_FIRST)}
    chosen = sorted(
        (
            alert
            for alert in known
            if (everything or alert.firing)
            and (not severity or alert.severity == severity)
            and (not area or alert.area == area)
        ),
        key=lambda a: (
            not a.firing,
            a.fingerprint in quiet or a.fingerprint in needless,
            rank[a.severity],
            a.since,
            a.fingerprint,
        ),
    )
    if as_json:
        click.echo(json.dumps([asdict(alert) for alert in chosen], indent=1, sort_keys=True))
        return
    rows = []
    for alert in chosen:
        state = alert.state
        if alert.firing:
            state = f"taken by {alert.acknowledged}" if alert.acknowledged else "open"
            state = (
                "silenced" if alert.fingerprint in quiet else "inhibited" if alert.fingerprint in needless else state
            )
        rows.append(
            [
                alert.fingerprint[:12],
                alert.severity,
                alert.name,
                state,
                alert.since[:16],
                str(alert.count),
                alert.summary,
            ]
        )
    table(["alert", "severity", "name", "state", "since (UTC)", "times", "what"], rows)


@alerts.command()
@click.argument("alert")
def show(alert: str) -> None:
    """Show an alert's history by the beginning of its fingerprint."""
    from trialops.errors import TrialOpsError

    entries = _desk().register.history(alert)
    if len({entry.alert.fingerprint for entry in entries}) != 1:
        raise TrialOpsError("Not one alert begins so", where=alert, fix="List the alerts and take one from there.")
    last = entries[-1].alert
    for name in ("name", "severity", "state", "summary", "runbook", "count", "acknowledged"):
        click.echo(f"{name:<13}{getattr(last, name)}")
    click.echo(f"{'labels':<13}" + " ".join(f"{k}={v}" for k, v in sorted(last.labels.items())))
    table(
        ["at (UTC)", "event", "episode", "level", "who", "told"],
        [
            [e.at[:19], e.event, str(e.alert.episode), str(e.alert.level), e.actor, ", ".join(sorted(e.alert.told))]
            for e in entries
        ],
    )


@alerts.command()
@click.argument("chosen", nargs=-1, required=True, metavar="ALERT...")
@click.option("--reason", default="", help="What will be done; nothing that identifies a subject.")
def ack(chosen: tuple[str, ...], reason: str) -> None:
    """Take alerts: nobody is paged or reminded of them any more while they last."""
    from trialops.alerts.telling import acknowledge
    from trialops.errors import TrialOpsError

    desk = _desk()
    done = acknowledge(desk.register, [(prefix, 0) for prefix in chosen], desk.settings.who, _now())
    if not done:
        raise TrialOpsError(
            "There is nothing to take: they have ended, are taken, or are not known",
            where=", ".join(chosen),
            fix="trialops alerts list",
        )
    for alert in done:
        _audit(desk, "alert.acknowledge", alert.fingerprint[:12], reason)
        click.echo(f"{alert.fingerprint[:12]} {alert.name} is yours")


@alerts.command()
@click.argument("chosen", nargs=-1, required=True, metavar="ALERT...")
@click.option("--reason", required=True, help="Why it is over; nothing that identifies a subject.")
def resolve(chosen: tuple[str, ...], reason: str) -> None:
    """End alerts that no rule or run will end by itself."""
    from trialops.errors import TrialOpsError
    from trialops.stores.database import writing

    desk = _desk()
    with writing(desk.register.engine) as connection:
        desk.register.lock(connection)
        known = desk.register.known(connection=connection)
        matching = [key for key in known if any(key.startswith(prefix) for prefix in chosen if prefix)]
        ended = desk.register.end(connection, matching, _now())
    if not ended:
        raise TrialOpsError("Nothing of these lasts", where=", ".join(chosen), fix="trialops alerts list")
    for alert in ended:
        _audit(desk, "alert.resolve", alert.fingerprint[:12], reason)
        click.echo(f"{alert.fingerprint[:12]} {alert.name} has ended")


@alerts.command()
@click.argument("matchers", nargs=-1, metavar="NAME=VALUE...")
@click.option("--for", "lasts", default="4h", show_default=True, help="How long: 30m, 4h, 7d; at most 30d.")
@click.option("--reason", default="", help="Why nobody is to be told; nothing that identifies a subject.")
@click.option("--end", "ending", default="", help="End this silence instead, by the beginning of its id.")
@click.option("--list", "listing", is_flag=True, help="List the silences that last.")
def silence(matchers: tuple[str, ...], lasts: str, reason: str, ending: str, listing: bool) -> None:
    """Tell nobody for a time of alerts that match all of: alertname=DiskUse, pipeline=~data_.*, and so on."""
    from trialops.alerts.register import utc_text
    from trialops.alerts.silences import add_silence, end_silence, matcher, silences

    desk = _desk()
    if listing:
        rows = [
            [s.silence[:8], " ".join(f"{m['name']}={m['value']}" for m in s.matchers), s.ends[:16], s.author, s.reason]
            for s in silences(desk.register)
            if s.ends > utc_text(_now())
        ]
        table(["silence", "matches", "until (UTC)", "who", "why"], rows)
        return
    if ending:
        done = end_silence(desk.register, ending, reason or "ended", _now())
        _audit(desk, "alert.silence.end", done.silence, reason)
        click.echo(f"{done.silence[:8]} has ended")
        return
    made = add_silence(desk.register, [matcher(text) for text in matchers], _span(lasts), reason, _now())
    _audit(desk, "alert.silence", made.silence, made.reason)
    click.echo(f"{made.silence[:8]} lasts until {made.ends[:16]} UTC")


@alerts.command()
@click.option("--at", default="", help="ISO 8601 time; empty is now.")
def oncall(at: str) -> None:
    """Show who is on duty, and whom each level of escalation pages."""
    from trialops.alerts.desk import moment
    from trialops.alerts.thresholds import span_text

    routes, when = _desk().routes, moment(at)
    table(
        ["rotation", "on duty"],
        [[name, rotation.on_duty(when, routes.time_zone)] for name, rotation in sorted(routes.rotations.items())],
    )
    rows = [
        [name, str(number), span_text(level.after), ", ".join(routes.paged(level, when))]
        for name, policy in sorted(routes.escalations.items())
        for number, level in enumerate(policy.levels, start=1)
    ]
    table(["escalation", "level", "after", "pages"], rows)
    if unset := routes.unset():
        click.echo(f"without an address: {', '.join(unset)}")


@alerts.command()
@click.option("--retry", default="", help="Queue this dead message again, by the beginning of its key.")
def messages(retry: str) -> None:
    """Show messages that wait or could not be delivered."""
    from trialops.alerts.outbox import WAITING
    from trialops.errors import TrialOpsError

    desk = _desk()
    if retry:
        found = desk.outbox.message(retry)
        if found is None or found.state != "dead":
            raise TrialOpsError("No dead message begins so", where=retry, fix="trialops alerts messages")
        desk.outbox.revive(found, _now())
        click.echo(f"{found.key[:12]} is queued again")
        return
    rows = [
        [m.key[:12], m.kind, m.receiver, m.state, str(m.attempt), m.queued[:16], str(m.content["title"])]
        for m in desk.outbox.messages(states=(*WAITING, "dead"))
    ]
    table(["message", "kind", "receiver", "state", "tries", "queued (UTC)", "what"], rows)


@alerts.command("test")
@click.argument("receiver")
def test_receiver(receiver: str) -> None:
    """Send a test message to a receiver; says whether its server has taken it."""
    from trialops.alerts.outbox import Message, message_key
    from trialops.alerts.register import utc_text
    from trialops.alerts.transport import check_address, send
    from trialops.errors import TrialOpsError

    desk, now = _desk(), _now()
    known = desk.routes.receivers.get(receiver)
    if known is None or not known.address:
        raise TrialOpsError(
            f"{receiver!r} is not a receiver, or has no address",
            where=known.variable if known else "routes",
            fix="trialops alerts oncall lists those without an address.",
        )
    check_address(known.address)
    key = message_key(desk.register.study, "test", receiver, [utc_text(now)])
    content = {
        "title": "TrialOps: test of a receiver",
        "severity": "info",
        "text": ["This is a test. Nothing is wrong."],
    }
    outcome = send(known.address, Message(key, 1, "sending", "test", receiver, "", 1, content), "")
    if not outcome.taken:
        said = ", ".join(f"{name}: {value}" for name, value in sorted(outcome.detail.items()))
        raise TrialOpsError("The message was not taken", where=receiver, fix=f"Check the address ({said}).")
    click.echo(f"{receiver} has taken it")


@alerts.command("run")
@click.option("--every", default=0, help="Seconds between passes; 0: one pass.")
@click.option("--study-file", default="", help="Study file, for the reporting clocks.")
def run_passes(every: int, study_file: str) -> None:
    """Evaluate, escalate and deliver without an orchestrator; one pass, or one every so many seconds."""
    import time

    from trialops.alerts.desk import open_desk

    desk = open_desk(study_file=study_file)
    while True:
        click.echo(_pass(desk))
        if not every:
            return
        time.sleep(every)


def _pass(desk: AlertDesk) -> str:
    from trialops.alerts.digest import queue_digests

    settled, _ = desk.settle(_now())
    paged = desk.escalate(_now())
    digests = queue_digests(desk.register, desk.outbox, desk.routes, _now())
    ends = desk.deliver(_now).numbers()
    firing = settled.numbers()["firing"]
    return f"{firing} fire, {paged} pages, {len(digests)} digests, {ends['sent']} sent, {ends['failed']} failed"


@alerts.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port; 0 takes a free one.")
@click.option("--every", default=0, help="Seconds between passes of this server's own; 0: others make them.")
def serve_alerts(host: str, port: int, every: int) -> None:
    """Serve the page by which alerts are taken, Alertmanager's call back (POST /alertmanager), and /metrics."""
    import threading
    import time

    from trialops.alerts.links import signing_key
    from trialops.alerts.serve import Service, make_server

    desk = _desk()
    service = Service(desk.register, desk.routes, signing_key(desk.settings), _now, desk.metrics)
    server = make_server(service, host, port)
    click.echo(f"http://{host}:{server.server_address[1]}  /ack  /alertmanager  /metrics  /healthz")

    def passes() -> None:
        while True:
            try:
                click.echo(_pass(desk))
            except Exception as error:  # the next pass may do better, and the links must stay
                click.echo(f"the pass ended: {type(error).__name__}", err=True)
            time.sleep(every)

    if every:
        threading.Thread(target=passes, daemon=True).start()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.shutdown()


@alerts.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Address of trialops alerts serve.")
def config(out: Path, url: str) -> None:
    """Write alertmanager.yml for these routes, the token it calls back with, and Prometheus' rules with their test."""
    import os

    import yaml

    from trialops.alerts.alertmanager import configuration, hook_token
    from trialops.alerts.links import signing_key
    from trialops.alerts.prometheus import rule_groups, rule_tests

    desk = _desk()
    out.mkdir(parents=True, exist_ok=True)
    token = out / "webhook.token"
    with open(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(hook_token(signing_key(desk.settings)))
    documents = {
        "alertmanager.yml": configuration(desk.routes, url, str(token.resolve())),
        "rules.yml": {"groups": rule_groups(desk.thresholds)},
        "rules.test.yml": rule_tests(desk.thresholds, "rules.yml"),
    }
    for name, content in documents.items():
        (out / name).write_text(yaml.safe_dump(content, sort_keys=False, width=120))
        click.echo(str(out / name))
    click.echo(str(token))


@click.command(context_settings=HELP)
@click.option("--out", type=click.Path(path_type=Path), help="Write the textfile of node_exporter's collector.")
@click.option("--listen", default="", metavar="HOST:PORT", help="Serve /metrics instead.")
@click.option("--study-file", default="", help="Study file, for the reporting clocks.")
def metrics(out: Path | None, listen: str, study_file: str) -> None:
    """The platform's metrics in Prometheus' format: printed, to a file, or served."""
    from trialops.alerts.desk import open_desk
    from trialops.alerts.exposition import write_textfile

    desk = open_desk(study_file=study_file)
    if listen:
        import secrets

        from trialops.alerts.serve import Service, make_server

        host, _, port = listen.rpartition(":")
        # A key nobody knows: here no link holds and nobody calls back, there are metrics alone.
        service = Service(desk.register, desk.routes, secrets.token_bytes(32), _now, desk.metrics)
        server = make_server(service, host or "127.0.0.1", int(port))
        click.echo(f"http://{host or '127.0.0.1'}:{server.server_address[1]}/metrics")
        server.serve_forever()
    elif out:
        write_textfile(out, desk.metrics())
        click.echo(str(out))
    else:
        click.echo(desk.metrics(), nl=False)
