"""What a request to the offline store names: entity rows, views, and the files these lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import offline_store_join as join
from trialops.features import offline_store_prepared as preparation
from trialops.features.offline_store_files import Place

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from feast import FeatureView, RepoConfig
    from feast.data_source import DataSource

_DUMMY_KEY = "__dummy_id"  # Feast's key of views without an entity


class Asked:
    """What is asked of one view: its source, keys, and features with their names in the answer."""

    def __init__(self, view: FeatureView, keys: dict[str, str], features: dict[str, str], config: RepoConfig) -> None:
        self.view, self.keys, self.features, self.config = view, keys, features, config
        if view.batch_source is None:
            raise TrialOpsError(
                "The view has no source to read.", where=f"feature view {view.name}", fix="Give it a batch source."
            )
        self.place = place_of(view.batch_source, config)

    @classmethod
    def of(cls, view: FeatureView, refs: list[str], full: bool, config: RepoConfig) -> Asked:
        """Read a view's part of a request.

        Args:
            view: The view, projected as the request wants it.
            refs: ``view:feature`` of the whole request.
            full: Name features ``view__feature``.
            config: Feast's configuration.
        """
        asked = view.projection.name_to_use()
        features = [ref.split(":", 1)[1] for ref in refs if ref.startswith(f"{asked}:")]
        prefix = f"{view.projection.name_alias or view.name}__" if full else ""
        renamed = view.projection.join_key_map or {}
        keys = {c.name: renamed.get(c.name, c.name) for c in view.entity_columns if c.name != _DUMMY_KEY}
        return cls(view, keys, {f: prefix + f for f in dict.fromkeys(features)}, config)

    def join(self, entities: pa.Table, moment: str) -> pl.DataFrame:
        """The view's features, one row per entity row; see `trialops.features.offline_store_join.latest_known`."""
        source = self.view.batch_source
        native = {new: old for old, new in source.field_mapping.items()}
        made = preparation.prepared(
            preparation.Source(
                self.place,
                tuple(native.get(key, key) for key in self.keys),
                native.get(source.timestamp_field, source.timestamp_field),
                native.get(source.created_timestamp_column, source.created_timestamp_column) or "",
            ),
            self.config.offline_store.prepared_location,
        )
        found = join.latest_known(
            made.scan().rename(dict(source.field_mapping), strict=False),
            entities,
            moment,
            self.keys,
            list(self.features),
            self.view.ttl or None,
            where=self.view.name,
        )
        return found.rename(self.features)


def place_of(source: DataSource, config: RepoConfig) -> Place:
    """Where the parquet of a Feast source lies.

    Raises:
        TrialOpsError: The source is not parquet files.
    """
    from feast import FileSource
    from feast.data_format import ParquetFormat

    if not isinstance(source, FileSource) or not isinstance(source.file_format, ParquetFormat | None):
        raise TrialOpsError(
            "This offline store reads parquet files.",
            where=f"data source {source.name}",
            fix="Use a FileSource over parquet, or another offline store.",
        )
    url = FileSource.get_uri_for_file_path(config.repo_path, source.path)
    options = {name.lower(): value for name, value in (source.resolve_credentials() or {}).items() if value}
    if source.s3_endpoint_override:
        options["aws_endpoint_url"] = source.s3_endpoint_override
        if source.s3_endpoint_override.startswith("http://"):
            options["aws_allow_http"] = "true"
    return Place(url.removeprefix("file://"), options)


def entity_rows(given: pd.DataFrame | str) -> tuple[pa.Table, str]:
    """Entity rows with the moment in UTC, and the name of its column."""
    import pandas as pd
    import pyarrow as pa
    from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

    frame = _queried(given) if isinstance(given, str) else given
    moment = infer_event_timestamp_from_entity_df(dict(zip(frame.columns, frame.dtypes, strict=True)))
    if not pd.api.types.is_datetime64_any_dtype(frame[moment].dtype):
        frame = frame.assign(**{moment: pd.to_datetime(frame[moment], utc=True)})
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    place = table.column_names.index(moment)
    times = table[moment].cast(pa.timestamp(table[moment].type.unit, "UTC"))
    return table.set_column(place, moment, times), moment


def _queried(query: str) -> pd.DataFrame:
    import duckdb

    try:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(query).df()
    except duckdb.Error as error:  # its message may quote a value
        raise TrialOpsError(
            f"The query for entity rows cannot be run ({type(error).__name__}).",
            where="entity_df",
            fix="Give DuckDB's SQL over files, e.g. SELECT subject_id, event_timestamp FROM 'asked.parquet'.",
        ) from None
