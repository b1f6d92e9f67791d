"""Commands of a release: signing the evidence a decision waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trialops.governance.signatures import Signature, Signatures
    from trialops.stores.objects import ObjectStore


@click.command()
@click.argument("run_id")
@click.option("--user", required=True, help="User id of the approver.")
@click.option("--passphrase", default="", help="Asked for, after the evidence is shown, when not given.")
@click.option("--reason", required=True, help="Why the evidence is accepted, or rejected.")
@click.option("--reject", is_flag=True, help="Sign that you reject the evidence: it blocks the release.")
def approve(run_id: str, user: str, passphrase: str, reason: str, reject: bool) -> None:
    """Sign the evidence the release decision of RUN_ID waits for; the next run goes on to the canary.

    What is signed is shown first: task, model, AUROC with its interval, fairness and the rules not met. A rejection
    stands until the one who signed it approves the same evidence.
    """
    from trialops.governance.approval import shown
    from trialops.governance.signatures import as_text
    from trialops.models.release import DECIDING_STEP, evidence_to_sign

    objects = _objects()
    task, digest = evidence_to_sign(objects, run_id)
    click.echo(shown(objects, run_id, DECIDING_STEP).as_text())
    click.echo(f"\nYou {'reject' if reject else 'approve'} this, for the reason: {reason}")
    passphrase = passphrase or click.prompt(f"Passphrase of {user}", hide_input=True)
    signature = _sign(task, digest, run_id, user=user, passphrase=passphrase, reason=reason, reject=reject)
    click.echo(f"\n{as_text(signature)}")


def sign_evidence(run_id: str, *, user: str, passphrase: str, reason: str) -> Signature:
    """Sign as :func:`approve` does, showing nothing; returns the signature."""
    from trialops.models.release import evidence_to_sign

    task, digest = evidence_to_sign(_objects(), run_id)
    return _sign(task, digest, run_id, user=user, passphrase=passphrase, reason=reason, reject=False)


def _sign(task: str, digest: str, run_id: str, *, user: str, passphrase: str, reason: str, reject: bool) -> Signature:
    """Sign, and anchor the audit trail that witnesses it."""
    from trialops.governance.anchors import anchor_head
    from trialops.governance.approval import APPROVED, REJECTED
    from trialops.models.release import RECORD_KIND

    signing = signatures()
    signature = signing.sign(
        user=user,
        passphrase=passphrase,
        meaning=REJECTED if reject else APPROVED,
        kind=RECORD_KIND,
        record=task,
        digest=digest,
        reason=reason,
        run_id=run_id,
    )
    anchor_head(signing.trail, _objects())
    return signature


def signatures() -> Signatures:
    """Signers and signatures of this installation."""
    from trialops.governance.signatures import Signatures
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.vault import open_vault

    chosen = settings()
    engine = connect(chosen.database)
    migrate(engine)
    return Signatures(engine, open_vault(chosen))


def _objects() -> ObjectStore:
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    return open_store(settings().objects)
