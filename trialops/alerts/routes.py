"""Who is told: receivers, routes, levels of escalation, duty and inhibition, read from one checked file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from trialops.alerts.register import VOLATILE, Known
from trialops.alerts.thresholds import SEVERITIES, span
from trialops.models.task import Reader, read_yaml
from trialops.stores.digest import document_digest

SHIPPED = Path(__file__).with_name("routes.yaml")


@dataclass(frozen=True)
class Receiver:
    """Somebody who can be told; the address is in an environment variable."""

    name: str
    variable: str
    otherwise: str = ""

    @property
    def address(self) -> str:
        """The Apprise address; empty where it is unset. It may hold a password: never log it."""
        return os.environ.get(self.variable, "")


@dataclass(frozen=True)
class Level:
    """A level of escalation: after how long, and whom: receivers, or who is on duty in a rotation."""

    after: timedelta
    receivers: tuple[str, ...]
    duty: str


@dataclass(frozen=True)
class Escalation:
    """Levels in turn, then the last one again and again."""

    name: str
    severities: tuple[str, ...]
    levels: tuple[Level, ...]
    again: timedelta


@dataclass(frozen=True)
class Route:
    """Alerts of some areas, grouped by labels, told to receivers."""

    name: str
    areas: tuple[str, ...]
    receivers: tuple[str, ...]
    group_by: tuple[str, ...]
    wait: timedelta
    interval: timedelta
    repeat: timedelta
    escalation: str

    def group(self, alert: Known) -> str:
        """The group an alert belongs to, in words: the route and the labels it is grouped by."""
        every = {**alert.labels, "alertname": alert.name, "severity": alert.severity}
        return "/".join([self.name, *(f"{name}={every[name]}" for name in self.group_by if every.get(name))])


@dataclass(frozen=True)
class Rotation:
    """People who take turns; see `on_duty`."""

    name: str
    start: date
    days: int
    at: time
    people: tuple[str, ...]
    exceptions: tuple[tuple[datetime, datetime, str], ...]

    def on_duty(self, now: datetime, zone: str) -> str:
        """Who is on duty: an exception that covers the time, else whose turn it is on the local calendar.

        Turns change at the same local time on both sides of a change of clocks.
        """
        for begins, ends, person in self.exceptions:
            if begins <= now < ends:
                return person
        local = now.astimezone(ZoneInfo(zone))
        day = local.date() - timedelta(days=int(local.time().replace(tzinfo=None) < self.at))
        return self.people[((day - self.start).days // self.days) % len(self.people)]


@dataclass(frozen=True)
class Inhibition:
    """While a source fires, its targets are told to nobody."""

    source: Mapping[str, tuple[str, ...]]
    target: Mapping[str, tuple[str, ...]]
    equal: tuple[str, ...]

    def key(self, alert: Known) -> tuple[tuple[str, str], ...]:
        """The labels that source and target must share; empty where an alert has none of them and takes no part."""
        names = self.equal or sorted(set(alert.labels) - VOLATILE - {"area", "decision"})
        return tuple((name, alert.labels[name]) for name in names if alert.labels.get(name))

    @staticmethod
    def fits(alert: Known, side: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether an alert is a source, or a target."""
        every = {**alert.labels, "alertname": alert.name, "severity": alert.severity}
        return all(every.get(name, "") in values for name, values in side.items())


@dataclass(frozen=True)
class DigestPlan:
    """A summary for stakeholders: every so many days (7: on Mondays) at a local time."""

    name: str
    receiver: str
    at: time
    days: int


