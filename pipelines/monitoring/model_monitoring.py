"""One verdict on the model in use, and what follows from it.

1. Take the newest validated data and the features built from them.
2. Collect what the model servers have logged.
3. Judge the model on the predictions whose outcome has matured; look for concept drift in their residuals.
4. Look for drift in its inputs.
5. Conclude over the last windows: two bad ones of five ask for a retraining, once.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import current_data
from components.monitoring import collect_predictions, conclude_monitoring, detect_drift, judge_performance

DATASET = "clean"
TASK = "withdrawal"


@dsl.pipeline(name="model-monitoring", display_name="Model monitoring")
def model_monitoring(task: str = TASK, dataset: str = DATASET) -> None:
    """Watch the model of one prediction task.

    Args:
        task: Prediction task, a file of trialops/models/tasks.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="model_monitoring").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_data(dataset=dataset).set_display_name("Current data")
        logged = collect_predictions(task=task).set_display_name("Collect predictions")
        judged = judge_performance(
            validated=data.outputs["validated"], predictions=logged.outputs["predictions"], task=task
        ).set_display_name("Judge performance")
        detected = detect_drift(
            validated=data.outputs["validated"],
            features=data.outputs["features"],
            predictions=logged.outputs["predictions"],
            task=task,
        ).set_display_name("Detect drift")
        concluded = conclude_monitoring(
            performance=judged.outputs["performance"], drift=detected.outputs["drift"], task=task
        ).set_display_name("Conclude")
        # All of them look at what changes outside the run: the data, the log, the model in use, earlier windows.
        for looking, memory in ((data, "2Gi"), (logged, "4Gi"), (judged, "4Gi"), (detected, "8Gi"), (concluded, "2Gi")):
            harden(looking, memory=memory).set_caching_options(False)
