"""Retrieval jobs of the offline store: what Feast gets back, and reads when it needs it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.features.offline_store_request import Asked
from trialops.stores.features import load_feast

load_feast()  # before its module below, which loads much faster that way

from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from feast import OnDemandFeatureView
    from feast.saved_dataset import SavedDatasetStorage


class ReadJob(RetrievalJob):
    """A retrieval that reads once, when first asked."""

    def __init__(self, read: Callable[[], pa.Table], repo_path: str) -> None:
        super().__init__()
        self._read, self._repo_path = read, repo_path

    @cached_property
    def _table(self) -> pa.Table:
        return self._read()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._table

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._table.to_pandas()

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry the names of their views."""
        return False

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views to compute."""
        return []

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return None

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the answer, on-demand features included, as a saved dataset."""
        import ibis
        from feast.infra.offline_stores.duckdb import _write_data_source

        target = storage.to_data_source()
        table = ibis.memtable(self.to_arrow(timeout=timeout))
        _write_data_source(table, target, self._repo_path, "overwrite", allow_overwrite)


class AsofRetrievalJob(ReadJob):
    """Historical features; the join is done when first asked, and on-demand views by Feast after it."""

    def __init__(
        self,
        entities: pa.Table,
        moment: str,
        asked: list[Asked],
        on_demand: list[OnDemandFeatureView],
        full_feature_names: bool,
        feature_refs: list[str],
        repo_path: str,
    ) -> None:
        super().__init__(self._join, repo_path)
        self._entities, self._moment, self._asked = entities, moment, asked
        self._on_demand, self._full = on_demand, full_feature_names
        self._refs = feature_refs

    def _join(self) -> pa.Table:
        answer = self._entities
        for one in self._asked:
            found = as_arrow(one.join(self._entities, self._moment))
            for name in found.column_names:
                answer = answer.append_column(name, found[name])
        return answer

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry the names of their views."""
        return self._full

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views to compute."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata:
        """Features, keys, and first and last moment."""
        import pyarrow.compute as pc

        ends = pc.min_max(self._entities[self._moment]).as_py()
        keys = [c for c in self._entities.column_names if c != self._moment]
        return RetrievalMetadata(self._refs, keys, ends["min"], ends["max"])


def on_demand(view: OnDemandFeatureView) -> OnDemandFeatureView:
    """An on-demand view in Python as it behaves online: fed its inputs alone, singletons row by row, answers typed.

    In historical retrieval Feast hands whole columns, and all of them, to the function even of a singleton view, and
    takes the types of the answer from what values there happen to be.
    """
    if view.mode != "python":
        return view
    view = copy(view)
    view.feature_transformation = _InPython(view)
    return view


class _InPython:
    """Calls the function of an on-demand view."""

    def __init__(self, view: OnDemandFeatureView) -> None:
        self._udf, self._singleton = view.feature_transformation.udf, view.singleton
        self._inputs = list(view.get_request_data_schema())
        for projection in view.source_feature_view_projections.values():
            self._inputs += [name for f in projection.features for name in (f.name, f"{projection.name}__{f.name}")]

    def transform_arrow(self, table: pa.Table, features: list[Any]) -> pa.Table:
        import pyarrow as pa
        from feast.type_map import feast_value_type_to_pa

        inputs = table.select([c for c in dict.fromkeys(self._inputs) if c in table.column_names])
        kinds = {f.name: feast_value_type_to_pa(f.dtype.to_value_type()) for f in features}
        if self._singleton:
            rows = [self._udf(row) for row in inputs.to_pylist()]
            answer = {name: [row.get(name) for row in rows] for name in kinds}
        else:
            answer = self._udf(inputs.to_pydict())
        return pa.table({name: pa.array(answer[name], kind) for name, kind in kinds.items()})


def as_arrow(rows: pl.DataFrame) -> pa.Table:
    """Arrow of the kinds Feast knows: timestamps in microseconds, plain text."""
    import polars as pl
    import polars.selectors as cs

    rows = rows.with_columns(cs.datetime("ns").dt.cast_time_unit("us"), cs.categorical().cast(pl.String))
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())
