"""Whether what comes in still looks like what the model in use was developed on.

1. Take the newest validated data and the features built from them.
2. Collect what the model servers have logged.
3. Compare the subjects that came since, and the inputs as they were served, with the reference of the model: every
   feature by itself, all together by a domain classifier, their correlations, and what the model leans on.
4. Where it is asked for, write Evidently's report on a sample.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import current_data
from components.monitoring import collect_predictions, detect_drift, evidently_report

DATASET = "clean"
TASK = "withdrawal"


@dsl.pipeline(name="data-drift-detection", display_name="Data drift detection")
def data_drift_detection(task: str = TASK, dataset: str = DATASET, evidently: bool = False) -> None:
    """Look for drift in the inputs of the model in use.

    Args:
        task: Prediction task, a file of trialops/models/tasks.
        dataset: Name under which validated versions are chained.
        evidently: Write Evidently's report too.
    """
    closing = notify(pipeline="data_drift_detection").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_data(dataset=dataset).set_display_name("Current data")
        logged = collect_predictions(task=task).set_display_name("Collect predictions")
        detected = detect_drift(
            validated=data.outputs["validated"],
            features=data.outputs["features"],
            predictions=logged.outputs["predictions"],
            task=task,
        ).set_display_name("Detect drift")
        # These look at what changes outside the run: the data, the log, the model in use.
        for looking, memory in ((data, "2Gi"), (logged, "4Gi"), (detected, "8Gi")):
            harden(looking, memory=memory).set_caching_options(False)
        drawn = evidently_report(rows=detected.outputs["rows"], task=task, wanted=evidently)
        harden(drawn.set_display_name("Evidently report"), memory="4Gi")
