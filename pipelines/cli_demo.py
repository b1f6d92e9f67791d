"""What only the demo does: keep to stores of its own, and sign as a made-up approver."""

from __future__ import annotations

import hashlib

from trialops.errors import TrialOpsError

USER, PASSPHRASE = "demo-approver", "for demonstration only"


def refuse_configured_stores() -> None:
    """Stop before a made-up trial and signer reach stores somebody has configured.

    Raises:
        TrialOpsError: A store is set by the environment.
    """
    from trialops.settings import settings

    chosen = settings()
    configured = [
        name
        for name in ("lake_url", "objects_url", "database_url", "mlflow_uri", "clinical_db_host")
        if getattr(chosen, name)
    ]
    if configured or chosen.profile == "cluster":
        raise TrialOpsError(
            "The demo runs on embedded stores of its own, and these settings point elsewhere",
            where=", ".join(name.upper() for name in configured) or "TRIALOPS_PROFILE",
            fix="Unset them for the demo, or run the main job: trialops run scheduled_retraining --source FOLDER",
        )


def settle_pseudonyms() -> None:
    """Give the demo's made-up subjects and sites the same pseudonyms in every home.

    Which sites are held out follows from their pseudonyms, and with them every figure of the run. So the demo shows
    everybody the same run; a real installation draws its keys at random.
    """
    from trialops.settings import settings
    from trialops.stores.vault import open_vault

    _ = open_vault(settings(), pseudonym_key=hashlib.sha256(b"the demo's made-up people").digest()).id


def waits_for_signature(run_id: str) -> bool:
    """Whether the run's decision waits for a signature and nothing else."""
    from trialops.models.release import evidence_to_sign
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    try:
        evidence_to_sign(open_store(settings().objects), run_id)
    except TrialOpsError:
        return False
    return True


def sign(run_id: str) -> None:
    """Sign the evidence as the demo's approver, who exists in the demo's stores alone."""
    from pipelines.cli_release import sign_evidence, signatures

    signers = signatures()
    if USER not in signers.users():
        signers.enrol(USER, "Demo Approver", PASSPHRASE, actor="demo")
    sign_evidence(run_id, user=USER, passphrase=PASSPHRASE, reason="demonstration on a synthesized trial")
