"""What de-identification needs of a vault."""

from __future__ import annotations

from typing import Protocol


class Vault(Protocol):
    """Where keys live: gives pseudonyms and date offsets, the same for the same input."""

    def pseudonyms(self, kind: str, values: list[str]) -> list[str]:
        """One keyed pseudonym per value, in order."""
        ...

    def offset_days(self, subject: str) -> int:
        """Days to add to every date of a subject."""
        ...
