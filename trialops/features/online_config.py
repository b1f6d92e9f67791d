"""Feast's configuration of an online store, from the one URL the settings have."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from trialops.errors import TrialOpsError
from trialops.stores.online.reader import store_kind


def feast_online_store(url: str) -> dict[str, Any]:
    """The `online_store` section of Feast for the store at a URL.

    Args:
        url: As `trialops.stores.online.open_reader` takes it.

    Raises:
        TrialOpsError: The URL is of a kind Feast cannot express (a unix socket of Redis).
    """
    kind = store_kind(url)
    if kind == "sqlite":
        from trialops.stores.online.sqlite import sqlite_path

        return {"type": "sqlite", "path": str(sqlite_path(url).resolve())}
    return _redis(url) if kind == "redis" else _postgres(url)


def _redis(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        raise TrialOpsError(
            "Feast reaches Redis over TCP alone.", where="TRIALOPS_ONLINE_URL", fix="Use redis://host:port/db."
        )
    options = {"db": parts.path.strip("/") or "0"}
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.scheme == "rediss":
        options["ssl"] = "true"
    options |= dict(parse_qsl(parts.query))
    if wrong := [name for name, value in options.items() if "," in value]:
        raise TrialOpsError(
            f"Feast's connection string cannot hold a comma, and the Redis {wrong[0]} has one.",
            where="TRIALOPS_ONLINE_URL",
            fix="Choose another one.",
        )
    listed = ",".join(f"{name}={value}" for name, value in options.items())
    return {"type": "redis", "connection_string": f"{parts.hostname or 'localhost'}:{parts.port or 6379},{listed}"}


def _postgres(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        "type": "postgres",
        "host": parts.hostname or options.get("host", "localhost"),
        "port": parts.port or int(options.get("port", 5432)),
        "database": parts.path.strip("/"),
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "db_schema": "public",
        "sslmode": options.get("sslmode", "prefer"),
    }
