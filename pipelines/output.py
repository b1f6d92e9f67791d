"""Reading what steps and the orchestrator print."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from typing import Any

MARK = "::trialops:: "
"""Starts a line that carries a step event."""


def parse_event(text: str) -> dict[str, Any] | None:
    """A step event from the text behind its mark; None when it is not one."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("event") else None


def brief(summary: dict[str, Any], most: int = 3) -> str:
    """The first few numbers of a step's summary, short enough for a line of a table."""
    texts = []
    for name, value in list(summary.items())[:most]:
        if isinstance(value, float):
            value = f"{value:.4g}"
        elif isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value):
            value = value[:12]
        texts.append(f"{name.replace('_', ' ')} {value}")
    return ", ".join(texts)


def last_line(text: str) -> str:
    """The last line that is not indented: of a traceback, the one that names the exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    return lines[-1][:300] if lines else ""


class Lines(io.TextIOBase):
    """A text stream that hands on whole lines, without terminal colours."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._rest = ""
        self._guard = threading.Lock()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Take text; hand on the lines it completes."""
        with self._guard:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._take(re.sub(r"\x1b\[[0-9;]*m", "", line))
        return len(text)
