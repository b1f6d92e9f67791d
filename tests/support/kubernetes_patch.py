"""The four kinds of patch of the Kubernetes API."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str, ...]
KEYS = ("name", "containerPort", "port", "mountPath", "uid", "type")
"""Fields by which strategic merge finds an entry of a list, in the order tried."""


def merged(held: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386): null removes, lists are replaced."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(held) if isinstance(held, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def patched(held: Any, operations: Any) -> Any:
    """JSON patch (RFC 6902).

    Raises:
        ValueError: An operation cannot be carried out.
    """
    import jsonpatch

    try:
        return jsonpatch.apply_patch(copy.deepcopy(held), operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ValueError(str(error)) from None


def strategic(held: Any, patch: Any) -> Any:
    """Strategic merge: lists of entries with a key are merged by it; `$patch: delete` removes an entry."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    result = dict(held) if isinstance(held, Mapping) else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and (by := _key(value)):
            result[key] = _merged_list(result.get(key) or [], value, by)
        else:
            result[key] = strategic(result.get(key), value)
    for key, order in patch.items():
        if key.startswith("$setElementOrder/") and order and isinstance(order[0], Mapping):
            result[key.partition("/")[2]] = _ordered(result.get(key.partition("/")[2]) or [], order)
    return result


def _key(entries: list[Any]) -> str:
    return next((k for k in KEYS if entries and all(isinstance(e, Mapping) and k in e for e in entries)), "")


def _merged_list(held: list[Any], entries: list[Any], by: str) -> list[Any]:
    result = list(held)
    for entry in entries:
        place = next((n for n, old in enumerate(result) if old.get(by) == entry[by]), None)
        if entry.get("$patch") == "delete":
            result = [old for old in result if old.get(by) != entry[by]]
        elif place is None:
            result.append(copy.deepcopy(entry))
        else:
            result[place] = strategic(result[place], entry)
    return result


def _ordered(held: list[Any], order: list[Mapping[str, Any]]) -> list[Any]:
    by = next(iter(order[0]))
    place = {entry[by]: number for number, entry in enumerate(order)}
    return sorted(held, key=lambda entry: place.get(entry.get(by), len(place)))


class Owners:
    """Who applied which fields of an object. A list is one field."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[Path, Any]] = {}

    def applied(
        self, held: Mapping[str, Any] | None, body: Mapping[str, Any], manager: str, *, force: bool
    ) -> tuple[dict[str, Any], list[str]]:
        """The object with a manager's fields as it now gives them, and fields that another manager gave otherwise."""
        given = dict(_leaves(body))
        disputed = sorted(
            f".{'.'.join(path)} ({other})"
            for other, fields in self._fields.items()
            for path, value in fields.items()
            if other != manager and path in given and given[path] != value and not force
        )
        result = copy.deepcopy(dict(held or {}))
        others = {path for other, fields in self._fields.items() if other != manager for path in fields}
        for path in self._fields.get(manager, {}):
            if path not in given and path not in others:
                _remove(result, path)
        return merged(result, body), disputed

    def keep(self, body: Mapping[str, Any], manager: str) -> None:
        """Note what a manager has applied; it owns what it took from others."""
        given = dict(_leaves(body))
        for other, fields in self._fields.items():
            if other != manager:
                self._fields[other] = {p: v for p, v in fields.items() if p not in given or given[p] == v}
        self._fields[manager] = given


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            if path or key not in ("apiVersion", "kind"):
                yield from _leaves(value, (*path, key))
    elif path not in (("metadata", "name"), ("metadata", "namespace")):
        yield path, node


def _remove(node: Any, path: Path) -> None:
    for key in path[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(path[-1], None)
