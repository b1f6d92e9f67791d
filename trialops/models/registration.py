"""A trained model becomes a version: its facts into MLflow, its evidence into the store, and the aliases it earns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.governance.lineage import tables_used, upstream
from trialops.models.bundle import Bundle
from trialops.models.environment import environment
from trialops.models.evidence import check_search
from trialops.models.evidence_store import get_evidence, put_baseline, put_bundle, put_evidence
from trialops.stores.registry import CANDIDATE, CHALLENGER, CHAMPION, DataUsed, Registered

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.refs import Snapshot

SERVING_PACKAGES = ("lightgbm", "numpy")
PASSED, NEEDS_SIGNATURE, NOT_PASSED = "passed", "passed, signature needed", "not passed"
ROLES = {"training": "training", "clean": "validated", "features": "features"}


def register_trained(
    run: Step,
    task: str,
    bundle: Path,
    baseline: Path,
    *,
    training: Snapshot,
    search: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    selection: Mapping[str, Any] | None = None,
) -> Registered:
    """Register a bundle as a version and point the alias "candidate" at it; a registered one keeps its version.

    Args:
        run: The step; its inputs lead to the records of everything the model was made from.
        task: Prediction task, and name of the registered model.
        bundle: Bundle of the model.
        baseline: Bundle of the prespecified model trained beside it.
        training: The training set with its split.
        search: Document of the search.
        metrics: Further metrics.
        tags: Further tags.
        selection: Document of the selection, where one was made.

    Returns:
        The version.

    Raises:
        TrialOpsError: The search is not of this model and training set.
    """
    loaded = Bundle.load(bundle)
    check_search(loaded, training, search)
    made_from = data_used(run, training)
    lock = environment()
    reference = training.tables["rows"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = [lock.write(folder), _written(folder / "environment.json", lock.as_dict())]
        files.append(_written(folder / "search.json", search))
        registered = run.registry.log(
            bundle,
            name=task,
            requirements=_requirements(),
            params={
                "kind": loaded.kind,
                **loaded.params,
                "threshold": loaded.threshold,
                "features": len(loaded.features),
                "trials": len(search["trials"]),
            },
            metrics={**_search_metrics(search), **(metrics or {})},
            tags={
                **lock.tags(),
                "training.table": f"{reference.table}@{reference.version}",
                "training_digest": training.digest,
                "lineage.step": f"runs/{run.run_id}/steps/{run.name}/record.json",
                "lineage.openlineage_run": _openlineage(run),
                **(tags or {}),
            },
            files=files,
            curves=_curves(search),
            data=made_from,
            run_id=run.run_id,
        )
    put_bundle(run, task, registered.version, bundle)
    put_baseline(run, task, registered.version, baseline)
    put_evidence(
        run,
        task,
        registered.version,
        {
            "training": {
                "digest": loaded.digest,
                "task_digest": _task_digest(task),
                "training_set": training.as_dict(),
                "search": dict(search),
                "selection": dict(selection or {}),
                "environment": lock.as_dict(),
                "data": [item.__dict__ for item in made_from],
                "run_id": registered.run_id,
            }
        },
    )
    run.registry.set_alias(task, CANDIDATE, registered.version)
    return registered


def data_used(run: Step, training: Snapshot) -> list[DataUsed]:
    """The table versions behind a training set: itself, clean tables and feature views, from the records of the run."""
    asked = {"run_id": run.run_id, "step": run.name, "started": "", "inputs": run.inputs, "outputs": []}
    found = {
        (item["table"], item["version"]): DataUsed(
            item["table"], int(item["version"]), item["digest"], ROLES[item["table"].partition("/")[0]]
        )
        for item in tables_used(upstream(run.objects, [asked]))
        if item["table"].partition("/")[0] in ROLES and item["version"] is not None
    }
    for ref in training.tables.values():
        found[ref.table, ref.version] = DataUsed(ref.table, ref.version, ref.digest, "training")
    return [found[key] for key in sorted(found)]


def last_training(run: Step, task: str) -> tuple[str, dict[str, Any]] | None:
    """Version and training document of the model trained last; None where none with evidence is registered."""
    for registered in reversed(run.registry.versions(task)):
        document = get_evidence(run, task, registered.version).get("training")
        if document:
            return registered.version, document
    return None


def judged_metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Figures of an evaluation for the registry; what could not be estimated is left out."""
    judged = evaluation["model"]
    calibration = judged["calibration"]
    found = {
        "auroc": judged["auroc"]["value"],
        "auroc_low": judged["auroc"]["low"],
        "auroc_high": judged["auroc"]["high"],
        "average_precision": judged["auprc"]["value"],
        "brier": judged["brier"],
        "calibration_slope": calibration["slope"]["value"],
        "calibration_intercept": calibration["intercept"]["value"],
        "ici": calibration["ici"],
        "held_out_subjects": judged["n"],
        "held_out_events": judged["events"],
    }
    return {key: float(value) for key, value in found.items() if value is not None}


