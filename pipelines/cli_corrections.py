"""Commands of data correction: what a proposal holds, signatures, data lock, and the way back in time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.quality.correction.propose import Proposal
    from trialops.stores.context import Step

DATASET = click.option("--dataset", default="clean", show_default=True, help="Chain of validated versions.")
REASON = click.option("--reason", required=True, help="Why; it goes into the audit trail.")


@click.group()
def corrections() -> None:
    """Corrections from sites: look at a proposal, sign it, lock data, look back."""


@corrections.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("corrections.csv"), show_default=True)
def template(out: Path) -> None:
    """Write an empty correction file."""
    from trialops.errors import TrialOpsError
    from trialops.quality.correction.file import COLUMNS

    if out.exists():
        raise TrialOpsError("The file exists already", where=str(out), fix="Choose another name.")
    out.write_text(",".join(COLUMNS) + "\n", "utf-8")
    click.echo(str(out))


@corrections.command()
@click.argument("run_id")
@REASON
def show(run_id: str, reason: str) -> None:
    """Show old and new values of the proposal of RUN_ID. They identify people: the look is audited."""
    from pipelines.cli_output import table

    run = _step("corrections-show", run_id)
    proposal = _proposal(run, run_id)
    run.audit("corrections.show", "proposal", proposal.digest, reason=reason)
    columns = ["domain", "usubjid", "record", "variable", "old", "new", "reason", "by", "at"]
    table(columns, [[str(getattr(c, name) or "") for name in columns] for c in proposal.changes])


@corrections.command()
@click.argument("run_id")
@click.option("--user", required=True, help="User id of the signer; not an author of the corrections.")
@click.option("--passphrase", default="", help="Asked for when not given.")
@REASON
@click.option("--reject", is_flag=True, help="Sign that you reject the proposal: it blocks it.")
def sign(run_id: str, user: str, passphrase: str, reason: str, reject: bool) -> None:
    """Sign the proposal of RUN_ID; a run with apply=true then applies it to locked data."""
    from pipelines.cli_governance import anchored
    from pipelines.cli_release import signatures
    from trialops.governance.approval import APPROVED, REJECTED
    from trialops.governance.signatures import as_text
    from trialops.quality.correction.authorise import KIND

    run = _step("corrections-sign", run_id)
    proposal = _proposal(run, run_id)
    subjects, values = len(proposal.subjects), len(proposal.changes)
    click.echo(f"Proposal {proposal.digest}: {values} values of {subjects} subjects in {', '.join(proposal.domains)}.")
    click.echo(f"You {'reject' if reject else 'approve'} it, for the reason: {reason}")
    signature = signatures().sign(
        user=user,
        passphrase=passphrase or click.prompt(f"Passphrase of {user}", hide_input=True),
        meaning=REJECTED if reject else APPROVED,
        kind=KIND,
        record=proposal.digest,
        digest=proposal.digest,
        reason=reason,
        run_id=run_id,
    )
    anchored(run.engine)
    click.echo(f"\n{as_text(signature)}")


@corrections.command()
@click.argument("domains", nargs=-1)
@DATASET
@REASON
def lock(domains: tuple[str, ...], dataset: str, reason: str) -> None:
    """Lock DOMAINS (all of them when none is named): corrections then need a signature."""
    _change("lock", domains, dataset, reason)


@corrections.command()
@click.argument("domains", nargs=-1)
@DATASET
@REASON
def unlock(domains: tuple[str, ...], dataset: str, reason: str) -> None:
    """Unlock DOMAINS (all of them when none is named)."""
    _change("unlock", domains, dataset, reason)


@corrections.command()
@DATASET
def locks(dataset: str) -> None:
    """Show what is locked now, and the history of locks."""
    from pipelines.cli_output import table
    from trialops.quality.correction.lock import Locks

    held = Locks(_step("corrections-locks").objects, dataset)
    click.echo(f"locked: {', '.join(sorted(held.locked())) or 'nothing'}")
    rows = [[e.at, e.action, ", ".join(e.domains), e.actor, e.reason] for e in held.history()]
    table(["at", "what", "domains", "who", "why"], rows)


@corrections.command()
@click.option("--domain", default="", help="Only this domain.")
@REASON
def history(domain: str, reason: str) -> None:
    """List every applied change: old, new, who, when, why. They identify people: the look is audited."""
    from pipelines.cli_output import table
    from trialops.quality.correction.history import changes_of
    from trialops.quality.correction.register import Register

    run = _step("corrections-history")
    rows = changes_of(Register(run.vault, run.objects).entries(), domain=domain.upper())
    run.audit("corrections.history", domain or "all domains", reason=reason, changes=len(rows))
    columns = ["entry", "applied", "applied_by", "domain", "usubjid", "record", "variable", "old", "new", "reason",
               "decided_by", "decided"]  # fmt: skip
    table(columns, [[str(row[c]) for c in columns] for row in rows])


@corrections.command("as-of")
@click.argument("domain")
@click.option("--at", required=True, help="ISO 8601 moment; without a zone it is UTC.")
@click.option("--day", type=int, help="Only what was known by this study day.")
@click.option("--subject", default="", help="Pseudonym of one subject.")
@DATASET
@click.option("--out", type=click.Path(path_type=Path), help="Write CSV there instead of counting.")
def as_of_command(domain: str, at: str, day: int | None, subject: str, dataset: str, out: Path | None) -> None:
    """Read the clean table of DOMAIN as it was in force at a moment."""
    import datetime as dt

    import polars as pl

    from trialops.errors import TrialOpsError
    from trialops.quality.correction.history import as_of

    try:
        moment = dt.datetime.fromisoformat(at)
    except ValueError:
        raise TrialOpsError("This is not a moment", where="--at", fix="Write it as 2026-01-31T12:00:00.") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    run = _step("corrections-as-of")
    rows = as_of(run.lake, dataset, domain, moment, day=day)
    if subject:
        rows = rows.filter(pl.col("USUBJID") == subject)
    run.audit("data.read", f"clean/{domain}".lower(), moment.isoformat(), reason="read as of a moment")
    if out is None:
        click.echo(f"{rows.height:,} records of {rows['USUBJID'].n_unique():,} subjects; --out writes them")
        return
    rows.write_csv(out)
    click.echo(str(out))


def _change(action: str, domains: tuple[str, ...], dataset: str, reason: str) -> None:
    from trialops.quality.correction.lock import Locks

    run = _step(f"corrections-{action}")
    event = Locks(run.objects, dataset).change(action, domains, actor=run.settings.who, reason=reason)
    run.audit(f"data.{action}", dataset, reason=reason, domains=", ".join(event.domains))
    click.echo(f"{action}ed: {', '.join(event.domains)}")


def _step(name: str, run_id: str = "") -> Step:
    """Stores and audit trail for a command outside a pipeline."""
    from trialops.settings import settings
    from trialops.stores.context import Step

    return Step(name, {"run": run_id} if run_id else {}, settings())


def _proposal(run: Step, run_id: str) -> Proposal:
    """The proposal a run made.

    Raises:
        TrialOpsError: The run has none.
    """
    import json

    from trialops.errors import TrialOpsError
    from trialops.quality.correction.register import kept_proposal

    try:
        document = json.loads(run.objects.get(f"runs/{run_id}/steps/propose-corrections/proposal.json"))
    except KeyError:
        raise TrialOpsError(
            "The run holds no proposed corrections", where=run_id, fix="See the runs with: trialops runs"
        ) from None
    return kept_proposal(document, run.vault, run.objects)
