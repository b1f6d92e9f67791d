"""The prepared file of a feature source: what a bitemporal join reduces to a plain as-of join.

Let a row *arrive* at a = max(event, created). At any moment, the answer for a key is the row with the latest event,
then the latest creation, then the last position in the source, among those that have arrived. A row whose event is
older than one already there can never be the answer again, whatever is asked. So, per key in order of (a, event,
created, position), rows below the running maximum of event go, and of rows that arrive together only the last stays.
What is left has event times that never fall as arrivals rise: its latest arrival at or before a moment is the answer.

The file holds keys, event, arrival and all other columns, sorted by key and arrival, and in its metadata the
fingerprint of the source it was made from. It is made again when the source has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features.offline_store_files import Place

if TYPE_CHECKING:
    import polars as pl

EVENT, ARRIVAL = "__event", "__arrival"
#: Changes with the layout of prepared files: older ones are made again.
LAYOUT = 1
_ROW, _CREATED = "__row", "__created"
_STAMP = "trialops.asof"
_COLUMNS_AT_ONCE = 16


@dataclass(frozen=True)
class Source:
    """A feature source, in its own column names.

    Attributes:
        place: Its file or folder.
        keys: Join keys.
        event: Column of the time a value happened.
        created: Column of the time it became known; "" where that is the same time.
    """

    place: Place
    keys: tuple[str, ...]
    event: str
    created: str


def prepared(source: Source, location: str | None = None) -> Place:
    """The prepared file of a source, made if there is none or the source has changed.

    Args:
        source: The source.
        location: Folder or S3 prefix of prepared files; beside the source by default.

    Raises:
        TrialOpsError: The source is absent, lacks a column, has times that are none, keeps changing while it is
            read, or the file cannot be written.
    """
    about = json.dumps([LAYOUT, source.keys, source.event, source.created])
    name = hashlib.sha256(about.encode()).hexdigest()[:8]
    target = source.place.beside(f".{source.place.stem}.asof-{name}.parquet", location)
    if _made_from(target) == _stamp(about, source.place.fingerprint()):
        return target
    with target.locked():
        for _ in range(3):
            before = source.place.fingerprint()
            if _made_from(target) == _stamp(about, before):  # another process made it meanwhile
                return target
            frame = reduced(source)
            if source.place.fingerprint() == before:
                target.write(frame, metadata={_STAMP: _stamp(about, before)})
                return target
    raise TrialOpsError(
        "The features changed three times while they were read.",
        where=source.place.url,
        fix="Wait until whoever writes them is done, then start again.",
    )


def _stamp(about: str, fingerprint: str) -> str:
    return f"{fingerprint} {about}"


def _made_from(target: Place) -> str:
    return target.metadata().get(_STAMP, "")


def reduced(source: Source) -> pl.DataFrame:
    """The rows of a source that can be an answer, sorted by key and arrival.

    Returns:
        Keys, EVENT and ARRIVAL (datetime UTC; nanoseconds where the source has them, else microseconds), then the
        other columns of the source. Rows without key, event or (where it is told) creation are left out: a value of
        which nobody knows when it became known is not used.

    Raises:
        TrialOpsError: A column is absent or has a type it may not have.
    """
    import polars as pl

    schema = source.place.scan().collect_schema()
    times = [source.event, *([source.created] if source.created else [])]
    _check(source, schema, times)
    unit = "ns" if any(getattr(schema[t], "time_unit", "") == "ns" for t in times) else "us"
    event = _moment(source.event, schema, unit)
    created = _moment(source.created, schema, unit) if source.created else event
    keys = list(source.keys)
    key_types = [pl.col(k).cast(pl.String) if _is_text(schema[k]) else pl.col(k) for k in keys]
    order = (
        source.place.scan(row_index_name=_ROW)
        .select(*key_types, event.alias(EVENT), created.alias(_CREATED), _ROW)
        .filter(pl.all_horizontal(pl.col(*keys, EVENT, _CREATED).is_not_null()))
        .with_columns(pl.max_horizontal(EVENT, _CREATED).alias(ARRIVAL))
        .sort(*keys, ARRIVAL, EVENT, _CREATED, _ROW)
        .filter(pl.col(EVENT) >= _over(pl.col(EVENT).cum_max(), keys))
        .filter(pl.any_horizontal(pl.col(c) != pl.col(c).shift(-1) for c in (*keys, ARRIVAL)).fill_null(True))
        .drop(_CREATED)
        .collect()
    )
    rows, found = order[_ROW], [order.drop(_ROW)]
    rest = [c for c in schema.names() if c not in (*keys, *times)]
    for start in range(0, len(rest), _COLUMNS_AT_ONCE):  # not all at once: the source may be far larger than the rest
        part = source.place.scan().select(rest[start : start + _COLUMNS_AT_ONCE]).collect()
        found.append(part.select(pl.all().gather(rows)))
    return pl.concat(found, how="horizontal")


def _over(expression: pl.Expr, keys: Sequence[str]) -> pl.Expr:
    return expression.over(list(keys)) if keys else expression


def _is_text(dtype: pl.DataType) -> bool:
    import polars as pl

    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _check(source: Source, schema: pl.Schema, times: list[str]) -> None:
    import polars as pl

    for name in (*source.keys, *times):
        if name not in schema:
            raise TrialOpsError(
                f"The column {name} is missing.", where=source.place.url, fix="Compute the features again."
            )
    for name in times:
        if not isinstance(schema[name], pl.Datetime | pl.Date):
            raise TrialOpsError(
                f"The column {name} is {schema[name]}, not a timestamp.",
                where=source.place.url,
                fix="Write it as a timestamp in UTC.",
            )
    for name in source.keys:
        if not (_is_text(schema[name]) or schema[name].is_integer()):
            raise TrialOpsError(
                f"The key {name} is {schema[name]}; keys are text or whole numbers.",
                where=source.place.url,
                fix="Write it as text or as an integer.",
            )


def _moment(name: str, schema: pl.Schema, unit: str) -> pl.Expr:
    """A timestamp column in UTC; one without a time zone is taken to be in UTC, as Feast does."""
    import polars as pl

    column, zone = pl.col(name), getattr(schema[name], "time_zone", None)
    if zone is not None:
        column = column.dt.convert_time_zone("UTC")
    elif isinstance(schema[name], pl.Datetime):
        column = column.dt.replace_time_zone("UTC")
    return column.cast(pl.Datetime("ns" if unit == "ns" else "us", "UTC"))
