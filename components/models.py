"""KFP components: models."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.base import component


@component
def training_due(
    validated: Input[Dataset], trigger: Output[Artifact], report: Output[HTML], task: str, force: bool = False
) -> str:
    """Decide whether enough is new since the last training: labelled subjects, events, corrections, erasures.

    Args:
        validated: Clean tables that passed the gate.
        trigger: What is new, and the decision, as a document.
        report: The same for people.
        task: Prediction task.
        force: Train in any case.

    Returns:
        "train" or "skip".
    """
    from trialops.models.task import load_task
    from trialops.models.training import due
    from trialops.models.training_page import trigger_page
    from trialops.stores import step

    with step("training-due", task=task, force=force) as run:
        found = due(run, run.reference(validated), load_task(task), force=force)
        run.write_json(trigger, found.as_dict())
        numbers = {"subjects": found.subjects, "reasons": "; ".join(found.reasons)}
        run.decide(found.action, numbers=numbers, policy={"name": found.policy, "digest": found.policy_digest})
        run.show(report, trigger_page(found))
    return found.action


@component
def skip_training(trigger: Input[Artifact]) -> str:
    """Leave the registered models as they are: too little is new.

    Args:
        trigger: What is new, and the decision.

    Returns:
        Why.
    """
    from trialops.stores import step

    with step("skip-training") as run:
        reason = "; ".join(run.read_json(trigger)["reasons"])
        run.decide("skip", numbers={"reason": reason}, policy="training trigger")
    return reason


@component
def search_model(
    training: Input[Dataset],
    model: Output[Model],
    baseline: Output[Model],
    search: Output[Artifact],
    report: Output[HTML],
    task: str,
    trials: int = 12,
    seed: int = 1,
) -> None:
    """Search on the training sites; refit the winner and the prespecified baseline.

    Args:
        training: Training set with its split.
        model: Bundle of the winner.
        baseline: Bundle of the prespecified model.
        search: Every configuration with its score, and the split by sites, as a document.
        report: Trials, the winner, and its score on sites left out in turn.
        task: Prediction task.
        trials: Number of configurations.
        seed: Seed of configurations, folds and fits.
    """
    from trialops.models.evidence import split_facts
    from trialops.models.page import search_page
    from trialops.models.search_job import search_for_step
    from trialops.stores import step

    with step("search-model", task=task, trials=trials, seed=seed) as run:
        rows, reference = run.read_table(training), run.reference(training)
        result = search_for_step(run, rows, reference, task=task, trials=trials, seed=seed)
        run.write_folder(model, result.bundle)
        run.write_folder(baseline, result.baseline)
        made_from = reference.tables["rows"]
        run.write_json(
            search,
            {
                **result.as_dict(),
                "training": {"table": made_from.table, "version": made_from.version, "digest": reference.digest},
                "split": split_facts(rows),
            },
        )
        run.metrics |= {"cv_log_loss": result.log_loss, "cv_auroc": result.auroc, "kind": result.kind}
        run.show(report, search_page(result))


@component
def select_model(search: Input[Artifact], selection: Output[Artifact], report: Output[HTML]) -> str:
    """Compare what the search tried and decide whether its winner is worth registering.

    Args:
        search: Document of the search.
        selection: The comparison and the decision, as a document.
        report: The same for people.

    Returns:
        "register" or "keep".
    """
    from trialops.models.selection import load_selection_policy, select
    from trialops.models.training_page import selection_page
    from trialops.stores import step

    with step("select-model") as run:
        found = select(run.read_json(search), load_selection_policy())
        run.write_json(selection, found.as_dict())
        numbers = {"number": found.number, "kind": found.kind, "gain": found.gain.value, "reason": found.reason}
        run.decide(found.action, numbers=numbers, policy={"name": found.policy, "digest": found.policy_digest})
        run.show(report, selection_page(found))
    return found.action


@component
def register_candidate(
    model: Input[Model],
    baseline: Input[Model],
    training: Input[Dataset],
    search: Input[Artifact],
    selection: Input[Artifact],
    task: str,
) -> str:
    """Register the selected model, with its lineage, as the candidate; nothing where none was selected.

    Args:
        model: Bundle of the model.
        baseline: Bundle of the prespecified model.
        training: Training set they were made from.
        search: Document of the search.
        selection: Document of the selection.
        task: Prediction task, and name of the registered model.

    Returns:
        Version in the registry, or "none".
    """
    from trialops.models.registration import register_trained
    from trialops.models.selection import REGISTER
    from trialops.monitoring.drift_rows import remember_reference
    from trialops.stores import step

    with step("register-candidate", task=task) as run:
        version, selected = "none", run.read_json(selection)
        if selected["action"] == REGISTER:
            registered = register_trained(
                run,
                task,
                run.read_folder(model),
                run.read_folder(baseline),
                training=run.reference(training),
                search=run.read_json(search),
                selection=selected,
            )
            version = str(registered.version)
            remember_reference(run, task, version, run.read_table(training))
            run.metrics |= {"digest": registered.digest}
        run.metrics |= {"version": version}
    return version


@component
def registered_model(
    model: Output[Model],
    baseline: Output[Model],
    training: Output[Dataset],
    search: Output[Artifact],
    task: str,
    alias: str = "candidate",
    version: str = "",
) -> str:
    """Fetch a registered version with what it was trained on, to be judged.

    Args:
        model: Bundle of the model.
        baseline: Bundle of the prespecified model trained beside it.
        training: Its training set, at the version it was made from.
        search: Document of the search that found it.
        task: Prediction task, and name of the registered model.
        alias: Alias to look up where no version is given.
        version: Version; empty for the one the alias points at.

    Returns:
        The version.
    """
    from trialops.models.training import fetch_registered
    from trialops.stores import step

    with step("registered-model", task=task, alias=alias, version=version) as run:
        found = fetch_registered(run, task, alias=alias, version=version)
        run.write_folder(model, found.model)
        run.write_folder(baseline, found.baseline)
        run.write_reference(training, found.training)
        run.write_json(search, found.search)
        run.metrics |= {"version": found.version, "digest": found.digest}
    return str(found.version)


@component
def evaluate_model(
    training: Input[Dataset],
    model: Input[Model],
    baseline: Input[Model],
    evaluation: Output[Artifact],
    report: Output[HTML],
    task: str,
    seed: int = 1,
) -> str:
    """Judge the model on the held-out sites, with intervals, beside the baseline.

    Args:
        training: Training set with its split.
        model: Bundle of the model.
        baseline: Bundle of the prespecified model.
        evaluation: The evaluation as a document.
        report: Discrimination, calibration, net benefit, sites, and a plain verdict.
        task: Prediction task.
        seed: Seed of the bootstrap.

    Returns:
        "better than chance", "not shown to be better than chance" or "worse than chance".
    """
    import polars as pl

    from trialops.features.assembly import HELD_OUT
    from trialops.models.bundle import Bundle
    from trialops.models.comparison import compare
    from trialops.models.evaluation import ClinicalModelEvaluatorOperator
    from trialops.models.page import evaluation_page
    from trialops.models.task import load_task
    from trialops.stores import step

    with step("evaluate-model", task=task, seed=seed) as run:
        rows = run.read_table(training).filter(pl.col("split") == HELD_OUT)
        new, prespecified = Bundle.load(run.read_folder(model)), Bundle.load(run.read_folder(baseline))
        judge = ClinicalModelEvaluatorOperator(load_task(task), seed=seed)
        result, reference = judge.run(new, rows), judge.run(prespecified, rows)
        span = load_task(task).decision_thresholds
        against = compare(new, prespecified, rows, role="baseline", thresholds=span)
        run.write_json(
            evaluation,
            {
                "model": result.as_dict(),
                "baseline": reference.as_dict(),
                "against_baseline": against.as_dict(),
                "training": run.reference(training).digest,
            },
        )
        run.metrics |= {
            "auroc": result.auroc.value,
            "auroc_low": result.auroc.low,
            "auroc_high": result.auroc.high,
        }
        run.decide(result.verdict, numbers=run.metrics, policy="the 95 % interval of the AUROC lies above 0.5")
        run.show(report, evaluation_page(result, reference, against))
    return result.verdict


@component
def assess_fairness(
    training: Input[Dataset],
    model: Input[Model],
    fairness: Output[Artifact],
    report: Output[HTML],
    task: str,
    mitigation: str = "on failure",
) -> str:
    """Audit the model over the task's groups on the held-out sites; compare ways to narrow a gap, and apply none.

    Args:
        training: Training set with its split.
        model: Bundle of the model.
        fairness: The audit as a document.
        report: Groups, gaps with intervals, verdicts, and the mitigations compared.
        task: Prediction task.
        mitigation: When ways to narrow a gap are compared: "never", "on failure" or "always".

    Returns:
        "pass", "fail" or "insufficient evidence".
    """
    import polars as pl

    from trialops.features.assembly import HELD_OUT, TRAIN
    from trialops.models.bundle import Bundle
    from trialops.models.fairness import FairnessBiasDetectorOperator
    from trialops.models.fairness_page import fairness_page
    from trialops.models.mitigation import FairnessMitigationOperator
    from trialops.models.policy import load_fairness_policy
    from trialops.models.task import load_task
    from trialops.stores import step

    with step("assess-fairness", task=task, mitigation=mitigation) as run:
        training_set = run.read_table(training)
        learnt, rows = (training_set.filter(pl.col("split") == part) for part in (TRAIN, HELD_OUT))
        policy, subject, bundle = load_fairness_policy(), load_task(task), Bundle.load(run.read_folder(model))
        result = FairnessBiasDetectorOperator(subject, policy).run(bundle, rows)
        compared = FairnessMitigationOperator(subject, policy).run(bundle, learnt, rows, result, when=mitigation)
        document = {**result.as_dict(), "mitigation": [found.as_dict() for found in compared]}
        run.write_json(fairness, {**document, "training": run.reference(training).digest})
        run.decide(
            result.verdict,
            numbers={part.attribute: f"{part.verdict}: {part.reason}" for part in result.attributes},
            policy={"name": policy.name, "digest": policy.digest},
        )
        run.show(report, fairness_page(result, policy, compared))
    return result.verdict


@component
def current_champion(task: str) -> str:
    """Which model is in use now.

    Args:
        task: Prediction task, and name of the registered model.

    Returns:
        "version:digest" of the champion, or "none".
    """
    from trialops.stores import step

    with step("current-champion", task=task) as run:
        found = run.registry.by_alias(task, "champion")
        champion = f"{found.version}:{found.digest}" if found else "none"
        run.metrics |= {"champion": champion}
    return champion


@component
def compare_with_champion(
    training: Input[Dataset],
    model: Input[Model],
    baseline: Input[Model],
    evaluation: Input[Artifact],
    fairness: Input[Artifact],
    comparison: Output[Artifact],
    report: Output[HTML],
    champion: str,
    task: str,
) -> str:
    """Compare on the same held-out subjects and decide by the promotion policy.

    Args:
        training: Training set with its split.
        model: Bundle of the model.
        baseline: Bundle of the prespecified model, the comparator while there is no champion.
        evaluation: Evaluation of the model.
        fairness: Fairness audit of the model.
        comparison: Comparison, decision and signatures as a document.
        report: The difference with its interval, and every rule that was read.
        champion: "version:digest" of the model in use, or "none".
        task: Prediction task.

    Returns:
        "promote", "hold", "reject" or "unchanged".
    """
    import polars as pl

    from trialops.features.assembly import HELD_OUT
    from trialops.models.bundle import Bundle
    from trialops.models.page import decision_page
    from trialops.models.release import champion_bundle, decide_release
    from trialops.models.task import load_task
    from trialops.stores import step

    with step("compare-with-champion", task=task, champion=champion) as run:
        rows = run.read_table(training).filter(pl.col("split") == HELD_OUT)
        release = decide_release(
            run,
            load_task(task),
            rows,
            Bundle.load(run.read_folder(model)),
            champion_bundle(run, task, champion) or Bundle.load(run.read_folder(baseline)),
            training=run.reference(training),
            evaluation=run.read_json(evaluation),
            fairness=run.read_json(fairness),
            champion=champion,
        )
        run.write_json(comparison, release.as_dict())
        run.decide(release.action, numbers=release.numbers(), policy=release.policy())
        run.show(report, decision_page(release))
    return release.action


@component
def register_model(
    model: Input[Model],
    baseline: Input[Model],
    training: Input[Dataset],
    search: Input[Artifact],
    evaluation: Input[Artifact],
    fairness: Input[Artifact],
    comparison: Input[Artifact],
    task: str,
) -> str:
    """Register the model with its evidence and lineage; a model already registered keeps its version.

    Args:
        model: Bundle of the model.
        baseline: Bundle of the prespecified model.
        training: Training set it was made from.
        search: Document of the search.
        evaluation: Evaluation of the model.
        fairness: Fairness audit of the model.
        comparison: Comparison and decision.
        task: Prediction task, and name of the registered model.

    Returns:
        Version in the registry.
    """
    from trialops.models.release import register
    from trialops.monitoring.drift_rows import remember_reference
    from trialops.stores import step

    with step("register-model", task=task) as run:
        registered = register(
            run,
            task,
            run.read_folder(model),
            run.read_folder(baseline),
            training=run.reference(training),
            search=run.read_json(search),
            evaluation=run.read_json(evaluation),
            fairness=run.read_json(fairness),
            comparison=run.read_json(comparison),
        )
        remember_reference(run, task, registered.version, run.read_table(training))
        run.metrics |= {"version": registered.version, "digest": registered.digest}
    return str(registered.version)


@component
def conclude_evaluation(
    model: Input[Model],
    training: Input[Dataset],
    search: Input[Artifact],
    evaluation: Input[Artifact],
    fairness: Input[Artifact],
    comparison: Input[Artifact],
    dossier: Output[Artifact],
    report: Output[HTML],
    version: str,
    task: str,
) -> str:
    """Store the evidence of a judged version; make it the challenger where it passed.

    Args:
        model: Bundle of the model.
        training: Training set it was made from.
        search: Document of the search.
        evaluation: Evaluation of the model.
        fairness: Fairness audit of the model.
        comparison: Comparison and decision.
        dossier: Model card, TRIPOD+AI checklist and documents in one folder.
        report: The verdict with its rules, and the checklist.
        version: The version that was judged.
        task: Prediction task, and name of the registered model.

    Returns:
        "passed", "passed, signature needed" or "not passed".
    """
    from trialops.models.judgement import conclude_judgement
    from trialops.stores import step

    with step("conclude-evaluation", task=task, version=version) as run:
        concluded = conclude_judgement(
            run,
            task,
            version,
            run.read_folder(model),
            training=run.reference(training),
            search=run.read_json(search),
            evaluation=run.read_json(evaluation),
            fairness=run.read_json(fairness),
            comparison=run.read_json(comparison),
        )
        run.write_folder(dossier, concluded.folder)
        run.decide(concluded.verdict, numbers=concluded.numbers, policy=concluded.policy)
        run.show(report, concluded.page)
    return concluded.verdict
