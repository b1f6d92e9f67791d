"""Why something could not be asked: errors of sockets, TLS, HTTP and drivers in words, with what to do.

A library's message is never repeated: it may hold an address with a password. What was not reached is unknown; what
answered, and not as it should, is broken.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from trialops.operations.health import State

NETWORK = "Check that it runs, the address and port, and the network policy."


@dataclass(frozen=True)
class Trouble:
    """What an error says of a service."""

    state: State
    detail: str
    fix: str


def trouble(error: BaseException, seconds: float) -> Trouble:
    """What an error that came up while a service was asked says of it.

    Args:
        error: The error; its causes are looked at, since libraries wrap what the system said.
        seconds: The time limit that applied.
    """
    chain = list(_chain(error))
    for one in chain:
        found = _by_kind(one, seconds)
        if found is not None:
            return found
    words = " ".join(str(one) for one in chain).lower()
    return _by_words(words, seconds) or Trouble(
        "unknown", f"it could not be asked ({type(error).__name__})", "Ask it by hand, with the same address."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, the innermost first."""
    seen: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in seen:
        seen.append(at)
        at = at.__cause__ or at.__context__
    return reversed(seen)


def _no_answer(seconds: float) -> Trouble:
    return Trouble("unknown", f"no answer within {seconds:g} s", "Find out whether it hangs; restart it if it does.")


NO_NAME = Trouble("unknown", "the host name does not resolve", "Correct the host name, or the cluster's DNS.")
REFUSED = Trouble("unknown", "nothing listens there (connection refused)", NETWORK)
NO_ROUTE = Trouble("unknown", "there is no route to it", NETWORK)
CLOSED = Trouble("unknown", "it closed the connection without an answer", "Read its log; check whether it wants TLS.")
NOT_TLS = Trouble("broken", "TLS fails: it does not speak TLS here, or another version of it", "Correct the scheme.")
UNTRUSTED = Trouble(
    "broken",
    "TLS fails: its certificate is not for this name, has expired, or is signed by nobody who is trusted here",
    "Correct the host name, renew the certificate, or give the authority that signed it.",
)


def _by_kind(error: BaseException, seconds: float) -> Trouble | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UNTRUSTED
    if isinstance(error, ssl.SSLError):
        return NOT_TLS
    if isinstance(error, socket.gaierror):
        return NO_NAME
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return _no_answer(seconds)
    if isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        return CLOSED
    return NO_ROUTE if isinstance(error, OSError) and error.errno in (101, 113) else None


def _by_words(words: str, seconds: float) -> Trouble | None:
    """Drivers in C and Rust say it in their messages alone."""
    for marks, found in (
        (("certificate", "unknownissuer", "notvalidforname"), UNTRUSTED),
        (("corrupt message", "invalidcontenttype", "does not support ssl", "wrong version number"), NOT_TLS),
        (("translate host name", "name or service not known", "dns error", "failed to lookup", "resolve"), NO_NAME),
        (("connection refused", "no such file or directory"), REFUSED),
        (("timeout", "timed out", "deadline"), _no_answer(seconds)),
        (("no route", "unreachable"), NO_ROUTE),
        (("closed the connection", "connection reset", "disconnected", "incompletemessage", "eof"), CLOSED),
    ):
        if any(mark in words for mark in marks):
            return found
    return None
