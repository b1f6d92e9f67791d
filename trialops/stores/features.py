"""Opening Feast: the one place where its objects are made and the store is configured.

Feast decorates classes of eighteen modules with `typeguard.typechecked`, which recompiles their sources on
every start. That costs about two thirds of the import and checks nothing this project passes; `load_feast`
replaces the decorator by an identity while it imports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureStore, FeatureView, OnDemandFeatureView

    from trialops.features.definitions import Definitions

PROJECT = "trialops"
JOIN_KEY = "subject_id"
#: Join key -> entity and what it is.
ENTITIES = {
    JOIN_KEY: ("subject", "Trial subject, by pseudonym."),
    "visit": ("visit", "Visit of a subject, by number; asked for together with the subject."),
    "site_id": ("site", "Site of the trial."),
}
#: View -> the push source through which late rows reach it between two builds.
PUSHED = {"labs": "late_labs"}
#: Source of what a request brings along.
REQUEST = "as_of"
#: Feast asks for the class by name.
OFFLINE = "trialops.features.offline_store.AsofOfflineStore"
#: Feast modules with the decorator that are imported on first use; they are loaded with the rest.
_LAZY = (
    "feast.infra.offline_stores.duckdb",
    "feast.infra.offline_stores.file_source",
    "feast.infra.online_stores.sqlite",
    "feast.infra.registry.registry",
    "feast.infra.passthrough_provider",
)


@cache
def load_feast() -> ModuleType:
    """Import Feast without the run-time type checks of its own classes; asserts stay on.

    Raises:
        TrialOpsError: Feast or its DuckDB engine is not installed.
    """
    import importlib
    import warnings

    import typeguard

    def unchanged(target: Any = None, **_: Any) -> Any:
        return target if target is not None else lambda decorated: decorated

    original = typeguard.typechecked
    typeguard.typechecked = unchanged
    try:
        with warnings.catch_warnings():  # Feast changes the process's warning filters on import
            feast = importlib.import_module("feast")
            for name in _LAZY:
                importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise TrialOpsError(
            f"The feature store cannot be loaded: {error.name} is not installed.",
            where="feast[duckdb]",
            fix="Install the project's dependencies.",
        ) from error
    finally:
        typeguard.typechecked = original
    return feast


@cache
def entity(key: str = JOIN_KEY) -> Entity:
    """What rows of features are about, by join key; keys are text.

    Feast allows an entity one key: a visit of a subject is the pair of the entities subject and visit.

    Raises:
        TrialOpsError: There is no such key.
    """
    if key not in ENTITIES:
        raise TrialOpsError(f"{key} is no join key.", where="feature store", fix="Use " + ", ".join(ENTITIES) + ".")
    feast = load_feast()
    name, description = ENTITIES[key]
    return feast.Entity(name=name, join_keys=[key], value_type=feast.ValueType.STRING, description=description)


@lru_cache(maxsize=64)
def view(name: str, path: str, columns: tuple[str, ...], keys: tuple[str, ...] = (JOIN_KEY,)) -> FeatureView:
    """A feature view over one parquet file written by `trialops.features`.

    Cached, so that every module naming it holds the same object, which is what `feast apply` goes by.

    Args:
        name: Name of the view.
        path: Its file, or ``s3://`` URL.
        columns: Its features.
        keys: Its join keys.

    Raises:
        TrialOpsError: A key is none of ours.
    """
    from datetime import timedelta

    feast = load_feast()
    types = feast.types
    source = feast.FileSource(
        name=f"{name}_source",
        path=path,
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    if name in PUSHED:
        source = feast.PushSource(name=PUSHED[name], batch_source=source)
    fields = [
        *(feast.Field(name=key, dtype=types.String) for key in keys),
        *(feast.Field(name=c, dtype=types.Float64) for c in columns),
    ]
    # No expiry: the age of a value is a feature, and stores do not agree on enforcing expiry.
    return feast.FeatureView(
        name=name, entities=[entity(key) for key in keys], ttl=timedelta(0), schema=fields, source=source, online=True
    )


def ages_view(views: Mapping[str, FeatureView]) -> OnDemandFeatureView | None:
    """Ages as of the study day in the request, from the days that some views hold; None where they hold none.

    The same numbers as `trialops.features.views.ages`, for whoever asks through Feast. `study_day` comes with
    the request: the day of the landmark in training, today in serving.
    """
    return _ages_view(tuple(views.values()))


@cache
def _shipped() -> Definitions:
    """The shipped definitions, read once in a process."""
    from trialops.features.definition_file import load

    return load()


@cache
def age_days() -> dict[str, str]:
    """Age -> the day-valued feature it is counted from, in the shipped definitions."""
    return dict(_shipped().ages)


def ages_at(inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[float | None]]:
    """Ages in days from the days of some subjects to each one's `study_day`; None where either is unknown.

    Args:
        inputs: Column -> values: `study_day`, and days of views.

    Raises:
        TrialOpsError: A study day is 0.
    """
    from trialops.features.study_time import ordinal_of

    def age(today: Any, seen: Any) -> float | None:
        if today is None or seen is None or math.isnan(seen):
            return None
        return float(ordinal_of(int(today)) - ordinal_of(int(seen)))

    asked = inputs["study_day"]
    return {
        name: [age(*pair) for pair in zip(asked, inputs[day], strict=True)]
        for name, day in age_days().items()
        if day in inputs
    }


@lru_cache(maxsize=8)  # for the same reason as `view`
def _ages_view(views: tuple[FeatureView, ...]) -> OnDemandFeatureView | None:
    days = {age: day for age, day in age_days().items() if any(day in _names(v) for v in views)}
    if not days:
        return None
    feast = load_feast()

    # Feast stores this source text and runs it with nothing around it; and it spoils the function for a second use.
    def study_ages(inputs: dict[str, Any]) -> dict[str, Any]:
        from trialops.stores.features import ages_at

        return ages_at(inputs)

    held = [v[[d for d in dict.fromkeys(days.values()) if d in _names(v)]] for v in views]
    request = feast.RequestSource(name=REQUEST, schema=[feast.Field(name="study_day", dtype=feast.types.Int64)])
    decorate = feast.on_demand_feature_view.on_demand_feature_view(
        sources=[*(v for v in held if _names(v)), request],
        schema=[feast.Field(name=age, dtype=feast.types.Float64) for age in days],
        mode="python",  # over lists: of several rows, a singleton view is computed for the first alone
    )
    made: OnDemandFeatureView = decorate(study_ages)
    return made


def _names(view: FeatureView) -> list[str]:
    return [field.name for field in view.projection.features]


def service(name: str, views: Sequence[FeatureView | OnDemandFeatureView]) -> FeatureService:
    """A feature service over whole views."""
    return load_feast().FeatureService(name=name, features=list(views))


def service_name(task: str, version: int | None = None) -> str:
    """Name of the feature service of a task: it carries the version of the feature definitions a model learnt from.

    Args:
        task: Name of the task.
        version: Version of the feature definitions; of the shipped ones by default.
    """
    return f"{task}_v{_shipped().version if version is None else version}"


def services(
    task: str, views: Sequence[FeatureView], ages: OnDemandFeatureView | None, version: int | None = None
) -> list[FeatureService]:
    """The services of a task: what is stored of a subject, and with the ages as of a study day.

    Views of visits and sites are in neither: their rows are about something else than the subject a model judges.
    """
    mine = [v for v in views if v.join_keys == [JOIN_KEY]]
    name = service_name(task, version)
    found = [service(name, mine)]
    return found if ages is None else [*found, service(f"{name}_on_day", [*mine, ages])]


def definitions(
    paths: Mapping[str, Path | str],
    columns: Mapping[str, Sequence[str]] | None = None,
    *,
    task: str = "withdrawal",
    version: int | None = None,
) -> list[Any]:
    """Feast objects over some files: entities, one view per file, the ages and the task's services.

    Args:
        paths: View name -> parquet file or ``s3://`` URL.
        columns: View name -> feature columns; those of the shipped feature definitions by default.
        task: Name of the task the services are for.
        version: Version of the feature definitions; of the shipped ones by default.

    Raises:
        TrialOpsError: A view is not defined.
    """
    columns, keys = columns or shipped_columns(), shipped_keys()
    if unknown := sorted(set(paths) - set(columns)):
        raise TrialOpsError(
            f"The view {unknown[0]} is not defined.",
            where="feature definitions",
            fix="Define it, or leave it out.",
        )
    views = {
        name: view(name, str(path), tuple(columns[name]), keys.get(name, (JOIN_KEY,))) for name, path in paths.items()
    }
    used = dict.fromkeys(key for name in views for key in keys.get(name, (JOIN_KEY,)))
    sources = [source for v in views.values() for source in (v.batch_source, v.stream_source) if source]
    ages = ages_view(views)
    made = [*(entity(key) for key in used), *sources, *views.values()]
    return [*made, *([] if ages is None else [ages]), *services(task, list(views.values()), ages, version)]


def shipped_columns() -> dict[str, tuple[str, ...]]:
    """View name -> feature columns of the shipped definitions, views of visits and sites included."""
    found = _shipped()
    return {name: found.columns(name) for name in found.all_views}


def shipped_keys() -> dict[str, tuple[str, ...]]:
    """View name -> join keys of the shipped definitions."""
    found = _shipped()
    return {name: found.join_keys(name) for name in found.all_views}


def current_url(name: str) -> str:
    """Where the current features of a view are published for Feast: a path, or on a cluster an ``s3://`` URL."""
    from trialops.settings import settings

    return f"{settings().objects.rstrip('/')}/features/current/{name}.parquet"


