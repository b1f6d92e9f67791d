"""Commands of security monitoring: findings by name, access review, evidence packs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from trialops.stores.context import Step

MONTH = click.option("--month", default="", help="YYYY-MM; the last whole month by default.")
PURPOSE = click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def security() -> None:
    """Security monitoring: findings, access review, evidence."""


@security.command()
@click.argument("finding", required=False, default="")
@PURPOSE
@click.option("--all", "everything", is_flag=True, help="Those over the budget too, which raised no alert.")
@click.option("--limit", default=50, show_default=True, help="At most so many, the newest.")
def findings(finding: str, purpose: str, everything: bool, limit: int) -> None:
    """Show findings with who they are about, or only FINDING, the id that an alert names."""
    from pipelines.cli import table
    from trialops.governance.access import authorise
    from trialops.security.findings import USE, of, screenings

    run = _step("security-findings")
    authorise(run, USE, purpose, subject=finding)
    found = [
        one
        for body in screenings(run)
        for one in of(body)
        if one.id.startswith(finding) and (everything or one.told or finding)
    ][-limit:]
    if finding and not found:
        click.echo(f"There is no finding {finding}", err=True)
        sys.exit(1)
    names = _names(run, [one.actor for one in found], purpose)
    rows = [
        [one.id, one.day, one.severity, one.title, names.get(one.actor, ""), one.role, str(one.count),
         "" if one.tail is None else f"{one.tail:.2g}", one.words]
        for one in found
    ]  # fmt: skip
    table(["finding", "day", "severity", "what", "who", "role", "count", "tail", "figures"], rows)


@security.command()
@MONTH
@PURPOSE
@click.option("--marked", is_flag=True, help="Only what needs a decision.")
@click.option("--out", type=click.Path(path_type=Path), help="CSV to fill in: item, decision, reason.")
@click.option("--decisions", type=click.Path(path_type=Path, exists=True), help="CSV filled in; needs --user.")
@click.option("--user", default="", help="User id of the reviewer who signs.")
@click.option("--passphrase", default="", help="Asked for when not given.")
def review(
    month: str, purpose: str, marked: bool, out: Path | None, decisions: Path | None, user: str, passphrase: str
) -> None:
    """Show a month's access review; with --decisions sign it.

    Every marked item needs a decision: keep or revoke, with a reason.
    """
    from pipelines.cli import table
    from pipelines.cli_governance import anchored
    from trialops.errors import TrialOpsError
    from trialops.governance.access import authorise
    from trialops.governance.access_review import kept, period_of, read_decisions, sign
    from trialops.security.collect_run import moment

    run = _step("security-review")
    period, _, _ = period_of(month, moment(""))
    authorise(run, "access_review", purpose, subject=period)
    digest, document = kept(run.objects, period)
    if decisions is not None:
        if not user:
            raise TrialOpsError("A review is signed by somebody", where="--user", fix="Give the reviewer's user id.")
        ruled = read_decisions(decisions, document)
        passphrase = passphrase or click.prompt("Passphrase", hide_input=True)
        made = sign(run, period, ruled, user=user, passphrase=passphrase, reason=purpose)
        anchored(run.engine)
        click.echo(f"{period}: reviewed by {made.printed_name}, {made.at}; {len(ruled)} decisions, {made.digest}")
        return
    items = [item for item in document["items"] if item["mark"] or not marked]
    if out is not None:
        _to_fill_in(out, items)
        click.echo(f"{len(items)} items in {out}")
        return
    names = _names(run, [item["who"] for item in items if item["kind"] == "account"], purpose)
    rows = [
        [item["item"], item["kind"], names.get(item["who"], item["who"]), item["what"], str(item["used"]), item["last"],
         item["mark"]]
        for item in items
    ]  # fmt: skip
    table(["item", "kind", "who", "what", "used", "last", "mark"], rows, f"Access review {period}, {digest[:12]}")


@security.command()
@MONTH
@click.option("--to", "target", type=click.Path(path_type=Path), help="File to write the archive to.")
@click.option("--check", "archive", type=click.Path(path_type=Path, exists=True), help="Archive to check instead.")
@click.option("--user", default="", help="User id of who signs the pack.")
@click.option("--passphrase", default="", help="Asked for when not given.")
def evidence(month: str, target: Path | None, archive: Path | None, user: str, passphrase: str) -> None:
    """Write a month's evidence pack to a file, sign it, or check one; exit code 1 if it is not what was signed."""
    from trialops.governance import evidence_pack
    from trialops.governance.access_review import period_of
    from trialops.security.collect_run import moment

    if archive is not None:
        problems = evidence_pack.check(archive.read_bytes())
        for problem in problems:
            click.echo(problem, err=True)
        if problems:
            sys.exit(1)
        click.echo("every file is what was signed")
        return
    run = _step("security-evidence")
    period, _, _ = period_of(month, moment(""))
    data = evidence_pack.stored(run, period)
    if user:
        passphrase = passphrase or click.prompt("Passphrase", hide_input=True)
        made = evidence_pack.sign(run, period, data, user=user, passphrase=passphrase)
        click.echo(f"{period}: approved by {made.printed_name}, {made.at}; {made.digest}")
    if target is not None:
        partial = target.with_name(f".{target.name}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(target)
        run.audit("export.evidence", period, reason="evidence pack written to a file")
        click.echo(f"{len(data):,} bytes in {target}")


@security.command()
def compliance() -> None:
    """Show how many requirements are covered, and which are not; exit code 1 if the map names what is not there."""
    from pipelines.cli import table
    from trialops.governance.compliance import missing, requirements

    problems = missing()
    for problem in problems:
        click.echo(problem, err=True)
    left = [r for r in requirements() if r.state != "covered"]
    table(["regime", "requirement", "state", "left"], [[r.regime, r.id, r.state, r.note] for r in left])
    click.echo(f"{len(requirements()) - len(left)} of {len(requirements())} are covered")
    sys.exit(1 if problems else 0)


def _to_fill_in(out: Path, items: list[dict[str, Any]]) -> None:
    import csv

    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "decision", "reason", "kind", "who", "what", "used", "last", "mark"])
        writer.writerows(
            [i["item"], "", "", *(i[k] for k in ("kind", "who", "what", "used", "last", "mark"))] for i in items
        )
    partial.replace(out)


def _names(run: Step, actors: list[str], purpose: str) -> dict[str, str]:
    """Who is behind pseudonyms; each look is in the audit trail."""
    from trialops.errors import TrialOpsError
    from trialops.security.collect_run import KIND

    found = {}
    for actor in sorted(set(actors) - {""}):
        try:
            found[actor] = run.vault.reidentify(
                KIND, actor, reason=purpose, actor=run.settings.who, engine=run.engine, run_id=run.run_id
            )
        except TrialOpsError:
            found[actor] = actor  # on the list of accounts, and never seen
    return found


def _step(name: str) -> Step:
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step(name, {}, settings())
