"""Reading a YAML mapping key by key: what is missing, unknown or of the wrong kind is named with its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from trialops.errors import TrialOpsError

_COLUMN = re.compile(r"[A-Z][A-Z0-9]{1,7}")
_DOMAIN = re.compile(r"[A-Z]{2}")
_MISSING = object()
_KINDS = {str: "text", int: "a whole number", float: "a number", list: "a list", bool: "true or false"}


class Reader:
    """A mapping whose keys are taken one after the other; :meth:`done` refuses what is left."""

    def __init__(self, document: Any, where: str) -> None:
        """Take a mapping and its place in the file."""
        self.where = where
        if not isinstance(document, Mapping):
            raise TrialOpsError("Here a mapping is expected", where=where, fix="Write key: value pairs.")
        self._left = dict(document)
        self._asked: list[str] = []

    def error(self, key: str, what: str, fix: str) -> TrialOpsError:
        """An error about a key, to be raised."""
        place = f"{self.where}.{key}" if key else self.where
        return TrialOpsError(f"{key or self.where.rsplit('.', 1)[-1]} {what}", where=place, fix=fix)

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._asked.append(key)
        return key in self._left

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        """A value of a kind; the default where the key is not there."""
        self._asked.append(key)
        if key not in self._left:
            if default is _MISSING:
                raise self.error(key, "is missing", f"Add {key}.")
            return default
        value = self._left.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        good = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
        if not good or value == "":
            raise self.error(key, f"must be {' or '.join(_KINDS[k] for k in kinds)}", "Correct the value.")
        return value

    def inside(self, key: str) -> Reader:
        """The mapping below a key."""
        self._asked.append(key)
        if key not in self._left:
            raise self.error(key, "is missing", f"Add {key}.")
        return Reader(self._left.pop(key), f"{self.where}.{key}")

    def choice(self, key: str, choices: Sequence[str], default: Any = _MISSING) -> str:
        """One of some words."""
        value = self.take(key, str, default)
        if value not in choices:
            raise self.error(key, f"has the unknown value {value!r}", _nearest(value, choices))
        return str(value)

    def domain(self, key: str, forbidden: Sequence[str], default: Any = _MISSING) -> str:
        """A domain code that a criterion may be about."""
        value = str(self.take(key, str, default)).upper()
        if not _DOMAIN.fullmatch(value) or value == "DM":
            raise self.error(key, f"has the value {value!r}, which is no domain", "Two letters; for DM use subject.")
        if value in forbidden:
            raise self.error(key, f"is {value}, which tells the treatment", "No criterion of entry can be about it.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of texts, upper case."""
        value = self.take(key, (str, list))
        items = [value] if isinstance(value, str) else value
        if not items or not all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            raise self.error(key, "must be a text or a list of texts", "Put values such as NO in quotes.")
        return tuple(sorted({str(item).strip().upper() for item in items}))

    def columns(self) -> list[str]:
        """All keys, which must be names of columns."""
        for key in self._left:
            if not isinstance(key, str) or not _COLUMN.fullmatch(key):
                raise self.error(str(key), "is no name of an SDTM column", "Upper-case letters and digits, at most 8.")
        return sorted(self._left)

    def only(self, names: Sequence[str]) -> str:
        """The single key of a mapping that has one of the names."""
        keys = list(self._left)
        if len(keys) != 1:
            raise self.error("", f"has {len(keys)} keys, and one is expected", f"One of {', '.join(names)}.")
        if keys[0] not in names:
            raise self.error(str(keys[0]), "is unknown here", _nearest(str(keys[0]), names))
        return str(keys[0])

    def known(self, names: Sequence[str]) -> None:
        """Refuse keys that are neither taken nor among some names."""
        self._asked.extend(names)
        self.done()

    def done(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._left:
            if key not in self._asked:
                raise self.error(str(key), "is unknown here", _nearest(str(key), sorted(set(self._asked))))


def _nearest(value: str, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, choices, n=1)
    return f"Did you mean {near[0]}?" if near else f"One of {', '.join(choices)}."