def judged_tags(
    evaluation: Mapping[str, Any], fairness: Mapping[str, Any], comparison: Mapping[str, Any]
) -> dict[str, str]:
    """Verdicts for the registry."""
    return {
        "verdict": evaluation["model"]["verdict"],
        "fairness": fairness["verdict"],
        "decision": comparison["decision"]["action"],
    }


def passed(comparison: Mapping[str, Any]) -> str:
    """What a judgement means for the alias "challenger".

    Returns:
        "passed" where every rule is met, or a signature stands for the one that needs it; "passed, signature needed"
        where only that signature is missing; else "not passed".
    """
    decision = comparison["decision"]
    if decision["action"] == "promote":
        return PASSED
    missing = {reason["rule"] for reason in decision["reasons"] if not reason["met"]}
    waits = decision["action"] == "hold" and missing == {"fair"} and not comparison["objections"]
    return NEEDS_SIGNATURE if waits and comparison.get("signature_suffices", False) else NOT_PASSED


def keep_judgement(
    run: Step,
    task: str,
    registered: Registered,
    *,
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> str:
    """Store what was found about a version, and point the alias "challenger" at it where it passed.

    A version that is in use stays the champion and becomes no challenger of itself. A challenger that no longer
    passes loses the alias.

    Returns:
        As :func:`passed`.
    """
    documents = {"evaluation": evaluation, "fairness": fairness, "comparison": comparison}
    put_evidence(run, task, registered.version, documents)
    found = passed(comparison)
    champion = run.registry.by_alias(task, CHAMPION)
    if found != NOT_PASSED and (champion is None or champion.version != registered.version):
        run.registry.set_alias(task, CHALLENGER, registered.version)
    elif (present := run.registry.by_alias(task, CHALLENGER)) and present.version == registered.version:
        run.registry.remove_alias(task, CHALLENGER)
    return found


def _task_digest(task: str) -> str:
    from trialops.models.task import load_task
    from trialops.models.training_trigger import task_digest

    return task_digest(load_task(task))


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{package}=={version(package)}" for package in SERVING_PACKAGES]


def _search_metrics(search: Mapping[str, Any]) -> dict[str, float]:
    """Cross-validated figures of a search; what could not be estimated is left out, MLflow knows no null."""
    gain, area = search.get("gain") or {}, (search.get("sites") or {}).get("auroc") or {}
    found = {
        "cv_log_loss": search["log_loss"],
        "cv_auroc": search.get("auroc"),
        "cv_baseline_log_loss": search["baseline_log_loss"],
        "cv_gain": gain.get("value"),
        "cv_gain_low": gain.get("low"),
        "cv_gain_high": gain.get("high"),
        "cv_site_auroc": (area.get("mean") or {}).get("value"),
    }
    return {key: float(value) for key, value in found.items() if value is not None}


def _curves(search: Mapping[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """Learning curves of the boosted trials, and the loss of every trial by its number."""
    curves = {
        f"trial_{row['number']:03d}_log_loss": [(int(at), float(loss)) for at, loss in row["curve"]]
        for row in search.get("curves", ())
    }
    return {**curves, "trial_log_loss": [(int(row["number"]), float(row["log_loss"])) for row in search["trials"]]}


def _openlineage(run: Step) -> str:
    from trialops.governance.openlineage import run_uuid

    return run_uuid(run.run_id, run.name)


def _written(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", "utf-8")
    return path
