"""Features from the newest validated data, into every store that reads them.

1. Take the newest validated tables.
2. Compute the views of subjects, visits and sites: timelines, trends, clinical scores. Write them to the lake and to
   the files that Feast reads.
3. Update the online store, and compare it with the files on a sample: it must answer alike.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import current_tables, engineer_features, update_online_features

DATASET = "clean"


@dsl.pipeline(name="feature-engineering", display_name="Feature engineering")
def feature_engineering(dataset: str = DATASET) -> None:
    """Compute the features and update the offline and the online store.

    Args:
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="feature_engineering").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_tables(dataset=dataset).set_display_name("Current tables")
        built = engineer_features(validated=data.outputs["validated"]).set_display_name("Compute features")
        online = update_online_features(features=built.outputs["features"]).set_display_name("Update online store")
        # All three look at what changes outside the run: the data in use, what was pushed, the stores.
        for task, memory in ((data, "2Gi"), (built, "8Gi"), (online, "4Gi")):
            harden(task, memory=memory).set_caching_options(False)
