"""Taking subjects out of the online store: erasure, and restriction of processing."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

from trialops.errors import TrialOpsError
from trialops.stores.online import layout
from trialops.stores.online.reader import store_kind
from trialops.stores.online.spec import FeatureServiceSpec

#: Keys deleted in one command.
_AT_ONCE = 500


def forget(url: str, services: Sequence[FeatureServiceSpec], subjects: Sequence[str]) -> int:
    """Delete everything the online store holds under some subjects, their visits included.

    Services whose rows are about something else than a subject are left alone. A store that was never written has
    nothing to delete.

    Args:
        url: The online store.
        services: Services whose views are looked through.
        subjects: Values of the join key subject_id.

    Returns:
        Keys deleted, counted once per view in the SQL stores and once per subject or visit in Redis.

    Raises:
        TrialOpsError: The store fails.
    """
    mine = [s for s in services if "subject_id" in s.join_keys]
    if not subjects or not mine:
        return 0
    kind = store_kind(url)
    return {"sqlite": _sqlite, "redis": _redis, "postgresql": _postgres}[kind](url, mine, subjects)


def starts(service: FeatureServiceSpec, subjects: Sequence[str]) -> list[bytes]:
    """What the keys of some subjects begin with: subject_id sorts before the other join keys.

    Raises:
        TrialOpsError: It does not, in this service.
    """
    if sorted(service.join_keys)[0] != "subject_id":
        raise TrialOpsError(
            "Keys of this service do not begin with the subject.",
            where=f"feature service {service.name}",
            fix="Name its other join keys so that they sort after subject_id.",
        )
    rest = len(service.join_keys) - 1
    entities: list[layout.Entity] = [(s, *("",) * rest) if rest else s for s in subjects]
    order = tuple(sorted(service.join_keys))
    # An empty value is eight bytes of type and length.
    return [key[: len(key) - 8 * rest] for key in layout.entity_keys(entities, order)]


def _redis(url: str, services: Sequence[FeatureServiceSpec], subjects: Sequence[str]) -> int:
    import redis

    from trialops.stores.online.redis import connection_pool, unreachable

    keys: set[bytes] = set()
    client: Any = redis.Redis(connection_pool=connection_pool(url, 60.0))
    try:
        for service in services:
            if len(service.join_keys) == 1:
                keys.update(layout.redis_keys(subjects, service.join_keys, service.project))
                continue
            for start in starts(service, subjects):
                pattern = re.sub(rb"([*?\[\]\\])", rb"\\\1", start) + b"*"
                found = (k for k in client.scan_iter(match=pattern, count=5000) if k.startswith(start))
                keys.update(k for k in found if k.endswith(service.project.encode()))
        listed = sorted(keys)
        return sum(int(client.unlink(*listed[place : place + _AT_ONCE])) for place in range(0, len(listed), _AT_ONCE))
    except redis.RedisError as error:
        raise unreachable(error) from None
    finally:
        client.close()


def _sqlite(url: str, services: Sequence[FeatureServiceSpec], subjects: Sequence[str]) -> int:
    from trialops.stores.online.sqlite import sqlite_path

    path = sqlite_path(url)
    if not path.exists():
        return 0
    deleted = 0
    try:
        connection = sqlite3.connect(path, timeout=120)
        try:
            connection.execute("PRAGMA secure_delete = ON")
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            with connection:
                for service, table in _tables(services):
                    if table not in there:
                        continue
                    for start in starts(service, subjects):
                        where = f"FROM {layout.quoted(table)} WHERE substr(entity_key, 1, ?) = ?"
                        count = connection.execute(f"SELECT COUNT(DISTINCT entity_key) {where}", (len(start), start))
                        deleted += int(count.fetchone()[0])
                        connection.execute(f"DELETE {where}", (len(start), start))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise TrialOpsError(
            f"The online store cannot be written ({type(error).__name__}).",
            where=str(path),
            fix="Check that the file is an online store and can be written by this account.",
        ) from None
    return deleted


def _postgres(url: str, services: Sequence[FeatureServiceSpec], subjects: Sequence[str]) -> int:
    import psycopg
    import psycopg_pool

    from trialops.stores.online.postgres import failed, postgres_pool

    deleted = 0
    pool = postgres_pool(url, seconds=30.0, size=1)
    try:
        with pool.connection() as connection:
            for service, table in _tables(services):
                there = connection.execute("SELECT to_regclass(%s)", (layout.quoted(table),)).fetchone()
                if there[0] is None:
                    continue
                gone = connection.execute(
                    f"WITH gone AS (DELETE FROM {layout.quoted(table)} AS held USING unnest(%b::bytea[]) AS start "
                    "WHERE substring(held.entity_key FROM 1 FOR length(start)) = start RETURNING held.entity_key) "
                    "SELECT COUNT(DISTINCT entity_key) FROM gone",
                    (starts(service, subjects),),
                ).fetchone()
                deleted += int(gone[0])
    except (psycopg.Error, psycopg_pool.PoolTimeout) as error:
        raise failed(error) from None
    finally:
        pool.close()
    return deleted


def _tables(services: Sequence[FeatureServiceSpec]) -> list[tuple[FeatureServiceSpec, str]]:
    return [(s, layout.table_name(s.project, view.name)) for s in services for view in s.views]
