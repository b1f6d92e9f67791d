"""Rules of context: words that announce an identifier, and forms that give one away.

The rules are data (`text_rules.yaml`): about people, ages, places and organisations, and numbers. A rule is a pattern
whose named groups are kinds of span; what stands in the group is the identifier.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from trialops.privacy.spans import Span

RULES = Path(__file__).with_name("text_rules.yaml")
_REFERENCE = re.compile(r"%\{(\w+)\}")


@cache
def _file() -> dict[str, Any]:
    import yaml

    loaded: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return loaded


@cache
def names() -> dict[str, str]:
    """Patterns that the rules share, such as what a capital is, by name."""
    made: dict[str, str] = {}
    for name, pattern in _file()["names"].items():
        made[name] = _REFERENCE.sub(lambda m: made[m[1]], pattern)
    return made


@cache
def rules() -> tuple[re.Pattern[str], ...]:
    """All rules, compiled."""
    patterns = [pattern for group in _file()["rules"].values() for pattern in group]
    return tuple(re.compile(_REFERENCE.sub(lambda m: names()[m[1]], pattern)) for pattern in patterns)


def find_context(text: str) -> list[Span]:
    """Identifiers that the words around them announce.

    Args:
        text: Any text.

    Returns:
        Spans with source "context"; they can overlap.
    """
    spans = []
    for rule in rules():
        for match in rule.finditer(text):
            for group, value in match.groupdict().items():
                if value:
                    start, end = match.span(group)
                    spans.append(Span(start, end, group.rstrip("0123456789"), "context"))
    return spans
