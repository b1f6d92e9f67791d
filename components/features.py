"""KFP components: features."""

from kfp.dsl import HTML, Dataset, Input, Output

from components.base import component


@component
def build_features(validated: Input[Dataset], features: Output[Dataset], report: Output[HTML]) -> int:
    """Compute the feature views, each row at the time its values became known.

    Args:
        validated: Clean tables that passed the gate.
        features: One table per feature view.
        report: Rows, subjects and features per view, and what was left out.

    Returns:
        Number of feature rows.
    """
    from trialops.features.current import remember_features
    from trialops.features.page import features_page
    from trialops.features.views import feature_views
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("build-features") as run:
        views = feature_views(unrestricted(run.read(validated), run), progress=run.progress)
        snapshot = run.write(features, views, zone="features")
        remember_features(run, run.reference(validated), snapshot)
        run.metrics |= {"rows": snapshot.rows, "views": len(views)}
        run.show(report, features_page(views))
    return snapshot.rows


@component
def current_data(validated: Output[Dataset], features: Output[Dataset], dataset: str = "clean") -> int:
    """Name the newest validated tables and the features built from them, for a pipeline that takes in no data.

    Args:
        validated: Clean tables that passed the gate.
        features: Feature views built from them.
        dataset: Name of the chain of validated versions.

    Returns:
        Number of feature rows.
    """
    from trialops.features.current import current_features, current_validated
    from trialops.stores import step

    with step("current-data", dataset=dataset) as run:
        run.write_reference(validated, current_validated(run, dataset))
        built = current_features(run, dataset)
        run.write_reference(features, built)
        run.metrics |= {"rows": built.rows, "views": len(built.tables)}
    return built.rows


@component
def build_training_set(
    validated: Input[Dataset],
    features: Input[Dataset],
    training: Output[Dataset],
    report: Output[HTML],
    task: str,
    seed: int = 1,
) -> int:
    """Join labels and features as of the landmark through Feast, and assign sites to training or hold-out.

    Args:
        validated: Clean tables that passed the gate.
        features: Feature views.
        training: One row per subject at risk: label, features, audit groups, split.
        report: Flow of subjects, outcome by site, missing features.
        task: Prediction task.
        seed: Decides between sites that no earlier run has assigned; the others keep their part.

    Returns:
        Number of subjects.
    """
    from trialops.features.assembly import assemble
    from trialops.features.page import training_page
    from trialops.models.task import load_task
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("build-training-set", task=task, seed=seed) as run:
        loaded = load_task(task)
        tables = unrestricted(run.read(validated), run)
        assembled = assemble(tables, run.read(features), loaded, run, seed=seed)
        run.write_table(training, assembled.training, table=f"training/{task}")
        run.metrics |= {
            "subjects": assembled.training.height,
            "events": int(assembled.training["label"].sum()),
        }
        run.show(report, training_page(assembled, loaded))
    return assembled.training.height
