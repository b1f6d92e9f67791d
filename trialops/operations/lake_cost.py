"""What the stores take and cost: bytes per table, zone and kind of object, how they grew, the price of a month."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.operations.lake_policy import LakePolicy
from trialops.operations.lake_retention import needed_files
from trialops.stores.objects import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore

GB = 1e9


@dataclass(frozen=True)
class TableCost:
    """Bytes of one table.

    Attributes:
        table: Full name.
        versions: Versions, those disposed of not counted.
        newest: Bytes of the newest version.
        history: Bytes that only older versions need.
        unneeded: Bytes that no version needs.
        log: Bytes of the transaction log.
        recent: Bytes of data files written in the last 30 days.
        price: Of a month, in the policy's currency.
    """

    table: str
    versions: int
    newest: int
    history: int
    unneeded: int
    log: int
    recent: int
    price: float

    @property
    def size(self) -> int:
        """All bytes."""
        return self.newest + self.history + self.unneeded + self.log


@dataclass(frozen=True)
class Storage:
    """The whole report.

    Attributes:
        tables: Of the lake.
        objects: First part of the keys to bytes, number and price of a month.
        growth: Zone to (month, bytes written by then and still there).
        currency: Of the prices.
    """

    tables: tuple[TableCost, ...]
    objects: dict[str, tuple[int, int, float]]
    growth: dict[str, list[tuple[str, int]]]
    currency: str

    @property
    def price(self) -> float:
        """Of a month, everything together."""
        return sum(t.price for t in self.tables) + sum(price for _, _, price in self.objects.values())

    def zones(self) -> dict[str, tuple[int, float]]:
        """Zone of the lake to bytes and price of a month."""
        found: dict[str, tuple[int, float]] = {}
        for table in self.tables:
            size, price = found.get(zone_of(table.table), (0, 0.0))
            found[zone_of(table.table)] = size + table.size, price + table.price
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain form."""
        return {
            "tables": [asdict(table) for table in self.tables],
            "objects": {name: list(values) for name, values in sorted(self.objects.items())},
            "zones": {name: list(values) for name, values in sorted(self.zones().items())},
            "growth": {name: [list(p) for p in points] for name, points in sorted(self.growth.items())},
            "currency": self.currency,
            "price_per_month": round(self.price, 6),
        }


def zone_of(table: str) -> str:
    """First part of a table's name."""
    return table.split("/", 1)[0]


def storage(
    lake: Lake,
    objects: ObjectStore,
    policy: LakePolicy,
    now: dt.datetime,
    progress: Callable[[str, float | None], None] | None = None,
) -> Storage:
    """Look at every file of the lake and every object.

    Args:
        lake: The lake.
        objects: The object store.
        policy: Prices.
        now: What the last 30 days are counted from.
        progress: Called with a message and the fraction done.
    """
    names = lake.tables()
    monthly: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    files = list(open_store(lake.url).listing("")) if names else []
    tables = []
    for place, table in enumerate(names):
        if progress is not None:
            progress(f"counting {table}", place / len(names))
        own = [f for f in files if f[0].startswith(f"{table}/")]
        tables.append(_table(lake, table, own, policy, now))
        for key, size, written in own:
            if "/_delta_log/" not in key:
                monthly[zone_of(table)][f"{written:%Y-%m}"] += size
    return Storage(tuple(tables), _objects(lake, objects, policy), _growth(monthly), policy.currency)


def _table(
    lake: Lake, table: str, files: list[tuple[str, int, dt.datetime]], policy: LakePolicy, now: dt.datetime
) -> TableCost:
    from urllib.parse import unquote

    data = {key.rsplit("/", 1)[-1]: (size, at) for key, size, at in files if "/_delta_log/" not in key}
    log = sum(size for key, size, _ in files if "/_delta_log/" in key)
    try:
        newest_names = {unquote(uri).rsplit("/", 1)[-1] for uri in lake.opened(table).file_uris()}
        needed = needed_files(lake, table) | newest_names
        versions = sum(not lake.disposed(table, int(c["version"])) for c in lake.versions(table))
    except TrialOpsError:  # what is needed is not known, so all is
        newest_names, needed, versions = set(), set(data), 0
    newest = sum(size for name, (size, _) in data.items() if name in newest_names)
    total = sum(size for size, _ in data.values())
    unneeded = sum(size for name, (size, _) in data.items() if name not in needed)
    since = now - dt.timedelta(days=30)
    recent = sum(size for size, at in data.values() if since <= at <= now)
    price = (total + log) / GB * policy.price(zone_of(table))
    return TableCost(table, versions, newest, total - newest - unneeded, unneeded, log, recent, price)


def _objects(lake: Lake, objects: ObjectStore, policy: LakePolicy) -> dict[str, tuple[int, int, float]]:
    """Objects by the first part of their keys; the lake, where it lies below them, is not counted twice."""
    inside = lake.url.removeprefix(objects.url.rstrip("/") + "/") if lake.url.startswith(objects.url) else ""
    found: dict[str, tuple[int, int, float]] = {}
    for key, size, _ in objects.listing(""):
        if inside and key.startswith(f"{inside}/"):
            continue
        name = key.split("/", 1)[0]
        total, number, _ = found.get(name, (0, 0, 0.0))
        found[name] = total + size, number + 1, (total + size) / GB * policy.price(f"objects/{name}")
    return found


def _growth(monthly: dict[str, dict[str, int]]) -> dict[str, list[tuple[str, int]]]:
    months = sorted({month for zone in monthly.values() for month in zone})
    result = {}
    for zone, written in sorted(monthly.items()):
        total, points = 0, []
        for month in months:
            total += written.get(month, 0)
            points.append((month, total))
        result[zone] = points
    return result