def open_store(
    workdir: Path,
    paths: Mapping[str, Path | str],
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    task: str = "withdrawal",
    version: int | None = None,
    online: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """A feature store of its own in a folder, over exactly these files.

    A registry per training set is what ties the set to lake versions: nothing another run applies can change
    what is read here.

    Args:
        workdir: Folder for the registry and, with the default, the online store.
        paths: View name -> parquet file or ``s3://`` URL.
        columns: View name -> feature columns; those of the shipped feature definitions by default.
        task: Name of the task the service is for.
        version: Version of the feature definitions; of the shipped ones by default.
        online: Feast's online store configuration; SQLite in the folder by default.

    Returns:
        The store, with everything applied. It reads history through the project's own offline store, which knows
        nothing later than the moment asked for and keeps every entity row.

    Raises:
        TrialOpsError: A file is missing, a view is not defined, or Feast is not installed.
    """
    remote = "s3://"
    for name, path in paths.items():
        if not str(path).startswith(remote) and not Path(path).is_file():
            raise TrialOpsError(
                "The file of a feature view does not exist.",
                where=f"{name}: {path}",
                fix="Compute the features first.",
            )
    feast = load_feast()
    workdir = Path(workdir).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project=PROJECT,
            provider="local",
            entity_key_serialization_version=3,
            repo_path=workdir,
            registry={"registry_type": "file", "path": str(workdir / "registry.db"), "cache_ttl_seconds": 0},
            online_store=dict(online) if online else {"type": "sqlite", "path": str(workdir / "online.db")},
            offline_store={"type": OFFLINE},
            # The newest rows alone, and by the offline store, which settles ties as the as-of join does.
            materialization={"pull_latest_features": True, "online_write_batch_size": 10_000},
        )
    )
    placed = {name: p if str(p).startswith(remote) else Path(p).resolve() for name, p in paths.items()}
    store.apply(definitions(placed, columns, task=task, version=version))
    return store
