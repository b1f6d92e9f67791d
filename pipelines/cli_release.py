"""Commands of a release: signing the evidence a decision waits for, and the way back."""

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
    """Sign the evidence a release or deployment decision of RUN_ID waits for; the next run goes on to the rollout.

    What is signed is shown first: task, model, AUROC with its interval, fairness and the rules not met. A rejection
    stands until the one who signed it approves the same evidence.
    """
    from trialops.governance.approval import shown
    from trialops.governance.signatures import as_text
    from trialops.models.release import DECIDING_STEP, RECORD_KIND, evidence_to_sign
    from trialops.serving import deployment

    objects = _objects()
    gate = deployment.deployment_to_sign(objects, run_id)
    if gate is not None:
        task, digest, kind = str(gate["task"]), str(gate["to_sign"]), deployment.RECORD_KIND
        click.echo(deployment.shown_gate(gate))
    else:
        (task, digest), kind = evidence_to_sign(objects, run_id), RECORD_KIND
        click.echo(shown(objects, run_id, DECIDING_STEP).as_text())
    click.echo(f"\nYou {'reject' if reject else 'approve'} this, for the reason: {reason}")
    passphrase = passphrase or click.prompt(f"Passphrase of {user}", hide_input=True)
    signature = _sign(task, digest, run_id, kind=kind, user=user, passphrase=passphrase, reason=reason, reject=reject)
    click.echo(f"\n{as_text(signature)}")


def sign_evidence(run_id: str, *, user: str, passphrase: str, reason: str) -> Signature:
    """Sign as :func:`approve` does, showing nothing; returns the signature."""
    from trialops.models.release import RECORD_KIND, evidence_to_sign

    task, digest = evidence_to_sign(_objects(), run_id)
    return _sign(task, digest, run_id, kind=RECORD_KIND, user=user, passphrase=passphrase, reason=reason, reject=False)


def _sign(
    task: str, digest: str, run_id: str, *, kind: str, user: str, passphrase: str, reason: str, reject: bool
) -> Signature:
    """Sign, and anchor the audit trail that witnesses it."""
    from trialops.governance.anchors import anchor_head
    from trialops.governance.approval import APPROVED, REJECTED

    signing = signatures()
    signature = signing.sign(
        user=user,
        passphrase=passphrase,
        meaning=REJECTED if reject else APPROVED,
        kind=kind,
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


@click.command()
@click.argument("model")
@click.option("--to", "to_version", default="", help="Version to return to [the one the champion replaced].")
@click.option("--reason", required=True, help="Why; it goes into the audit trail and the promotion log.")
def rollback(model: str, to_version: str, reason: str) -> None:
    """Take MODEL back: end a rollout in progress, or return to the version before, traffic included.

    The router's traffic changes with its next request; alias, promotion log and audit trail say who did it and why.
    """
    import uuid

    from trialops.governance.anchors import anchor_head
    from trialops.governance.audit import AuditTrail
    from trialops.serving.rollback import roll_back
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.registry import ModelRegistry

    chosen = settings()
    engine = connect(chosen.database)
    migrate(engine)
    trail = AuditTrail(engine)
    done = roll_back(
        model,
        to_version=to_version,
        reason=reason,
        actor=chosen.who,
        run_id=f"rollback-{uuid.uuid4().hex[:12]}",
        registry=ModelRegistry(chosen.mlflow, str(chosen.home.resolve() / "models")),
        engine=engine,
        trail=trail,
        home=chosen.home.resolve(),
    )
    anchor_head(trail, _objects())
    for rollout in done.ended:
        click.echo(f"Rollout {rollout} ended.")
    click.echo(f"Model {done.model}: from version {done.from_version or 'none'} to {done.to_version or 'none'}.")
    click.echo(f"Traffic: {done.traffic}.")
