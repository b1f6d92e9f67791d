"""How well the model in use predicts by now.

1. Take the newest validated data: they hold the outcomes.
2. Collect what the model servers have logged.
3. Judge the model on the predictions whose outcome has matured, against what it was worth when it was promoted; look
   for concept drift in their residuals.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import current_data
from components.monitoring import collect_predictions, judge_performance

DATASET = "clean"
TASK = "withdrawal"


@dsl.pipeline(name="model-performance-monitoring", display_name="Model performance monitoring")
def model_performance_monitoring(task: str = TASK, dataset: str = DATASET) -> None:
    """Judge the model in use on its matured predictions.

    Args:
        task: Prediction task, a file of trialops/models/tasks.
        dataset: Name under which validated versions are chained.
    """
    closing = notify(pipeline="model_performance_monitoring").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = current_data(dataset=dataset).set_display_name("Current data")
        logged = collect_predictions(task=task).set_display_name("Collect predictions")
        judged = judge_performance(
            validated=data.outputs["validated"], predictions=logged.outputs["predictions"], task=task
        ).set_display_name("Judge performance")
        # All three look at what changes outside the run: the data, the log, the model in use.
        for task_, memory in ((data, "2Gi"), (logged, "4Gi"), (judged, "4Gi")):
            harden(task_, memory=memory).set_caching_options(False)
