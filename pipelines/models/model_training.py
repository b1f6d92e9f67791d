"""Model training: a new candidate where enough is new.

1. Name the newest validated tables and the features built from them.
2. Decide whether enough is new since the last training; where not, end here.
3. Join the training set as of the landmark; sites keep the part they have played before.
4. Search on the training sites.
5. Compare what was tried with the prespecified model, and select.
6. Register the selected model with its lineage; it becomes the candidate, which model_evaluation judges.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import build_training_set, current_data
from components.models import register_candidate, search_model, select_model, skip_training, training_due
from pipelines.clinical_data.data_pipeline import DATASET

TASK = "withdrawal"
TRIALS = 20
SEED = 1


@dsl.pipeline(name="model-training", display_name="Model training")
def model_training(
    dataset: str = DATASET, task: str = TASK, trials: int = TRIALS, seed: int = SEED, force: bool = False
) -> None:
    """Train a candidate for one prediction task from the current data.

    Args:
        dataset: Name under which validated versions are chained.
        task: Prediction task, a file of trialops/models/tasks.
        trials: Number of configurations the search tries.
        seed: Seed of the search, and of the part of sites no earlier run assigned.
        force: Train even where too little is new.
    """
    closing = notify(pipeline="model_training").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        # What is current, and what was trained last, is state outside the run: looked up every time.
        current = current_data(dataset=dataset).set_display_name("Current data")
        due = training_due(validated=current.outputs["validated"], task=task, force=force).set_display_name(
            "Is training due"
        )
        for outward in (current, due):
            harden(outward, memory="4Gi").set_caching_options(False)
        with dsl.If(due.outputs["Output"] == "train", name="Enough is new"):
            training = build_training_set(
                validated=current.outputs["validated"], features=current.outputs["features"], task=task, seed=seed
            ).set_display_name("Training set")
            rows = training.outputs["training"]
            searched = search_model(training=rows, task=task, trials=trials, seed=seed).set_display_name("Search model")
            selected = select_model(search=searched.outputs["search"]).set_display_name("Compare and select")
            registered = register_candidate(
                model=searched.outputs["model"],
                baseline=searched.outputs["baseline"],
                training=rows,
                search=searched.outputs["search"],
                selection=selected.outputs["selection"],
                task=task,
            ).set_display_name("Register candidate")
            harden(training, memory="8Gi")
            harden(searched, cpu="2", memory="8Gi", timeout_seconds=4 * 3600)
            harden(selected, memory="2Gi")
            harden(registered, memory="2Gi").set_caching_options(False)
        with dsl.Else(name="Too little is new"):
            skipped = skip_training(trigger=due.outputs["trigger"]).set_display_name("Skip training")
            harden(skipped, memory="1Gi").set_caching_options(False)
