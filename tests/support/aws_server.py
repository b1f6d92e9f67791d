"""AppFlow, AWS Backup, QuickSight and DataSync as far as transfer jobs use them, held to botocore's own service models.

Inputs and outputs are checked with botocore's validator, errors are those the model has for the operation, and requests
arrive as boto3 sends them (REST-JSON; JSON with a target for DataSync). What a service does with a second start is
as its API reference says: AppFlow's client token counts for eight hours, Backup's idempotency token gives the same job,
QuickSight refuses a second ingestion of an id, DataSync has none and starts again.

`Cloud` is the services; `serve` puts them on loopback; `Direct` is a client without HTTP for many fast runs.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.session
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.validate import ParamValidator

SERVICES = ("appflow", "backup", "quicksight", "datasync")
ACCOUNT = "123456789012"
PATHS: dict[str, tuple[str, ...]] = {
    "appflow": ("InProgress", "Successful"),
    "backup": ("CREATED", "RUNNING", "COMPLETED"),
    "quicksight": ("INITIALIZED", "QUEUED", "RUNNING", "COMPLETED"),
    "datasync": ("LAUNCHING", "TRANSFERRING", "VERIFYING", "SUCCESS"),
}
ENDED = {"Successful", "Error", "Canceled", "COMPLETED", "ABORTED", "FAILED", "EXPIRED", "PARTIAL", "CANCELLED"} | {
    "SUCCESS",
    "ERROR",
}


@cache
def model(service: str) -> ServiceModel:
    """botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


class Refused(Exception):
    """An error of the model."""

    def __init__(self, code: str, message: str = "refused") -> None:
        super().__init__(code)
        self.code, self.message = code, message


class Dropped(Exception):
    """The connection is closed without an answer."""


