"""Pipelines end to end, embedded."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pipelines.engine import GUESSES


class Guesses(logging.Filter):
    """Collects what kfp.local logs when it guesses; a filter, because kfp.local replaces the handlers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the record's message; let every record pass."""
        if record.getMessage().startswith(GUESSES):
            self.found.append(record.getMessage())
        return True


@pytest.fixture(autouse=True)
def no_guesses() -> Iterator[None]:
    """Fails a test in which kfp.local could not resolve a value or a condition and went on regardless."""
    guesses = Guesses()
    logging.getLogger().addFilter(guesses)
    yield
    logging.getLogger().removeFilter(guesses)
    if guesses.found:
        pytest.fail(f"kfp.local guessed: {guesses.found[0]}")
