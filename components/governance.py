"""KFP components: governance."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from components.base import component


@component
def release_dossier(
    validated: Input[Dataset],
    training: Input[Dataset],
    model: Input[Model],
    search: Input[Artifact],
    evaluation: Input[Artifact],
    fairness: Input[Artifact],
    comparison: Input[Artifact],
    release: Input[Artifact],
    dossier: Output[Artifact],
    report: Output[HTML],
    task: str,
) -> str:
    """Gather the evidence of a release in one folder, each file with its digest.

    Args:
        validated: Clean tables the run started from.
        training: Training set.
        model: Bundle of the model.
        search: How it was found: configurations, split.
        evaluation: Evaluation of the model.
        fairness: Fairness audit.
        comparison: Comparison, decision and signatures.
        release: What became of it.
        dossier: The folder.
        report: Its contents.
        task: Prediction task.

    Returns:
        SHA-256 of the dossier's table of contents.
    """
    from trialops.governance.dossier import Evidence, write_dossier
    from trialops.stores import step

    with step("release-dossier", task=task) as run:
        evidence = Evidence(
            task=task,
            tables=run.read(validated),
            training=run.reference(training),
            model=run.read_folder(model),
            search=run.read_json(search),
            evaluation=run.read_json(evaluation),
            fairness=run.read_json(fairness),
            comparison=run.read_json(comparison),
            release=run.read_json(release),
        )
        written = write_dossier(run, evidence)
        run.write_folder(dossier, written.folder)
        run.metrics |= {"files": len(written.contents), "digest": written.digest}
        run.show(report, written.page)
    return written.digest
