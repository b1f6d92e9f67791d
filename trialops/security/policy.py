"""The policy of the security monitoring, read once and checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from trialops.models.task import Reader, read_yaml
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).with_name("policy.yaml")


@dataclass(frozen=True)
class Rules:
    """Limits and lists of what is against the rules, whatever is usual."""

    dormant_days: int
    follow_up_days: int
    travel_kmh: float
    travel_km: float
    burst_refusals: int
    persons_only: tuple[str, ...]
    blinded_roles: tuple[str, ...]
    makes: tuple[str, ...]
    approves: tuple[str, ...]
    follow_ups: tuple[str, ...]
    powerful_roles: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """The file, and the SHA-256 of its content; fields are as in policy.yaml."""

    version: int
    digest: str
    history_days: int
    kept_days: int
    least_days: int
    false_discovery: float
    alerts_per_day: int
    quiet_days: int
    windows: tuple[int, ...]
    shrink_days: float
    peers: int
    least_dispersion: float
    least_bunching: float
    classes: tuple[str, ...]
    gauges: Mapping[str, tuple[int, ...]]
    size_classes: tuple[str, ...]
    least_spread: float
    prior_days: float
    smooth: tuple[float, ...]
    burn_in_days: int
    tail: float
    least_exceedances: int
    trim: float
    rules: Rules
    severity: Mapping[str, str]
    holidays: tuple[dt.date, ...]
    read_again_days: int


def load_policy(source: str | Path = SHIPPED) -> Policy:
    """Read and check a policy file.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or out of range.
    """
    path = Path(source)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=4)
def _load(path: Path, _written: int) -> Policy:
    content = read_yaml(path)
    top = Reader(content, path)
    budget, volume, size, hours = (top.section(k) for k in ("budget", "volume", "size", "hours"))
    novelty, tail, rules = (top.section(k) for k in ("novelty", "calibration", "rules"))
    windows = _days(volume, "windows")
    gauges = top.section("gauges")
    policy = Policy(
        version=top.whole("version", 1),
        digest=document_digest(content),
        history_days=top.whole("history_days", 14, 365),
        kept_days=top.whole("kept_days", 28, 1000),
        least_days=top.whole("least_days", 5, 60),
        false_discovery=budget.number("false_discovery", 1e-6, 0.5),
        alerts_per_day=budget.whole("alerts_per_day", 1, 100),
        quiet_days=budget.whole("quiet_days", 1, 60),
        windows=windows,
        shrink_days=volume.number("shrink_days", 0.1, 60),
        peers=volume.whole("peers", 3, 100),
        least_dispersion=volume.number("least_dispersion", 1e-6, 10),
        least_bunching=volume.number("least_bunching", 1.0, 10),
        classes=volume.names("classes"),
        gauges={name: _days(gauges, name) for name in ("one_object", "distinct_objects", "concurrent")},
        size_classes=size.names("classes"),
        least_spread=size.number("least_spread", 0.01, 5),
        prior_days=hours.number("prior_days", 0.1, 30),
        smooth=tuple(float(x) for x in hours.get("smooth", list)),
        burn_in_days=novelty.whole("burn_in_days", 1, 365),
        tail=tail.number("tail", 0.001, 0.5),
        least_exceedances=tail.whole("least_exceedances", 10, 1000),
        trim=tail.number("trim", 0.0, 0.05),
        rules=_rules(rules),
        severity={k: top.section("severity").choice(k, ("info", "warning", "critical")) for k in content["severity"]},
        holidays=tuple(dt.date.fromisoformat(str(day)) for day in top.get("holidays", list)),
        read_again_days=top.whole("read_again_days", 1, 60),
    )
    if len(policy.smooth) != 3 or abs(sum(policy.smooth) - 1) > 1e-9:
        raise hours.refuse("smooth", "The value must be three weights that add up to 1.", "Write [0.25, 0.5, 0.25].")
    for reader in (budget, volume, size, hours, novelty, tail, rules, gauges, top):
        reader.done()
    return policy


def _rules(reader: Reader) -> Rules:
    lists = ("persons_only", "blinded_roles", "makes", "approves", "follow_ups", "powerful_roles")
    return Rules(
        dormant_days=reader.whole("dormant_days", 7, 1000),
        follow_up_days=reader.whole("follow_up_days", 1, 90),
        travel_kmh=reader.number("travel_kmh", 100, 5000),
        travel_km=reader.number("travel_km", 10, 20000),
        burst_refusals=reader.whole("burst_refusals", 2, 10**6),
        **{name: reader.names(name) for name in lists},
    )


def _days(reader: Reader, key: str) -> tuple[int, ...]:
    found = reader.get(key, list)
    if not found or not all(isinstance(n, int) and 1 <= n <= 90 for n in found):
        raise reader.refuse(key, "The value must be a list of days from 1 to 90.", "Write [1, 7].")
    return tuple(sorted(set(found)))
