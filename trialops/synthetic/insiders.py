"""What goes wrong, planted in an organisation's accesses: insiders, stolen accounts, accounts that should be gone.

Each scenario adds events to (or takes the account of) one actor within one month and says who and when, so that what is
found can be scored. Sizes are drawn from the seed; no detector sees anything but the events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.synthetic.access_log import OBJECTS, Organisation, Person, frame, numbered

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

Act = tuple[str, str, str]


@dataclass(frozen=True)
class Planted:
    """One scenario in an organisation.

    Attributes:
        scenario: Its name.
        actor: Whose account it was.
        days: Days (positions) on which it happened, first and last.
        events: Events added.
        left: Day on which the person left, where that matters.
        silent: Position from which on the actor's usual events are taken out; None where they stay.
    """

    scenario: str
    actor: str
    days: tuple[int, int]
    events: pl.DataFrame
    left: dt.date | None = None
    silent: int | None = None


class _Plan:
    """Events to add, drawn one after the other."""

    def __init__(self, made: Organisation, rng: np.random.Generator, first: int) -> None:
        self.made, self.rng, self.first = made, rng, first
        self.rows: list[tuple[float, str, str, Act, str, int, float]] = []

    def person(self, *roles: str) -> Person:
        """Somebody of the roles who is there in the month."""
        able = [
            p
            for p in self.made.people
            if (not roles or p.role in roles) and not self.made.away[p.name] & set(range(self.first, self.first + 21))
        ]
        able = able or [p for p in self.made.people if not roles or p.role in roles]
        return able[int(self.rng.integers(len(able)))]

    def day(self, spread: int = 14) -> int:
        """A working day early in the month."""
        while True:
            day = self.first + int(self.rng.integers(3, 3 + spread))
            if (self.made.start + dt.timedelta(day)).weekday() < 5:
                return day

    def add(self, actor: str, role: str, act: Act, day: int, hours: tuple[float, float], count: int, *,
            address: str, thing: int = 0, volume: float = 400.0) -> None:  # fmt: skip
        """So many events within some hours of a day; of one thing, or of as many as there are events (0)."""
        for _ in range(count):
            at = (day * 24 + float(self.rng.uniform(*hours))) * 3600
            number = thing or int(self.rng.integers(1, OBJECTS + 1))
            self.rows.append((at, actor, role, act, address, number, volume * float(self.rng.lognormal(0, 0.5))))

    def usual(self, person: Person) -> tuple[float, float]:
        """The person's hours."""
        return person.begins, person.begins + person.lasts

    def done(self, scenario: str, actor: str, last: int, **more: Any) -> Planted:
        """The scenario with its events."""
        rows = sorted(self.rows)
        calls = [(r[1], r[2], r[3]) for r in rows]
        made = frame(
            self.made.start,
            [r[0] for r in rows],
            calls,
            [r[4] for r in rows],
            [r[5] for r in rows],
            [r[6] for r in rows],
        )
        days = sorted(int(r[0] // 86_400) for r in rows if r[1] == actor)
        return Planted(scenario, actor, (days[0], max(last, days[-1])), numbered(made, f"{scenario}-"), **more)


def _home(person: Person) -> str:
    return f"100.{64 + person.city}.77.9"


def bulk_before_leaving(plan: _Plan) -> Planted:
    """Somebody who leaves soon reads and takes along far more than ever, on three days within usual hours."""
    who, day = plan.person("data manager", "statistician (blinded)", "data engineer"), plan.day()
    size = who.factor * float(plan.rng.uniform(4, 8))
    for n in range(3):
        plan.add(
            who.name,
            who.role,
            ("trail", "data.read", "clean"),
            day + n,
            plan.usual(who),
            int(28 * size),
            address=_home(who),
        )
        plan.add(
            who.name,
            who.role,
            ("trail", "export.write", "listing"),
            day + n,
            plan.usual(who),
            int(3 + size),
            address=_home(who),
            volume=4000,
        )
    return plan.done("bulk read before leaving", who.name, day + 2)


def curiosity(plan: _Plan) -> Planted:
    """Somebody looks again and again at one subject."""
    who, day = plan.person("safety physician"), plan.day()
    thing = int(plan.rng.integers(100, OBJECTS))
    for n in range(7):
        plan.add(
            who.name,
            who.role,
            ("fhir", "read", "Patient"),
            day + n,
            plan.usual(who),
            int(plan.rng.integers(10, 22)),
            address=_home(who),
            thing=thing,
        )
    return plan.done("curiosity about one subject", who.name, day + 6)


def night_export(plan: _Plan) -> Planted:
    """An export in the middle of the actor's night."""
    who, day = plan.person("data manager", "statistician (blinded)"), plan.day()
    hour = (who.begins + 15) % 24
    plan.add(
        who.name,
        who.role,
        ("trail", "data.read", "clean"),
        day,
        (hour, hour + 1.5),
        int(plan.rng.integers(15, 50)),
        address=_home(who),
    )
    plan.add(
        who.name,
        who.role,
        ("trail", "export.write", "listing"),
        day,
        (hour, hour + 1.5),
        int(plan.rng.integers(2, 6)),
        address=_home(who),
        volume=3000,
    )
    return plan.done("night export", who.name, day)


def shared_account(plan: _Plan) -> Planted:
    """Two people work with one account from two networks of one city at the same time, for two weeks."""
    who, day = plan.person("clinical operations", "data manager"), plan.day(7)
    for n in range(12):
        if (plan.made.start + dt.timedelta(day + n)).weekday() < 5:
            plan.add(
                who.name,
                who.role,
                ("trail", "data.read", "clean"),
                day + n,
                plan.usual(who),
                int(22 * who.factor),
                address=f"100.{64 + who.city}.201.4",
            )
            plan.add(
                who.name,
                who.role,
                ("trail", "data.read", "clean"),
                day + n,
                plan.usual(who),
                int(14 * who.factor),
                address=f"198.{18 + who.city}.1.240",
            )
    return plan.done("shared account", who.name, day + 11)


def stolen_password(plan: _Plan) -> Planted:
    """Somebody far away uses the account while its owner works."""
    who, day = plan.person(), plan.day()
    plan.add(
        who.name,
        who.role,
        ("trail", "data.read", "clean"),
        day,
        plan.usual(who),
        int(plan.rng.integers(12, 40)),
        address="192.0.2.44",
    )
    return plan.done("stolen password, far away", who.name, day)


def hijacked_service(plan: _Plan) -> Planted:
    """A service's token is used from elsewhere: secrets, and more exports than its schedule has."""
    name, day = ("feature-server", "monitoring", "ray-operator")[int(plan.rng.integers(3))], plan.day()
    plan.add(
        name, "", ("kubernetes", "list", "secrets"), day, (1, 5), int(plan.rng.integers(4, 20)), address="100.64.9.9"
    )
    plan.add(
        name, "", ("trail", "data.read", "clean"), day, (1, 5), int(plan.rng.integers(30, 90)), address="100.64.9.9"
    )
    return plan.done("service account hijacked", name, day)


def service_egress(plan: _Plan) -> Planted:
    """The export job is made to export several times as much, by its own schedule and from its own place."""
    name, day = "export-job", plan.day()
    for n in range(2):
        plan.add(
            name,
            "",
            ("trail", "export.write", "partner"),
            day + n,
            (2, 5),
            int(plan.rng.integers(25, 60)),
            address="10.0.0.9",
            volume=1500,
        )
    return plan.done("service account egress", name, day + 1)


def slow_leak(plan: _Plan) -> Planted:
    """A few times the usual exports, every working day of three weeks, never much on any day."""
    who, day = plan.person("data manager", "statistician (blinded)"), plan.day(4)
    for n in range(21):
        if (plan.made.start + dt.timedelta(day + n)).weekday() < 5:
            plan.add(
                who.name,
                who.role,
                ("trail", "export.write", "listing"),
                day + n,
                plan.usual(who),
                int(1 + plan.rng.poisson(2.0)),
                address=_home(who),
            )
    return plan.done("slow exfiltration", who.name, day + 20)


def break_glass(plan: _Plan) -> Planted:
    """Subjects are unblinded and nothing is written about it."""
    who, day = plan.person("safety physician"), plan.day(10)
    for n in range(int(plan.rng.integers(1, 4))):
        plan.add(
            who.name,
            who.role,
            ("trail", "unblind.subject", "case"),
            day,
            plan.usual(who),
            1,
            address=_home(who),
            thing=2000 + n,
        )
    return plan.done("break-glass misuse", who.name, day + 4)


def dormant(plan: _Plan) -> Planted:
    """An account that nobody has used for months reads data again."""
    who, day = plan.person("data manager", "statistician (blinded)", "clinical operations"), plan.day()
    plan.add(
        who.name,
        who.role,
        ("trail", "data.read", "clean"),
        day,
        plan.usual(who),
        int(plan.rng.integers(5, 30)),
        address=_home(who),
    )
    return plan.done("dormant account", who.name, day, silent=day - 60)


def terminated(plan: _Plan) -> Planted:
    """Somebody who has left still acts."""
    who, day = plan.person(), plan.day()
    left = plan.made.start + dt.timedelta(day - 7)
    plan.add(
        who.name,
        who.role,
        ("trail", "data.read", "clean"),
        day,
        plan.usual(who),
        int(plan.rng.integers(1, 12)),
        address=_home(who),
    )
    return plan.done("terminated person acts", who.name, day, left=left, silent=day - 7)


def secret_reading(plan: _Plan) -> Planted:
    """Somebody who never reads secrets lists those of the cluster and goes into a pod."""
    who, day = plan.person("data engineer"), plan.day()
    plan.add(
        who.name,
        who.role,
        ("kubernetes", "list", "secrets"),
        day,
        plan.usual(who),
        int(plan.rng.integers(3, 25)),
        address=_home(who),
    )
    plan.add(
        who.name,
        who.role,
        ("kubernetes", "create", "pods/exec"),
        day,
        plan.usual(who),
        int(plan.rng.integers(1, 6)),
        address=_home(who),
    )
    return plan.done("secret reading", who.name, day)


def probing(plan: _Plan) -> Planted:
    """Somebody tries what they may not have, in a burst."""
    who, day = plan.person("clinical operations", "data engineer", "data manager"), plan.day()
    begin = who.begins + 2
    for use in ("unblinding", "unblinded_documents", "safety_cases", "subject_lists"):
        plan.add(
            who.name,
            who.role,
            ("trail", "access.refuse", use),
            day,
            (begin, begin + 0.6),
            int(plan.rng.integers(3, 12)),
            address=_home(who),
        )
    return plan.done("refused accesses in a burst", who.name, day)


def passphrases(plan: _Plan) -> Planted:
    """Somebody guesses the signing passphrase of a colleague on several days, below the lock-out."""
    who, day = plan.person("regulatory affairs", "safety physician", "data manager"), plan.day()
    for n in range(3):
        plan.add(
            who.name,
            who.role,
            ("trail", "sign.refused", f"signer/{who.name}"),
            day + n,
            plan.usual(who),
            4,
            address=_home(who),
        )
    return plan.done("passphrases guessed", who.name, day + 2)


def blinded_person(plan: _Plan) -> Planted:
    """A person who must stay blinded opens unblinded documents, having given themselves the role."""
    who, day = plan.person("statistician (blinded)", "data manager"), plan.day()
    plan.add(
        who.name,
        "statistician (unblinded)",
        ("trail", "access.allow", "unblinded_documents"),
        day,
        plan.usual(who),
        int(plan.rng.integers(1, 6)),
        address=_home(who),
    )
    return plan.done("blinded person unblinds", who.name, day)


def impersonator(plan: _Plan) -> Planted:
    """A pipeline's service account unblinds a subject, as only persons do."""
    day = plan.day()
    plan.add(
        "pipeline-runner", "", ("trail", "unblind.subject", "case"), day, (9, 17), 1, address="10.0.0.77", thing=2100
    )
    return plan.done("service does what persons do", "pipeline-runner", day + 4)


SCENARIOS: Mapping[str, Callable[[_Plan], Planted]] = {
    made.__name__: made
    for made in (
        bulk_before_leaving, curiosity, night_export, shared_account, stolen_password, hijacked_service, service_egress,
        slow_leak, break_glass, dormant, terminated, secret_reading, probing, passphrases, blinded_person, impersonator,
    )
}  # fmt: skip
"""All scenarios by name."""


def plant(made: Organisation, scenario: str, seed: int, first: int) -> Planted:
    """Plant a scenario in the month that begins with day `first`.

    Args:
        made: The organisation; its events stay as they are.
        scenario: One of SCENARIOS.
        seed: Of who, when and how much.
        first: First day of the month, a position; the last event is at most four weeks later.
    """
    import numpy as np

    return SCENARIOS[scenario](_Plan(made, np.random.default_rng([seed, sorted(SCENARIOS).index(scenario)]), first))