@dataclass(frozen=True)
class Routes:
    """The file, and the SHA-256 of its content."""

    time_zone: str
    lease: timedelta
    give_up_after: timedelta
    takeover_after: timedelta
    receivers: Mapping[str, Receiver]
    routes: tuple[Route, ...]
    escalations: Mapping[str, Escalation]
    rotations: Mapping[str, Rotation]
    inhibitions: tuple[Inhibition, ...]
    digests: tuple[DigestPlan, ...]
    pipelines: Mapping[str, str]
    digest: str

    def route(self, alert: Known) -> Route:
        """The first route that takes an alert; the last takes all."""
        return next(route for route in self.routes if not route.areas or alert.area in route.areas)

    def paged(self, level: Level, now: datetime) -> tuple[str, ...]:
        """Receivers of a level at a time."""
        on_duty = (self.rotations[level.duty].on_duty(now, self.time_zone),) if level.duty else ()
        return (*on_duty, *(name for name in level.receivers if name not in on_duty))

    def unset(self) -> list[str]:
        """Receivers that cannot be told: their variable is unset."""
        return sorted(name for name, receiver in self.receivers.items() if not receiver.address)


def load_routes(source: Path | None = None) -> Routes:
    """Read and check the routes: a path, else TRIALOPS_ALERT_ROUTES, else those that ship.

    Raises:
        TrialOpsError: The file is missing, or a key is missing, unknown or not possible.
    """
    from trialops.settings import settings

    path = source or (Path(settings().alert_routes) if settings().alert_routes else SHIPPED)
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=4)
def _load(path: Path, _written: int) -> Routes:
    content = read_yaml(path)
    top = Reader(content, path)
    top.choice("name", ("routes",))
    top.whole("version", 1)
    zone = top.get("time_zone", str)
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise top.refuse("time_zone", "The time zone is not known.", "Use an IANA name: Europe/Berlin.") from None
    receivers = {name: _receiver(top.section("receivers"), name) for name in top.get("receivers", dict)}
    known = tuple(receivers)
    for receiver in receivers.values():
        if receiver.otherwise and receiver.otherwise not in receivers:
            raise top.refuse("receivers", f"{receiver.otherwise!r} is not a receiver.", "Correct `otherwise`.")
    rotations = {name: _rotation(top.section("rotations").section(name), known) for name in top.get("rotations", dict)}
    escalations = {
        name: _escalation(top.section("escalations").section(name), name, known, tuple(rotations))
        for name in top.get("escalations", dict)
    }
    routes = tuple(_route(reader, known, tuple(escalations)) for reader in _listed(top, "routes"))
    if not routes or routes[-1].areas:
        raise top.refuse("routes", "The last route must take every area.", "Write areas: [] there.")
    found = Routes(
        time_zone=zone,
        lease=span(top, "lease"),
        give_up_after=span(top, "give_up_after"),
        takeover_after=span(top, "takeover_after"),
        receivers=receivers,
        routes=routes,
        escalations=escalations,
        rotations=rotations,
        inhibitions=tuple(_inhibition(reader) for reader in _listed(top, "inhibitions")),
        digests=tuple(_digest(reader, known) for reader in _listed(top, "digests")),
        pipelines=_pipelines(top),
        digest=document_digest(_plain(content)),
    )
    top.done()
    return found


