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
    from trialops.models.bundle import Bundle
    from trialops.models.release import champion_folder
    from trialops.serving.canary import run_canary
    from trialops.serving.page import canary_page
    from trialops.serving.replay import replay
    from trialops.stores import step

    with step("canary-release", task=task, champion=champion) as run:
        candidate = run.read_folder(model)
        stable_version = champion.partition(":")[0]
        result = run_canary(
            candidate,
            champion_folder(run, task, champion),
            replay(run.read_table(training), candidate),
            workdir=run.workdir,
            engine=run.engine,
            rollout=f"{task}/{Bundle.load(candidate).digest[:12]}-{stable_version}/{run.run_id}",
            candidate_version="candidate",
            stable_version=stable_version,
            actor=run.settings.who,
            run_id=run.run_id,
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


@component
def approve_deployment(
    gate: Output[Artifact],
    report: Output[HTML],
    version: str,
    champion: str,
    task: str,
) -> str:
    """Let a version on to production only with evidence that passed and a person's signature on exactly that.

    Args:
        gate: State, figures, digest to sign and signatures as a document.
        report: What is signed for, and who has.
        version: Registered version.
        champion: "version:digest" of the model in use, or "none".
        task: Prediction task, and name of the registered model.

    Returns:
        "approved", "waits", "rejected", "unfit" or "unchanged".
    """
    from trialops.serving.deployment import GATE_STEP, deployment_gate
    from trialops.serving.deployment_page import gate_page
    from trialops.serving.policy import load_policy
    from trialops.stores import step

    with step(GATE_STEP, task=task, version=version, champion=champion) as run:
        found = deployment_gate(run, task, version, champion)
        run.write_json(gate, found.as_dict())
        run.decide(
            found.state,
            numbers={
                "version": version,
                "to_sign": found.to_sign,
                "approvals": len(found.approvals),
                "objections": len(found.objections),
                "reasons": "; ".join(found.reasons),
            },
            policy={"name": "signature before production", "digest": load_policy().digest},
        )
        run.show(report, gate_page(found.as_dict()))
    return found.state


@component
def roll_out(
    training: Input[Dataset],
    model: Input[Model],
    gate: Input[Artifact],
    canary: Output[Artifact],
    report: Output[HTML],
    version: str,
    champion: str,
    task: str,
) -> str:
    """Shadow, then growing shares, on real servers behind the router; held-out subjects are the callers.

    Killed and resumed, it goes on at the step it had reached.

    Args:
        training: Training set with its split.
        model: Bundle of the version.
        gate: The approval it goes by.
        canary: Steps and checks as a document.
        report: Every step with its checks, and why it went on or back.
        version: Registered version.
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

    with step("roll-out", task=task, version=version, champion=champion) as run:
        candidate = run.read_folder(model)
        result = run_canary(
            candidate,
            champion_folder(run, task, champion),
            replay(run.read_table(training), candidate),
            workdir=run.workdir,
            engine=run.engine,
            rollout=f"{task}/{version}/{run.run_id}",
            candidate_version=version,
            stable_version=champion.partition(":")[0],
            actor=run.settings.who,
            run_id=run.run_id,
            progress=run.progress,
        )
        run.write_json(canary, result.as_dict())
        run.decide(
            result.decision,
            numbers={
                "rollout": result.rollout,
                "to_sign": run.read_json(gate)["to_sign"],
                "steps": len(result.steps),
                "checks": len(result.checks),
                "reasons": "; ".join(result.reasons),
            },
            policy={"name": "canary", "digest": result.policy_digest},
        )
        run.show(report, canary_page(result))
    return result.decision


@component
def hold_deployment(gate: Input[Artifact]) -> str:
    """Keep a version out of production: it is not approved.

    Args:
        gate: State of the approval.

    Returns:
        Its state: "waits", "rejected", "unfit" or "unchanged".
    """
    from trialops.stores import step

    with step("hold-deployment") as run:
        state = str(run.read_json(gate)["state"])
    return state


@component
def finish_deployment(
    gate: Input[Artifact], release: Output[Artifact], dossier: Output[Artifact], report: Output[HTML], outcome: str
) -> str:
    """Move the alias or leave it, and write the deployment's dossier.

    Args:
        gate: The approval.
        release: What is in service now, as a document.
        dossier: Approval, every row of the rollout, the cluster's documents, with a list of digests.
        report: What became of the version, and every decision on the way.
        outcome: "promote" or "rollback" from the rollout, else the state of the approval.

    Returns:
        "promoted", "rolled back", "waits for a signature", "rejected", "not fit for production" or "unchanged".
    """
    from trialops.serving.deployment import conclude_deployment, rollout_documents
    from trialops.serving.deployment_page import write_dossier
    from trialops.stores import step

    with step("finish-deployment", outcome=outcome) as run:
        approved = run.read_json(gate)
        concluded = conclude_deployment(run, approved, outcome)
        run.write_json(release, concluded)
        folder, page = write_dossier(run, approved, concluded, *rollout_documents(run, approved))
        digest = run.write_folder(dossier, folder)
        run.decide(concluded["state"], numbers={**concluded, "dossier": digest}, policy="promotion log")
        run.show(report, page)
    return str(concluded["state"])
