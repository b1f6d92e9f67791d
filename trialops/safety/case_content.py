"""What a version of a case says: sealed, named by digest, compared with the version before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trialops.stores.digest import document_digest
from trialops.stores.sealed import seal_file, unseal_file

if TYPE_CHECKING:
    from trialops.stores.context import Step

_DERIVED = ("report", "narrative")
"""Parts of a case that follow from the others and from the register: a change of them alone is no news."""


def content_digest(case: Mapping[str, Any], facts: Mapping[str, Any], edited: str = "") -> str:
    """SHA-256 of what a version says: the case without what is derived, the facts, and what a person wrote."""
    told = {name: part for name, part in case.items() if name not in _DERIVED}
    return document_digest({"case": told, "facts": dict(facts), "edited": edited})


def seal_content(run: Step, content: Mapping[str, Any]) -> str:
    """Keep a version's content encrypted; returns the SHA-256 it is found by."""
    data = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return seal_file(data, vault=run.vault, objects=run.objects)


def read_content(run: Step, sealed: str) -> dict[str, Any]:
    """A version's content."""
    content: dict[str, Any] = json.loads(unseal_file(sealed, vault=run.vault, objects=run.objects))
    return content


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what differs between two contents, with places counted from 1; no values.

    Returns:
        Sorted: "reactions.1.outcome", "facts.expected", "narrative" where a person changed it.
    """
    old, new = dict(_flat(_told(before))), dict(_flat(_told(after)))
    return tuple(sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)))


def _told(content: Mapping[str, Any]) -> dict[str, Any]:
    case = {name: part for name, part in content["case"].items() if name not in _DERIVED}
    return {**case, "facts": content["facts"], "narrative": content.get("edited", "")}


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _flat(item, f"{at}.{name}".strip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value, start=1):
            yield from _flat(item, f"{at}.{number}".strip("."))
    else:
        yield at, value
