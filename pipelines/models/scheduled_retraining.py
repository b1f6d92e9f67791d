"""The main job: from a trial's files to a released model and the dossier that shows why.

1. Prepare the data: intake, de-identification, quality gate, features.
2. Join the training set as of the landmark, from what was known by then.
3. Search the model on the training sites.
4. Evaluate it on the held-out sites, against a baseline, with intervals.
5. Assess fairness: pass, fail or insufficient evidence.
6. Compare it with the champion on the same subjects, and decide.
7. Register it.
8. Where the decision is to promote: canary on the model server, then promote or roll back; otherwise hold.
9. Write the release dossier.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.features import build_training_set
from components.governance import release_dossier
from components.models import (
    assess_fairness,
    compare_with_champion,
    current_champion,
    evaluate_model,
    register_model,
    search_model,
)
from components.serving import canary_release, conclude_release, hold_release
from pipelines.clinical_data.data_pipeline import DATASET, prepare_data

TASK = "withdrawal"
TRIALS = 12
SEED = 1


@dsl.pipeline(name="scheduled-retraining", display_name="Scheduled retraining")
def scheduled_retraining(
    source: str, dataset: str = DATASET, task: str = TASK, trials: int = TRIALS, seed: int = SEED
) -> None:
    """Train, judge and release the model of one prediction task.

    Args:
        source: Folder with the SDTM XPORT files, corrections below corrections/<date>.
        dataset: Name under which validated versions are chained.
        task: Prediction task, a file of trialops/models/tasks.
        trials: Number of configurations the search tries.
        seed: Seed of the search, of the evaluation's bootstrap, and of the part of sites no earlier run assigned.
    """
    closing = notify(pipeline="scheduled_retraining").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        data = prepare_data(source=source, dataset=dataset).set_display_name("Prepare data")

        training = build_training_set(
            validated=data.outputs["validated"], features=data.outputs["features"], task=task, seed=seed
        ).set_display_name("Training set")
        rows = training.outputs["training"]

        searched = search_model(training=rows, task=task, trials=trials, seed=seed).set_display_name("Search model")
        model, baseline = searched.outputs["model"], searched.outputs["baseline"]

        evaluated = evaluate_model(
            training=rows, model=model, baseline=baseline, task=task, seed=seed
        ).set_display_name("Evaluate")
        fair = assess_fairness(training=rows, model=model, task=task).set_display_name("Fairness gate")

        # The registry and an approver's signature are state outside the run: asked anew each time.
        champion = current_champion(task=task).set_display_name("Current champion")
        compared = compare_with_champion(
            training=rows,
            model=model,
            baseline=baseline,
            evaluation=evaluated.outputs["evaluation"],
            fairness=fair.outputs["fairness"],
            champion=champion.output,
            task=task,
        ).set_display_name("Compare and decide")
        registered = register_model(
            model=model,
            baseline=baseline,
            training=rows,
            search=searched.outputs["search"],
            evaluation=evaluated.outputs["evaluation"],
            fairness=fair.outputs["fairness"],
            comparison=compared.outputs["comparison"],
            task=task,
        ).set_display_name("Register")

        with dsl.If(compared.outputs["Output"] == "promote", name="Decision is to promote"):
            trial_run = canary_release(
                training=rows, model=model, champion=champion.output, task=task
            ).set_display_name("Canary")
        with dsl.Else(name="Decision is not to promote"):
            held = hold_release(comparison=compared.outputs["comparison"]).set_display_name("Hold")
        outcome = dsl.OneOf(trial_run.outputs["Output"], held.outputs["Output"])

        concluded = conclude_release(
            version=registered.outputs["Output"],
            outcome=outcome,
            comparison=compared.outputs["comparison"],
            task=task,
        ).set_display_name("Promote or roll back")
        dossier = release_dossier(
            validated=data.outputs["validated"],
            training=rows,
            model=model,
            search=searched.outputs["search"],
            evaluation=evaluated.outputs["evaluation"],
            fairness=fair.outputs["fairness"],
            comparison=compared.outputs["comparison"],
            release=concluded.outputs["release"],
            task=task,
        ).set_display_name("Release dossier")

        harden(training, memory="8Gi")
        harden(searched, cpu="2", memory="8Gi", timeout_seconds=4 * 3600)
        for judged in (evaluated, fair):
            harden(judged, memory="4Gi")
        for outward in (champion, compared, registered, trial_run, held, concluded, dossier):
            harden(outward, memory="2Gi").set_caching_options(False)
