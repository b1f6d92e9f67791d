"""KFP components: serving and release."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.base import component


@component
def canary_release(
    training: Input[Dataset],
    model: Input[Model],
    canary: Output[Artifact],
    report: Output[HTML],
    champion: str,
    task: str,
) -> str:
    """Replay held-out subjects on the model server, in growing shares beside the model in use.

    A first release has nothing beside it and is judged on its own.

    Args:
        training: Training set with its split.
        model: Bundle of the new model.
        canary: Steps and checks as a document.
        report: Every step with its checks, and why it went on or back.
        champion: "version:digest" of the model in use, or "none".
        task: Prediction task.

    Returns:
        "promote" or "rollback".
    """
    from trialops.models.release import champion_folder
    from trialops.serving.canary import run_canary
    from trialops.serving.page import canary_page
    from trialops.serving.replay import replay
    from trialops.stores import step

    with step("canary-release", task=task, champion=champion) as run:
        candidate = run.read_folder(model)
        result = run_canary(
            candidate,
            champion_folder(run, task, champion),
            replay(run.read_table(training), candidate),
            workdir=run.workdir,
            candidate_version="candidate",
            stable_version=champion.partition(":")[0],
            progress=run.progress,
        )
        run.write_json(canary, result.as_dict())
        run.decide(
            result.decision,
            numbers={
                "steps": len(result.steps),
                "checks": len(result.checks),
                "reasons": "; ".join(result.reasons),
            },
            policy={"name": "canary", "digest": result.policy_digest},
        )
        run.show(report, canary_page(result))
    return result.decision


@component
def hold_release(comparison: Input[Artifact]) -> str:
    """Keep the model out of service: the decision was not to promote.

    Args:
        comparison: Comparison and decision.

    Returns:
        The decision: "hold", "reject" or "unchanged".
    """
    from trialops.stores import step

    with step("hold-release") as run:
        action = str(run.read_json(comparison)["decision"]["action"])
    return action


@component
def conclude_release(
    comparison: Input[Artifact], release: Output[Artifact], version: str, outcome: str, task: str
) -> str:
    """Move the alias or leave it, and write down which and why.

    Args:
        comparison: Comparison and decision.
        release: What is in service now, as a document.
        version: Version of the new model in the registry.
        outcome: "promote" or "rollback" from the canary, else the decision that kept it from one.
        task: Prediction task, and name of the registered model.

    Returns:
        "promoted", "rolled back", "held", "rejected" or "unchanged".
    """
    from trialops.models.release import conclude
    from trialops.stores import step

    with step("conclude-release", task=task, version=version, outcome=outcome) as run:
        concluded = conclude(run, task, version, outcome, run.read_json(comparison))
        run.write_json(release, concluded)
        run.decide(concluded["state"], numbers=concluded, policy="promotion log")
    return str(concluded["state"])
