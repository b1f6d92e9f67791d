"""A synthetic organisation's accesses: forty people and twelve services, by day and hour, with nothing wrong.

People differ in how much they do (log-normal), when they begin, where they are, and from day to day (gamma). They have
weekends, leave, late evenings, working Saturdays, errands outside their usual kinds of data, mistyped passphrases,
refused accesses, other networks when they travel; a database lock week makes data management busy. Services keep
schedules. Nothing here is measured on real people: rates are set so that each detector has something usual to look at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


# What an account of a role does on a working day: (source, action, object) -> events.
READ, CASES, LISTS = ("trail", "data.read"), ("trail", "access.allow"), ("trail", "eligibility.show")
ROLES: Mapping[str, tuple[int, Mapping[tuple[str, str, str], float]]] = {
    "data manager": (9, {(*READ, "clean"): 30, (*LISTS, "study"): 1.5, ("trail", "data.write", "clean"): 8,
                         ("trail", "export.write", "listing"): 0.4}),
    "data engineer": (6, {(*READ, "clean"): 20, (*READ, "features"): 12, ("trail", "data.write", "features"): 10,
                          ("kubernetes", "get", "pods"): 25, ("kubernetes", "get", "jobs"): 10,
                          ("kubernetes", "get", "pods/log"): 12, ("kubernetes", "create", "pods/exec"): 0.15}),
    "statistician (blinded)": (6, {(*READ, "clean"): 18, (*READ, "features"): 6, (*CASES, "report_documents"): 2,
                                   ("trail", "export.write", "tables"): 0.5}),
    "statistician (unblinded)": (3, {(*READ, "clean"): 10, (*CASES, "unblinded_documents"): 2}),
    "safety physician": (4, {(*CASES, "safety_cases"): 14, ("trail", "case.review", "case"): 5,
                             ("fhir", "read", "Patient"): 9}),
    "regulatory affairs": (4, {(*CASES, "report_documents"): 5, (*CASES, "safety_reporting"): 3,
                               ("trail", "document.read", "document"): 1.2}),
    "clinical operations": (5, {(*READ, "clean"): 6, (*CASES, "report_documents"): 2}),
    "platform engineer": (3, {("kubernetes", "get", "pods"): 60, ("kubernetes", "get", "deployments.apps"): 20,
                              ("kubernetes", "patch", "deployments.apps"): 3,
                              ("kubernetes", "create", "pods/exec"): 0.7,
                              ("kubernetes", "get", "secrets"): 0.2,
                              ("kubernetes", "patch", "rolebindings.rbac.authorization.k8s.io"): 0.1}),
}  # fmt: skip
"""Accounts of each role and what they do on a working day."""
ERRANDS = (
    ("trail", "data.read", "omop"), ("trail", "data.read", "quality"), ("trail", "export.write", "listing"),
    ("trail", "access.allow", "report_documents"), ("trail", "data.read", "genomics"),
    ("kubernetes", "get", "configmaps"),
)  # fmt: skip
"""What somebody does once in a while outside the usual."""
SERVICES: Mapping[str, tuple[int, Mapping[tuple[str, str, str], float]]] = {
    "pipeline-runner": (24, {("trail", "data.read", "clean"): 90, ("trail", "data.write", "clean"): 60,
                             ("trail", "data.unseal", "raw"): 12, ("trail", "step.finish", "step"): 200}),
    "external-secrets": (24, {("kubernetes", "get", "secrets"): 240, ("kubernetes", "update", "secrets"): 24}),
    "deployer": (12, {("kubernetes", "get", "deployments.apps"): 150, ("kubernetes", "patch", "deployments.apps"): 4,
                      ("kubernetes", "patch", "rolebindings.rbac.authorization.k8s.io"): 0.3}),
    "ray-operator": (24, {("kubernetes", "list", "pods"): 180, ("kubernetes", "create", "pods"): 12}),
    "kserve-controller": (24, {("kubernetes", "list", "inferenceservices.serving.kserve.io"): 200}),
    "workflow-controller": (24, {("kubernetes", "list", "workflows.argoproj.io"): 240,
                                 ("kubernetes", "create", "pods"): 60}),
    "backup": (2, {("kubernetes", "list", "persistentvolumes"): 30, ("trail", "data.read", "backup"): 20}),
    "monitoring": (24, {("kubernetes", "list", "pods"): 300, ("kubernetes", "list", "nodes"): 100}),
    "export-job": (3, {("trail", "export.write", "partner"): 6, ("trail", "data.read", "clean"): 12}),
    "fhir-gateway": (24, {("fhir", "read", "Patient"): 120, ("fhir", "search", "Observation"): 200}),
    "feature-server": (24, {("trail", "data.read", "features"): 150}),
    "alerting": (24, {("trail", "alert.notify", "alerts"): 30, ("kubernetes", "get", "configmaps"): 50}),
}  # fmt: skip
"""Services: hours of a day they run in, and events a day."""
CITIES = {"Basel": (47.56, 7.59, 1), "Durham": (35.99, -78.90, -5), "Hyderabad": (17.38, 78.49, 5)}
NETWORKS: list[dict[str, Any]] = [
    {"cidr": "10.0.0.0/8", "name": "cluster"},
    *(
        {"cidr": f"198.{18 + n}.0.0/16", "name": f"{city} office", "latitude": place[0], "longitude": place[1]}
        for n, (city, place) in enumerate(CITIES.items())
    ),
    *(
        {"cidr": f"100.{64 + n}.0.0/16", "name": f"{city} homes", "latitude": place[0], "longitude": place[1]}
        for n, (city, place) in enumerate(CITIES.items())
    ),
    {"cidr": "203.0.113.0/24", "name": "VPN gateway"},
    {"cidr": "192.0.2.0/24", "name": "Singapore", "latitude": 1.35, "longitude": 103.82},
]
"""The organisation's table of networks."""
OBJECTS = 400
"""Cases, documents and subjects that one may look at; some are looked at more than others."""


