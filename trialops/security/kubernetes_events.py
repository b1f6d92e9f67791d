"""Events of Kubernetes audit logs: JSON lines of audit.k8s.io/v1 Event.

One request may be logged at several stages; the last one (ResponseComplete, or Panic) tells how it ended, the others
are ignored. Requests of the control plane itself are ignored too: nodes and controllers keep no hours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.security.log_lines import Quarantine, lines

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_STRUCTURE = """{"kind": "VARCHAR", "apiVersion": "VARCHAR", "auditID": "VARCHAR", "stage": "VARCHAR",
 "verb": "VARCHAR", "user": {"username": "VARCHAR"}, "impersonatedUser": {"username": "VARCHAR"},
 "sourceIPs": ["VARCHAR"],
 "objectRef": {"resource": "VARCHAR", "subresource": "VARCHAR", "namespace": "VARCHAR", "name": "VARCHAR"},
 "responseStatus": {"code": "BIGINT"}, "requestReceivedTimestamp": "VARCHAR", "requestURI": "VARCHAR",
 "requestObject": {"roleRef": {"name": "VARCHAR"}}}"""
_SERVICE = "system:serviceaccount:"


def utc(text: str) -> str:
    """SQL that reads an ISO 8601 moment with a zone as a UTC timestamp; null for any other text."""
    zone = "([+-])([0-9][0-9]):([0-9][0-9])$"
    minutes = f"(60 * regexp_extract({text}, '{zone}', 2)::INTEGER + regexp_extract({text}, '{zone}', 3)::INTEGER)"
    return f"""(CASE WHEN regexp_matches({text}, '[Zz]$') THEN try_cast({text} AS TIMESTAMP)
      WHEN regexp_matches({text}, '{zone}') THEN try_cast(left({text}, len({text}) - 6) AS TIMESTAMP)
        - to_minutes(CASE regexp_extract({text}, '{zone}', 1) WHEN '-' THEN -1 ELSE 1 END * {minutes}) END)"""


_QUERY = f"""
WITH parsed AS (
  SELECT n, line, json_valid(line) AS ok,
         json_transform(CASE WHEN json_valid(line) THEN line END, '{_STRUCTURE}') AS e
  FROM log WHERE line <> ''
), told AS (
  SELECT n,
    CASE WHEN NOT ok THEN 'not JSON'
         WHEN e.kind IS DISTINCT FROM 'Event' OR NOT coalesce(starts_with(e.apiVersion, 'audit.k8s.io/'), false)
           THEN 'not an audit event'
         WHEN e.stage IN ('RequestReceived', 'ResponseStarted') THEN 'ignored'
         WHEN e.auditID IS NULL OR e.verb IS NULL OR e."user".username IS NULL THEN 'no id, verb or user'
         WHEN {utc("e.requestReceivedTimestamp")} IS NULL THEN 'no time'
         WHEN e."user".username LIKE 'system:%' AND e."user".username NOT LIKE '{_SERVICE}%'
              AND e."user".username NOT IN ('system:anonymous', 'system:admin') THEN 'ignored'
         WHEN e."user".username LIKE '{_SERVICE}kube-system:%' THEN 'ignored'
         ELSE '' END AS problem,
    e, concat_ws('/', coalesce(e.objectRef.resource, split_part(e.requestURI, '?', 1)),
                 e.objectRef.subresource) AS thing
  FROM parsed
)
SELECT n, problem, 'kubernetes' AS source, e.auditID AS id,
  {utc("e.requestReceivedTimestamp")} AS at,
  e."user".username AS actor,
  starts_with(e."user".username, '{_SERVICE}') AS service,
  NULL::VARCHAR AS role,
  CASE WHEN e.impersonatedUser.username IS NOT NULL THEN 'impersonate' ELSE e.verb END AS action,
  thing AS object,
  concat_ws('/', thing, e.objectRef.namespace, e.objectRef.name) AS about,
  lower(e.requestObject.roleRef.name) AS record,
  NULL::DOUBLE AS volume,
  e.sourceIPs[1] AS address,
  CASE WHEN e.responseStatus.code IN (401, 403) THEN 'refused'
       WHEN e.responseStatus.code >= 400 THEN 'failed' ELSE 'allowed' END AS outcome,
  NULL::VARCHAR AS purpose, NULL::VARCHAR AS run
FROM told WHERE problem <> 'ignored' ORDER BY n
"""


def kubernetes_events(files: Sequence[Path], quarantine: Quarantine) -> Iterator[pl.DataFrame]:
    """Events in batches, in the form of `trialops.security.events.schema`.

    `record` holds the role that a binding in the request gives, where the audit policy logs request bodies.

    Args:
        files: JSON lines, gzip where the name ends so.
        quarantine: Takes lines that could not be used.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config={"threads": 2})
    for path in files:
        for first, batch in lines(path, quarantine):
            yield read_batch(connection, _QUERY, path.name, first, batch, quarantine)


def read_batch(
    connection: object, query: str, name: str, first: int, batch: pa.Array, quarantine: Quarantine
) -> pl.DataFrame:
    """Run a query over lines as table `log` (n, line); what it names a problem of goes to quarantine."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.compute as pc

    from trialops.security.events import schema

    numbers = pa.array(range(first, first + len(batch)), pa.int64())
    held = pa.table({"n": numbers, "line": batch})
    written = int(pc.sum(pc.not_equal(batch, "")).as_py() or 0)
    connection.register("log", held)  # type: ignore[attr-defined]
    found: pl.DataFrame = connection.sql(query).pl()  # type: ignore[attr-defined]
    connection.unregister("log")  # type: ignore[attr-defined]
    bad = found.filter(pl.col("problem") != "")
    for reason, group in bad.group_by("problem", maintain_order=True):
        quarantine.add(name, group["n"].to_list(), str(reason[0]))
    quarantine.read += written
    quarantine.ignored += written - found["n"].n_unique()
    return found.filter(pl.col("problem") == "").select(pl.col(column).cast(kind) for column, kind in schema().items())
