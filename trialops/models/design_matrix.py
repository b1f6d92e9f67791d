"""From a training-set frame (polars or pandas) to arrays, with the checks a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np


def values(frame: Any, name: str) -> np.ndarray:
    """One column as an array.

    Args:
        frame: polars or pandas frame.
        name: Column.

    Returns:
        Array of shape (n,), the column's own type.

    Raises:
        TrialOpsError: The column is absent.
    """
    if name not in frame.columns:
        raise TrialOpsError(
            "A column the model needs is absent.",
            where=f"training set, column {name}",
            fix="Build the training set with the task's feature list, or correct the task.",
        )
    return frame[name].to_numpy()


def inputs(frame: Any, features: Sequence[str]) -> np.ndarray:
    """Features as a float64 matrix of shape (n, p), NaN where missing, columns in the order given.

    Args:
        frame: polars or pandas frame.
        features: Column names.

    Returns:
        C-ordered float64 matrix.

    Raises:
        TrialOpsError: A column is absent, not numeric or infinite.
    """
    import numpy as np

    matrix = np.empty((len(frame), len(features)), dtype=np.float64)
    for position, name in enumerate(features):
        column = values(frame, name)
        try:
            matrix[:, position] = column.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TrialOpsError(
                "A feature is not numeric.",
                where=f"training set, column {name}",
                fix="Make it Float64, null = missing.",
            ) from error
    infinite = np.isinf(matrix).any(axis=0)
    if infinite.any():
        raise TrialOpsError(
            "A feature holds an infinite value.",
            where=f"training set, column {features[int(infinite.argmax())]}",
            fix="Correct the feature's formula; a division by zero should give null.",
        )
    return matrix


def labels(frame: Any) -> np.ndarray:
    """The label as int8 zeros and ones of shape (n,).

    Args:
        frame: polars or pandas frame with a column `label`.

    Returns:
        Array of 0 and 1.

    Raises:
        TrialOpsError: The frame is empty, or a label is neither 0 nor 1.
    """
    import numpy as np

    if len(frame) == 0:
        raise TrialOpsError(
            "The training set has no rows.",
            where="training set",
            fix="Check the population: randomised subjects on treatment at the landmark.",
        )
    column = values(frame, "label")
    valid = np.isin(column, [0, 1])
    if not valid.all():
        raise TrialOpsError(
            f"{int((~valid).sum())} of {len(column)} labels are neither 0 nor 1.",
            where="training set, column label",
            fix="Leave out subjects whose outcome is not known yet.",
        )
    return column.astype(np.int8)


def both_classes(y: np.ndarray, part: str) -> None:
    """Refuse a set in which everybody has the same outcome.

    Args:
        y: Labels, shape (n,).
        part: Name of the set for the message.

    Raises:
        TrialOpsError: Only one class is present.
    """
    events = int(y.sum())
    if events in (0, len(y)):
        raise TrialOpsError(
            f"Every subject has the same outcome: {events} events in {len(y)} subjects.",
            where=part,
            fix="Wait for more outcomes, or choose an earlier landmark or a longer horizon.",
        )
