"""KFP components: features."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

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
    from trialops.features.current import feature_set_of
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
            "feature_set": feature_set_of(run, run.reference(features)),
        }
        run.show(report, training_page(assembled, loaded))
    return assembled.training.height


@component
def current_tables(validated: Output[Dataset], dataset: str = "clean") -> int:
    """Name the newest validated tables, for a pipeline that builds features from them.

    Args:
        validated: Clean tables that passed the gate.
        dataset: Name of the chain of validated versions.

    Returns:
        Number of rows.
    """
    from trialops.features.current import current_validated
    from trialops.stores import step

    with step("current-tables", dataset=dataset) as run:
        snapshot = current_validated(run, dataset)
        run.write_reference(validated, snapshot)
        run.metrics |= {"rows": snapshot.rows, "tables": len(snapshot.tables)}
    return snapshot.rows


@component
def engineer_features(validated: Input[Dataset], features: Output[Dataset], report: Output[HTML]) -> int:
    """Compute the views of subjects, visits and sites; write them to the lake and to the files Feast reads.

    Args:
        validated: Clean tables that passed the gate.
        features: One table per feature view.
        report: Coverage, distributions, units, ages, and what was left out.

    Returns:
        Number of feature rows.
    """
    from trialops.features.current import remember_features
    from trialops.features.definition_file import load
    from trialops.features.definitions import ENTITIES
    from trialops.features.engineering import coverage, with_pushed
    from trialops.features.engineering_page import engineering_page
    from trialops.features.training_set import publish
    from trialops.features.versions import feature_set, remember
    from trialops.features.views import feature_views
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("engineer-features") as run:
        definitions, version = load(), feature_set()
        remember(run.objects, version)
        tables = unrestricted(run.read(validated), run)
        views = feature_views(tables, definitions, entities=tuple(ENTITIES), progress=run.progress)
        snapshot = run.write(features, views, zone="features")
        remember_features(run, run.reference(validated), snapshot)
        current = with_pushed(views, run, definitions)
        publish(current)
        pushed = any(not current[name].equals(frame) for name, frame in views.items())
        features.metadata["feature_set"] = version.name
        run.metrics |= {"rows": snapshot.rows, "views": len(views), "feature_set": version.name}
        found = coverage(views, definitions)
        run.show(report, engineering_page(views, found, definitions, version, views.notes, pushed))
    return snapshot.rows


@component
def update_online_features(features: Input[Dataset], report: Output[HTML]) -> int:
    """Write the newest row of every subject, visit and site to the online store and check that it answers alike.

    Args:
        features: Feature views.
        report: Rows written, and online against offline.

    Returns:
        Number of values compared.
    """
    from trialops.features.definition_file import load
    from trialops.features.engineering import parity, require_parity, to_online, with_pushed
    from trialops.features.engineering_page import online_page
    from trialops.stores import step

    with step("update-online-features") as run:
        definitions = load()
        views = with_pushed(run.read(features), run, definitions)
        written = to_online(views, run, definitions)
        compared = parity(views, run, definitions)
        run.metrics |= {
            "written": sum(w.written for w in written),
            "compared": sum(p.values for p in compared),
            "different": sum(p.different for p in compared),
        }
        run.show(report, online_page(written, compared))
        require_parity(compared)
    return sum(p.values for p in compared)


@component
def backfill_features(
    validated: Input[Dataset],
    features: Output[Dataset],
    report: Output[HTML],
    window_days: int = 84,
    block_subjects: int = 200,
) -> int:
    """Build all history anew with the current logic, window by window, under the version it makes.

    Args:
        validated: Clean tables that passed the gate.
        features: One table per feature view, named after the feature set version.
        report: What was done, and which features changed for how many subjects.
        window_days: Study days per window.
        block_subjects: Subjects per block.

    Returns:
        Number of features that changed.
    """
    from trialops.features.backfill import backfill
    from trialops.features.current import CHAIN, remember_features
    from trialops.features.definition_file import load
    from trialops.features.difference import SAME, difference
    from trialops.features.engineering_page import backfill_page
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("backfill-features", window_days=window_days, block_subjects=block_subjects) as run:
        tables, data = unrestricted(run.read(validated), run), run.reference(validated)
        known = run.lake.manifests(CHAIN)
        before = run.read_snapshot("features before", known[-1].snapshot) if known else {}
        done = backfill(tables, run, data.digest, window_days=window_days, block_subjects=block_subjects)
        run.write_reference(features, done.snapshot)
        remember_features(run, data, done.snapshot)
        keys = {name: view.join_keys for name, view in load().all_views.items()}
        differences = difference(before, done.views, keys) if before else []
        changed = sum(d.what != SAME for d in differences)
        features.metadata["feature_set"] = done.version.name
        run.metrics |= {
            "rows": done.snapshot.rows,
            "windows": done.done,
            "windows_found": done.found,
            "changed": changed,
            "feature_set": done.version.name,
        }
        place = f"build of {known[-1].at[:19]}" if known else ""
        run.show(report, backfill_page(done, differences, place))
    return changed


@component
def rebuild_training_sets(
    validated: Input[Dataset], features: Input[Dataset], report: Output[HTML], seed: int = 1
) -> int:
    """Make the training set of every task anew from a feature set version.

    Args:
        validated: Clean tables that passed the gate.
        features: Feature views of that version.
        report: Subjects and features per task.
        seed: Decides between sites that no earlier run has assigned.

    Returns:
        Number of training sets.
    """
    from trialops.features.engineering_page import rebuilt_page
    from trialops.features.rebuild import rebuild
    from trialops.privacy.permission import unrestricted
    from trialops.stores import step

    with step("rebuild-training-sets", seed=seed) as run:
        made = rebuild(unrestricted(run.read(validated), run), run.read(features), run, seed=seed)
        run.metrics |= {"tasks": len(made)}
        run.show(report, rebuilt_page(made))
    return len(made)


@component
def validate_features(features: Input[Dataset], validation: Output[Artifact], report: Output[HTML], task: str) -> str:
    """Check the newest features against their contracts, and against the build before.

    Args:
        features: Feature views.
        validation: Contracts, drift between builds, correlations, importance and rewritten past as a document.
        report: The same for people.
        task: Prediction task whose features must have a contract.

    Returns:
        "pass", "drift", "breach" or "insufficient evidence".
    """
    from trialops.features.contracts import load_contracts
    from trialops.features.definition_file import load
    from trialops.features.validation import previous_build, validate
    from trialops.features.validation_page import validation_page
    from trialops.models.task import load_task
    from trialops.monitoring.drift_policy import load_drift_policy
    from trialops.monitoring.drift_rows import watched
    from trialops.stores import step

    with step("validate-features", task=task) as run:
        contracts, policy = load_contracts(), load_drift_policy()
        before, model = previous_build(run, run.reference(features)), watched(run, task)
        bundle = model.bundle if model else None
        found = validate(run.read(features), before, load_task(task), load(), contracts, policy, bundle)
        run.write_json(validation, found.as_dict())
        run.metrics |= {"contracts": len(found.contracts), "reasons": len(found.reasons)}
        run.decide(
            found.verdict,
            numbers={**run.metrics, "reason": "; ".join(found.reasons[:5])},
            policy={"contracts": contracts.digest, "name": policy.name, "digest": policy.digest},
        )
        if found.verdict in ("breach", "drift"):
            run.audit("alert.features", task, found.verdict, reason="; ".join(found.reasons[:5]))
        run.show(report, validation_page(found, contracts, policy))
    return found.verdict
