"""The policy of the database's upkeep: see database.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class BackupPolicy:
    """How backups are made and kept.

    Attributes:
        part_bytes: Bytes of one encrypted part.
        days: The newest backup of so many days is kept,
        weeks: of so many weeks,
        months: and of so many months.
        unfinished_hours: A backup never finished is removed from this age on.
        rpo_hours: Oldest the last verified backup may be.
        rto_minutes: Longest a restore may take.
        point_in_time: Whether WAL must be archived.
    """

    part_bytes: int
    days: int
    weeks: int
    months: int
    unfinished_hours: float
    rpo_hours: float
    rto_minutes: float
    point_in_time: bool


@dataclass(frozen=True)
class DatabasePolicy:
    """The whole policy; `inspect` and `upkeep` hold figures by name."""

    version: str
    digest: str
    inspect: Mapping[str, Mapping[str, float]]
    upkeep: Mapping[str, Mapping[str, float]]
    backup: BackupPolicy

    def named(self) -> dict[str, str]:
        """What a decision names."""
        return {"version": self.version, "digest": self.digest}


@cache
def default_database_policy() -> DatabasePolicy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("database.yaml").read_text("utf-8")))


def parse(data: Mapping[str, Any]) -> DatabasePolicy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: A figure is missing or makes no sense.
    """
    try:
        kept, backup = data["backup"]["keep"], data["backup"]
        policy = DatabasePolicy(
            str(data["version"]),
            document_digest(data),
            {name: {k: float(v) for k, v in item.items()} for name, item in data["inspect"].items()},
            {name: {k: float(v) for k, v in item.items()} for name, item in data["upkeep"].items()},
            BackupPolicy(
                int(float(backup["part_mb"]) * MEGABYTE),
                int(kept["days"]),
                int(kept["weeks"]),
                int(kept["months"]),
                float(backup["unfinished_hours"]),
                float(backup["rpo_hours"]),
                float(backup["rto_minutes"]),
                bool(backup["point_in_time"]),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrialOpsError(
            f"The policy of the database's upkeep cannot be read ({type(error).__name__})", where="database.yaml"
        ) from None
    if policy.backup.part_bytes < 1 or policy.backup.days < 1 or policy.backup.rpo_hours <= 0:
        raise TrialOpsError(
            "The backup policy makes no sense",
            where="database.yaml, backup",
            fix="part_mb and rpo_hours above 0, keep.days at least 1.",
        )
    return policy