@dataclass
class Job:
    """One job at a service."""

    service: str
    name: str
    token: str
    id: str
    at: datetime
    path: list[str]
    facts: dict[str, Any] = field(default_factory=dict)
    tags: list[dict[str, str]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.path[0]

    @property
    def running(self) -> bool:
        return self.state not in ENDED

    def look(self, held: set[str]) -> str:
        """State now; each look brings it one further, unless it is held."""
        state = self.path[0]
        if len(self.path) > 1 and not held & {self.service, self.name}:
            self.path.pop(0)
        return state


class Cloud:
    """The services' memory and their behaviour.

    Attributes:
        jobs: Every job that was started, in order.
        calls: Requests by (service, operation).
        faults: By (service, operation), what happens to the next requests: "drop_before", "drop_after",
            "error:CODE", or "" for nothing.
        paths: By service, the states the next jobs go through.
        facts: By service, what the next jobs say of themselves.
        violations: What did not fit the model.
        land: Called with flow and execution at a start; gives the records processed.
        rows: Called with a data set; gives its rows.
        now: The time.
        page: Entries of a page.
        held: Services, or names of jobs, that stay in the state they are in.
    """

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.calls: Counter[tuple[str, str]] = Counter()
        self.faults: dict[tuple[str, str], list[str]] = {}
        self.paths: dict[str, list[tuple[str, ...]]] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        self.violations: list[str] = []
        self.land: Callable[[str, str], int] = lambda flow, execution: 10
        self.rows: Callable[[str], int] = lambda dataset: 10
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.page = 2
        self.held: set[str] = set()
        self.url = ""
        self.lock = threading.RLock()

    def started(self, service: str) -> list[Job]:
        """The jobs of a service."""
        return [job for job in self.jobs if job.service == service]

    def call(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """One request.

        Raises:
            Refused: An error of the model.
            Dropped: No answer.
        """
        with self.lock:
            known = model(service).operation_model(operation)
            self.calls[service, operation] += 1
            queue = self.faults.get((service, operation), [])
            fault = queue.pop(0) if queue else ""
            if fault == "drop_before":
                raise Dropped
            if fault.startswith("error:"):
                raise Refused(fault.removeprefix("error:"))
            problems = ParamValidator().validate(dict(params), known.input_shape)
            if problems.has_errors():
                self.violations.append(f"{operation} input: {problems.generate_report()}")
                raise Refused("ValidationException", problems.generate_report())
            answer = getattr(self, f"{service}_{re.sub('(?<!^)(?=[A-Z])', '_', operation).lower()}")(**params)
            if known.output_shape is not None:
                problems = ParamValidator().validate(answer, known.output_shape)
                if problems.has_errors():
                    self.violations.append(f"{operation} output: {problems.generate_report()}")
            if fault == "drop_after":
                raise Dropped
            return answer

    def _start(self, service: str, name: str, token: str, job_id: str) -> Job:
        queue = self.paths.get(service, [])
        path = list(queue.pop(0) if queue else PATHS[service])
        job = Job(service, name, token, job_id, self.now(), path, dict(self.facts.get(service, {})))
        self.jobs.append(job)
        return job

    def _find(self, service: str, job_id: str, error: str) -> Job:
        for job in self.started(service):
            if job.id == job_id:
                return job
        raise Refused(error, "not found")

    def _stop(self, job: Job, state: str, error: str) -> None:
        if not job.running:
            raise Refused(error, "has ended")
        job.path = [state]

    # -- AppFlow -------------------------------------------------------------------------------------------------

    def appflow_start_flow(self, flowName: str, clientToken: str) -> dict[str, Any]:  # noqa: N803
        for job in self.started("appflow"):
            if job.name == flowName and job.token == clientToken and self.now() - job.at < timedelta(hours=8):
                return {"flowArn": "arn", "flowStatus": "Active", "executionId": job.id}
        if any(job.running and job.name == flowName for job in self.started("appflow")):
            raise Refused("ConflictException", "the flow is running")
        job = self._start("appflow", flowName, clientToken, f"00000000-0000-4000-8000-{len(self.jobs):012d}")
        job.facts = {"recordsProcessed": self.land(flowName, job.id), "bytesWritten": 100, **job.facts}
        return {"flowArn": "arn", "flowStatus": "Active", "executionId": job.id}

    def appflow_describe_flow_execution_records(
        self,
        flowName: str,  # noqa: N803
        maxResults: int = 100,  # noqa: N803
        nextToken: str = "0",  # noqa: N803
    ) -> dict[str, Any]:
        own = [job for job in reversed(self.started("appflow")) if job.name == flowName]
        at = int(nextToken)
        records = []
        for job in own[at : at + min(self.page, maxResults)]:
            state = job.look(self.held)
            record: dict[str, Any] = {"executionId": job.id, "executionStatus": state, "startedAt": job.at}
            if state in ENDED:
                record["executionResult"] = job.facts
            records.append(record)
        more = {"nextToken": str(at + self.page)} if at + self.page < len(own) else {}
        return {"flowExecutions": records, **more}

    def appflow_cancel_flow_executions(self, flowName: str, executionIds: list[str]) -> dict[str, Any]:  # noqa: N803
        for execution in executionIds:
            job = self._find("appflow", execution, "ResourceNotFoundException")
            if job.running:
                job.path = ["CancelStarted", "Canceled"]
        return {"invalidExecutions": []}

    # -- Backup --------------------------------------------------------------------------------------------------

    def backup_start_backup_job(self, BackupVaultName: str, IdempotencyToken: str, **_: Any) -> dict[str, Any]:  # noqa: N803
        for job in self.started("backup"):
            if job.token == IdempotencyToken:
                return {"BackupJobId": job.id, "CreationDate": job.at}
        job = self._start("backup", BackupVaultName, IdempotencyToken, f"backup-{len(self.jobs):04d}")
        return {"BackupJobId": job.id, "CreationDate": job.at}

    def backup_describe_backup_job(self, BackupJobId: str) -> dict[str, Any]:  # noqa: N803
        job = self._find("backup", BackupJobId, "ResourceNotFoundException")
        state = job.look(self.held)
        answer = {"BackupJobId": job.id, "State": state, "BackupVaultName": job.name}
        if state in ("COMPLETED", "PARTIAL"):
            point = job.facts.get("RecoveryPointArn", f"arn:aws:backup:us-east-1:{ACCOUNT}:recovery-point:{job.id}")
            answer |= {"BackupSizeInBytes": 1000} | ({"RecoveryPointArn": point} if point else {})
        return answer

    def backup_describe_recovery_point(self, BackupVaultName: str, RecoveryPointArn: str) -> dict[str, Any]:  # noqa: N803
        job = self._find("backup", RecoveryPointArn.rsplit(":", 1)[-1], "ResourceNotFoundException")
        states = job.facts.setdefault("points", [job.facts.get("Status", "COMPLETED")])
        state = states.pop(0) if len(states) > 1 else states[0]
        return {
            "RecoveryPointArn": RecoveryPointArn,
            "BackupVaultName": BackupVaultName,
            "Status": state,
            "IsEncrypted": job.facts.get("IsEncrypted", True),
        }

    def backup_stop_backup_job(self, BackupJobId: str) -> dict[str, Any]:  # noqa: N803
        self._stop(self._find("backup", BackupJobId, "ResourceNotFoundException"), "ABORTED", "InvalidRequestException")
        return {}

    # -- QuickSight ----------------------------------------------------------------------------------------------

    def quicksight_create_ingestion(
        self,
        AwsAccountId: str,  # noqa: N803
        DataSetId: str,  # noqa: N803
        IngestionId: str,  # noqa: N803
        IngestionType: str = "FULL_REFRESH",  # noqa: N803
    ) -> dict[str, Any]:
        if any(job.id == IngestionId and job.name == DataSetId for job in self.started("quicksight")):
            raise Refused("ResourceExistsException", "exists")
        job = self._start("quicksight", DataSetId, IngestionId, IngestionId)
        job.facts = {"RowsIngested": self.rows(DataSetId), "RowsDropped": 0, **job.facts}
        return {"Arn": "arn", "IngestionId": IngestionId, "IngestionStatus": job.state, "RequestId": "r", "Status": 201}

    def quicksight_describe_ingestion(self, AwsAccountId: str, DataSetId: str, IngestionId: str) -> dict[str, Any]:  # noqa: N803
        job = self._find("quicksight", IngestionId, "ResourceNotFoundException")
        state = job.look(self.held)
        found: dict[str, Any] = {
            "Arn": "arn",
            "IngestionId": job.id,
            "IngestionStatus": state,
            "CreatedTime": job.at,
        }
        if state == "COMPLETED":
            counts = {k: v for k, v in job.facts.items() if k in ("RowsIngested", "RowsDropped") and v is not None}
            found |= {"RowInfo": counts} if counts else {}
        if state == "FAILED":
            found["ErrorInfo"] = {"Type": job.facts.get("Type", "INTERNAL_SERVICE_ERROR"), "Message": "withheld"}
        return {"Ingestion": found, "RequestId": "r", "Status": 200}

    def quicksight_cancel_ingestion(self, AwsAccountId: str, DataSetId: str, IngestionId: str) -> dict[str, Any]:  # noqa: N803
        job = self._find("quicksight", IngestionId, "ResourceNotFoundException")
        self._stop(job, "CANCELLED", "InvalidParameterValueException")
        return {"Arn": "arn", "IngestionId": job.id, "RequestId": "r", "Status": 200}

    # -- DataSync ------------------------------------------------------------------------------------------------

    def datasync_start_task_execution(
        self,
        TaskArn: str,  # noqa: N803
        Tags: list[dict[str, str]],  # noqa: N803
        OverrideOptions: dict[str, str],  # noqa: N803
    ) -> dict[str, Any]:
        if any(job.running for job in self.started("datasync")) and OverrideOptions.get("TaskQueueing") == "DISABLED":
            raise Refused("InvalidRequestException", "the task is running")
        token = next((tag["Value"] for tag in Tags if tag["Key"] == "trialops:token"), "")
        job = self._start("datasync", TaskArn, token, f"{TaskArn}/execution/exec-{len(self.jobs):017x}")
        job.tags = Tags
        return {"TaskExecutionArn": job.id}

    def datasync_describe_task_execution(self, TaskExecutionArn: str) -> dict[str, Any]:  # noqa: N803
        job = self._find("datasync", TaskExecutionArn, "InvalidRequestException")
        state = job.look(self.held)
        answer: dict[str, Any] = {"TaskExecutionArn": job.id, "Status": state}
        if state == "SUCCESS":
            result = {"PrepareStatus": "SUCCESS", "TransferStatus": "SUCCESS", "VerifyStatus": "SUCCESS"}
            files = {"FilesTransferred": 3, "FilesVerified": 3, "BytesWritten": 900}
            answer |= {"Result": result, **files, **job.facts}
        if state == "ERROR":
            answer |= {"Result": {"TransferStatus": "ERROR", "ErrorCode": "OpNotSupp"}, **job.facts}
        return answer

    def datasync_list_task_executions(
        self,
        TaskArn: str,  # noqa: N803
        MaxResults: int = 100,  # noqa: N803
        NextToken: str = "0",  # noqa: N803
    ) -> dict[str, Any]:
        own, at = [job for job in self.started("datasync") if job.name == TaskArn], int(NextToken)
        page = [{"TaskExecutionArn": job.id, "Status": job.state} for job in own[at : at + self.page]]
        return {"TaskExecutions": page} | ({"NextToken": str(at + self.page)} if at + self.page < len(own) else {})

    def datasync_list_tags_for_resource(self, ResourceArn: str) -> dict[str, Any]:  # noqa: N803
        return {"Tags": self._find("datasync", ResourceArn, "InvalidRequestException").tags}

    def datasync_describe_task(self, TaskArn: str) -> dict[str, Any]:  # noqa: N803
        busy = any(job.running for job in self.started("datasync"))
        return {"TaskArn": TaskArn, "Status": "RUNNING" if busy else "AVAILABLE"}

    def datasync_cancel_task_execution(self, TaskExecutionArn: str) -> dict[str, Any]:  # noqa: N803
        self._stop(
            self._find("datasync", TaskExecutionArn, "InvalidRequestException"), "ERROR", "InvalidRequestException"
        )
        return {}


class Direct:
    """A client of one service without HTTP: the same requests and errors as boto3's, many times faster."""

    def __init__(self, cloud: Cloud, service: str) -> None:
        self._cloud, self._service = cloud, service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(part.capitalize() for part in name.split("_"))

        def call(**params: Any) -> Any:
            try:
                return self._cloud.call(self._service, operation, params)
            except Refused as error:
                answer = {"Error": {"Code": error.code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
                raise ClientError(answer, operation) from None
            except Dropped:
                raise EndpointConnectionError(endpoint_url="http://dropped") from None

        return call


# -- HTTP --------------------------------------------------------------------------------------------------------


def status_of(operation: OperationModel, code: str) -> int:
    """HTTP status of an error."""
    for shape in operation.error_shapes:
        if shape.name == code:
            stated = shape.metadata.get("error", {}).get("httpStatusCode")
            return int(stated or (500 if re.match("Internal|ServiceUnavail|Dependency", code) else 400))
    return 429 if "Throttl" in code else 400


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], OperationModel]]:
    found = []
    for name in model(service).operation_names:
        operation = model(service).operation_model(name)
        path = re.sub(r"\{(\w+)\+?\}", lambda m: f"(?P<{m[1]}>[^/]+)", operation.http["requestUri"].split("?")[0])
        found.append((operation.http["method"], re.compile(path + "$"), operation))
    return found


def _plain(shape: Shape, value: Any) -> Any:
    """A value as REST-JSON writes it."""
    if shape.type_name == "structure":
        return {
            member.serialization.get("name", name): _plain(member, value[name])
            for name, member in shape.members.items()
            if name in value and "location" not in member.serialization
        }
    if shape.type_name == "list":
        return [_plain(shape.member, one) for one in value]
    return value.timestamp() if shape.type_name == "timestamp" else value


def _read(operation: OperationModel, match: re.Match[str], query: str, body: bytes) -> dict[str, Any]:
    """The parameters of a REST-JSON request."""
    content, asked, params = json.loads(body or b"{}"), parse_qs(query), {}
    for name, member in operation.input_shape.members.items():
        key, place = member.serialization.get("name", name), member.serialization.get("location", "")
        if place == "uri":
            params[name] = unquote(match[key])
        elif place == "querystring" and key in asked:
            params[name] = int(asked[key][0]) if member.type_name in ("integer", "long") else asked[key][0]
        elif not place and key in content:
            params[name] = content[key]
    return params


@contextmanager
def serve(cloud: Cloud) -> Iterator[str]:
    """The services on a free port of loopback; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", self.headers.get("Authorization", ""))
            service = scope[1] if scope else ""
            if service not in SERVICES:
                self._send(403, {"x-amzn-errortype": "UnrecognizedClientException"}, b"{}")
                return
            parts = urlsplit(self.path)
            if "X-Amz-Target" in self.headers:
                operation = model(service).operation_model(self.headers["X-Amz-Target"].rsplit(".", 1)[-1])
                self._answer(service, operation, json.loads(body or b"{}"))
                return
            for method, pattern, operation in _routes(service):
                match = pattern.match(parts.path)
                if method == self.command and match:
                    self._answer(service, operation, _read(operation, match, parts.query, body))
                    return
            cloud.violations.append(f"no operation for {self.command} {parts.path}")
            self._send(404, {"x-amzn-errortype": "UnknownOperationException"}, b"{}")

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

        def _answer(self, service: str, operation: OperationModel, params: dict[str, Any]) -> None:
            try:
                answer = cloud.call(service, operation.name, params)
            except Dropped:
                self.close_connection = True
                return
            except Refused as error:
                data = json.dumps({"__type": error.code, "message": "refused"}).encode()
                self._send(status_of(operation, error.code), {"x-amzn-errortype": error.code}, data)
                return
            shape = operation.output_shape
            status = answer.get("Status", 200) if service == "quicksight" else 200
            self._send(status, {}, json.dumps(_plain(shape, answer) if shape is not None else {}).encode())

        def _send(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "x-amzn-RequestId": "r", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield cloud.url
    finally:
        server.shutdown()
        server.server_close()
