"""The parts of alerting put together from a step or from the settings: stores, rules, routes, Alertmanager, links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from trialops.alerts.alertmanager import Alertmanager
from trialops.alerts.delivery import Delivered, Links, deliver
from trialops.alerts.exposition import exposition
from trialops.alerts.lifecycle import Settled, escalate, one_pass
from trialops.alerts.links import signing_key
from trialops.alerts.measures import Measured, Stores, measure
from trialops.alerts.outbox import WAITING, AlertOutbox
from trialops.alerts.raise_alert import register_of
from trialops.alerts.register import utc_text
from trialops.alerts.routes import Routes, load_routes
from trialops.alerts.thresholds import Thresholds, load_thresholds
from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.alerts.outbox import Message
    from trialops.alerts.register import AlertRegister
    from trialops.settings import Settings
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore


@dataclass(frozen=True)
class AlertDesk:
    """Everything a pass needs.

    Attributes:
        settings: Of the process.
        register: The alerts.
        objects: Records of runs.
        study_file: Study file, for the reporting clocks.
    """

    settings: Settings
    register: AlertRegister
    objects: ObjectStore
    study_file: str = ""

    @cached_property
    def routes(self) -> Routes:
        """Who is told."""
        return load_routes()

    @cached_property
    def thresholds(self) -> Thresholds:
        """From which value on."""
        return load_thresholds()

    @property
    def outbox(self) -> AlertOutbox:
        """The messages."""
        register = self.register
        return AlertOutbox(register.engine, register.study, actor=register.actor, run_id=register.run_id)

    @property
    def stores(self) -> Stores:
        """Where measures are read."""
        register = self.register
        return Stores(register.engine, self.objects, register.study, self.settings.home, self.study_file)

    @property
    def alertmanager(self) -> Alertmanager | None:
        """A client, where an Alertmanager is set."""
        url = self.settings.alertmanager_url
        return Alertmanager(url, self.register.study) if url else None

    @property
    def links(self) -> Links:
        """For links in messages; without an address of the server there are none."""
        address = self.settings.alerts_url
        return Links(signing_key(self.settings), address) if address else Links()

    def measured(self, now: datetime) -> Measured:
        """What is measured at a time."""
        return measure(self.stores, self.thresholds, now)

    def settle(self, now: datetime) -> tuple[Settled, Measured | None]:
        """Rules, life cycle, messages; and what was measured, where the platform evaluates the rules."""
        embedded = self.settings.alert_rules == "embedded"
        measured = self.measured(now) if embedded else None
        return one_pass(self.register, self.routes, self.thresholds, measured, now, self.alertmanager), measured

    def not_before(self, now: datetime) -> datetime:
        """The time, where the register knows nothing later.

        Raises:
            TrialOpsError: It does: alerts are not written backwards.
        """
        latest = self.register.latest()
        if latest > utc_text(now):
            raise TrialOpsError(
                "The register of alerts knows later events: it is not written backwards",
                where="as_of",
                fix="Give a later as_of; trialops alerts list shows what was.",
            )
        return now

    def recent_messages(self, since: datetime) -> list[Message]:
        """Messages queued since a time, and all that have not reached their receiver, oldest first."""
        return [
            message
            for message in self.outbox.messages()
            if message.queued >= utc_text(since) or message.state in (*WAITING, "dead")
        ]

    def escalate(self, now: datetime) -> int:
        """Queue the pages that are due; what Alertmanager holds back by a silence of its own is not paged."""
        manager = self.alertmanager
        held = manager.post([], now).suppressed if manager else frozenset()
        return escalate(self.register, self.routes, now, held)

    def deliver(self, clock: Callable[[], datetime]) -> Delivered:
        """Work off the outbox."""
        return deliver(self.outbox, self.routes, clock, links=self.links)

    def metrics(self, now: datetime | None = None) -> str:
        """The page of metrics."""
        return exposition(self.measured(now or datetime.now(UTC)).samples, self.thresholds)


def open_desk(run: Step | None = None, *, study_file: str = "") -> AlertDesk:
    """The desk of a step, or of this process' settings outside steps."""
    if run is not None:
        return AlertDesk(run.settings, register_of(run), run.objects, study_file)
    from trialops.settings import settings
    from trialops.stores.database import connect, migrate
    from trialops.stores.objects import open_store

    chosen = settings()
    engine = connect(chosen.database)
    migrate(engine)
    return AlertDesk(chosen, register_of(engine), open_store(chosen.objects), study_file)


def moment(as_of: str) -> datetime:
    """A step's `as_of`; the time now where it is empty.

    Raises:
        TrialOpsError: It is not a time.
    """
    if not as_of:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(as_of.replace("Z", "+00:00"))
    except ValueError:
        raise TrialOpsError(
            f"{as_of!r} is not a time", where="as_of", fix="Write ISO 8601: 2026-01-31T14:05:00Z."
        ) from None
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
