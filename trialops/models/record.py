"""Result objects as JSON values."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def plain(value: Any) -> Any:
    """Turn a result into JSON values.

    Dataclasses and mappings become dicts, sequences and arrays lists, frames lists of rows, paths strings;
    numpy scalars become Python's; NaN and the infinities become None, since JSON has no word for them.

    Args:
        value: Any value a result object may hold.

    Returns:
        None, bool, int, float, str, or lists and dicts of those.

    Raises:
        TypeError: The value has no JSON form.
    """
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dicts"):  # polars frame
        return plain(value.to_dicts())
    if hasattr(value, "tolist"):  # numpy array or scalar
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} has no JSON form")


def restore(kind: type[T], data: Any) -> T:
    """Rebuild a result object from the JSON values :func:`plain` made of it.

    Args:
        kind: The dataclass.
        data: Its JSON values; None stands for NaN where a float is declared.

    Returns:
        An object equal to the original, NaN for what had no number.
    """
    return cast(T, _restored(kind, data))


def _restored(kind: Any, data: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        if data is None:
            return None
        return _restored(next(part for part in arguments if part is not type(None)), data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(
            **{field.name: _restored(hints[field.name], data[field.name]) for field in dataclasses.fields(kind)}
        )
    if origin in (tuple, list):
        return origin(_restored(arguments[0], item) for item in data)
    if origin in (dict, Mapping):
        return {key: _restored(arguments[1], item) for key, item in data.items()}
    if kind is float:
        return math.nan if data is None else float(data)
    return data