def _plain(content: Any) -> Any:
    """YAML's dates as text, for the digest."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value) for value in content]
    return content.isoformat() if isinstance(content, date | datetime) else content


def _listed(top: Reader, key: str) -> list[Reader]:
    listed = top.get(key, list)
    if not all(isinstance(item, dict) for item in listed):
        raise top.refuse(key, "The value must be a list of mappings.", "The shipped file shows the form.")
    return [Reader(item, top.path, f"{key}[{item.get('name', number)}].") for number, item in enumerate(listed)]


def _receiver(section: Reader, name: str) -> Receiver:
    reader = section.section(name)
    variable = reader.get("variable", str)
    otherwise = reader.get("otherwise", str) if "otherwise" in reader.content else ""
    reader.done()
    return Receiver(name, variable, otherwise)


def _names(reader: Reader, key: str, known: tuple[str, ...], *, empty: bool = False) -> tuple[str, ...]:
    names = reader.names(key, empty=empty)
    if unknown := sorted(set(names) - set(known)):
        raise reader.refuse(key, f"{unknown[0]!r} is not known.", "Use one of " + ", ".join(known) + ".")
    return names


def _route(reader: Reader, receivers: tuple[str, ...], escalations: tuple[str, ...]) -> Route:
    route = Route(
        name=reader.get("name", str),
        areas=reader.names("areas", empty=True),
        receivers=_names(reader, "receivers", receivers),
        group_by=reader.names("group_by"),
        wait=span(reader, "wait"),
        interval=span(reader, "interval"),
        repeat=span(reader, "repeat"),
        escalation=reader.choice("escalation", escalations),
    )
    reader.done()
    return route


def _escalation(reader: Reader, name: str, receivers: tuple[str, ...], rotations: tuple[str, ...]) -> Escalation:
    levels = []
    for level in _listed(reader, "levels"):
        duty = level.choice("duty", rotations) if "duty" in level.content else ""
        told = _names(level, "receivers", receivers) if "receivers" in level.content else ()
        if not duty and not told:
            raise level.refuse("receivers", "A level must page somebody.", "Give a duty or receivers.")
        levels.append(Level(span(level, "after"), told, duty))
        level.done()
    if not levels or [level.after for level in levels] != sorted(level.after for level in levels):
        raise reader.refuse("levels", "Levels must follow each other in time.", "Sort them by `after`.")
    again = span(reader, "again")
    if not again:
        raise reader.refuse("again", "The value must be longer than nothing.", "Write 30m.")
    found = Escalation(name, _names(reader, "severities", SEVERITIES), tuple(levels), again)
    reader.done()
    return found


def _rotation(reader: Reader, people: tuple[str, ...]) -> Rotation:
    exceptions = []
    for item in _listed(reader, "exceptions"):
        begins, ends = (_moment(item, key) for key in ("from", "until"))
        if begins >= ends:
            raise item.refuse("until", "The exception ends before it begins.", "Correct the times.")
        exceptions.append((begins, ends, item.choice("person", people)))
        item.done()
    name = reader.prefix.rstrip(".").rsplit(".", 1)[-1]
    start = reader.get("start", date)
    found = Rotation(
        name, start, reader.whole("days", 1, 365), _clock(reader), _names(reader, "people", people), tuple(exceptions)
    )
    reader.done()
    return found


def _moment(reader: Reader, key: str) -> datetime:
    value = reader.get(key, (datetime, str))
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        raise reader.refuse(key, "The value is not a time.", "Write 2026-01-31T08:00:00Z.") from None
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)


def _clock(reader: Reader) -> time:
    try:
        return time.fromisoformat(reader.get("at", str))
    except ValueError:
        raise reader.refuse("at", "The value is not a time of day.", 'Write "09:00".') from None


def _inhibition(reader: Reader) -> Inhibition:
    def side(key: str) -> dict[str, tuple[str, ...]]:
        section = reader.section(key)
        return {name: section.names(name) for name in section.content}

    found = Inhibition(side("source"), side("target"), reader.names("equal", empty=True))
    reader.done()
    return found


def _pipelines(top: Reader) -> dict[str, str]:
    """Pipeline -> area."""
    section, found = top.section("pipelines"), dict[str, str]()
    for area in section.content:
        for name in section.names(area):
            if name in found:
                raise section.refuse(area, f"{name!r} is in two areas.", "Leave it in one.")
            found[name] = str(area)
    return found


def _digest(reader: Reader, receivers: tuple[str, ...]) -> DigestPlan:
    days = reader.whole("days", 1, 7)
    if days not in (1, 7):
        raise reader.refuse("days", "A digest is daily or weekly.", "Write 1 or 7.")
    plan = DigestPlan(reader.get("name", str), reader.choice("receiver", receivers), _clock(reader), days)
    reader.done()
    return plan
