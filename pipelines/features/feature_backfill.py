"""All history of the features with the current logic, as a version of its own.

1. Take the newest validated tables.
2. Compute the history in blocks of subjects and windows of study days; after a crash only windows that are not done.
   Say what differs from the features before, for how many subjects.
3. Make the training sets of the tasks anew from it.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import backfill_features, current_tables, rebuild_training_sets

DATASET = "clean"
WINDOW_DAYS = 84
BLOCK_SUBJECTS = 200
SEED = 1


@dsl.pipeline(name="feature-backfill", display_name="Feature backfill")
def feature_backfill(
    dataset: str = DATASET, window_days: int = WINDOW_DAYS, block_subjects: int = BLOCK_SUBJECTS, seed: int = SEED
) -> None:
    """Reprocess the history of the features and rebuild what is made of them.

    Args:
        dataset: Name under which validated versions are chained.
        window_days: Study days per window.
        block_subjects: Subjects per block.
        seed: Decides between sites that no earlier run has assigned to training or hold-out.
    """
    closing = notify(pipeline="feature_backfill").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_tables(dataset=dataset).set_display_name("Current tables")
        rebuilt = backfill_features(
            validated=data.outputs["validated"], window_days=window_days, block_subjects=block_subjects
        ).set_display_name("Backfill")
        sets = rebuild_training_sets(
            validated=data.outputs["validated"], features=rebuilt.outputs["features"], seed=seed
        ).set_display_name("Training sets")
        # The data in use, what an earlier run has done and the part each site plays are state outside the run.
        harden(data, memory="2Gi").set_caching_options(False)
        harden(rebuilt, memory="8Gi", timeout_seconds=6 * 3600).set_caching_options(False)
        harden(sets, memory="8Gi").set_caching_options(False)
