"""Opening Feast: the one place where its objects are made and the store is configured.

Feast decorates classes of eighteen modules with `typeguard.typechecked`, which recompiles their sources on
every start. That costs about two thirds of the import and checks nothing this project passes; `load_feast`
replaces the decorator by an identity while it imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from feast import Entity, FeatureService, FeatureStore, FeatureView

PROJECT = "trialops"
ENTITY = "subject"
JOIN_KEY = "subject_id"
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
def entity() -> Entity:
    """The subject; its key is the pseudonym."""
    feast = load_feast()
    return feast.Entity(
        name=ENTITY,
        join_keys=[JOIN_KEY],
        value_type=feast.ValueType.STRING,
        description="Trial subject, by pseudonym.",
    )


@lru_cache(maxsize=64)
def view(name: str, path: str, columns: tuple[str, ...]) -> FeatureView:
    """A feature view over one parquet file written by `trialops.features`.

    Cached, so that every module naming it holds the same object, which is what `feast apply` goes by.

    Raises:
        TrialOpsError: A feature has a name that Feast would lose.
    """
    from datetime import timedelta

    # Feast's DuckDB join marks clashing columns with this ending and then drops every column that has it.
    if taken := [c for c in columns if c.endswith("_y")]:
        raise TrialOpsError(
            f"The feature {taken[0]} may not end in _y.",
            where=f"feature view {name}",
            fix="Give it another name.",
        )
    feast = load_feast()
    types = feast.types
    source = feast.FileSource(
        name=f"{name}_source",
        path=path,
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    fields = [
        feast.Field(name=JOIN_KEY, dtype=types.String),
        *(feast.Field(name=c, dtype=types.Float64) for c in columns),
    ]
    # No expiry: the age of a value is a feature, and stores do not agree on enforcing expiry.
    return feast.FeatureView(
        name=name, entities=[entity()], ttl=timedelta(0), schema=fields, source=source, online=True
    )


def service(name: str, views: Sequence[FeatureView]) -> FeatureService:
    """A feature service over whole views."""
    return load_feast().FeatureService(name=name, features=list(views))


def service_name(task: str) -> str:
    """Name of the feature service of a task."""
    return f"{task}_v1"


def definitions(
    paths: Mapping[str, Path], columns: Mapping[str, Sequence[str]] | None = None, *, task: str = "withdrawal"
) -> list[Any]:
    """Feast objects over some files: the subject, one view per file and the task's service over all of them.

    Args:
        paths: View name -> parquet file.
        columns: View name -> feature columns; those of the shipped feature definitions by default.
        task: Name of the task the service is for.
    """
    columns = columns or shipped_columns()
    if unknown := sorted(set(paths) - set(columns)):
        raise TrialOpsError(
            f"The view {unknown[0]} is not defined.",
            where="feature definitions",
            fix="Define it, or leave it out.",
        )
    views = [view(name, str(path), tuple(columns[name])) for name, path in paths.items()]
    return [entity(), *(v.batch_source for v in views), *views, service(service_name(task), views)]


def shipped_columns() -> dict[str, tuple[str, ...]]:
    """View name -> feature columns of the shipped definitions."""
    from trialops.features.definition_file import load

    found = load()
    return {name: found.columns(name) for name in found.views}


def open_store(
    workdir: Path,
    paths: Mapping[str, Path],
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    task: str = "withdrawal",
    online: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """A feature store of its own in a folder, over exactly these files.

    A registry per training set is what ties the set to lake versions: nothing another run applies can change
    what is read here.

    Args:
        workdir: Folder for the registry and, with the default, the online store.
        paths: View name -> parquet file (timestamps in microseconds).
        columns: View name -> feature columns; those of the shipped feature definitions by default.
        task: Name of the task the service is for.
        online: Feast's online store configuration; SQLite in the folder by default.

    Returns:
        The store, with everything applied. It reads history through the project's own offline store, which knows
        nothing later than the moment asked for and keeps every entity row.

    Raises:
        TrialOpsError: A file is missing, a view is not defined, or Feast is not installed.
    """
    for name, path in paths.items():
        if not Path(path).is_file():
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
        )
    )
    store.apply(definitions({name: Path(p).resolve() for name, p in paths.items()}, columns, task=task))
    return store
