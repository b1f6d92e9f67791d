"""Commands of a release: signing the evidence a decision waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.governance.signatures import Signature, Signatures


@click.command()
@click.argument("run_id")
@click.option("--user", required=True, help="User id of the approver.")
@click.option("--passphrase", prompt=True, hide_input=True, help="Asked for when not given.")
@click.option("--reason", required=True, help="Why the evidence is accepted.")
def approve(run_id: str, user: str, passphrase: str, reason: str) -> None:
    """Sign the evidence the release decision of RUN_ID waits for; the next run goes on to the canary."""
    from trialops.governance.signatures import as_text

    click.echo(as_text(sign_evidence(run_id, user=user, passphrase=passphrase, reason=reason)))


def sign_evidence(run_id: str, *, user: str, passphrase: str, reason: str) -> Signature:
    """Sign as :func:`approve` does; returns the signature."""
    from trialops.models.release import APPROVED, RECORD_KIND, evidence_to_sign
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    task, digest = evidence_to_sign(open_store(settings().objects), run_id)
    return _signatures().sign(
        user=user,
        passphrase=passphrase,
        meaning=APPROVED,
        kind=RECORD_KIND,
        record=task,
        digest=digest,
        reason=reason,
        run_id=run_id,
    )


def demo_approval(run_id: str) -> None:
    """Let the demo's approver sign: a person made up for the occasion, whose passphrase nobody keeps."""
    import secrets

    user, passphrase = f"demo-approver-{secrets.token_hex(3)}", secrets.token_urlsafe(24)
    _signatures().enrol(user, "Demo Approver", passphrase, actor=_actor())
    sign_evidence(run_id, user=user, passphrase=passphrase, reason="demonstration on a synthesized trial")


def _signatures() -> Signatures:
    from trialops.governance.signatures import Signatures
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.vault import Vault

    chosen = settings()
    engine = connect(chosen.database)
    migrate(engine)
    return Signatures(engine, Vault(chosen.home.resolve() / "vault", chosen.master_key, study=chosen.study))


def _actor() -> str:
    from trialops.settings import settings

    return settings().who
