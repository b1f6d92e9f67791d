"""The as-of join of entity rows with prepared features; every entity row comes back, in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features.offline_store_prepared import ARRIVAL, EVENT

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_AT, _ROW, _MOMENT = "__at", "__row", "__moment"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def latest_known(
    features: pl.LazyFrame,
    entities: pa.Table,
    moment: str,
    keys: Mapping[str, str],
    columns: Sequence[str],
    ttl: timedelta | None,
    *,
    where: str,
) -> pl.DataFrame:
    """Features of the row known last at each entity row's moment.

    Args:
        features: A prepared file, from `trialops.features.offline_store_prepared`.
        entities: Entity rows.
        moment: Column of entity rows with the moment asked for; without a time zone it is in UTC.
        keys: Join key of the features -> column of entity rows; empty for features of everybody.
        columns: Features.
        ttl: Oldest age, from event to moment, at which a value still counts; None for any.
        where: Name of the feature view, for messages.

    Returns:
        One row per entity row, in the same order: the features, null where nothing was known, where the last row
        known had expired, and where key or moment is null.

    Raises:
        TrialOpsError: A key or feature is absent, or a key is of another type than in the features.
    """
    import polars as pl

    schema = features.collect_schema()
    if absent := [c for c in columns if c not in schema]:
        raise TrialOpsError(
            f"The feature {absent[0]} is not in the file of its view.",
            where=f"feature view {where}",
            fix="Compute the features again, or correct the view.",
        )
    unit = schema[ARRIVAL].time_unit  # type: ignore[attr-defined]
    wanted = pl.DataFrame(
        [
            *(_key(entities, column, schema[key], where).alias(key) for key, column in keys.items()),
            _moments(entities, moment, unit).alias(_MOMENT),
        ]
    )
    held = features.select(*keys, ARRIVAL, *([EVENT] if ttl else []), *columns).collect()
    found = (
        wanted.lazy()
        .with_row_index(_AT)
        .sort(_MOMENT)
        .join_asof(
            held.lazy().select(*keys, ARRIVAL).with_row_index(_ROW),
            left_on=_MOMENT,
            right_on=ARRIVAL,
            by=list(keys) or None,
            strategy="backward",
            check_sortedness=False,  # sorted within each key, which is what the join goes by
        )
        .select(_AT, _ROW)
        .sort(_AT)
        .collect()
    )
    rows = found[_ROW]
    if ttl:
        fresh = held[EVENT].gather(rows) + ttl >= wanted[_MOMENT]
        rows = pl.select(pl.when(fresh).then(rows)).to_series()
    return held.select(pl.col(list(columns)).gather(rows)) if columns else pl.DataFrame()


def _moments(entities: pa.Table, column: str, unit: str) -> pl.Series:
    """Moments in the unit of the features; a finer one is rounded down, so that nothing later is reached."""
    import polars as pl
    import pyarrow as pa

    found = entities[column]
    ticks = pl.Series(pl.from_arrow(found.cast(pa.int64())))
    have, want = _PER_SECOND[found.type.unit], _PER_SECOND[unit]
    if have > want:
        ticks = ticks // (have // want)
    elif have < want:
        factor = want // have
        ticks = ticks.clip(-(2**63 - 1) // factor, (2**63 - 1) // factor) * factor
    return ticks.cast(pl.Datetime(unit, "UTC"))  # type: ignore[arg-type]


def _key(entities: pa.Table, column: str, dtype: Any, where: str) -> pl.Series:
    """A key column of the entity rows in the type the features have it in."""
    import polars as pl

    if column not in entities.column_names:
        raise TrialOpsError(
            f"The entity rows have no column {column}.",
            where=f"feature view {where}",
            fix="Add the join key to the entity rows.",
        )
    found = pl.Series(pl.from_arrow(entities[column]))
    if isinstance(found.dtype, pl.Categorical | pl.Enum):
        found = found.cast(pl.String)
    if found.dtype == pl.Null or found.dtype == dtype:
        return found.cast(dtype)
    if dtype.is_integer() and found.dtype.is_numeric():
        # Whole numbers with gaps come as floats out of pandas; a number outside the type's range matches nothing.
        known = found.fill_nan(None) if found.dtype.is_float() else found
        if not found.dtype.is_float() or known.drop_nulls().eq(known.drop_nulls().round()).all():
            return known.cast(dtype, strict=False)
    raise TrialOpsError(
        f"The column {column} of the entity rows is {found.dtype}, in the features it is {dtype}.",
        where=f"feature view {where}",
        fix="Give the keys in the type the features have them in.",
    )
