"""From the feature views to the online store: the newest row of every subject, visit and site up to a study time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.features import study_time
from trialops.stores.online.writer import open_writer

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions
    from trialops.stores.online.spec import FeatureServiceSpec, ViewSpec

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Materialized:
    """What became of one view.

    Attributes:
        view: Its name.
        rows: Subjects (or visits, or sites) that have a row up to the study time.
        written: Of these, rows that are in the store now.
        kept: Of these, rows for which the store had a newer one, which stayed.
        until: Time up to which rows were taken; None for a view without any.
    """

    view: str
    rows: int
    written: int
    kept: int
    until: datetime | None


def all_services(definitions: Definitions | None = None) -> tuple[FeatureServiceSpec, ...]:
    """Specification of every view: the subjects' ones in one service, the others by entity."""
    from trialops.stores.online.spec import entity_services, from_definitions

    return (from_definitions(definitions), *entity_services(definitions))


def latest(rows: pl.LazyFrame, join_keys: Sequence[str], until: datetime | None = None) -> pl.DataFrame:
    """The newest row of each key among those that had happened and were known at a time.

    Of rows of one time the one created last is taken, as a point-in-time join does. The scan is reduced to the rows
    of the newest time per key before anything is sorted, so memory goes with the number of keys.

    Args:
        rows: Feature rows with event_timestamp and created (datetimes UTC).
        join_keys: Columns of the key.
        until: The time; None for all rows.
    """
    import polars as pl

    keys = list(join_keys)
    if until is not None:
        rows = rows.filter(pl.col("event_timestamp") <= until, pl.col("created") <= until)
    newest = rows.group_by(keys).agg(pl.col("event_timestamp").max())
    found = rows.join(newest, on=[*keys, "event_timestamp"], how="semi").collect(engine="streaming")
    order = [*keys, "event_timestamp", "created"]
    return found.sort(order, maintain_order=True).unique(keys, keep="last", maintain_order=True)


def materialize(
    views: Mapping[str, pl.DataFrame | pl.LazyFrame | Path],
    services: Sequence[FeatureServiceSpec],
    url: str,
    *,
    until_day: int | None = None,
    store: Any = None,
    progress: Progress | None = None,
) -> tuple[Materialized, ...]:
    """Write the newest rows of feature views to the online store.

    Doing it again changes nothing. A newer row that is there already, from a push, stays.

    Args:
        views: View name -> its rows, or their Parquet file; views of no service are refused.
        services: Specifications the views belong to (`spec.from_definitions`, `spec.entity_services`).
        url: The online store.
        until_day: Study day up to which rows count; None for all.
        store: A Feast store whose registry is told of the interval, where it has the view.
        progress: Called with the view's name and the fraction done.

    Returns:
        What became of each view, in the order given.

    Raises:
        TrialOpsError: A view belongs to no service, a row cannot be written, or the store fails.
    """
    import polars as pl

    home: dict[str, tuple[FeatureServiceSpec, ViewSpec]] = {}
    for service in services:
        home |= {view.name: (service, view) for view in service.views}
    if unknown := sorted(set(views) - set(home)):
        raise TrialOpsError(
            f"The view {unknown[0]} belongs to no feature service.",
            where="feature definitions",
            fix="Materialise views of the current definitions.",
        )
    until = None if until_day is None else study_time.timestamp_of(until_day)
    done: list[Materialized] = []
    with _Writers(url) as writers:
        for number, (name, source) in enumerate(views.items()):
            service, view = home[name]
            lazy = pl.scan_parquet(source) if isinstance(source, Path) else source.lazy()
            columns = [*service.join_keys, "event_timestamp", "created", *view.columns]
            if missing := [c for c in columns if c not in lazy.collect_schema()]:
                raise TrialOpsError(
                    f"The column {missing[0]} is missing.",
                    where=f"feature view {name}",
                    fix="Build the features again with the current definitions.",
                )
            rows = latest(lazy.select(columns), service.join_keys, until)

            def tell(view: str, share: float, number: int = number) -> None:
                if progress:
                    progress(view, (number + share) / len(views))

            written = writers.of(service).write(name, rows, tell)
            newest = rows["event_timestamp"].max() if rows.height else None
            end = until if until is not None and rows.height else newest
            assert end is None or isinstance(end, datetime)
            if store is not None and end is not None:
                _tell_registry(store, name, lazy.select(pl.col("event_timestamp").min()).collect().item(), end)
            done.append(Materialized(name, written.subjects, written.written, written.kept, end))
    return tuple(done)


class _Writers:
    """One writer per service, opened when it is first needed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._open: dict[str, Any] = {}

    def of(self, service: FeatureServiceSpec) -> Any:
        if service.digest not in self._open:
            self._open[service.digest] = open_writer(self.url, service)
        return self._open[service.digest]

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._open.values():
            writer.close()


def _tell_registry(store: Any, name: str, start: Any, end: datetime) -> None:
    """Note the interval in Feast's registry, from the end of the one before; none where it would repeat it."""
    from feast.errors import FeatureViewNotFoundException

    try:
        view = store.registry.get_feature_view(name, store.project)
    except FeatureViewNotFoundException:
        return
    before = max((interval[1] for interval in view.materialization_intervals), default=None)
    if before is None or end > before:
        store.registry.apply_materialization(view, store.project, before or start, end)
