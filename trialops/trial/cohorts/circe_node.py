"""Reading JSON strictly: every key must be known, every error names its path."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from trialops.errors import TrialOpsError

T = TypeVar("T")


def refuse(path: str, what: str) -> TrialOpsError:
    """An error about a place in a definition."""
    return TrialOpsError(
        f"The cohort definition cannot be used: {what}",
        where=path,
        fix="Change it in ATLAS (or in the YAML); docs/validation/cohorts.md lists what is supported.",
    )


@dataclass(frozen=True)
class Node:
    """A JSON object with its path; every key must be known."""

    value: Mapping[str, Any]
    path: str

    @classmethod
    def of(cls, value: Any, path: str, known: Sequence[str]) -> Node:
        """An object that has no keys but the known ones.

        Raises:
            TrialOpsError: It is none, or has others.
        """
        if not isinstance(value, Mapping):
            raise refuse(path, "an object is needed here")
        present = {str(key): item for key, item in value.items() if item is not None}
        for key in present:
            if key not in known:
                raise refuse(f"{path}.{key}", f"{key} is not supported here")
        return cls(present, path)

    def at(self, key: str) -> str:
        """Path of a key."""
        return f"{self.path}.{key}"

    def get(self, key: str, read: Callable[[Any, str], T], default: T) -> T:
        """A value, or the default where the key is absent."""
        return read(self.value[key], self.at(key)) if key in self.value else default

    def need(self, key: str, read: Callable[[Any, str], T]) -> T:
        """A value that must be there."""
        if key not in self.value:
            raise refuse(self.at(key), f"{key} is missing")
        return read(self.value[key], self.at(key))

    def each(self, key: str, read: Callable[[Any, str], T]) -> tuple[T, ...]:
        """The items of a list; none where the key is absent."""
        items = self.value.get(key, [])
        if not isinstance(items, list | tuple):
            raise refuse(self.at(key), "a list is needed here")
        return tuple(read(item, f"{self.at(key)}[{n}]") for n, item in enumerate(items))


def anything(value: Any, path: str) -> Any:
    """A value of any kind."""
    return value


def whole(value: Any, path: str) -> int:
    """A whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise refuse(path, "a whole number is needed here")
    return int(value)


def number(value: Any, path: str) -> float:
    """A number; whole ones as int, so that 18 and 18.0 are one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise refuse(path, "a number is needed here")
    return int(value) if value == int(value) else value


def flag(value: Any, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise refuse(path, "true or false is needed here")
    return value


def plain_text(value: Any, path: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise refuse(path, "text is needed here")
    return value


def day(value: Any, path: str) -> dt.date:
    """A day, YYYY-MM-DD."""
    try:
        return dt.date.fromisoformat(plain_text(value, path)[:10])
    except ValueError:
        raise refuse(path, "a day (YYYY-MM-DD) is needed here") from None


def day_or_none(value: Any, path: str) -> dt.date | None:
    """A day; None for an empty text."""
    return None if value == "" else day(value, path)


def one_of(value: Any, path: str, known: Sequence[str]) -> str:
    """One of some texts."""
    if value not in known:
        raise refuse(path, f"one of {', '.join(known)} is needed here")
    return str(value)


def days(node: Node, key: str, value_key: str, unit_key: str, default: int | None) -> int | None:
    """Days in the old form (key) or with a unit (value_key, unit_key); hours and minutes are refused."""
    unit = node.get(unit_key, plain_text, "day")
    if unit != "day":
        raise refuse(node.at(unit_key), f"only days are supported, not {unit}")
    return node.get(value_key, whole, None) if value_key in node.value else node.get(key, whole, default)


def concept(value: Any, path: str) -> int:
    """The id of a concept; what ATLAS shows beside it is not read."""
    if not isinstance(value, Mapping):
        raise refuse(path, "a concept is needed here")
    if value.get("CONCEPT_ID") is None:
        raise refuse(f"{path}.CONCEPT_ID", "CONCEPT_ID is missing")
    return whole(value["CONCEPT_ID"], f"{path}.CONCEPT_ID")
