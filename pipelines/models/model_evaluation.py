"""Model evaluation: what a registered version is worth on sites it has never seen.

1. Fetch the version, its training set, and the prespecified model trained beside it.
2. Judge it on the held-out sites: discrimination, calibration, net benefit, each with an interval; the baseline beside.
3. Assess fairness.
4. Compare it with the champion on the same subjects, or with the baseline while there is none, and apply the policy.
5. Store the evidence with model card and TRIPOD+AI checklist; make it the challenger where it passed.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.models import (
    assess_fairness,
    compare_with_champion,
    conclude_evaluation,
    current_champion,
    evaluate_model,
    registered_model,
)

TASK = "withdrawal"
ALIAS = "candidate"
SEED = 1


@dsl.pipeline(name="model-evaluation", display_name="Model evaluation")
def model_evaluation(task: str = TASK, alias: str = ALIAS, version: str = "", seed: int = SEED) -> None:
    """Judge one registered version of a prediction task's model.

    Args:
        task: Prediction task, a file of trialops/models/tasks, and name of the registered model.
        alias: Alias of the version to judge where no version is given.
        version: Version to judge; empty for the one the alias points at.
        seed: Seed of the bootstrap.
    """
    closing = notify(pipeline="model_evaluation").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        # Aliases move, and so does the champion: asked anew each time. What is computed from them may be reused.
        found = registered_model(task=task, alias=alias, version=version).set_display_name("Registered model")
        rows, model = found.outputs["training"], found.outputs["model"]
        evaluated = evaluate_model(
            training=rows, model=model, baseline=found.outputs["baseline"], task=task, seed=seed
        ).set_display_name("Evaluate")
        fair = assess_fairness(training=rows, model=model, task=task).set_display_name("Fairness audit")
        champion = current_champion(task=task).set_display_name("Current champion")
        compared = compare_with_champion(
            training=rows,
            model=model,
            baseline=found.outputs["baseline"],
            evaluation=evaluated.outputs["evaluation"],
            fairness=fair.outputs["fairness"],
            champion=champion.output,
            task=task,
        ).set_display_name("Compare and decide")
        concluded = conclude_evaluation(
            model=model,
            training=rows,
            search=found.outputs["search"],
            evaluation=evaluated.outputs["evaluation"],
            fairness=fair.outputs["fairness"],
            comparison=compared.outputs["comparison"],
            version=found.outputs["Output"],
            task=task,
        ).set_display_name("Verdict")
        for judged in (evaluated, fair):
            harden(judged, memory="4Gi")
        for outward in (found, champion, compared, concluded):
            harden(outward, memory="2Gi").set_caching_options(False)