@dataclass(frozen=True)
class Person:
    """One person: how busy, from when to when (UTC), where."""

    name: str
    role: str
    factor: float
    begins: float
    lasts: float
    city: int


@dataclass
class Organisation:
    """Events of an organisation over days without anything wrong.

    Attributes:
        start: First day.
        days: How many.
        people: Its people.
        events: Columns of `trialops.security.events.schema`.
        lock_weeks: First days of the weeks in which a database is locked.
    """

    start: dt.date
    days: int
    people: tuple[Person, ...]
    events: pl.DataFrame
    lock_weeks: tuple[int, ...] = ()
    away: dict[str, frozenset[int]] = field(default_factory=dict)


def organisation(seed: int, *, days: int, start: dt.date = dt.date(2026, 1, 5), mishaps: bool = True) -> Organisation:
    """Make one.

    Args:
        seed: The same seed gives the same events.
        days: Number of days.
        start: First day.
        mishaps: Whether passphrases are mistyped and accesses refused.
    """
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(seed)
    people = _people(rng)
    locks = tuple(range(int(rng.integers(20, 60)), days - 7, int(rng.integers(55, 90))))
    away = {p.name: _leave(rng, days) for p in people}
    calls: list[tuple[Any, ...]] = []
    for person in people:
        for day in range(days):
            free = (start + dt.timedelta(day)).weekday() >= 5
            if day in away[person.name] or rng.random() > (0.04 if free else 0.96):
                continue
            busy = person.factor * float(rng.gamma(5, 1 / 5)) * (0.3 if free else 1.0)
            if person.role in ("data manager", "statistician (blinded)") and any(0 <= day - lock < 5 for lock in locks):
                busy *= 2.5
            late = rng.random() < 0.05
            for act, rate in ROLES[person.role][1].items():
                count = int(rng.poisson(rate * busy * float(rng.gamma(4, 1 / 4))))
                calls.append((person.name, person.role, act, day, count, person, late))
            if rng.random() < 0.012:
                calls.append((person.name, person.role, ERRANDS[rng.integers(len(ERRANDS))], day, 2, person, False))
            if mishaps and rng.random() < 0.04:
                calls.append((person.name, person.role, ("trail", "access.refuse", "report_documents"), day,
                              int(1 + rng.poisson(0.5)), person, False))  # fmt: skip
            if mishaps and rng.random() < 0.02:
                calls.append((person.name, person.role, ("trail", "sign.refused", f"signer/{person.name}"), day,
                              int(1 + rng.poisson(0.3)), person, False))  # fmt: skip
    for service, (_, acts) in SERVICES.items():
        for day in range(days):
            for act, rate in acts.items():
                count = int(rng.poisson(rate * float(rng.gamma(60, 1 / 60))))
                calls.append((service, "", act, day, count, None, False))
    events = pl.concat([_events(rng, start, calls), _unblindings(rng, people, start, days)])
    return Organisation(start, days, people, numbered(events.sort("at", "actor", "action")), locks, away)


def _people(rng: np.random.Generator) -> tuple[Person, ...]:
    made = []
    for role, (count, _) in ROLES.items():
        for number in range(1, count + 1):
            city = int(rng.choice(3, p=[0.4, 0.35, 0.25]))
            shift = list(CITIES.values())[city][2]
            begins = float((rng.normal(8.5, 0.7) - shift) % 24)
            name = f"{role.replace(' ', '-').replace('(', '').replace(')', '')}-{number}"
            made.append(Person(name, role, float(rng.lognormal(0, 0.4)), begins, float(rng.normal(8.5, 0.5)), city))
    return tuple(made)


def _leave(rng: np.random.Generator, days: int) -> frozenset[int]:
    gone: set[int] = set()
    for _ in range(int(rng.poisson(days / 75))):
        first, length = int(rng.integers(0, days)), int(rng.choice([3, 5, 7, 14, 21], p=[0.3, 0.3, 0.2, 0.15, 0.05]))
        gone |= set(range(first, first + length))
    return frozenset(gone)


