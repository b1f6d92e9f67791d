"""Random feature histories with late corrections, and the join they are asked for, written from its definition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trialops.stores.features import OFFLINE, load_feast

START = datetime(2000, 1, 1, tzinfo=UTC)
MOMENT = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Row:
    """One row of a feature source; times in hours."""

    key: tuple[Any, ...]
    event: int | None
    created: int | None
    value: float | None


def known(rows: Sequence[Row], key: tuple[Any, ...], moment: int, ttl: int | None) -> Row | None:
    """The definition: of the rows of a key that had happened and were known at the moment, the one that happened
    last; of those the one recorded last; of those the one further down. It counts unless it is older than its time to
    live."""
    best: tuple[int, int, int] | None = None
    for position, row in enumerate(rows):
        if row.key != key or None in key or row.event is None or row.created is None:
            continue
        if row.event > moment or row.created > moment:
            continue
        rank = (row.event, row.created, position)
        if best is None or rank > best:
            best = rank
    if best is None or (ttl is not None and moment - best[0] > ttl):
        return None
    return rows[best[2]]


def history(rng: np.random.Generator, keys: Sequence[tuple[Any, ...]], rows: int) -> list[Row]:
    """Rows in order of arrival, except where they are not: ties, repeats, corrections, and a few without times."""
    found: list[Row] = []
    for _ in range(rows):
        earlier = found[int(rng.integers(len(found)))] if found else None
        kind = rng.random()
        key = keys[int(rng.integers(len(keys)))]
        event = int(rng.integers(0, 12))
        created = event + int(rng.integers(0, 8)) * int(rng.random() < 0.5) - int(rng.random() < 0.1)
        if earlier is not None and kind < 0.25 and earlier.event is not None:  # a correction of what is there
            key, event = earlier.key, earlier.event
            created = event + int(rng.integers(0, 14))
        elif earlier is not None and kind < 0.35:  # the same times again, with another value
            key, event, created = earlier.key, earlier.event, earlier.created
        value = None if rng.random() < 0.1 else float(rng.normal())
        row = Row(key, event, created, value)
        if kind > 0.97:
            row = Row(key, None, created, value) if rng.random() < 0.5 else Row(key, event, None, value)
        found.append(row)
    if rng.random() < 0.7:  # a file is in the order in which it was written, or not
        found.sort(key=lambda r: -1 if r.created is None else r.created)
    return found


def at(hours: Iterable[int | None]) -> list[datetime | None]:
    """Hours as timestamps."""
    return [None if h is None else START + timedelta(hours=h) for h in hours]


def frame(rows: Sequence[Row], keys: Sequence[str], types: Sequence[Any], value: str = "value") -> pl.DataFrame:
    """Rows as a feature source."""
    columns = {
        name: pl.Series(name, [r.key[i] for r in rows], dtype=t)
        for i, (name, t) in enumerate(zip(keys, types, strict=True))
    }
    return pl.DataFrame(
        {
            **columns,
            "event_timestamp": pl.Series(at(r.event for r in rows), dtype=MOMENT),
            "created": pl.Series(at(r.created for r in rows), dtype=MOMENT),
            value: pl.Series([r.value for r in rows], dtype=pl.Float64),
        }
    )


def feast_store(folder: Path, objects: Sequence[Any], offline: str = OFFLINE, **options: Any) -> Any:
    """A Feast store of its own in a folder, with these objects applied."""
    feast = load_feast()
    folder.mkdir(parents=True, exist_ok=True)
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="trial",
            provider="local",
            entity_key_serialization_version=3,
            repo_path=folder,
            registry={"registry_type": "file", "path": str(folder / "registry.db"), "cache_ttl_seconds": 600},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": offline, **options},
            materialization={"pull_latest_features": True},
        )
    )
    store.apply(list(objects))
    return store


def feast_view(
    name: str, path: str, keys: dict[str, Any], columns: Sequence[str], ttl: timedelta | None = None, **source: Any
) -> list[Any]:
    """A view over a parquet file, with its entities and source; keys are name -> Feast type."""
    feast = load_feast()
    values = {"Int64": feast.ValueType.INT64, "String": feast.ValueType.STRING}
    entities = [feast.Entity(name=k, join_keys=[k], value_type=values[str(t)]) for k, t in keys.items()]
    made = feast.FileSource(
        name=f"{name}_source",
        path=path,
        timestamp_field="event_timestamp",
        **{"created_timestamp_column": "created"} | source,
    )
    schema = [feast.Field(name=k, dtype=t) for k, t in keys.items()]
    schema += [feast.Field(name=c, dtype=feast.types.Float64) for c in columns]
    view = feast.FeatureView(name=name, entities=entities, ttl=ttl or timedelta(0), schema=schema, source=made)
    return [*entities, made, view]
