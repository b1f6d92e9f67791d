"""OpenLineage events of a run, made from the step records: for catalogues that people already have.

Our own lineage (see `trialops.governance.lineage`) is what decides; these events are a copy in the OpenLineage format
(openlineage.io, RunEvent) with the versions, row counts and schemas of the tables, and for de-identification and
features where each column comes from. They hold names and counts, never values.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore

PRODUCER = "https://github.com/trialops/trialops"
NAMESPACE = "trialops"
_IDS = uuid.uuid5(uuid.NAMESPACE_URL, PRODUCER)

Columns = Mapping[str, str]


def run_uuid(run_id: str, step: str = "") -> str:
    """The UUID that stands for a run, or for one of its steps; the same each time."""
    return str(uuid.uuid5(_IDS, f"{run_id}/{step}"))


def events_of(
    record: Mapping[str, Any], *, pipeline: str, study: str, schemas: Mapping[str, Columns]
) -> list[RunEvent]:
    """The two events of one step: its start, and how it ended with what it read and wrote.

    Args:
        record: Step record.
        pipeline: Catalogue name of the pipeline, for the parent facet.
        study: STUDYID; part of the data sets' namespace.
        schemas: "table@version" -> column -> type, for the tables that are in the lake.
    """
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.generated import error_message_run, job_type_job, parent_run

    parent = parent_run.ParentRunFacet(
        run=parent_run.Run(runId=run_uuid(record["run_id"])),
        job=parent_run.Job(namespace=NAMESPACE, name=pipeline or "adhoc"),
    )
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="KUBEFLOW_PIPELINES", jobType="TASK")
    job = Job(namespace=NAMESPACE, name=f"{pipeline or 'adhoc'}.{record['step']}", facets={"jobType": kind})
    facets: dict[str, Any] = {"parent": parent}
    start = RunEvent(
        eventTime=record["started"],
        producer=PRODUCER,
        run=Run(runId=run_uuid(record["run_id"], record["step"]), facets=facets),
        job=job,
        eventType=RunState.START,
    )
    if record["state"] == "failed":
        said = record.get("error", {})
        facets = facets | {
            "errorMessage": error_message_run.ErrorMessageRunFacet(
                message=str(said.get("what", "")), programmingLanguage="python"
            )
        }
    end = RunEvent(
        eventTime=record["finished"],
        producer=PRODUCER,
        run=Run(runId=run_uuid(record["run_id"], record["step"]), facets=facets),
        job=job,
        eventType=RunState.COMPLETE if record["state"] == "finished" else RunState.FAIL,
        inputs=[one for item in record["inputs"] for one in _inputs(item, study, schemas)],
        outputs=[one for item in record["outputs"] for one in _outputs(item, record, study, schemas)],
    )
    return [start, end]


def run_events(objects: ObjectStore, lake: Lake, run_id: str, *, pipeline: str, study: str) -> list[str]:
    """The events of a run's own steps, one JSON text each, in order of start."""
    from openlineage.client.serde import Serde

    from trialops.governance.lineage import run_records

    records = run_records(objects, run_id)
    schemas = _schemas(lake, records)
    return [
        Serde.to_json(event)
        for record in records
        for event in events_of(record, pipeline=pipeline, study=study, schemas=schemas)
    ]


def publish(objects: ObjectStore, lake: Lake, run_id: str, *, pipeline: str, study: str) -> tuple[int, str]:
    """Keep a run's events beside it, and send them where OPENLINEAGE_URL says.

    Returns:
        Number of events, and what went wrong with sending them; empty where nothing did or nobody is to be sent to.
    """
    import os

    events = run_events(objects, lake, run_id, pipeline=pipeline, study=study)
    objects.put(f"runs/{run_id}/openlineage.ndjson", "".join(f"{event}\n" for event in events).encode())
    url = os.environ.get("OPENLINEAGE_URL", "")
    if not url or not events:
        return len(events), ""
    return len(events), _send(url, events)


def _send(url: str, events: Iterable[str]) -> str:
    import os

    import httpx

    token = os.environ.get("OPENLINEAGE_API_KEY", "")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    endpoint = os.environ.get("OPENLINEAGE_ENDPOINT", "api/v1/lineage").strip("/")
    try:
        with httpx.Client(timeout=5.0, headers=headers) as client:
            for event in events:
                client.post(f"{url.rstrip('/')}/{endpoint}", content=event).raise_for_status()
    except httpx.HTTPError as error:
        return f"the lineage server did not take the events ({type(error).__name__})"
    return ""


