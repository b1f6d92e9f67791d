"""From online rows to what a model takes: ages counted to the day asked for, features in the model's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, overload

from trialops.errors import TrialOpsError
from trialops.features.study_time import DAY_ONE
from trialops.stores.online.spec import NEVER, FeatureServiceSpec, OnlineRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DAY_US = 86_400_000_000
_DAY_ONE_US = int(DAY_ONE.timestamp()) * 1_000_000


def event_ordinals(event_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ordinals (days after day 1) of event times; not meaningful where there is none."""
    return (event_us - _DAY_ONE_US) // DAY_US


@overload
def day_start_us(ordinals: int) -> int: ...


@overload
def day_start_us(ordinals: NDArray[np.int64]) -> NDArray[np.int64]: ...


def day_start_us(ordinals: NDArray[np.int64] | int) -> NDArray[np.int64] | int:
    """Microseconds since 1970 UTC at which days begin."""
    return ordinals * DAY_US + _DAY_ONE_US


def day_ordinals(study_day: int | NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Ordinals of study days, one for all or int64 [n], as int64 [n].

    Raises:
        TrialOpsError: A day is 0, or there are not n of them.
    """
    import numpy as np

    days = np.asarray(study_day, np.int64)
    if days.ndim > 1 or (days.ndim == 1 and len(days) != n):
        raise TrialOpsError(
            f"There are {n} subjects but {days.size} study days.", where="study_day", fix="Give one day per subject."
        )
    if not days.all():
        raise TrialOpsError(
            "Study day 0 does not exist.",
            where="study_day",
            fix="Use day 1 for the reference start, -1 for the day before.",
        )
    ordinals = days - (days > 0)
    return ordinals if days.ndim else np.full(n, ordinals)


def ahead(rows: OnlineRows, study_day: int | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a view's values, bool [n, v], are from after the study day asked for.

    An online store holds the newest values alone and cannot say what was known before them.
    """
    asked = day_ordinals(study_day, len(rows.found))
    return (rows.event_us != NEVER) & (event_ordinals(rows.event_us) > asked[:, None])


class MatrixPlan:
    """Where each feature of a model is found in online rows; made once, used for every request.

    Args:
        spec: What is read.
        features: Columns of its views, and ages, in the order wanted.

    Raises:
        TrialOpsError: A feature is not in the specification.
    """

    def __init__(self, spec: FeatureServiceSpec, features: Sequence[str]) -> None:
        import numpy as np

        place = {name: number for number, name in enumerate(spec.columns)}
        columns, aged = [], []
        for number, name in enumerate(features):
            if name not in place:
                if name not in spec.ages:
                    raise TrialOpsError(
                        f"The feature {name} is not in the feature service.",
                        where=f"feature service {spec.name}",
                        fix="Use the specification that was saved with the model.",
                    )
                aged.append(number)
                name = spec.ages[name].partition(".")[2]
            columns.append(place[name])
        self._columns, self._aged = np.array(columns, np.intp), np.array(aged, np.intp)

    def one_row(self) -> tuple[Callable[[Sequence[float]], tuple[float, ...]], list[int]]:
        """For a row of plain numbers: what picks the columns in the order wanted, and places of days to make ages."""
        columns = self._columns.tolist()
        if len(columns) == 1:
            only = columns[0]
            return (lambda values: (values[only],)), self._aged.tolist()
        return itemgetter(*columns), self._aged.tolist()

    def __call__(self, rows: OnlineRows, study_day: int | NDArray[np.int64]) -> NDArray[np.float64]:
        """Features in the order wanted, float64 [n, p], NaN where unknown; ages counted to the study day.

        Raises:
            TrialOpsError: A day is 0.
        """
        return self.at(rows.values, day_ordinals(study_day, len(rows.values)))

    def at(self, values: NDArray[np.float64], ordinals: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same from a reader's values [n, columns] and the ordinals of the days asked for, int64 [n]."""
        out = values.take(self._columns, axis=1)
        if len(self._aged):
            day = out[:, self._aged]
            out[:, self._aged] = ordinals[:, None] - (day - (day > 0))
        return out
