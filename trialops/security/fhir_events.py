"""Events of FHIR R4 AuditEvent resources: NDJSON, bundles, single resources.

Who acted is the agent marked as requestor, by identifier, reference or alternative id; names are not read. An emergency
override (DICOM 110127, or purpose BTG of v3-ActReason) is an access that must be accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.security.kubernetes_events import read_batch, utc
from trialops.security.log_lines import LONGEST, Quarantine, lines

if TYPE_CHECKING:
    import polars as pl

_STRUCTURE = """{"resourceType": "VARCHAR", "id": "VARCHAR", "recorded": "VARCHAR", "action": "VARCHAR",
 "outcome": "VARCHAR", "type": {"code": "VARCHAR"}, "subtype": [{"code": "VARCHAR"}],
 "purposeOfEvent": [{"coding": [{"code": "VARCHAR"}]}],
 "agent": [{"requestor": "BOOLEAN", "altId": "VARCHAR",
   "who": {"reference": "VARCHAR", "identifier": {"value": "VARCHAR"}},
   "role": [{"coding": [{"code": "VARCHAR"}]}], "network": {"address": "VARCHAR"}}],
 "entity": [{"what": {"reference": "VARCHAR"}}], "source": {"observer": {"reference": "VARCHAR"}}}"""

# A subject of the access is who is read, or the first thing that is.
_QUERY = f"""
WITH parsed AS (
  SELECT n, json_valid(line) AS ok, json_transform(CASE WHEN json_valid(line) THEN line END, '{_STRUCTURE}') AS e
  FROM log WHERE line <> ''
), chosen AS (
  SELECT n, ok, e,
    coalesce(list_filter(e.agent, lambda a: a.requestor)[1], e.agent[1]) AS agent,
    coalesce(list_filter(e.entity, lambda x: x.what.reference LIKE 'Patient/%')[1],
             e.entity[1]).what.reference AS thing,
    list_transform(e.subtype, lambda s: s.code) AS subtypes,
    e.purposeOfEvent[1].coding[1].code AS purpose
  FROM parsed
), told AS (
  SELECT *, coalesce(agent.who.identifier.value, agent.who.reference, agent.altId) AS actor,
    CASE WHEN e.type.code = '110127' OR list_contains(subtypes, '110127') OR purpose = 'BTG' THEN 'emergency'
         WHEN e.type.code = '110114' THEN 'login'
         WHEN list_has_any(subtypes, ['export', 'operation', '110106']) THEN 'export'
         WHEN e.action = 'R' AND list_has_any(subtypes, ['search', 'search-type', 'search-system', 'history-type'])
           THEN 'search'
         ELSE coalesce(map_extract(map {{'R': 'read', 'C': 'create', 'U': 'update', 'D': 'delete', 'E': 'search'}},
                                   e.action)[1], 'other') END AS what
  FROM chosen
)
SELECT n,
  CASE WHEN NOT ok THEN 'not JSON'
       WHEN e.resourceType IS DISTINCT FROM 'AuditEvent' THEN 'not an AuditEvent'
       WHEN actor IS NULL THEN 'no agent'
       WHEN {utc("e.recorded")} IS NULL THEN 'no time' ELSE '' END AS problem,
  'fhir' AS source,
  coalesce(e.source.observer.reference || '/' || e.id, e.id, md5(e::VARCHAR)) AS id,
  {utc("e.recorded")} AS at,
  actor, (agent.who.reference LIKE 'Device/%') AS service, lower(agent."role"[1].coding[1].code) AS role,
  CASE WHEN what = 'login' AND coalesce(e.outcome, '0') <> '0' THEN 'login.refused' ELSE what END AS action,
  coalesce(split_part(regexp_replace(thing, '^https?://.*/([A-Z][A-Za-z]+/[^/]+)$', '\\1'), '/', 1),
           'system') AS object,
  thing AS about, NULL::VARCHAR AS record, greatest(coalesce(len(e.entity), 0), 1)::DOUBLE AS volume,
  agent.network.address AS address,
  CASE WHEN what = 'login' AND coalesce(e.outcome, '0') <> '0' THEN 'failed'
       WHEN coalesce(e.outcome, '0') <> '0' THEN 'refused' ELSE 'allowed' END AS outcome,
  purpose, NULL::VARCHAR AS run
FROM told ORDER BY n
"""


def fhir_events(files: Sequence[Path], quarantine: Quarantine) -> Iterator[pl.DataFrame]:
    """Events in batches, in the form of `trialops.security.events.schema`.

    Args:
        files: .ndjson or .jsonl with one resource a line; .json with a resource or a bundle of them (a line in
            quarantine is then the number of the entry). Gzip where the name ends so.
        quarantine: Takes resources that could not be used.
    """
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(":memory:", config={"threads": 2})
    for path in files:
        if not path.name.removesuffix(".gz").endswith(".json"):
            for first, batch in lines(path, quarantine):
                yield read_batch(connection, _QUERY, path.name, first, batch, quarantine)
            continue
        found = _entries(path, quarantine)
        if found:
            held = pa.array(found, pa.large_string())
            yield read_batch(connection, _QUERY, path.name, 1, held, quarantine)


def _entries(path: Path, quarantine: Quarantine) -> list[str]:
    """Resources of a bundle as texts, or the file's one resource."""
    import gzip

    import msgspec

    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        if len(data) > 16 * LONGEST:
            quarantine.add(path.name, [1], "the bundle is too large: deliver NDJSON")
            return []
        content = msgspec.json.decode(data)
    except (OSError, EOFError, ValueError, msgspec.DecodeError):
        quarantine.add(path.name, [1], "not JSON")
        quarantine.read += 1
        return []
    listed = (
        content.get("entry") if isinstance(content, dict) and content.get("resourceType") == "Bundle" else [content]
    )
    if not isinstance(listed, list):
        return []
    inner = [one.get("resource") if isinstance(one, dict) and "resource" in one else one for one in listed]
    return [msgspec.json.encode(one).decode() for one in inner]
