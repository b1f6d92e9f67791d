"""Events of the platform's own audit trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import TYPE_CHECKING

from trialops.stores.database import reading

if TYPE_CHECKING:
    import polars as pl
    from sqlalchemy import Engine

BATCH = 50_000


def trail_events(engine: Engine, since: dt.datetime, until: dt.datetime) -> Iterator[pl.DataFrame]:
    """Records of the trail in batches, in the form of `trialops.security.events.schema`.

    A record tells a role only where a use was asked for (access.allow, access.refuse). A record whose detail cannot be
    read any more is an event without one: that the chain is broken is found by its verification.

    Args:
        engine: Migrated database.
        since: First moment, UTC.
        until: Moment from which on records are left out, UTC.
    """
    import polars as pl
    import sqlalchemy as sa

    from trialops.stores.tables import audit_events as table

    columns = ("seq", "at", "actor", "action", "object", "version", "reason", "run_id", "detail")
    low, high = (f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z" for moment in (since, until))
    query = (
        sa.select(*(table.c[name] for name in columns))
        .where(table.c.at >= low, table.c.at < high)
        .order_by(table.c.seq)
    )
    kinds = {name: pl.String for name in columns} | {"seq": pl.Int64}
    with reading(engine) as connection:
        rows = connection.execution_options(yield_per=BATCH).execute(query)
        for part in rows.partitions(BATCH):
            yield _typed(pl.DataFrame([tuple(row) for row in part], schema=kinds, orient="row"))


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    from trialops.security.events import schema

    access = pl.col("action").str.starts_with("access.")
    signing = pl.col("action") == "sign"
    after_zone = pl.when(signing).then(pl.col("object").str.replace(r"^[^/]*/", ""))
    number = pl.col("detail").str.extract(r'"rows":(\d+)', 1).cast(pl.Float64, strict=False)
    digest = pl.col("version").str.contains(r"^[0-9a-f]{64}$")
    said = ~(pl.col("reason").str.starts_with("step ") | (pl.col("reason") == "no purpose stated"))
    return rows.select(
        pl.lit("trail").alias("source"),
        pl.col("seq").cast(pl.String).alias("id"),
        pl.col("at").str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us").alias("at"),
        "actor",
        pl.lit(None, dtype=pl.Boolean).alias("service"),
        pl.when(access).then("version").alias("role"),
        pl.when(signing & pl.col("detail").str.contains('"meaning":"approved"', literal=True))
        .then(pl.lit("sign approved"))
        .when(pl.col("detail").str.contains('"locked":true', literal=True))
        .then(pl.col("action") + " locked")
        .otherwise("action")
        .alias("action"),
        "object",
        # What was asked for is in the detail; a version of a case (case/3) is that case.
        pl.coalesce(
            pl.when(access).then(pl.col("detail").str.extract(r'"about":"((?:[^"\\]|\\.)*)"', 1)),
            after_zone,
            pl.when(~access & ~signing).then("object"),
        )
        .str.replace(r"/\d+$", "")
        .alias("about"),
        pl.when(digest).then("version").alias("record"),
        number.alias("volume"),
        pl.lit(None, dtype=pl.String).alias("address"),
        pl.when(pl.col("action") == "access.refuse")
        .then(pl.lit("refused"))
        .when(pl.col("action").str.ends_with(".refused"))
        .then(pl.lit("failed"))
        .otherwise(pl.lit("allowed"))
        .alias("outcome"),
        pl.when(said & (pl.col("reason") != "")).then(pl.lit("stated")).alias("purpose"),
        pl.col("run_id").alias("run"),
    ).select(list(schema()))
