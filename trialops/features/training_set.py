"""The training set: features as they were known at each subject's landmark, through Feast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features.views import KEYS, ages

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions

GROUPS = ("group_sex", "group_age_band", "group_race")


def write_views(views: Mapping[str, pl.DataFrame], folder: Path | str) -> dict[str, str]:
    """Write each view as parquet, timestamps in microseconds, each file at once, and give its path.

    Args:
        views: View name -> frame: its join keys, event_timestamp and created first, then Float64 features.
        folder: Folder, or ``s3://`` prefix.

    Raises:
        TrialOpsError: A view lacks a key column or holds a feature that is not Float64.
    """
    import polars as pl

    from trialops.features.offline_store_files import Place
    from trialops.stores.features import ENTITIES

    base = str(folder) if "://" in str(folder) else str(Path(folder).resolve())
    paths = {}
    for name, frame in views.items():
        keys = [c for c in ENTITIES if c in frame.columns]
        wrong = [c for c in KEYS[1:] if c not in frame.columns] + ([] if keys else [KEYS[0]])
        wrong += [c for c, t in frame.schema.items() if c not in (*keys, *KEYS) and t != pl.Float64]
        if wrong:
            raise TrialOpsError(
                f"The column {wrong[0]} is missing or not Float64.",
                where=f"feature view {name}",
                fix="Compute the view with trialops.features.views.",
            )
        moments = [pl.col(c).cast(pl.Datetime("us", "UTC")) for c in KEYS[1:]]
        place = Place(f"{base}/{name}.parquet")
        place.write(frame.sort(*keys, *KEYS[1:]).with_columns(moments))
        paths[name] = place.url
    return paths


def publish(views: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    """Make these the current features, which the Feast repository in feature_repo/ reads.

    Args:
        views: View name -> frame.

    Returns:
        View name -> path or URL.
    """
    from trialops.stores.features import current_url

    return write_views(views, current_url("").rpartition("/")[0])


def point_in_time(
    views: Mapping[str, pl.DataFrame], moments: pl.DataFrame, workdir: Path, *, task: str = "withdrawal"
) -> pl.DataFrame:
    """Features of the latest row known at each moment, by event and by knowledge time.

    Args:
        views: View name -> frame.
        moments: subject_id and event_timestamp, unique.
        workdir: Folder for the views' files and the registry.
        task: Name of the task whose service is asked.

    Returns:
        The moments with every feature of every view, sorted by subject_id and event_timestamp; null where
        nothing was known.

    Raises:
        TrialOpsError: Moments are repeated, or the store did not give back exactly these moments.
    """
    import polars as pl

    from trialops.stores.features import open_store, service_name

    key = ["subject_id", "event_timestamp"]
    moments = moments.select(key).with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC"))).sort(key)
    if moments.is_duplicated().any():
        raise TrialOpsError(
            "A subject is listed twice for one moment.",
            where="labels",
            fix="Give one row per subject and landmark.",
        )
    columns = {name: [c for c in frame.columns if c not in KEYS] for name, frame in views.items()}
    store = open_store(workdir, write_views(views, workdir), columns=columns, task=task)
    # Our store never reads later corrections into a moment; the word is for whoever configures another one.
    job = store.get_historical_features(
        entity_df=moments.to_pandas(),
        features=store.get_feature_service(service_name(task)),
        filter_by_created_timestamp=True,
    )
    names = [c for listed in columns.values() for c in listed]
    table = job.to_arrow()
    answer = (
        pl.DataFrame(pl.from_arrow(table))
        .select(
            pl.col("subject_id").cast(pl.String),
            pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")),
            *(pl.col(c).cast(pl.Float64).fill_nan(None) for c in names),
        )
        .sort(key)
    )
    if not answer.select(key).equals(moments):
        raise TrialOpsError(
            f"The feature store gave {answer.height} rows for {moments.height} asked, or other ones.",
            where=f"store in {workdir}",
            fix="Report it: the offline store promises one row per row asked.",
        )
    return answer


def build(
    views: Mapping[str, pl.DataFrame],
    labels: pl.DataFrame,
    task: Any,
    workdir: Path,
    *,
    definitions: Definitions | None = None,
) -> pl.DataFrame:
    """The training set of a task.

    Args:
        views: View name -> frame, from `feature_views`; those of visits and sites take no part.
        labels: One row per subject, from `trialops.features.labels.label`; rows with a reason in `excluded`
            are left out.
        task: Anything with name, landmark_day, blinded and features (ordered names; empty for all).
        workdir: Folder for the views' files and the registry, private to this training set.
        definitions: The views' definitions; the shipped ones by default.

    Returns:
        subject_id, site_id, event_timestamp, label, the features in the task's order (Float64, null missing),
        then group_sex, group_age_band, group_race; sorted by subject_id.

    Raises:
        TrialOpsError: A feature would unblind the model, is not defined, or its view is absent; labels repeat
            a subject; a subject was lost on the way.
    """
    import polars as pl

    from trialops.features.definition_file import load
    from trialops.features.definitions import check_blinded

    definitions = definitions or load()
    check_blinded(definitions, task)
    # Views of visits and of sites are about others than the one who is predicted.
    views = {name: frame for name, frame in views.items() if name not in definitions.entity_views}
    wanted = _wanted(definitions, views, tuple(task.features))
    chosen = labels.filter(pl.col("excluded").is_null()).sort("subject_id")
    if chosen["subject_id"].is_duplicated().any():
        raise TrialOpsError("A subject is labelled twice.", where="labels", fix="Give one row per subject.")
    found = point_in_time(views, chosen, workdir, task=task.name)
    found = ages(found, definitions, task.landmark_day)
    joined = chosen.join(found, on=["subject_id", "event_timestamp"], how="left", maintain_order="left")
    return joined.select("subject_id", "site_id", "event_timestamp", pl.col("label").cast(pl.Int8), *wanted, *GROUPS)


def _wanted(definitions: Definitions, views: Mapping[str, pl.DataFrame], features: Sequence[str]) -> list[str]:
    """The features to return, in order, each checked to exist."""
    held = {c for frame in views.values() for c in frame.columns if c not in KEYS}
    held |= {age for age, day in definitions.ages.items() if day in held}
    wanted = list(features) or [f for f in definitions.features if f in held]
    for feature in wanted:
        if feature not in held:
            raise TrialOpsError(
                f"The feature {feature} is not in the feature views.",
                where=f"task features; definitions {definitions.path}",
                fix="Correct the name in the task, or define the feature.",
            )
    return wanted
