"""This machine: processors, memory, disk and their use, read from the kernel; a container's own limits come first."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.operations.health import Finding, State

if TYPE_CHECKING:
    from trialops.alerts.thresholds import Thresholds

COMPONENT = "this machine"
CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@dataclass(frozen=True)
class Use:
    """Use of one resource.

    Attributes:
        resource: cpu, memory or disk.
        used: Processors, or bytes.
        of: As many there are.
        whose: "machine" or "container": whose limit it is.
    """

    resource: str
    used: float
    of: float
    whose: str = "machine"

    @property
    def share(self) -> float:
        """From 0 to 1; the load can be above."""
        return self.used / self.of if self.of else 0.0


def measure(place: Path, *, proc: Path = PROC, cgroup: Path = CGROUP) -> list[Use]:
    """Load of the last five minutes, memory in use, and the disk below a folder.

    Args:
        place: Folder whose disk counts; a part of it that is not there yet is passed over.
        proc: Where the kernel tells of the machine.
        cgroup: Where it tells of the container.

    Returns:
        What can be read; on other systems than Linux that is not the memory.
    """
    found = [_cpu()]
    if (memory := _memory(proc, cgroup)) is not None:
        found.append(memory)
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place)
    # As df: what is kept back for root is no room of ours.
    found.append(Use("disk", float(disk.used), float(disk.used + disk.free)))
    return found


def _cpu() -> Use:
    load = os.getloadavg()[1] if hasattr(os, "getloadavg") else 0.0
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return Use("cpu", load, float(affinity))


def _memory(proc: Path, cgroup: Path) -> Use | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    told = {name: float(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines) if rest}
    machine = Use("memory", told["MemTotal"] - told["MemAvailable"], told["MemTotal"])
    for limit, current, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            most, used = float((cgroup / limit).read_text()), float((cgroup / current).read_text())
            cached = _inactive((cgroup / stat).read_text())
        except (OSError, ValueError):  # no such version of cgroups, or "max": no limit
            continue
        if most < machine.of:
            # What the kernel counts before it ends a container: without file pages that it can drop.
            return Use("memory", max(0.0, used - cached), most, "container")
    return machine


def _inactive(stat: str) -> float:
    values = dict(line.split()[:2] for line in stat.splitlines())
    return float(values.get("total_inactive_file", values.get("inactive_file", 0)))


def limit_of(thresholds: Thresholds, resource: str) -> float:
    """Share from which the use of a resource counts: the rule of the thresholds file."""
    metric = f"trialops_host_{resource}_used_ratio"
    return next(rule.when.threshold for rule in thresholds.rules if rule.when.metric == metric)


def machine_findings(uses: list[Use], thresholds: Thresholds) -> list[Finding]:
    """Each resource against its threshold."""
    found = []
    for resource in ("cpu", "memory", "disk"):
        use, limit = next((use for use in uses if use.resource == resource), None), limit_of(thresholds, resource)
        if use is None:
            fix = "Run it on Linux, or leave this to the cluster's metrics."
            found.append(Finding(COMPONENT, resource, "unknown", "it cannot be read here", None, limit, fix))
            continue
        state: State = "degraded" if use.share > limit else "healthy"
        if resource == "cpu":
            words = f"load of five minutes {use.used:.2f} on {use.of:.0f} processors"
        else:
            words = f"{use.used / 2**30:.1f} of {use.of / 2**30:.1f} GiB of the {use.whose} in use"
        fix = {
            "cpu": "Find what runs (top); run fewer steps side by side.",
            "memory": "Find what holds it (top); give steps a limit.",
            "disk": "Run lake_maintenance; remove old runs; enlarge the disk.",
        }[resource]
        found.append(
            Finding(
                COMPONENT,
                resource,
                state,
                words,
                round(use.share, 4),
                limit,
                fix if state != "healthy" else "",
                asked="the kernel",
            )  # fmt: skip
        )
    return found
