"""Where addresses are: the most specific network of a table, with its place where it has one."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import asin, cos, radians, sin, sqrt
from pathlib import Path
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).with_name("networks.yaml")
EARTH_KM = 6371.0088
"""Mean radius of the earth (IUGG)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Networks:
    """A table of networks.

    Attributes:
        by_length: IP version and prefix length -> network address as a number -> name; longest first.
        places: Name -> latitude and longitude in degrees, of networks that have a place.
        digest: SHA-256 of the table.
    """

    by_length: tuple[tuple[int, int, dict[int, str]], ...]
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    digest: str = ""

    def name(self, address: str) -> str:
        """Name of the network of an address; of an unknown one its /24 (IPv6: /48) network; empty for no address."""
        try:
            found: Address = ipaddress.ip_address(address.strip().strip("[]"))
        except ValueError:
            return ""
        mapped = getattr(found, "ipv4_mapped", None)
        found = mapped or found
        bits, value = found.max_prefixlen, int(found)
        for version, length, names in self.by_length:
            if version == found.version and (hit := names.get(value >> (bits - length))) is not None:
                return hit
        return str(ipaddress.ip_network((found, 24 if found.version == 4 else 48), strict=False))

    def names(self, addresses: Sequence[str]) -> list[str]:
        """Names of many."""
        return [self.name(address) for address in addresses]

    def distance(self, one: str, other: str) -> float | None:
        """Kilometres between two networks, great circle; None where one has no place."""
        a, b = self.places.get(one), self.places.get(other)
        if a is None or b is None:
            return None
        (lat1, lon1), (lat2, lon2) = ((radians(x), radians(y)) for x, y in (a, b))
        h = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
        return 2 * EARTH_KM * asin(sqrt(min(h, 1.0)))


def load_networks(source: str | Path = SHIPPED) -> Networks:
    """Read a table of networks.

    Raises:
        TrialOpsError: The file cannot be read, or a network in it is none.
    """
    import yaml

    path = Path(source)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        listed: list[dict[str, Any]] = content["networks"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise TrialOpsError(
            "The table of networks cannot be read", where=str(path), fix="networks.yaml of the platform shows the form."
        ) from None
    return networks_of(listed, digest=document_digest(content), where=str(path))


def networks_of(listed: Sequence[dict[str, Any]], *, digest: str = "", where: str = "networks") -> Networks:
    """A table from its entries: cidr, name, and latitude and longitude where the network has a place.

    Raises:
        TrialOpsError: An entry is no network, or has half a place.
    """
    lengths: dict[tuple[int, int], dict[int, str]] = {}
    places: dict[str, tuple[float, float]] = {}
    for number, item in enumerate(listed, 1):
        try:
            network = ipaddress.ip_network(str(item["cidr"]))
            name = str(item["name"])
            if "latitude" in item or "longitude" in item:
                places[name] = (float(item["latitude"]), float(item["longitude"]))
        except (KeyError, TypeError, ValueError):
            raise TrialOpsError(
                f"Entry {number} is not a network with a name", where=where, fix="Write {cidr: 192.0.2.0/24, name: x}."
            ) from None
        bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        lengths.setdefault((network.version, network.prefixlen), {})[bits] = name
    ordered = sorted(lengths.items(), key=lambda item: -item[0][1])
    return Networks(tuple((version, length, names) for (version, length), names in ordered), places, digest)
