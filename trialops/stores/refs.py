"""What travels between steps: references to exact table versions, never rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trialops.errors import TrialOpsError


@dataclass(frozen=True)
class TableRef:
    """One exact version of one table.

    Attributes:
        table: ``zone/name``, for example ``clean/lb``.
        version: Delta version number.
        rows: Number of rows in that version.
        digest: SHA-256 over the content (see :mod:`trialops.stores.digest`), independent of file layout.
    """

    table: str
    version: int
    rows: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """A set of table versions that belong together, by short name (``DM``, ``LB``, ...)."""

    tables: Mapping[str, TableRef]

    @property
    def digest(self) -> str:
        """SHA-256 over the members' names and digests, in name order."""
        lines = [f"{name}={ref.digest}" for name, ref in sorted(self.tables.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Rows over all members."""
        return sum(ref.rows for ref in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain form, for a reference file or artifact metadata."""
        return {
            "kind": "snapshot",
            "digest": self.digest,
            "rows": self.rows,
            "tables": {name: asdict(ref) for name, ref in sorted(self.tables.items())},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """Rebuild from :meth:`as_dict`; counts arrive as floats when they have passed through KFP metadata.

        Raises:
            TrialOpsError: When ``data`` is not a reference or its digest does not match its members.
        """
        try:
            tables = {
                str(name): TableRef(str(r["table"]), int(r["version"]), int(r["rows"]), str(r["digest"]))
                for name, r in data["tables"].items()
            }
        except (KeyError, TypeError, ValueError):
            raise TrialOpsError(
                "An input is not a table reference",
                fix="Pass an artifact written by a TrialOps step.",
            ) from None
        snapshot = cls(tables)
        if data.get("digest") != snapshot.digest:
            raise TrialOpsError(
                "A table reference was altered: its digest does not match the tables it names",
                fix="Run the step that wrote it again.",
            )
        return snapshot

    def dumps(self) -> str:
        """JSON text, stable byte for byte."""
        return json.dumps(self.as_dict(), indent=1, sort_keys=True)
