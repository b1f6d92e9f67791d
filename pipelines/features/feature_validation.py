"""Whether the newest features are what they are said to be, and what has changed since the build before.

1. Take the newest validated data and the features built from them.
2. Check contracts (unit, range, share missing), distributions against the build before, correlations, what the model in
   use leans on, and whether values of the past were rewritten.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import current_data, validate_features

DATASET = "clean"
TASK = "withdrawal"


@dsl.pipeline(name="feature-validation", display_name="Feature validation")
def feature_validation(task: str = TASK, dataset: str = DATASET) -> None:
    """Validate the newest build of the features.

    Args:
        task: Prediction task whose features must have a contract.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="feature_validation").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_data(dataset=dataset).set_display_name("Current data")
        validated = validate_features(features=data.outputs["features"], task=task).set_display_name(
            "Validate features"
        )
        # Both look at what changes outside the run: the data, the builds before, the model in use.
        for looking, memory in ((data, "2Gi"), (validated, "8Gi")):
            harden(looking, memory=memory).set_caching_options(False)
