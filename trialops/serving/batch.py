"""All subjects at once, from the lake's feature views: the model server's answers without a server.

The same bundle, the same policy and the same assembly of inputs as in the server (`online_features.Inputs`). Where the
server can speak of today alone, for an online store holds the newest values, the lake knows what was known on any
day. A subject the server would refuse has no probability here and the reason as its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from trialops.models.bundle import Bundle
    from trialops.serving.input_policy import InputPolicy
    from trialops.stores.context import Step
    from trialops.stores.online.spec import FeatureServiceSpec


def score(
    bundle: Bundle,
    views: Mapping[str, pl.DataFrame],
    service: FeatureServiceSpec,
    policy: InputPolicy,
    *,
    day: int | None = None,
) -> pl.DataFrame:
    """Predict all subjects that have features.

    Args:
        bundle: The model.
        views: Feature views by name: subject_id, event_timestamp, created and features.
        service: The bundle's feature service.
        policy: What is predicted on.
        day: Study day to predict at, from what was known then; None for each subject's newest day.

    Returns:
        One row per subject, sorted: subject_id, study_day, probability, low, high (null without intervals), flagged
        (probability at or above the bundle's threshold), status. Where the status is a refusal ("refused: stale",
        "refused: incomplete"), the predictions are null.

    Raises:
        TrialOpsError: A view of the service is absent or lacks a column, or day is 0.
    """
    import numpy as np
    import polars as pl

    from trialops.features.materialize import latest
    from trialops.features.study_time import timestamp_of
    from trialops.serving.input_policy import WARN
    from trialops.serving.online_features import Inputs
    from trialops.stores.online.spec import NEVER

    service = service.narrowed(bundle.features)
    until = None if day is None else timestamp_of(day)
    newest: list[pl.DataFrame] = []
    for view in service.views:
        needed = ["subject_id", "event_timestamp", "created", *view.columns]
        if view.name not in views or (lacking := [c for c in needed if c not in views[view.name].columns]):
            raise TrialOpsError(
                "The features the model takes have not been built.",
                where=f"feature view {view.name}" + (f", column {lacking[0]}" if view.name in views else ""),
                fix="Build them with the current definitions: trialops run feature_engineering",
            )
        newest.append(latest(views[view.name].lazy().select(needed), ["subject_id"], until).drop("created"))
    subjects = pl.concat([frame.select("subject_id") for frame in newest]).unique().sort("subject_id")
    values, times = [], []
    for view, frame in zip(service.views, newest, strict=True):
        rows = subjects.join(frame, on="subject_id", how="left", maintain_order="left")
        values.append(rows.select(pl.col(c).cast(pl.Float64).fill_null(float("nan")) for c in view.columns).to_numpy())
        moment = rows["event_timestamp"].dt.cast_time_unit("us").to_physical().fill_null(NEVER)
        times.append(moment.to_numpy())
    inputs = Inputs(service, bundle.features, policy)
    days = None if day is None else np.full(subjects.height, day, np.int64)
    rows_ = inputs.judge(np.hstack(values), np.column_stack(times).astype(np.int64), days)
    p = bundle.predict(rows_.x)
    bounds = bundle.interval.around(p) if bundle.interval is not None else (np.full(len(p), np.nan),) * 2
    refused = (rows_.stale & (policy.stale != WARN)) | (rows_.incomplete & (policy.missing != WARN))
    status = pl.Series("status", Inputs.status(rows_), dtype=pl.String)
    out = subjects.with_columns(
        pl.Series("study_day", rows_.days),
        pl.Series("probability", p),
        pl.Series("low", bounds[0]).fill_nan(None),
        pl.Series("high", bounds[1]).fill_nan(None),
        pl.Series("flagged", p >= bundle.threshold),
        pl.when(pl.Series(refused)).then("refused: " + status).otherwise(status).alias("status"),
    )
    gone = pl.Series(refused)
    return out.with_columns(
        pl.when(~gone).then(pl.col(c)).alias(c) for c in ("probability", "low", "high", "flagged")
    ).select("subject_id", "study_day", "probability", "low", "high", "flagged", "status")


def table_of(model: str) -> str:
    """Full name of the lake table of a model's scores."""
    return f"scores/{model}"


def score_subjects(
    run: Step, folder: Path, model: str, version: str, *, day: int | None = None, policy: InputPolicy | None = None
) -> pl.DataFrame:
    """Predict all subjects from the newest features and write them to the lake.

    Args:
        run: The step; its record names the feature versions read and the table written.
        folder: The bundle's folder.
        model: Registered model.
        version: Its version.
        day: Study day; None for each subject's newest.
        policy: What is predicted on; the shipped policy by default.

    Returns:
        The table as written: the columns of `score`, with model, version and bundle_digest.

    Raises:
        TrialOpsError: No features have been built, or they are not the model's.
    """
    import polars as pl

    from trialops.features.current import current_features
    from trialops.models.bundle import Bundle
    from trialops.serving.input_policy import load_input_policy
    from trialops.serving.service_file import SERVICE, read_service, write_service

    bundle = Bundle.load(folder)
    file = folder / SERVICE
    if not file.exists() and write_service(folder, bundle) is None:
        raise TrialOpsError(
            "The current feature definitions lack a feature of the model.",
            where=f"model {model}, version {version}",
            fix="Train it again on the current definitions.",
        )
    views = run.read_snapshot("features", current_features(run))
    run.progress("predicting", 0.5)
    scored = score(bundle, views, read_service(file), policy or load_input_policy(), day=day)
    named = [
        pl.lit(model).alias("model"),
        pl.lit(version).alias("version"),
        pl.lit(bundle.digest).alias("bundle_digest"),
    ]
    table = scored.with_columns(named)
    ref = run.write_named(table_of(model), table)
    predicted = table["probability"].count()
    run.metrics |= {
        "subjects": table.height,
        "predicted": predicted,
        "table_version": ref.version,
        "bundle_digest": bundle.digest,
    }
    return table