def _events(rng: np.random.Generator, start: dt.date, calls: list[tuple[Any, ...]]) -> pl.DataFrame:
    """Events of calls (actor, role, act, day, count, person, late), spread over the hours of each."""
    import numpy as np

    counts = np.array([c[4] for c in calls])
    total = int(counts.sum())
    index = np.repeat(np.arange(len(calls)), counts)
    hour = np.empty(len(calls))
    lasts = np.empty(len(calls))
    for place, (actor, _, _, _, _, person, late) in enumerate(calls):
        if person is None:
            hour[place], lasts[place] = (0.0, 24.0) if SERVICES[actor][0] == 24 else (2.0, float(SERVICES[actor][0]))
        else:
            hour[place], lasts[place] = person.begins, person.lasts + (3.0 * rng.random() if late else 0.0)
    at_hour = hour[index] + lasts[index] * rng.beta(1.2, 1.2, total)
    day = np.array([c[3] for c in calls], dtype=float)[index]
    seconds = (day * 24 + at_hour) * 3600
    homes = {}
    address = np.empty(len(calls), dtype=object)
    for place, (actor, _, _, d, _, person, _) in enumerate(calls):
        if person is None:
            address[place] = f"10.0.0.{abs(_number(actor)) % 250 + 1}"
            continue
        key = (actor, d)
        if key not in homes:
            drawn = rng.random()
            host = _number(actor) % 200 + 1
            if drawn < 0.03:
                homes[key] = "203.0.113.7"
            elif drawn < 0.35:
                homes[key] = f"100.{64 + person.city}.{host}.9"
            else:
                homes[key] = f"198.{18 + person.city}.1.{host}"
        address[place] = homes[key]
    things = np.minimum(rng.zipf(1.3, total), OBJECTS)
    return frame(
        start,
        seconds,
        [calls[i] for i in index.tolist()],
        [address[i] for i in index.tolist()],
        things.tolist(),
        rng.lognormal(6, 1, total),
    )


def _number(text: str) -> int:
    return sum((n + 1) * ord(letter) for n, letter in enumerate(text))


def frame(
    start: dt.date, seconds: Any, calls: list[tuple[Any, ...]], addresses: list[str], things: list[int], volumes: Any
) -> pl.DataFrame:
    """Events of calls that begin with (actor, role, act)."""
    import numpy as np
    import polars as pl

    zero = np.datetime64(start.isoformat(), "us")
    acts = [c[2] for c in calls]
    about = [
        f"{thing}-{n}" if _single(action, thing) else None for (_, action, thing), n in zip(acts, things, strict=True)
    ]
    ends = {"access.refuse": "refused", "sign.refused": "failed"}
    outcomes = [ends.get(a[1], "allowed") for a in acts]
    takes = [a[1].startswith(("export", "data.unseal", "document.read")) for a in acts]
    return pl.DataFrame(
        {
            "source": [a[0] for a in acts],
            "at": zero + (np.asarray(seconds) * 1e6).astype("timedelta64[us]"),
            "actor": [c[0] for c in calls],
            "service": [not c[1] for c in calls],
            "role": [c[1] or None for c in calls],
            "action": [a[1] for a in acts],
            "object": [a[2] for a in acts],
            "about": about,
            "volume": np.where(takes, np.asarray(volumes).round(), np.nan),
            "address": addresses,
            "outcome": outcomes,
        },
        schema_overrides={"at": pl.Datetime("us"), "service": pl.Boolean}  # type: ignore[arg-type]
        | {c: pl.String for c in ("source", "actor", "role", "action", "object", "about", "address", "outcome")},
    ).with_columns(pl.col("volume").fill_nan(None))


def numbered(events: pl.DataFrame, prefix: str = "") -> pl.DataFrame:
    """With ids, and all columns of the schema."""
    import polars as pl

    from trialops.security.events import schema

    return events.with_columns(
        (pl.lit(prefix) + pl.int_range(pl.len()).cast(pl.String)).alias("id"),
        *(pl.lit(None, dtype=pl.String).alias(c) for c in ("record", "purpose", "run")),
    ).select(pl.col(c).cast(t) for c, t in schema().items())


def _single(action: str, thing: str) -> bool:
    return action.startswith(("case.", "document.read", "unblind.")) or thing in (
        "safety_cases",
        "Patient",
        "unblinded_documents",
    )


def _unblindings(rng: np.random.Generator, people: tuple[Person, ...], start: dt.date, days: int) -> pl.DataFrame:
    """Rare unblindings as they should be: each accounted for on one of the next days."""
    physicians = [p for p in people if p.role == "safety physician"]
    calls, seconds, addresses, things = [], [], [], []
    for day in range(days - 3):
        if rng.random() < 1 / 25:
            person = physicians[int(rng.integers(len(physicians)))]
            case = int(rng.integers(1, OBJECTS))
            after = float(rng.integers(0, 2)) + float(rng.uniform(0.02, 0.2))
            for action, later in (("unblind.subject", 0.0), ("case.review", after)):
                calls.append((person.name, person.role, ("trail", action, "case")))
                seconds.append((day + later) * 86_400 + person.begins * 3600 + 7200)
                addresses.append(f"198.{18 + person.city}.1.{_number(person.name) % 200 + 1}")
                things.append(case)
    return frame(start, seconds, calls, addresses, things, [0.0] * len(calls))
