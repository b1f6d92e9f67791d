"""What is compared: the rows a registered model was developed on, and the subjects that have come since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features.labels import NOT_RECORDED, label
from trialops.models.bundle import Bundle
from trialops.models.split import HELD_OUT
from trialops.monitoring.reference import PREDICTION, Reference, profile

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.task import Task
    from trialops.stores.context import Step

ALIASES = ("champion", "challenger", "candidate")
"""Which version is watched: the first of these that there is."""
SITE = "site_id"


@dataclass(frozen=True)
class Watched:
    """A registered version with what later rows are compared with.

    Attributes:
        name: Registered model.
        version: Its version.
        alias: The alias it was found by.
        bundle: The model.
        reference: Its profile.
        rows: The training set it was developed on, held-out sites included.
    """

    name: str
    version: str
    alias: str
    bundle: Bundle
    reference: Reference
    rows: pl.DataFrame


def reference_key(name: str, version: str) -> str:
    """Object key of a version's reference profile."""
    return f"models/{name}/{version}/reference.json"


def model_reference(bundle: Bundle, training: pl.DataFrame) -> Reference:
    """The reference profile of a model.

    Features are those of all subjects it was developed on. Its answers are those to the held-out sites: to rows it has
    learnt from a model answers with more confidence than it will ever show again.

    Args:
        bundle: The model.
        training: Its training set with `split` and `site_id`.
    """
    import polars as pl

    from trialops.models.design_matrix import inputs

    held_out = training.filter(pl.col("split") == HELD_OUT)
    answers = bundle.predict(inputs(held_out, bundle.features)) if held_out.height else None
    return profile(
        training, bundle.features, predictions=answers, by=SITE, source={"model": bundle.name, "bundle": bundle.digest}
    )


def put_reference(run: Step, name: str, version: str, reference: Reference) -> str:
    """Store a version's profile; returns the object key."""
    key = reference_key(name, version)
    run.objects.put(key, reference.dumps())
    run.audit("model.reference", f"{name}/{version}", reference.digest)
    return key


def remember_reference(run: Step, name: str, version: str, training: pl.DataFrame) -> None:
    """Store the profile of a version that has just been registered; one that is stored stays."""
    if stored_reference(run, name, version) is None:
        bundle = Bundle.load(run.registry.fetch(name, version, run.workdir / "registered"))
        put_reference(run, name, version, model_reference(bundle, training))


def stored_reference(run: Step, name: str, version: str) -> Reference | None:
    """A version's stored profile; None where there is none.

    Raises:
        TrialOpsError: It was altered, or made by another method.
    """
    try:
        found = Reference.from_dict(json.loads(run.objects.get(reference_key(name, version))))
    except KeyError:
        return None
    run.inputs.append({"artifact": "reference", "record": "", "digest": found.digest})
    return found


def watched(run: Step, task: str) -> Watched | None:
    """The version whose inputs are watched, with its profile; None while no version is registered.

    The profile is the one stored with the version; where there is none it is made from the training set it was
    registered with, and stored.

    Args:
        run: The step.
        task: Prediction task, and name of the registered model.

    Raises:
        TrialOpsError: The version was registered without its training evidence, or the profile was altered.
    """
    from trialops.models.evidence_store import get_evidence
    from trialops.stores.refs import Snapshot

    found = ((alias, run.registry.by_alias(task, alias)) for alias in ALIASES)
    alias, registered = next(((alias, item) for alias, item in found if item is not None), ("", None))
    if registered is None:
        return None
    document = get_evidence(run, task, registered.version).get("training")
    if document is None:
        raise TrialOpsError(
            "The version was registered without its training evidence: what it learnt from is not known",
            where=f"model {task}, version {registered.version}",
            fix="Train again: trialops run model_training --set force=true",
        )
    bundle = Bundle.load(run.registry.fetch(task, registered.version, run.workdir / "watched"))
    rows = run.read_snapshot("training set", Snapshot.from_dict(document["training_set"]))["rows"]
    reference = stored_reference(run, task, registered.version)
    if reference is None:
        reference = model_reference(bundle, rows)
        put_reference(run, task, registered.version, reference)
    return Watched(task, registered.version, alias, bundle, reference, rows)


def came_since(
    tables: Mapping[str, pl.DataFrame],
    views: Mapping[str, pl.DataFrame],
    task: Task,
    known: pl.Series,
    workdir: Path,
) -> pl.DataFrame:
    """Features at the landmark of those who are at risk there and are not in the training set.

    Their outcome need not be known: what they look like is known from the landmark on, months before it.

    Args:
        tables: Clean tables.
        views: Feature views.
        task: The task.
        known: Subjects of the training set.
        workdir: Folder for the views' files.

    Returns:
        subject_id, site_id and the task's features; one row per subject, sorted.
    """
    import polars as pl

    from trialops.features.training_set import build

    # With a window that ends the day after the landmark, "open" means: has not reached it yet.
    reached = replace(task, horizon_day=None, planned_end_day=task.landmark_day + 1, reporting_days=0)
    labels = label(tables, reached).filter(
        (pl.col("excluded").is_null() | (pl.col("excluded") == NOT_RECORDED))
        & ~pl.col("subject_id").is_in(known.implode())
    )
    waiting = labels.with_columns(excluded=pl.lit(None, pl.String), label=pl.lit(0, pl.Int8))
    if waiting.height == 0:
        kinds = {"subject_id": pl.String, SITE: pl.String} | dict.fromkeys(task.features, pl.Float64)
        return pl.DataFrame(schema=kinds)
    return build(views, waiting, task, workdir).select("subject_id", SITE, *task.features)


def served_rows(predictions: pl.DataFrame, bundle: Bundle, *, landmark: int, slack: int) -> pl.DataFrame:
    """The inputs and answers of a model's logged predictions around the landmark, the latest of each subject.

    Rows without a subject are left out: they cannot be told from repetitions. So are answers of other versions, and
    those of other days: what has been counted by day 90 differs from what had been by the landmark, without any drift.

    Args:
        predictions: Logged predictions (`trialops.serving.prediction_log`).
        bundle: The model.
        landmark: Study day the model learnt at.
        slack: Most days before or after it.

    Returns:
        subject_id, site_id, the bundle's features and `prediction`; sorted by subject_id.
    """
    import polars as pl

    width = len(bundle.features)
    rows = (
        predictions.filter(
            (pl.col("bundle_digest") == bundle.digest)
            & (pl.col("subject_id") != "")
            & (pl.col("study_day") - landmark).abs().le(slack)
            & (pl.col("features").list.len() == width)
        )
        .sort("at", maintain_order=True)
        .unique("subject_id", keep="last", maintain_order=True)
        .sort("subject_id")
    )
    inputs = (
        pl.col("features").list.get(i, null_on_oob=True).cast(pl.Float64).alias(name)
        for i, name in enumerate(bundle.features)
    )
    return rows.select("subject_id", SITE, *inputs, pl.col("probability").alias(PREDICTION))
