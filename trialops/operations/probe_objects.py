"""The object store: conditional creation, reading back, listing, deleting, and its clock against ours."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding
from trialops.operations.reach import trouble

if TYPE_CHECKING:
    from trialops.operations.probing import Ask

PREFIX = "health/probes"


def probe(ask: Ask) -> Iterator[Finding]:
    """Write, read, list and delete one object of its own.

    The conditional write comes first: the chain of validated versions and the checkpoints rest on it.
    """
    from trialops.stores.objects import open_store

    store = open_store(ask.address, seconds=ask.seconds)
    key, data = f"{PREFIX}/{secrets.token_hex(8)}", secrets.token_bytes(64)
    asked = "put if absent"
    before = datetime.now(UTC)
    made, failed = _tried(ask, "reach", asked, lambda: store.put(key, data, if_absent=True))
    if failed is not None:
        yield failed
        return
    written = store.written(key)
    try:
        yield ask.say("reach", "healthy", "an object was written", asked=asked)
        second, failed = _tried(ask, "conditional write", asked, lambda: store.put(key, b"another", if_absent=True))
        yield failed or ask.say(
            "conditional write",
            "healthy" if made and not second else "broken",
            "the second writer was refused" if made and not second else "a second writer overwrote the first",
            asked="put if absent, twice",
            fix="Use a store that honours If-None-Match; two runs would overwrite each other's manifests.",
        )
        content, failed = _tried(ask, "read", "get", lambda: store.get(key))
        same = content == data
        yield failed or ask.say(
            "read",
            "healthy" if same else "broken",
            "what was written came back" if same else "something else came back",
            asked="get",
            fix="Do not use this store: it does not return what was written.",
        )
        listed, failed = _tried(ask, "list", "list", lambda: list(store.list(PREFIX)))
        found = key in (listed or [])
        yield failed or ask.say(
            "list",
            "healthy" if found else "broken",
            "the object is listed" if found else "the object just written is not listed",
            asked="list",
            fix="Use a store with consistent listing, and grant the account the right to list.",
        )
        if written is not None:
            after = datetime.now(UTC)
            # The store rounds to seconds: only what lies outside the time of the call counts.
            ahead, behind = (written - after).total_seconds(), (before - written).total_seconds() - 1
            skew = max(0.0, ahead, behind)
            yield ask.judge(
                "clock",
                skew,
                "clock_skew",
                f"its clock and ours differ by {skew:.1f} s",
                broken="clock_skew_broken",
                asked="time of the object written",
                fix="Synchronise this machine's clock (NTP); signatures are refused when it is far off.",
            )
    finally:
        _, failed = _tried(ask, "delete", "delete", lambda: store.delete(key))
    yield failed or ask.say("delete", "healthy", "the object was deleted", asked="delete")


def _tried(ask: Ask, check: str, asked: str, act: Callable[[], Any]) -> tuple[Any, Finding | None]:
    try:
        return act(), None
    except Exception as error:
        return None, _failed(ask, check, error, asked)


def _failed(ask: Ask, check: str, error: Exception, asked: str) -> Finding:
    """What the store answered, read off the driver's message, which holds the answer's code."""
    words = f"{type(error).__name__} {error}".lower()
    for marks, detail, fix in (
        (("nosuchbucket",), "the bucket does not exist", "Create the bucket, or correct its name."),
        (
            ("requesttimetooskewed",),
            "it refuses our signature: the clocks differ by more than 15 minutes",
            "Synchronise this machine's clock (NTP).",
        ),
        (
            (
                "permissiondenied",
                "unauthenticated",
                "accessdenied",
                "invalidaccesskeyid",
                "signaturedoesnotmatch",
                "403",
            ),
            "access is refused",
            "Check the account's key, and its rights to get, put, list and delete below the prefix.",
        ),
        (("no space left", "storagefull"), "there is no space left", "Make room, or enlarge the volume."),
        (("notfound", "not found"), "the bucket or folder does not exist", "Create it, or correct its name."),
        (("server error", "internalerror", "slowdown"), "it answers with errors of its own", "Ask who runs it."),
    ):
        if any(mark in words for mark in marks):
            return ask.say(check, "broken", detail, asked=asked, fix=f"{fix} ({ask.variable})")
    met = trouble(error, ask.seconds)
    return ask.say(check, met.state, met.detail, asked=asked, fix=f"{met.fix} ({ask.variable})")
