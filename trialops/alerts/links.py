"""Links by which somebody takes an alert: signed, for one receiver and one message, and only for a time."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.settings import Settings

LASTS = timedelta(hours=24)
_SHORTEST = 32


@dataclass(frozen=True)
class Link:
    """What a link says: which message, who may take its alerts, and until when (seconds since 1970)."""

    message: str
    who: str
    until: int


def signing_key(settings: Settings) -> bytes:
    """The key that signs links: TRIALOPS_ALERTS_KEY, else one made once below `home`.

    Raises:
        TrialOpsError: The key is too short, or on a cluster there is none: every pod would make its own.
    """
    if settings.alerts_key is not None:
        key = settings.alerts_key.get_secret_value().encode()
        if len(key) < _SHORTEST:
            raise TrialOpsError(
                f"The key of links has fewer than {_SHORTEST} characters",
                where="TRIALOPS_ALERTS_KEY",
                fix="Create one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'",
            )
        return key
    if settings.profile == "cluster":
        raise TrialOpsError(
            "There is no key to sign links with", where="TRIALOPS_ALERTS_KEY", fix="Set it in Secret trialops-alerts."
        )
    path = settings.home.resolve() / "alerts" / "links.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            os.link(partial, path)  # the first of two makers wins, and both use its key
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    return path.read_text().strip().encode()


def make_link(key: bytes, message: str, who: str, now: datetime) -> str:
    """The token of a link.

    Args:
        key: From `signing_key`.
        message: Key of the message.
        who: The receiver.
        now: The time; the link lasts 24 hours.
    """
    said = {"m": message[:32], "w": who, "u": int((now + LASTS).timestamp())}
    body = _encoded(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())
    return f"{body}.{_encoded(_signature(key, body))}"


def read_link(key: bytes, token: str, now: datetime) -> Link:
    """What a token says.

    Raises:
        TrialOpsError: It was not made with this key, was altered, or its time is over. The message says which of the
            last two only to who holds a token that was signed.
    """
    body, _, signature = token.partition(".")
    try:
        good = hmac.compare_digest(_decoded(signature), _signature(key, body))
        said = json.loads(_decoded(body)) if good else {}
    except (ValueError, binascii.Error):
        good, said = False, {}
    if not good:
        raise TrialOpsError("This link was not made here, or was altered", where="link", fix="Use the link as sent.")
    if now.timestamp() >= int(said["u"]):
        raise TrialOpsError(
            "The time of this link is over", where="link", fix="Use a later message, or trialops alerts ack."
        )
    return Link(str(said["m"]), str(said["w"]), int(said["u"]))


def _signature(key: bytes, body: str) -> bytes:
    return hmac.digest(key, b"link:" + body.encode(), "sha256")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    # Unlike a lenient decoder this one refuses signs that are not of the alphabet.
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
