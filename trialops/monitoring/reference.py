"""The reference profile of a model: what it learnt from, in a form that later data are compared with.

Made once, when a model is registered, and stored as JSON: counts and order statistics, no row. Comparing needs nothing
else, so bins never move with the data that are judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.models.record import plain, restore
from trialops.monitoring.cells import FeatureProfile, assign, column, describe

if TYPE_CHECKING:
    import numpy as np

METHOD = 1
"""Version of the definition of cells, grid and correlations; profiles of different versions are not compared."""
PREDICTION = "prediction"
"""Name of the model's answer among the profiles."""
THREADS = 2
CORRELATION_ROWS = 20_000
"""Most rows the correlations are computed from, evenly spaced."""


@dataclass(frozen=True)
class Association:
    """Spearman's rank correlations, over the rows in which both features are known.

    Attributes:
        features: Numeric features, in order.
        correlations: One row per feature; NaN where a feature does not vary.
        rows: Rows of each pair.
    """

    features: tuple[str, ...]
    correlations: tuple[tuple[float, ...], ...]
    rows: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Slice:
    """One site's part of the reference.

    Attributes:
        n: Rows.
        counts: Rows per cell, one tuple per feature.
    """

    n: int
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Reference:
    """What a model learnt from.

    Attributes:
        n: Rows.
        features: One profile per feature, in the model's order.
        prediction: Profile of the model's answers, of rows it has not learnt from; None where there are none.
        association: Rank correlations of the numeric features.
        slices: Site -> its part.
        source: Which model and data, as words.
        method: Version of the definitions.
    """

    n: int
    features: tuple[FeatureProfile, ...]
    prediction: FeatureProfile | None
    association: Association
    slices: Mapping[str, Slice]
    source: Mapping[str, str] = field(default_factory=dict)
    method: int = METHOD

    @property
    def names(self) -> tuple[str, ...]:
        """Features, in order."""
        return tuple(profile.name for profile in self.features)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(_canonical(plain(self))).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """JSON values, with the digest."""
        return {**plain(self), "digest": self.digest}

    def dumps(self) -> bytes:
        """JSON, the same bytes for the same profile."""
        return _canonical(self.as_dict())

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reference:
        """Read what :meth:`as_dict` wrote.

        Raises:
            TrialOpsError: It is no profile, of another version, or altered.
        """
        content = dict(document)
        stated = content.pop("digest", None)
        if content.get("method") != METHOD:
            raise TrialOpsError(
                f"The reference profile was made by method {content.get('method')!r}; this version compares method "
                f"{METHOD} only.",
                where="reference profile",
                fix="Make it anew from the training set: trialops run model_training, or register the model again.",
            )
        try:
            found = restore(cls, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _altered() from error
        if stated != found.digest:
            raise _altered()
        return found


def profile(
    frame: Any,
    features: Sequence[str],
    *,
    predictions: Any = None,
    by: str | None = None,
    source: Mapping[str, str] | None = None,
) -> Reference:
    """Profile rows as a reference.

    Each column is read and sorted once.

    Args:
        frame: polars or pandas frame, or mapping of name to array; missing values null or NaN.
        features: Columns to profile, in the model's order.
        predictions: The model's answers as an array, of rows it has not learnt from; their number may differ.
        by: Column of sites whose parts are kept too.
        source: Which model and data, as words; kept with the profile.

    Raises:
        TrialOpsError: There is no row, or a column is absent.
    """
    import numpy as np

    columns = {name: column(frame, name) for name in features}
    n = len(next(iter(columns.values()))) if columns else 0
    if n == 0:
        raise TrialOpsError(
            "There is nothing to make a reference profile of.",
            where="reference rows",
            fix="Give the rows the model was trained on, and its features.",
        )
    with ThreadPoolExecutor(THREADS) as pool:
        profiles = tuple(pool.map(lambda name: describe(name, columns[name]), features))
    answers = None if predictions is None else np.asarray(predictions, dtype=np.float64)
    slices: dict[str, Slice] = {}
    if by is not None:
        groups = column(frame, by)
        counted = slice_counts(profiles, columns, groups)
        slices = {
            site: Slice(int(counts[0].sum()), tuple(tuple(part.tolist()) for part in counts))
            for site, counts in counted.items()
        }
    return Reference(
        n=n,
        features=profiles,
        prediction=None if answers is None or answers.size == 0 else describe(PREDICTION, answers),
        association=associate(profiles, columns),
        slices=slices,
        source=dict(source or {}),
    )


def associate(profiles: Sequence[FeatureProfile], columns: Mapping[str, np.ndarray]) -> Association:
    """Rank correlations of the numeric features, from at most `CORRELATION_ROWS` evenly spaced rows."""
    import numpy as np

    from trialops.monitoring.association import correlations, rank_columns

    names = tuple(item.name for item in profiles if item.numeric)
    if not names:
        return Association((), (), ())
    n = len(columns[names[0]])
    rows = np.arange(n) if n <= CORRELATION_ROWS else np.linspace(0, n - 1, CORRELATION_ROWS).round().astype(np.int64)
    found, pairs = correlations(rank_columns(np.column_stack([columns[name][rows] for name in names])))
    return Association(
        names,
        tuple(tuple(round(float(value), 12) for value in row) for row in found),
        tuple(tuple(int(value) for value in row) for row in pairs),
    )


def slice_counts(
    profiles: Sequence[FeatureProfile], columns: Mapping[str, np.ndarray], groups: np.ndarray
) -> dict[str, list[np.ndarray]]:
    """Rows per group and cell, for every feature.

    Args:
        profiles: The features' cells.
        columns: Feature -> column.
        groups: Group of every row; None is a group called "".

    Returns:
        Group -> one array of counts per feature, groups in order.
    """
    import numpy as np

    names, codes = np.unique(np.array(["" if g is None or g != g else str(g) for g in groups]), return_inverse=True)
    per_feature = []
    for item in profiles:
        width = len(item.counts)
        cells = assign(item, columns[item.name])
        per_feature.append(np.bincount(codes * width + cells, minlength=len(names) * width).reshape(-1, width))
    return {str(name): [counts[i] for counts in per_feature] for i, name in enumerate(names)}


def _canonical(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _altered() -> TrialOpsError:
    return TrialOpsError(
        "The reference profile is incomplete or was altered after it was written.",
        where="reference profile",
        fix="Make it anew from the training set of the registered version.",
    )
