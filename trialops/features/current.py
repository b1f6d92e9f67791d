"""What a pipeline without an intake starts from: the last validated tables and the features built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot

CHAIN = "features"
CLEAN = "clean"


def remember_features(run: Step, validated: Snapshot, features: Snapshot) -> None:
    """Note that these feature views were built from these tables, for the pipelines that come after.

    Args:
        run: The step that built them.
        validated: The clean tables.
        features: The feature views.
    """
    from trialops.features.versions import feature_set

    evidence = {"validated": validated.digest, "feature_set": feature_set().name}
    run.lake.mark_validated(CHAIN, features, evidence, run_id=run.run_id)


def feature_set_of(run: Step, features: Snapshot) -> str:
    """Name of the feature set version that some feature views were built by; empty where no build is known."""
    for manifest in reversed(run.lake.manifests(CHAIN)):
        if manifest.snapshot.digest == features.digest:
            return str(manifest.evidence.get("feature_set", ""))
    return ""


def current_validated(run: Step, dataset: str = CLEAN) -> Snapshot:
    """The newest validated tables that still verify.

    Raises:
        TrialOpsError: No version has been validated yet.
    """
    damaged: list[str] = []
    last = run.lake.last_validated(dataset, skipped=damaged)
    for place in damaged:
        run.audit("alert.integrity", dataset, place, reason="a validated version does not verify any more")
    if last is None:
        raise TrialOpsError(
            "No data have been validated yet",
            where=f"data set {dataset}",
            fix="Take some in first: trialops run data_pipeline --source FOLDER",
        )
    return last.snapshot


def current_features(run: Step, dataset: str = CLEAN) -> Snapshot:
    """The feature views last built from the newest validated tables.

    A build from older tables is never taken: features and labels would not belong together.

    Raises:
        TrialOpsError: No data are validated, or no features have been built from the newest.
    """
    wanted = current_validated(run, dataset).digest
    for manifest in reversed(run.lake.manifests(CHAIN)):
        if manifest.evidence.get("validated") == wanted:
            return manifest.snapshot
    raise TrialOpsError(
        "No features have been built from the newest validated tables",
        where=f"data set {dataset}",
        fix="Build them: trialops run feature_engineering",
    )
