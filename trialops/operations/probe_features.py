"""Feature store: Feast's registry, a sentinel looked up online, and how old the features are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.operations.health import Finding
from trialops.operations.reach import trouble

if TYPE_CHECKING:
    from trialops.operations.probing import Ask

SENTINEL = "health-sentinel"
"""Key that the probe writes and looks up; no pseudonym of a vault looks like it."""
_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_FIX = "Make features anew: trialops run feature_engineering."


def probe(ask: Ask) -> Iterator[Finding]:
    """The online store by its own reader and writer, as the model server and the pipelines use it."""
    import sqlite3

    import psycopg
    import redis

    from trialops.stores.online.reader import open_reader
    from trialops.stores.online.spec import from_definitions

    try:
        with open_reader(ask.address, from_definitions(), seconds=ask.seconds) as reader:
            reader.ping()
    except TrialOpsError as error:
        if "holds no features" in error.what:
            yield ask.say("reach", "broken", "the store answers and holds no features", asked="the online store",
                          fix=_FIX)  # fmt: skip
        else:
            met = trouble(error, ask.seconds)
            yield ask.say("reach", met.state, error.what, asked="the online store", fix=error.fix)
        return
    yield ask.say("reach", "healthy", "the store answers and holds features", asked="the online store")
    try:
        yield _sentinel(ask)
    except (TrialOpsError, sqlite3.Error, psycopg.Error, redis.RedisError) as error:
        what = error.what if isinstance(error, TrialOpsError) else f"refused ({type(error).__name__})"
        yield ask.say("sentinel", "broken", what, asked=_SENTINEL_ASKED, fix="Check the account's right to write.")
    yield from _registry(ask)
    yield _freshness(ask)


_SENTINEL_ASKED = "a sentinel written, looked up and forgotten"


def _sentinel(ask: Ask) -> Finding:
    """One view's row under a key of our own, through the writer, the reader and the eraser of the platform."""
    import polars as pl

    from trialops.stores.online.forget import forget
    from trialops.stores.online.reader import open_reader
    from trialops.stores.online.spec import from_definitions
    from trialops.stores.online.writer import open_writer

    service = from_definitions()
    view = service.views[0]
    values = {column: float(number + 1) for number, column in enumerate(view.columns)}
    frame = pl.DataFrame({"subject_id": [SENTINEL], "event_timestamp": [_DAY], **{k: [v] for k, v in values.items()}})
    try:
        with open_writer(ask.address, service) as writer:
            writer.write(view.name, frame)
        with open_reader(ask.address, service.narrowed(view.columns), seconds=ask.seconds) as reader:
            found, _ = reader.each([SENTINEL])[0]
    finally:
        forget(ask.address, [service], [SENTINEL])
    same = list(found) == list(values.values())
    return ask.say(
        "sentinel", "healthy" if same else "broken",
        "it came back as written" if same else "it came back otherwise", asked=_SENTINEL_ASKED, fix=_FIX,
    )  # fmt: skip


def _registry(ask: Ask) -> Iterator[Finding]:
    """The registry of `feature_repo`, once it was applied; the platform's own steps make theirs as they go."""
    file = Path(ask.settings.home) / "features" / "registry.db"
    if not file.is_file():
        return
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    from trialops.features.definition_file import load

    asked, fix = "features/registry.db", "Apply the definitions again: feast -c feature_repo apply."
    registry = Registry()
    try:
        registry.ParseFromString(file.read_bytes())
    except (DecodeError, OSError):
        yield ask.say("registry", "broken", "Feast's registry cannot be read", asked=asked, fix=fix)
        return
    missing = set(load().views) - {view.spec.name for view in registry.feature_views}
    words = f"{len(registry.feature_views)} views, {len(missing)} of the definitions missing"
    yield ask.say("registry", "degraded" if missing else "healthy", words, asked=asked, fix=fix, value=len(missing))


def _freshness(ask: Ask) -> Finding:
    """Age of the newest run that makes features and succeeded; event times are study days and tell nothing of it."""
    import sqlalchemy as sa

    from trialops.stores.database import connect
    from trialops.stores.run_log import runs

    asked = "the run log"
    try:
        engine = connect(ask.settings.database)
        ended = [
            run.finished
            for name in ask.feature_pipelines
            for run in runs(engine, pipeline=name, state="succeeded", limit=1)
        ]
    except (TrialOpsError, sa.exc.SQLAlchemyError):
        detail, fix = "the run log could not be read", "See to the database first."
        return ask.say("freshness", "unknown", detail, asked=asked, fix=fix)
    if not ended:
        return ask.say("freshness", "unknown", "no run that makes features is known", asked=asked, fix=_FIX)
    age = (ask.now - datetime.fromisoformat(max(ended).replace("Z", "+00:00"))).total_seconds()
    detail = f"features were last made {age / 3600:.1f} h ago"
    return ask.judge("freshness", age, "age", detail, asked=asked, fix=_FIX)