def _tables(item: Mapping[str, Any]) -> list[tuple[str, str, int, str]]:
    """Name, version, rows and key into the schemas of every table an input or output names."""
    found = []
    for name, table in sorted(item.get("tables", {}).items()):
        if "table" in table:
            found.append(
                (table["table"], str(table["version"]), int(table["rows"]), f"{table['table']}@{table['version']}")
            )
        else:
            found.append((f"raw/{name}".lower(), table["digest"][:16], int(table["rows"]), ""))
    if not found:
        found.append((item["artifact"], str(item.get("digest", ""))[:16], -1, ""))
    return found


def _facets(version: str, schema: Columns | None) -> dict[str, Any]:
    from openlineage.client.generated import dataset_version_dataset, schema_dataset

    facets: dict[str, Any] = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)}
    if schema:
        fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in schema.items()]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    return facets


def _inputs(item: Mapping[str, Any], study: str, schemas: Mapping[str, Columns]) -> list[InputDataset]:
    from openlineage.client.event_v2 import InputDataset

    return [
        InputDataset(namespace=_space(study), name=name, facets=_facets(version, schemas.get(key)))
        for name, version, _, key in _tables(item)
    ]


def _outputs(
    item: Mapping[str, Any], record: Mapping[str, Any], study: str, schemas: Mapping[str, Columns]
) -> list[OutputDataset]:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated import column_lineage_dataset, output_statistics_output_dataset

    outputs = []
    for name, version, rows, key in _tables(item):
        facets = _facets(version, schemas.get(key))
        origins = _origins(str(record["step"]), name, schemas.get(key) or {})
        if origins:
            space = _space(study)
            facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
                fields={
                    column: column_lineage_dataset.Fields(
                        [column_lineage_dataset.InputField(space, table, source) for table, source in sources]
                    )
                    for column, sources in origins.items()
                }
            )
        statistics: dict[str, Any] = {}
        if rows >= 0:
            made = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
            statistics["outputStatistics"] = made
        outputs.append(OutputDataset(namespace=_space(study), name=name, facets=facets, outputFacets=statistics))
    return outputs


def _space(study: str) -> str:
    return f"{NAMESPACE}/{study}" if study else NAMESPACE


def _origins(step: str, table: str, schema: Columns) -> dict[str, list[tuple[str, str]]]:
    """Column -> the columns it is made from, for the steps whose columns follow from a policy or definitions."""
    zone, _, name = table.partition("/")
    if zone == "clean" and step in ("deidentify", "reprocess"):
        return {column: [(f"raw/{name}", source) for source in _raw_columns(column)] for column in schema}
    if zone == "features":
        return _feature_origins(name, schema)
    return {}


def _raw_columns(column: str) -> tuple[str, ...]:
    """A study day comes from its date; every other column has the name it had."""
    if column == "KNOWNDY" or not column.endswith("DY") or column == "VISITDY":
        return (column,)
    return (f"{column[:-2]}DTC",)


def _feature_origins(name: str, schema: Columns) -> dict[str, list[tuple[str, str]]]:
    from trialops.features.definition_file import load

    definitions = load()
    view = definitions.views.get(name)
    if view is None:
        return {}
    origins = {}
    for feature, columns in view.sources(definitions.tables).items():
        if feature in schema:
            if view.kind == "scores":  # made of features, not of columns
                arguments = (a.split(".") for a in view.scores[feature].arguments.values())
                origins[feature] = sorted((f"features/{home}", column) for home, column in arguments)
                continue
            table = getattr(view.features.get(feature), "table", "") or view.table
            origins[feature] = [(f"clean/{table.lower()}", column) for column in sorted(columns)]
    return origins


def _schemas(lake: Lake, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Columns and types of every lake table version that the records name."""
    wanted = {
        (table["table"], int(table["version"]))
        for record in records
        for item in (*record["inputs"], *record["outputs"])
        for table in item.get("tables", {}).values()
        if "table" in table
    }
    return {f"{table}@{version}": lake.schema(table, version) for table, version in sorted(wanted)}
