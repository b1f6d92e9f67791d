"""Telling people: pages until somebody takes an alert, messages to teams, digests for stakeholders.

1. Queue the pages of every level of escalation that is due, and the digests whose period is over.
2. Hand the messages of the outbox over, with retries, each with one effect.
"""

from kfp import dsl

from components.alerts import deliver_messages, escalate_alerts, notify, with_delivery
from components.base import harden


@dsl.pipeline(name="notification", display_name="Notification")
def notification(as_of: str = "") -> None:
    """Escalate, sum up and deliver.

    Args:
        as_of: ISO 8601 time of the pass; empty is now.
    """
    closing = notify(pipeline="notification").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        escalated = escalate_alerts(as_of=as_of).set_display_name("Escalate")
        delivered = deliver_messages(as_of=as_of).set_display_name("Deliver").after(escalated)
        for task in (escalated, delivered):
            with_delivery(harden(task, memory="1Gi", timeout_seconds=900)).set_caching_options(False)
