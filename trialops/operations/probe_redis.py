"""Redis: answers, takes a value and forgets it in time, has memory left, is the one that may be written, persists."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding

if TYPE_CHECKING:
    from trialops.operations.probing import Ask

EXPIRY = 60


def probe(ask: Ask) -> Iterator[Finding]:
    """Ping, a value with an expiry, and what INFO says of memory, replication and persistence."""
    import redis

    from trialops.stores.online.redis import connection_pool

    pool = connection_pool(ask.address, ask.seconds)
    with redis.Redis(connection_pool=pool) as client:
        try:
            client.ping()
        except redis.RedisError as error:
            yield _refused(ask, "reach", error, "PING")
            return
        yield ask.say("reach", "healthy", "it answers", asked="PING")
        try:
            told = client.info()
        except redis.RedisError as error:
            yield _refused(ask, "information", error, "INFO")
            told = {}
        yield from _state(ask, told)
        yield _round_trip(ask, client)
    pool.disconnect()


def _round_trip(ask: Ask, client: Any) -> Finding:
    import redis

    key, value = f"trialops:health:{secrets.token_hex(8)}", secrets.token_bytes(16)
    asked = f"SET with {EXPIRY} s to live, GET, TTL, DEL"
    try:
        client.set(key, value, ex=EXPIRY)
        back, left = client.get(key), client.ttl(key)
        client.delete(key)
    except redis.RedisError as error:
        return _refused(ask, "write and read", error, asked)
    if back == value and 0 < left <= EXPIRY:
        return ask.say("write and read", "healthy", "a value came back and has an end", asked=asked)
    return ask.say(
        "write and read", "broken", "a value just written did not come back as written", asked=asked,
        fix="Look at maxmemory-policy and evictions, and at what else writes to this database.",
    )  # fmt: skip


def _state(ask: Ask, told: Mapping[str, Any]) -> Iterator[Finding]:
    if not told:
        return
    if limit := int(told.get("maxmemory", 0)):
        share = int(told["used_memory"]) / limit
        yield ask.judge(
            "memory",
            share,
            "memory_share",
            f"{share:.0%} of maxmemory is in use; when it is full: {told.get('maxmemory_policy', '')}",
            broken="memory_broken_share",
            asked="INFO memory",
            fix="Raise maxmemory, or take out features nobody serves.",
        )
    if told.get("role") == "slave":
        linked = told.get("master_link_status") == "up"
        words = "a replica, linked to its primary" if linked else "a replica that has lost its primary"
        yield ask.say(
            "role", "broken", f"this is {words}; it takes no features", asked="INFO replication",
            fix=f"Point {ask.variable} at the primary" + ("." if linked else ", and find out why it is gone."),
        )  # fmt: skip
    elif told.get("role"):
        lost = [n for n in range(int(told.get("connected_slaves", 0))) if _behind(told.get(f"slave{n}"))]
        yield ask.say(
            "role", "degraded" if lost else "healthy",
            f"the primary, {int(told.get('connected_slaves', 0))} replicas, {len(lost)} of them not in step",
            asked="INFO replication", fix="Look at the replicas' logs and the network between them.",
        )  # fmt: skip
    failing = [
        name
        for name, field in (("snapshot", "rdb_last_bgsave_status"), ("append-only file", "aof_last_write_status"))
        if told.get(field, "ok") != "ok"
    ]
    yield ask.say(
        "persistence", "broken" if failing else "healthy",
        f"the last {' and '.join(failing)} could not be written" if failing else "nothing failed to be written",
        asked="INFO persistence", fix="Make room on the server's disk, or correct the folder's owner.",
    )  # fmt: skip


def _behind(replica: Any) -> bool:
    return isinstance(replica, Mapping) and replica.get("state") != "online"


def _refused(ask: Ask, check: str, error: Exception, asked: str) -> Finding:
    import redis

    message = str(error)
    for kind, mark, detail, fix in (
        (
            redis.ReadOnlyError,
            "",
            "it refuses writing: this is a read-only replica",
            "Point the address at the primary.",
        ),
        (redis.OutOfMemoryError, "OOM", "it refuses writing: maxmemory is reached", "Raise maxmemory, or make room."),
        (redis.AuthenticationError, "NOAUTH", "it refuses the password", "Correct the account in the address."),
        (
            redis.exceptions.NoPermissionError,
            "NOPERM",
            "the account may not do this",
            "Grant it: PING, INFO, GET, SET, DEL, TTL.",
        ),
        (redis.BusyLoadingError, "LOADING", "it is still loading its data", "Wait; look again in a minute."),
        (
            redis.ResponseError,
            "MISCONF",
            "it refuses writing: its last snapshot failed",
            "Make room on the server's disk, or correct the folder's owner.",
        ),
        (redis.ResponseError, "", "it refused a command", "Check that it is Redis 6 or newer, one server."),
    ):
        if isinstance(error, kind) and mark in message:
            return ask.say(check, "broken", detail, asked=asked, fix=f"{fix} ({ask.variable})")
    return ask.failed(check, error, asked=asked)
