"""Feast offline store over parquet that answers what was known at a moment, by an as-of join.

Feast's own DuckDB engine joins every entity row with the whole history of its key and sorts; its default leaks later
corrections into the past. This store keeps Feast's interface: each source is reduced once to a prepared file
(`trialops.features.offline_store_prepared`), from which any request is one as-of join. A value counts when it had
happened *and* was known at the moment asked for, whether or not `filter_by_created_timestamp` is passed. Every entity
row comes back, in its place.

    offline_store:
      type: trialops.features.offline_store.AsofOfflineStore
      prepared_location: s3://bucket/prepared   # optional; beside the source by default

The module is imported by Feast alone (and imports it), through `trialops.stores.features.load_feast`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features.offline_store_jobs import AsofRetrievalJob, ReadJob, as_arrow, on_demand
from trialops.features.offline_store_request import Asked, entity_rows, place_of
from trialops.stores.features import load_feast

load_feast()  # before its modules below, which load much faster that way

from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from feast import FeatureView, RepoConfig
    from feast.data_source import DataSource
    from feast.infra.offline_stores.offline_store import RetrievalJob
    from feast.infra.registry.base_registry import BaseRegistry

_ATTEMPTS = 5


class AsofOfflineStoreConfig(DuckDBOfflineStoreConfig):
    """Configuration in feature_store.yaml.

    Attributes:
        prepared_location: Folder or ``s3://`` prefix of prepared files; beside each source by default.
    """

    type: str = "trialops.features.offline_store.AsofOfflineStore"
    prepared_location: str | None = None


class AsofOfflineStore(DuckDBOfflineStore):
    """Parquet on a disk or S3; logged features and monitoring are those of Feast's DuckDB store."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = True,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Features as they were known at the moment of each entity row.

        Args:
            config: The store's configuration.
            feature_views: Views, over parquet sources.
            feature_refs: ``view:feature``.
            entity_df: Entity rows, or a query in DuckDB's SQL that gives them.
            registry: Feast's registry, for on-demand views.
            project: Feast's project.
            full_feature_names: Name features ``view__feature``.
            filter_by_created_timestamp: Without effect: it is always done.
            start_date: Not used: without entity rows there is no moment to ask for.
            end_date: Not used.

        Raises:
            TrialOpsError: No entity rows, a missing column or request value, a source that is not parquet, or two
                columns of one name.
        """
        from feast import OnDemandFeatureView

        if entity_df is None:
            raise TrialOpsError(
                "Features are asked for without entity rows.",
                where="get_historical_features",
                fix="Pass entity_df: one row per key and moment. All rows of a period: read the source itself.",
            )
        entities, moment = entity_rows(entity_df)
        computed = [on_demand(v) for v in OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)]
        for view in computed:
            if absent := set(view.get_request_data_schema()) - set(entities.column_names):
                raise TrialOpsError(
                    f"The entity rows have no column {min(absent)}.",
                    where=f"on-demand view {view.name}",
                    fix="Add the request value to the entity rows.",
                )
        asked = [Asked.of(view, feature_refs, full_feature_names, config) for view in feature_views]
        names = [*entities.column_names, *(name for one in asked for name in one.features.values())]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise TrialOpsError(
                f"Two columns of the answer would be named {twice[0]}.",
                where="get_historical_features",
                fix="Pass full_feature_names=True, or rename the column of the entity rows.",
            )
        return AsofRetrievalJob(
            entities, moment, asked, computed, full_feature_names, feature_refs, str(config.repo_path)
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The latest row per key whose event lies in a period: latest event, then creation, then position.

        Unlike Feast's own engines it settles ties, so that what is materialised is what training would be given.
        """
        import polars as pl

        place = place_of(data_source, config)
        order = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, *order]))

        def read() -> pa.Table:
            held = _between(place.scan(), timestamp_field, start_date, end_date).select(columns).collect()
            rows = held.select(*join_key_columns, *order).with_row_index("__row").sort(*order, "__row")
            rows = rows.unique(join_key_columns, keep="last") if join_key_columns else rows.tail(1)
            return as_arrow(held.select(pl.all().gather(rows["__row"].sort())))

        return ReadJob(read, str(config.repo_path))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows whose event lies in a period, in the order of the source."""
        place = place_of(data_source, config)
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        columns = list(dict.fromkeys([*join_key_columns, *feature_name_columns, *times]))

        def read() -> pa.Table:
            return as_arrow(_between(place.scan(), timestamp_field, start_date, end_date).select(columns).collect())

        return ReadJob(read, str(config.repo_path))

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Check the times of a source that is there; one that is not published yet may be applied.

        Feast's own check looks for every bucket at Amazon, and waits for it.

        Raises:
            TrialOpsError: A time column is missing.
        """
        from feast import FileSource

        if not isinstance(data_source, FileSource):
            return
        place = place_of(data_source, config)
        if not place.exists():
            return
        held = set(place.scan().collect_schema()) | set(data_source.field_mapping.values())
        for name in (data_source.timestamp_field, data_source.created_timestamp_column):
            if name and name not in held:
                raise TrialOpsError(
                    f"The column {name} is missing.",
                    where=place.url,
                    fix="Publish the features again, or correct the view.",
                )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> list[tuple[str, str]]:
        """Columns and Arrow types of a source; unlike Feast's way it finds S3 where the environment says it is."""
        import polars as pl

        empty = pl.DataFrame(schema=place_of(data_source, config).scan().collect_schema())
        return [(field.name, str(field.type)) for field in as_arrow(empty).schema]

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append rows to a view's file, which readers see before or after, never half; used by `push`.

        Raises:
            TrialOpsError: Other columns than the file's, or others kept writing the same object.
        """
        import polars as pl

        place = place_of(feature_view.batch_source, config)
        added = pl.DataFrame(pl.from_arrow(table))
        for _ in range(_ATTEMPTS):
            with place.locked():
                tag = place.entity_tag()
                held = place.scan().collect()
                if set(added.columns) != set(held.columns):
                    raise TrialOpsError(
                        "The rows have other columns than the file of the view.",
                        where=f"feature view {feature_view.name}",
                        fix="Give " + ", ".join(held.columns) + ".",
                    )
                typed = added.select(pl.col(c).cast(t) for c, t in held.schema.items())
                if place.write(pl.concat([held, typed]), after=tag):
                    break
        else:
            raise TrialOpsError(
                f"The file was written by others {_ATTEMPTS} times in between.",
                where=f"feature view {feature_view.name}",
                fix="Push again.",
            )
        if progress:
            progress(table.num_rows)


def _between(rows: pl.LazyFrame, column: str, start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    import polars as pl

    zone = getattr(rows.collect_schema()[column], "time_zone", None)
    for bound, keep in ((start, pl.Expr.ge), (end, pl.Expr.le)):
        if bound is not None:
            instant = bound.astimezone(UTC)
            rows = rows.filter(keep(pl.col(column), pl.lit(instant if zone else instant.replace(tzinfo=None))))
    return rows
