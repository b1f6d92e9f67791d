"""The policy of the lake's upkeep: see lake.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class TableRule:
    """How one table is laid out.

    Attributes:
        target_bytes: Size a data file should have.
        small_bytes: Files below it are small.
        min_small_files: So many small files make a compaction worth its while.
        order: Columns of a z-order; empty for none.
        order_min_files: The table fills at least so many files before an order pays.
        order_above: And a look-up opens more than this share of them.
        digest_max_bytes: A table above it gets no digest of the whole.
    """

    target_bytes: int
    small_bytes: int
    min_small_files: int
    order: tuple[str, ...]
    order_min_files: int
    order_above: float
    digest_max_bytes: int


@dataclass(frozen=True)
class LakePolicy:
    """The whole policy.

    Attributes:
        version: Of the policy.
        digest: SHA-256 of its data: what a decision names.
        orphan_days: Files that no version needs are removed from this age on.
        work_days: Private folders of ended runs likewise.
        attempts: Commits tried while another writer is faster.
        mentions: First parts of keys whose objects are searched for references.
        opaque: Patterns of keys that name none.
        not_mentions: Database tables that are not searched.
        currency: Of the prices.
        prices: Pattern and price of a gigabyte a month; the first that matches counts.
    """

    version: str
    digest: str
    orphan_days: int
    work_days: int
    attempts: int
    mentions: tuple[str, ...]
    opaque: tuple[str, ...]
    not_mentions: tuple[str, ...]
    currency: str
    prices: tuple[tuple[str, float], ...]
    default: Mapping[str, Any]
    tables: tuple[Mapping[str, Any], ...]

    def rule(self, table: str) -> TableRule:
        """The rule of a table: the first pattern that matches it, over the default."""
        own = next((dict(t) for t in self.tables if fnmatchcase(table, str(t["pattern"]))), {})
        data = {**self.default, **own}
        target = int(float(data["target_mb"]) * MEGABYTE)
        return TableRule(
            target,
            int(target * float(data["small_share"])),
            int(data["min_small_files"]),
            tuple(map(str, data["order"])),
            int(data["order_min_files"]),
            float(data["order_above"]),
            int(float(data["digest_max_mb"]) * MEGABYTE),
        )

    def price(self, zone: str) -> float:
        """Price of a gigabyte (1e9 bytes) a month in a zone."""
        return next((price for pattern, price in self.prices if fnmatchcase(zone, pattern)), 0.0)

    def known(self, key: str) -> bool:
        """Whether it is known if an object may hold references."""
        return key.split("/", 1)[0] in self.mentions or self.is_opaque(key)

    def is_opaque(self, key: str) -> bool:
        """Whether an object names no version."""
        return any(fnmatchcase(key, pattern) for pattern in self.opaque)


@cache
def default_lake_policy() -> LakePolicy:
    """The policy that ships with the platform."""
    import yaml

    return parse(yaml.safe_load(Path(__file__).with_name("lake.yaml").read_text("utf-8")))


def parse(data: Mapping[str, Any]) -> LakePolicy:
    """Build a policy from its data.

    Raises:
        TrialOpsError: A figure is missing or makes no sense.
    """
    try:
        policy = LakePolicy(
            version=str(data["version"]),
            digest=document_digest(data),
            orphan_days=int(data["orphans"]["age_days"]),
            work_days=int(data["work"]["age_days"]),
            attempts=int(data["attempts"]),
            mentions=tuple(data["references"]["mentions"]),
            opaque=tuple(item["pattern"] for item in data["references"]["opaque"]),
            not_mentions=tuple(data["references"]["not_mentions"]),
            currency=str(data["cost"]["currency"]),
            prices=tuple((str(p["pattern"]), float(p["price"])) for p in data["cost"]["per_gb_month"]),
            default=dict(data["compaction"]["default"]),
            tables=tuple(data["compaction"].get("tables", ())),
        )
        rules = [policy.rule(str(t["pattern"])) for t in policy.tables] + [policy.rule("")]
    except (KeyError, TypeError, ValueError) as error:
        raise TrialOpsError(
            f"The policy of the lake's upkeep cannot be read ({type(error).__name__})", where="lake.yaml"
        ) from None
    for rule in rules:
        if rule.target_bytes <= 0 or not 0 < rule.small_bytes <= rule.target_bytes or rule.min_small_files < 2:
            raise TrialOpsError(
                "A layout of the lake's upkeep makes no sense",
                where="lake.yaml, compaction",
                fix="target_mb above 0, small_share above 0 and at most 1, min_small_files at least 2.",
            )
    if policy.orphan_days < 1:
        raise TrialOpsError(
            "Files of a writer that is about to commit would be removed",
            where="lake.yaml, orphans.age_days",
            fix="Use at least 1 day.",
        )
    return policy
