"""Handing one message to one receiver: Apprise for every service, plain SMTP for mail, so that mail has its key too."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.alerts.outbox import Message

SECONDS = 20
_TYPES = {"critical": "failure", "warning": "warning", "info": "info"}


@dataclass(frozen=True)
class Outcome:
    """Whether the receiver's server has taken a message, and how; never an address, which may hold a password."""

    taken: bool
    detail: Mapping[str, Any]


def send(address: str, message: Message, link: str = "") -> Outcome:
    """Hand a message over.

    Args:
        address: An Apprise address.
        message: The message.
        link: Address of the page by which its alerts are taken; empty for none.

    Returns:
        The outcome; a service that cannot be reached is an outcome, not an error.
    """
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages hold addresses
    schema = address.split("://", 1)[0].lower()
    service: Any = apprise.Apprise.instantiate(address, suppress_exceptions=True)
    if service is None:
        return Outcome(False, {"reason": "the address is none that Apprise can read", "schema": schema[:16]})
    service.socket_connect_timeout = service.socket_read_timeout = float(SECONDS)
    if schema in ("mailto", "mailtos"):
        return _mail(service, message, link)
    _mark(service, schema, message)
    told = apprise.Apprise()
    told.add(service)
    result = told.notify(
        title=str(message.content["title"]),
        body=text(message, link),
        notify_type=apprise.NotifyType(_TYPES.get(str(message.content.get("severity")), "info")),
        body_format=apprise.NotifyFormat.TEXT,
    )
    # A failure is a value here, not an exception: unread, the alert would be lost without a trace.
    return Outcome(bool(result), {"schema": schema, "result": str(getattr(result, "status", result))})


def _mark(service: Any, schema: str, message: Message) -> None:
    """Give the message's key to services that have a place for it."""
    if schema in ("json", "jsons"):
        service.headers["Idempotency-Key"] = message.key
        service.payload_extras.update(
            {"idempotency_key": message.key, "status": str(message.content.get("status", ""))}
        )
    elif schema == "pagerduty":
        import hashlib

        # One incident for a group: levels and repetitions collapse into it, and its end closes it.
        service.dedup = hashlib.sha256(str(message.content.get("group", message.key)).encode()).hexdigest()[:32]
        service.action = "resolve" if message.content.get("status") == "resolved" else "trigger"


def _mail(service: Any, message: Message, link: str) -> Outcome:
    """Send mail with the key as its Message-ID, which Apprise would draw anew each time."""
    import smtplib
    import ssl
    from email.message import EmailMessage
    from email.utils import formataddr

    recipients = [str(to) for _, to in service.targets]
    sender_name, sender = service.from_addr
    mail = EmailMessage()
    mail["Subject"] = " ".join(str(message.content["title"]).split())
    mail["From"] = formataddr((sender_name or "TrialOps", sender))
    mail["To"] = ", ".join(recipients)
    if service.cc:
        mail["Cc"] = ", ".join(sorted(service.cc))
    mail["Message-ID"] = f"<{message.key}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-TrialOps-Severity"] = str(message.content.get("severity", "info"))
    mail.set_content(text(message, link))
    everyone = [*recipients, *sorted(service.cc), *sorted(service.bcc)]
    mode, context = str(getattr(service.secure_mode, "value", service.secure_mode)), ssl.create_default_context()
    try:
        opened: smtplib.SMTP = (
            smtplib.SMTP_SSL(service.smtp_host, service.port or 465, timeout=SECONDS, context=context)
            if mode == "ssl"
            else smtplib.SMTP(service.smtp_host, service.port or 25, timeout=SECONDS)
        )
        with opened as server:
            if mode == "starttls":
                server.starttls(context=context)
            if service.user:
                server.login(service.user, service.password or "")
            refused = server.send_message(mail, from_addr=sender, to_addrs=everyone)
    except (OSError, smtplib.SMTPException) as error:
        return Outcome(False, {"schema": "mailto", "reason": type(error).__name__})
    return Outcome(True, {"schema": "mailto", "refused": len(refused)} if refused else {"schema": "mailto"})


def text(message: Message, link: str = "") -> str:
    """The message as plain text."""
    content = message.content
    lines = [str(line) for line in content.get("text", [])]
    for item in content.get("lines", []):
        times = f", {item['count']} times" if item["count"] > 1 else ""
        labels = " ".join(f"{name}={value}" for name, value in sorted(item["labels"].items()))
        lines.append(f"{item['status']} {item['severity']} {item['name']}: {item['summary']}")
        lines.append(f"  since {item['since']}{times}; {labels}".rstrip("; "))
        lines.append(f"  alert {item['alert']}" + (f"; runbook {item['runbook']}" if item["runbook"] else ""))
    if content.get("more"):
        lines.append(f"and {content['more']} more; trialops alerts list")
    if link:
        lines += ["", f"Take it: {link}"]
    return "\n".join(lines) or str(content["title"])


def check_address(address: str) -> None:
    """Whether Apprise can read an address.

    Raises:
        TrialOpsError: It cannot; the message does not repeat the address.
    """
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    if apprise.Apprise.instantiate(address, suppress_exceptions=True) is None:
        raise TrialOpsError(
            "A receiver's address cannot be read", where="receivers", fix="Write it as Apprise does: mailto://..."
        )
