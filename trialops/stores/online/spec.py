"""What a model asks the online store for: views, their columns and how long a value counts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trialops.features.definitions import Definitions

#: `event_us` of a view in which nothing was ever written for the subject.
NEVER = -1
#: A service is asked by subject unless it says otherwise.
JOIN_KEYS = ("subject_id",)


@dataclass(frozen=True)
class ViewSpec:
    """One feature view.

    Attributes:
        name: Name of the view.
        columns: Its feature columns, in order.
        ttl_days: Days for which a value counts after its event; None for ever.
    """

    name: str
    columns: tuple[str, ...]
    ttl_days: int | None = None


@dataclass(frozen=True)
class FeatureServiceSpec:
    """The features of one service, enough to find and decode them without Feast's registry.

    Attributes:
        name: Name of the feature service.
        project: Feast's project, a part of every key.
        version: Version of the feature definitions.
        views: Views in order; feature names are unique over them.
        ages: Age feature -> ``view.day_feature`` it is counted from when it is asked for.
        join_keys: What names a row: the subject, or for views of visits and sites their keys.
    """

    name: str
    project: str
    version: int
    views: tuple[ViewSpec, ...]
    ages: Mapping[str, str]
    join_keys: tuple[str, ...] = JOIN_KEYS

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Feature columns of all views, in the order in which a reader gives them."""
        return tuple(column for view in self.views for column in view.columns)

    @cached_property
    def expiring(self) -> tuple[tuple[int, slice, int], ...]:
        """Views whose values expire: number of the view, its columns' places, days they count."""
        ends = [sum(len(view.columns) for view in self.views[: number + 1]) for number in range(len(self.views))]
        return tuple(
            (number, slice(end - len(view.columns), end), view.ttl_days)
            for number, (view, end) in enumerate(zip(self.views, ends, strict=True))
            if view.ttl_days is not None
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything in the specification."""
        return hashlib.sha256(json.dumps(self._plain(), sort_keys=True).encode()).hexdigest()

    def view(self, name: str) -> ViewSpec:
        """One view.

        Raises:
            TrialOpsError: There is none of that name.
        """
        for view in self.views:
            if view.name == name:
                return view
        raise TrialOpsError(
            f"The feature service has no view {name}.",
            where=f"feature service {self.name}",
            fix="Use one of " + ", ".join(view.name for view in self.views) + ".",
        )

    def narrowed(self, features: Iterable[str]) -> FeatureServiceSpec:
        """The same service with only the columns that some features need; views without any are left out.

        Args:
            features: Columns of views, and ages.

        Raises:
            TrialOpsError: A feature is neither.
        """
        wanted, ages = set(features), {}
        for name in sorted(wanted - set(self.columns)):
            if name not in self.ages:
                raise TrialOpsError(
                    f"The feature {name} is in no view of the service.",
                    where=f"feature service {self.name}",
                    fix="Train the model again on the current feature definitions.",
                )
            ages[name] = self.ages[name]
        wanted |= {source.partition(".")[2] for source in ages.values()}
        kept = (ViewSpec(v.name, tuple(c for c in v.columns if c in wanted), v.ttl_days) for v in self.views)
        views = tuple(view for view in kept if view.columns)
        return FeatureServiceSpec(self.name, self.project, self.version, views, ages, self.join_keys)

    def _plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "project": self.project,
            "version": self.version,
            "views": [{"name": v.name, "columns": list(v.columns), "ttl_days": v.ttl_days} for v in self.views],
            "ages": dict(self.ages),
            "join_keys": list(self.join_keys),
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain form, with the digest."""
        return self._plain() | {"digest": self.digest}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FeatureServiceSpec:
        """Rebuild from :meth:`as_dict`.

        Raises:
            TrialOpsError: It is not a specification, or not the one its digest was made of.
        """
        try:
            views = tuple(
                ViewSpec(
                    str(v["name"]),
                    tuple(str(c) for c in v["columns"]),
                    None if v["ttl_days"] is None else int(v["ttl_days"]),
                )
                for v in data["views"]
            )
            ages = {str(age): str(source) for age, source in data["ages"].items()}
            keys = tuple(str(key) for key in data["join_keys"])
            spec = cls(str(data["name"]), str(data["project"]), int(data["version"]), views, ages, keys)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise TrialOpsError(
                "This is not the specification of a feature service.",
                fix="Write it with FeatureServiceSpec.to_json.",
            ) from None
        if data.get("digest") != spec.digest:
            raise TrialOpsError(
                "The specification of the feature service was altered: its digest does not match.",
                where=f"feature service {spec.name}",
                fix="Write it again with FeatureServiceSpec.to_json.",
            )
        return spec

    def to_json(self) -> str:
        """JSON text, the same bytes for the same specification."""
        return json.dumps(self.as_dict(), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> FeatureServiceSpec:
        """Rebuild from :meth:`to_json`.

        Raises:
            TrialOpsError: As for :meth:`from_dict`.
        """
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        return cls.from_dict(data if isinstance(data, dict) else {})


@dataclass(frozen=True)
class OnlineRows:
    """What an online store holds for n subjects.

    Attributes:
        values: float64 [n, p] over the columns of the specification; NaN where unknown, null or expired.
        event_us: int64 [n, v], microseconds since 1970 UTC of each view's values; -1 where there never were any.
        found: bool [n], whether any view has values of the subject, expired or not.
        expired: bool [n, v], whether the view's values were older than it allows on the day asked for.
    """

    values: NDArray[np.float64]
    event_us: NDArray[np.int64]
    found: NDArray[np.bool_]
    expired: NDArray[np.bool_]


def entity_services(definitions: Definitions | None = None) -> tuple[FeatureServiceSpec, ...]:
    """The views of other entities than subjects, one service per entity, named after it.

    Args:
        definitions: Feature definitions; the shipped ones by default.
    """
    from trialops.features.definition_file import load
    from trialops.stores.features import PROJECT

    definitions = definitions or load()
    by_keys: dict[tuple[str, ...], list[ViewSpec]] = {}
    names: dict[tuple[str, ...], str] = {}
    for name, view in definitions.entity_views.items():
        names[view.join_keys] = view.entity
        by_keys.setdefault(view.join_keys, []).append(ViewSpec(name, definitions.columns(name)))
    return tuple(
        FeatureServiceSpec(names[keys], PROJECT, definitions.version, tuple(views), {}, keys)
        for keys, views in by_keys.items()
    )


def from_definitions(definitions: Definitions | None = None, task: Any = "withdrawal") -> FeatureServiceSpec:
    """The service of a task over all defined views.

    Args:
        definitions: Feature definitions; the shipped ones by default.
        task: A task, or its name.
    """
    from trialops.features.definition_file import load
    from trialops.stores.features import PROJECT, service_name

    definitions = definitions or load()
    views = tuple(
        ViewSpec(name, definitions.columns(name), getattr(view, "ttl_days", None))
        for name, view in definitions.views.items()
    )
    home = {column: view.name for view in views for column in view.columns}
    ages = {age: f"{home[day]}.{day}" for age, day in definitions.ages.items()}
    name = service_name(str(getattr(task, "name", task)), definitions.version)
    return FeatureServiceSpec(name, PROJECT, definitions.version, views, ages)
