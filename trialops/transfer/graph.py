"""The order of the transfer: one definition that the Argo workflow and the embedded runner are both made of.

`depends` is Argo's enhanced depends logic in the subset both generations know: ``task.Succeeded``, ``task.Failed``,
``&&``, ``||``, ``!`` and brackets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trialops.errors import TrialOpsError

Outcome = Literal["Succeeded", "Failed", "Errored", "Skipped", "Omitted"]


@dataclass(frozen=True)
class Node:
    """One step of the workflow; `fan` says that its parts run beside each other, each in a pod of its own."""

    name: str
    title: str
    depends: str
    fan: bool = False


NODES: tuple[Node, ...] = (
    Node("plan", "Plan", ""),
    Node("extract", "Extract from sites (AppFlow)", "plan.Succeeded", fan=True),
    Node("validate", "Validate what was landed", "extract.Succeeded"),
    Node("fallback", "Last validated version", "extract.Failed || validate.Failed"),
    Node("backup", "Back up raw data (AWS Backup)", "validate.Succeeded || fallback.Succeeded"),
    Node("cleanse", "Cleanse", "backup.Succeeded"),
    Node("ingest", "Ingest for analysis (QuickSight)", "cleanse.Succeeded"),
    Node("distribute", "Distribute (DataSync)", "ingest.Succeeded"),
    Node("report", "Reports (Azure Functions)", "distribute.Succeeded"),
)
STEPS = tuple(node.name for node in NODES)
_TERM = re.compile(r"\s*(?:(\|\||&&|[!()])|([a-z][a-z0-9-]*)\.([A-Z][A-Za-z]+))\s*")
_WORDS = {"Succeeded", "Failed", "Errored", "Skipped", "Omitted"}


def names_in(depends: str) -> list[str]:
    """The steps an expression names, each once, in order."""
    return list(dict.fromkeys(name for _, name, _ in _terms(depends) if name))


def holds(depends: str, outcomes: Mapping[str, Outcome]) -> bool:
    """Whether an expression holds; every step it names must have an outcome.

    Raises:
        TrialOpsError: The expression is not of the subset.
    """
    terms = _terms(depends)

    def either() -> bool:
        value = both()
        while terms and terms[0][0] == "||":
            terms.pop(0)
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while terms and terms[0][0] == "&&":
            terms.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        sign, name, state = terms.pop(0) if terms else ("", "", "")
        if sign == "!":
            return not one()
        if sign == "(":
            value = either()
            if not terms or terms.pop(0)[0] != ")":
                raise _unreadable(depends)
            return value
        if not name:
            raise _unreadable(depends)
        return outcomes[name] == state

    if not terms:
        return True
    value = either()
    if terms:
        raise _unreadable(depends)
    return value


def _terms(depends: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    at = 0
    while at < len(depends):
        match = _TERM.match(depends, at)
        if match is None or (match[3] and match[3] not in _WORDS):
            raise _unreadable(depends)
        found.append((match[1] or "", match[2] or "", match[3] or ""))
        at = match.end()
    return found


def _unreadable(depends: str) -> TrialOpsError:
    return TrialOpsError("An expression of dependencies cannot be read", where=depends)
