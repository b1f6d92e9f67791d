"""A sender of alert messages that is killed at a point of its choosing; run as a program.

Arguments: database URL, address of the receiver, and where it dies: claimed or sent.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime

from trialops.alerts.delivery import deliver
from trialops.alerts.outbox import AlertOutbox, Message
from trialops.alerts.routes import SHIPPED, load_routes
from trialops.alerts.transport import Outcome, send
from trialops.stores.database import connect


def main(url: str, address: str, dies: str) -> None:
    """Work off the outbox of study "study"."""
    routes = load_routes(SHIPPED)
    os.environ[routes.receivers["data_team"].variable] = address
    now = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)

    def send_or_die(to: str, message: Message, link: str) -> Outcome:
        if dies == "claimed":
            os.kill(os.getpid(), signal.SIGKILL)
        outcome = send(to, message, link)
        if dies == "sent":
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    deliver(AlertOutbox(connect(url), "study"), routes, lambda: now, send=send_or_die)


if __name__ == "__main__":
    main(*sys.argv[1:])
