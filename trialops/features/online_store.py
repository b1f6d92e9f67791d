"""Feast's online stores with a writer that never lets an older row replace a newer one.

Select it in `feature_store.yaml`:

    online_store:
      type: trialops.features.online_store.GuardedOnlineStore
      url: redis://host:6379/0

Layout, reading, tables and teardown are Feast's own store of that kind. Writing, by `materialize`, `push` and
`write_to_online_store`, goes through `trialops.stores.online.writer`, on SQLite and PostgreSQL too. A row of the same
time as the stored one replaces it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError
from trialops.features.online_config import feast_online_store
from trialops.stores.features import load_feast
from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec
from trialops.stores.online.writer import open_writer

if TYPE_CHECKING:
    from feast import Entity, FeatureView, RepoConfig

load_feast()

from feast.infra.online_stores.helpers import (  # noqa: E402  after the import that is cheap
    compute_versioned_name,
    get_online_store_from_config,
)
from feast.infra.online_stores.online_store import OnlineStore  # noqa: E402
from feast.repo_config import FeastConfigBaseModel  # noqa: E402


class GuardedOnlineStoreConfig(FeastConfigBaseModel):
    """Where the store is.

    Attributes:
        type: This class.
        url: As `trialops.stores.online.open_reader` takes it.
    """

    type: Literal["trialops.features.online_store.GuardedOnlineStore"] = (
        "trialops.features.online_store.GuardedOnlineStore"
    )
    url: str


class GuardedOnlineStore(OnlineStore):
    """Feast's store of the URL's kind, written with a guard."""

    def __init__(self) -> None:
        self._inner: OnlineStore | None = None
        self._inner_config: RepoConfig | None = None
        self._writers: dict[str, Any] = {}
        self._lock = threading.Lock()

    def _feasts(self, config: RepoConfig) -> tuple[OnlineStore, RepoConfig]:
        """Feast's own store and the configuration it understands."""
        with self._lock:
            if self._inner is None or self._inner_config is None:
                own = config.model_copy()
                own.online_config = feast_online_store(config.online_store.url)
                own._online_store = None
                self._inner, self._inner_config = get_online_store_from_config(own.online_store), own
            return self._inner, self._inner_config

    @property
    def async_supported(self) -> Any:
        """What Feast's own store can do; before it is opened, nothing."""
        return super().async_supported if self._inner is None else self._inner.async_supported

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[Any, dict[str, Any], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows that are not older than what is stored.

        Raises:
            TrialOpsError: Keys are not text, features are not Float64, or the store fails.
        """
        import polars as pl

        if config.entity_key_serialization_version != 3:
            raise TrialOpsError(
                "Entity keys are written in serialization version 3.",
                where="feature_store.yaml",
                fix="Set entity_key_serialization_version: 3.",
            )
        if not data:
            return
        name = compute_versioned_name(table, config.registry.enable_online_feature_view_versioning)
        columns = tuple(data[0][1])
        keys = tuple(data[0][0].join_keys)
        spec = FeatureServiceSpec(name, config.project, 0, (ViewSpec(name, columns),), {}, keys)
        moment = pl.Datetime("us", "UTC")
        created = [_utc(row[3]) for row in data]
        frame = pl.DataFrame(
            {
                **{k: [_text(row[0], keys, k) for row in data] for k in keys},
                "event_timestamp": pl.Series([_utc(row[2]) for row in data], dtype=moment),
                **({} if None in created else {"created": pl.Series(created, dtype=moment)}),
                **{c: pl.Series([_number(row[1][c], c) for row in data], dtype=pl.Float64) for c in columns},
            }
        )
        with self._lock:
            if spec.digest not in self._writers:
                self._writers[spec.digest] = open_writer(config.online_store.url, spec)
            self._writers[spec.digest].write(name, frame)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """As Feast's own store."""
        inner, own = self._feasts(config)
        found: list[tuple[datetime | None, dict[str, Any] | None]] = inner.online_read(
            own, table, entity_keys, requested_features
        )
        return found

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> Any:
        """As Feast's own store."""
        inner, own = self._feasts(config)
        return await inner.online_read_async(own, table, entity_keys, requested_features)

    def _read_features_per_fv(self, config: RepoConfig, *rest: Any, **more: Any) -> None:
        inner, own = self._feasts(config)
        inner._read_features_per_fv(own, *rest, **more)

    def _is_versioned_read_supported(self) -> bool:
        return True

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """As Feast's own store."""
        inner, own = self._feasts(config)
        inner.update(own, tables_to_delete, tables_to_keep, entities_to_delete, entities_to_keep, partial)

    def plan(self, config: RepoConfig, desired_registry_proto: Any) -> Any:
        """As Feast's own store."""
        inner, own = self._feasts(config)
        return inner.plan(own, desired_registry_proto)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """As Feast's own store, once the writers are closed."""
        with self._lock:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()
        inner, own = self._feasts(config)
        inner.teardown(own, tables, entities)


def _utc(moment: datetime | None) -> datetime | None:
    """Feast's times without a zone are UTC."""
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _text(entity: Any, keys: tuple[str, ...], key: str) -> str:
    value = entity.entity_values[list(entity.join_keys).index(key)]
    if tuple(entity.join_keys) != keys or value.WhichOneof("val") != "string_val":
        raise TrialOpsError(
            f"The join key {key} is not text, or rows have different keys.",
            where="online store",
            fix="Declare entities with value_type STRING.",
        )
    return str(value.string_val)


def _number(value: Any, column: str) -> float | None:
    kind = value.WhichOneof("val")
    if kind not in (None, "double_val"):
        raise TrialOpsError(
            f"The feature {column} is not Float64.", where="online store", fix="Declare features as Float64."
        )
    return float(value.double_val) if kind else None
