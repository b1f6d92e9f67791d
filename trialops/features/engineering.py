"""Current features into the stores that models read: files for Feast, the online store, and a check that both agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.features.definitions import Definitions
    from trialops.features.materialize import Materialized
    from trialops.stores.context import Step
    from trialops.stores.online.spec import FeatureServiceSpec

#: Largest difference between the online and the offline value of a feature.
TOLERANCE = 1e-9
#: Keys compared per view at most; a view with fewer is compared whole.
SAMPLE = 500


@dataclass(frozen=True)
class Coverage:
    """One feature at the latest row of every key of its view.

    Attributes:
        view: Its view.
        feature: Its name.
        rows: Rows of the view.
        keys: Subjects, visits or sites with a row.
        present: Of these, with a value in the latest row.
        low: Smallest of these values; None without any, as the two that follow.
        middle: Their median.
        high: Largest of them.
    """

    view: str
    feature: str
    rows: int
    keys: int
    present: int
    low: float | None
    middle: float | None
    high: float | None


@dataclass(frozen=True)
class Parity:
    """Online values of one view against the files.

    Attributes:
        view: Its name.
        keys: Keys compared.
        values: Values compared, nulls too.
        different: Values that differ by more than the tolerance, or are there on one side alone.
        largest: Largest difference of two values.
    """

    view: str
    keys: int
    values: int
    different: int
    largest: float


def services(definitions: Definitions) -> tuple[FeatureServiceSpec, ...]:
    """Specification of every view: the subjects' ones in one service, the others by entity."""
    from trialops.features.materialize import all_services

    return all_services(definitions)


def coverage(views: Mapping[str, pl.DataFrame], definitions: Definitions) -> list[Coverage]:
    """How much of each feature is there now, and in which range."""
    import polars as pl

    found: list[Coverage] = []
    for name, frame in views.items():
        now = _latest(frame, definitions.join_keys(name))
        columns = definitions.columns(name)
        figures = now.select(
            *(pl.col(c).count().alias(f"n.{c}") for c in columns),
            *(pl.col(c).min().alias(f"low.{c}") for c in columns),
            *(pl.col(c).median().alias(f"mid.{c}") for c in columns),
            *(pl.col(c).max().alias(f"high.{c}") for c in columns),
        ).row(0, named=True)
        found += [
            Coverage(
                name,
                c,
                frame.height,
                now.height,
                *(figures[f"{k}.{c}"] for k in ("n", "low", "mid", "high")),
            )
            for c in columns
        ]
    return found


def with_pushed(views: Mapping[str, pl.DataFrame], run: Step, definitions: Definitions) -> dict[str, pl.DataFrame]:
    """Views with the rows pushed since that the clean data have not caught up with."""
    from trialops.features.push import merged

    home = {view.name: service for service in services(definitions) for view in service.views}
    return {name: merged(run, home[name], name, frame) for name, frame in views.items()}


def to_online(views: Mapping[str, pl.DataFrame], run: Step, definitions: Definitions) -> tuple[Materialized, ...]:
    """Write the newest row of every key to the online store of the settings.

    Subjects whose processing is restricted (Art. 18 GDPR) leave it: they are not in the views any more.
    """
    from trialops.features.materialize import materialize
    from trialops.privacy.requests import restricted
    from trialops.stores.online.forget import forget

    forget(run.settings.online, services(definitions), sorted(restricted(run.engine, run.settings.study)))
    return materialize(views, services(definitions), run.settings.online, progress=run.progress)


def parity(
    views: Mapping[str, pl.DataFrame], run: Step, definitions: Definitions, *, sample: int = SAMPLE, seed: int = 1
) -> list[Parity]:
    """Compare a sample of the online store with the views, value by value, as a model server would read it.

    Args:
        views: View name -> frame that was materialised.
        run: The step, for the online store.
        definitions: Feature definitions.
        sample: Keys per view.
        seed: Chooses them.
    """
    import numpy as np

    from trialops.stores.online.reader import open_reader

    found = []
    for service in services(definitions):
        with open_reader(run.settings.online, service) as reader:
            place = 0
            for view in service.views:
                columns = slice(place, place + len(view.columns))
                place = columns.stop
                if view.name not in views or views[view.name].is_empty():
                    continue
                now = _latest(views[view.name], service.join_keys)
                now = now.sample(min(sample, now.height), seed=seed).sort(service.join_keys)
                keys = now.select(service.join_keys)
                asked = keys.to_series().to_list() if len(service.join_keys) == 1 else keys.rows()
                online = reader.read(asked).values[:, columns]
                offline = now.select(view.columns).to_numpy().astype(np.float64)
                one_sided = np.isnan(online) != np.isnan(offline)
                gap = np.nan_to_num(np.abs(online - offline), nan=0.0)
                scale = np.maximum(1.0, np.nan_to_num(np.abs(offline), nan=0.0))
                wrong = int((one_sided | (gap > TOLERANCE * scale)).sum())
                found.append(Parity(view.name, now.height, online.size, wrong, float(gap.max(initial=0.0))))
    return found


def require_parity(found: list[Parity]) -> None:
    """Refuse an online store that answers otherwise than the files.

    Raises:
        TrialOpsError: A value differs.
    """
    if wrong := [p for p in found if p.different]:
        raise TrialOpsError(
            f"The online store differs from the features in {sum(p.different for p in wrong)} of "
            f"{sum(p.values for p in wrong)} values.",
            where=", ".join(p.view for p in wrong),
            fix="Look for another writer of the online store; then run feature_engineering again.",
        )


def _latest(frame: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    return frame.sort(*keys, "event_timestamp", "created").unique(list(keys), keep="last", maintain_order=True)
