"""Model deployment: a version that has passed its evaluation, into production.

1. Fetch the version (the challenger, unless one is named) and its training set, and the model in use.
2. Read its evidence; without a person's signature on exactly that evidence it waits: trialops approve RUN.
3. Shadow, then 5, 25, 50 and 100 % of real requests through the router, with analysis after each step.
4. Promote or roll back, by itself; alias, promotion log and dossier say which and why.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.models import current_champion, registered_model
from components.serving import approve_deployment, finish_deployment, hold_deployment, roll_out

TASK = "withdrawal"
ALIAS = "challenger"


@dsl.pipeline(name="model-deployment", display_name="Model deployment")
def model_deployment(task: str = TASK, alias: str = ALIAS, version: str = "") -> None:
    """Put one registered version of a prediction task's model into production, or find out why not.

    Args:
        task: Prediction task, a file of trialops/models/tasks, and name of the registered model.
        alias: Alias of the version where none is given.
        version: Version; empty for the one the alias points at.
    """
    closing = notify(pipeline="model_deployment").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        # Aliases, signatures and the champion are state outside the run: asked anew each time.
        found = registered_model(task=task, alias=alias, version=version).set_display_name("Registered model")
        champion = current_champion(task=task).set_display_name("Current champion")
        approved = approve_deployment(
            version=found.outputs["Output"], champion=champion.output, task=task
        ).set_display_name("Approval")
        gate = approved.outputs["gate"]
        with dsl.If(approved.outputs["Output"] == "approved", name="Approved"):
            rolled = roll_out(
                training=found.outputs["training"],
                model=found.outputs["model"],
                gate=gate,
                version=found.outputs["Output"],
                champion=champion.output,
                task=task,
            ).set_display_name("Shadow and canary")
        with dsl.Else(name="Not approved"):
            held = hold_deployment(gate=gate).set_display_name("Hold")
        finished = finish_deployment(
            gate=gate, outcome=dsl.OneOf(rolled.outputs["Output"], held.outputs["Output"])
        ).set_display_name("Promote or roll back")
        for outward in (found, champion, approved, rolled, held, finished):
            harden(outward, memory="2Gi").set_caching_options(False)
