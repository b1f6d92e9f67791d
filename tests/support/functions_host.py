"""A host for an Azure Functions app: its HTTP triggers, Durable Functions' addresses, and its orchestrations by replay.

The app is taken as it is: functions are indexed by azure.functions, the durable client speaks HTTP to this host, and
the orchestrator is run by azure-functions-durable itself, which gets the history over and over, as from the real host.
What the host keeps of an instance is that history. Activities and activities with retry are what it knows to schedule.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import azure.functions as func
from azure.durable_functions.models.history.HistoryEventType import HistoryEventType as Event

FUNCTION_KEY = "function-key-5f2c9d"
SYSTEM_KEY = "system-key-81ab03"
HOOKS = "/runtime/webhooks/durabletask"
RPC = "/rpc"
CALL, CALL_WITH_RETRY, ALL = 0, 1, 12
RUNNING = ("Pending", "Running")


@dataclass
class Instance:
    """One orchestration: its history and what its status says."""

    id: str
    name: str
    input: str
    created: datetime
    history: list[dict[str, Any]] = field(default_factory=list)
    status: str = "Pending"
    output: Any = None
    custom: Any = None
    actions: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def told(self) -> dict[str, Any]:
        """Its status as the HTTP API has it."""
        at = self.history[-1]["Timestamp"] if self.history else self.created.isoformat()
        return {
            "name": self.name,
            "instanceId": self.id,
            "runtimeStatus": self.status,
            "input": json.loads(self.input),
            "customStatus": self.custom,
            "output": self.output,
            "createdTime": self.created.isoformat(),
            "lastUpdatedTime": at,
        }


class FunctionsHost:
    """The host, as a context manager; `url` is its address.

    Args:
        app: The app. Indexing changes it: one host per app.
        clock: The time, for the history.
        address: Where to listen; loopback and a free port by default.
    """

    def __init__(
        self,
        app: Any,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.clock, self.address = clock, address
        self.instances: dict[str, Instance] = {}
        self.http: list[tuple[re.Pattern[str], set[str], Any, str, str]] = []
        self.orchestrators: dict[str, Any] = {}
        self.activities: dict[str, tuple[Any, str]] = {}
        self.lines: list[str] = []
        """Request lines as a host logs them: method, path and status; never a query."""
        self._lock = threading.Lock()
        for function in app.get_functions():
            self._index(function)

    def _index(self, function: Any) -> None:
        bindings = function.get_bindings_dict()["bindings"]
        trigger = next(b for b in bindings if b["type"].endswith("Trigger"))
        call = function.get_user_function()
        if trigger["type"] == "httpTrigger":
            client = next((b["name"] for b in bindings if b["type"] == "durableClient"), "")
            pattern = re.compile("/api/" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", trigger["route"]))
            methods = {str(getattr(m, "value", m)).upper() for m in trigger["methods"]}
            level = str(getattr(trigger["authLevel"], "value", trigger["authLevel"])).lower()
            assert level == "function", "every route of the app has a key"
            self.http.append((pattern, methods, call, trigger["name"], client))
        elif trigger["type"] == "orchestrationTrigger":
            self.orchestrators[trigger["orchestration"]] = call
        else:
            self.activities[trigger["activity"]] = call, trigger["name"]

    # -- life ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> FunctionsHost:
        self._loop = asyncio.new_event_loop()
        self._runner = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._runner.start()
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host._handle(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(self.address, Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        from azure.durable_functions.models.utils import http_utils

        self._server.shutdown()
        self._server.server_close()
        asyncio.run_coroutine_threadsafe(http_utils._close_session(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._runner.join(5)
        self._loop.close()

    # -- HTTP ----------------------------------------------------------------------------------------------------------

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length", 0) or 0)
        body, parts = request.rfile.read(length), urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = dict(request.headers.items())
        status, data, more = self._answer(request.command, parts.path, query, headers, body)
        self.lines.append(f"{request.command} {parts.path} {status}")
        request.send_response(status)
        for name, value in {**more, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        given = {name.lower(): value for name, value in headers.items()}
        key = given.get("x-functions-key") or query.get("code", "")
        if path.startswith(RPC):
            return _json(*self._managed(method, path.removeprefix(RPC), query, body))
        if path.startswith(HOOKS):
            if not hmac.compare_digest(key.encode(), SYSTEM_KEY.encode()):
                return _json(401, {})
            return _json(*self._managed(method, path.removeprefix(HOOKS), query, body))
        for pattern, methods, call, name, client in self.http:
            match = pattern.fullmatch(path)
            if match and method in methods:
                if not hmac.compare_digest(key.encode(), FUNCTION_KEY.encode()):
                    return _json(401, {})
                asked = func.HttpRequest(
                    method,
                    f"http://{given.get('host', '')}{path}",
                    headers=dict(given),
                    params=dict(query),
                    route_params=match.groupdict(),
                    body=body,
                )
                made = self._invoke(call, {name: asked, **({client: self._client()} if client else {})})
                content = {"Content-Type": f"{made.mimetype}; charset={made.charset}"}
                return made.status_code, made.get_body(), {**content, **dict(made.headers)}
        return _json(404, {})

    def _invoke(self, call: Any, arguments: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(call):
            return asyncio.run_coroutine_threadsafe(call(**arguments), self._loop).result(60)
        return call(**arguments)

    def _client(self) -> str:
        """The durable client's binding: addresses for callers, which hold the system key, and for the app itself."""
        place = f"{self.url}{HOOKS}/instances/INSTANCEID"
        urls = {"id": "INSTANCEID", "statusQueryGetUri": f"{place}?code={SYSTEM_KEY}"}
        urls["terminatePostUri"] = f"{place}/terminate?reason={{text}}&code={SYSTEM_KEY}"
        return json.dumps(
            {"taskHubName": "hub", "creationUrls": {}, "managementUrls": urls, "rpcBaseUrl": f"{self.url}{RPC}/"}
        )

    def _managed(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Durable Functions' HTTP API: start, status, terminate."""
        if match := re.fullmatch(r"/orchestrators/(\w+)/([^/]+)", path):
            return self._start(match[1], match[2], body.decode())
        match = re.fullmatch(r"/instances/([^/]+)(/terminate)?", path)
        instance = self.instances.get(match[1]) if match else None
        if match is None or instance is None:
            return 404, None
        if match[2]:
            if instance.status not in RUNNING:
                return 410, None
            instance.status, instance.output = "Terminated", query.get("reason")
            instance.ended.set()
            return 202, None
        return (202 if instance.status in RUNNING else 200), instance.told()

    def _start(self, name: str, identity: str, text: str) -> tuple[int, Any]:
        if name not in self.orchestrators:
            return 400, {"ExceptionMessage": f"no orchestrator {name}"}
        given = json.loads(text)
        with self._lock:
            # overridableExistingInstanceStates is NonRunningStates in the app's host.json.
            if identity in self.instances and self.instances[identity].status in RUNNING:
                return 409, "an instance of this id is running"
            instance = Instance(identity, name, given if isinstance(given, str) else text, self.clock())
            self.instances[identity] = instance
        threading.Thread(target=self._orchestrate, args=(instance,), daemon=True).start()
        return 202, {"id": identity}

    # -- orchestrations ------------------------------------------------------------------------------------------------

    def _event(self, instance: Instance, kind: Event, identity: int = -1, **more: Any) -> None:
        now = self.clock().isoformat()
        instance.history.append(
            {"EventType": int(kind), "EventId": identity, "IsPlayed": False, "Timestamp": now, **more}
        )

    def _orchestrate(self, instance: Instance) -> None:
        try:
            self._run(instance)
        except Exception as error:  # of the host's own: the instance must not look as if it ran for ever
            instance.status, instance.output = "Failed", f"host: {error!r}"
        instance.ended.set()

    def _run(self, instance: Instance) -> None:
        instance.status = "Running"
        self._event(instance, Event.ORCHESTRATOR_STARTED)
        self._event(instance, Event.EXECUTION_STARTED, Name=instance.name, Input=instance.input, Version="")
        scheduled, number = 0, 0
        while instance.status == "Running":
            state = replay(self.orchestrators[instance.name], instance.id, instance.input, instance.history)
            instance.actions.append(json.dumps(state["actions"], sort_keys=True))
            instance.custom = state.get("customStatus")
            if state["isDone"] or "error" in state:
                if instance.status == "Running":
                    ok = "error" not in state
                    instance.output = state.get("output") if ok else state["error"]
                    instance.status = "Completed" if ok else "Failed"
                break
            actions = [single(action) for group in state["actions"] for action in group]
            if len(actions) <= scheduled:
                instance.status, instance.output = "Failed", "the orchestrator waits for nothing"
                break
            self._event(instance, Event.ORCHESTRATOR_COMPLETED)
            number = self._carry_out(instance, actions[scheduled], number)
            scheduled += 1

    def _carry_out(self, instance: Instance, action: Mapping[str, Any], number: int) -> int:
        """An activity, again after a timer where it fails and may be tried again; returns the next event's number."""
        assert action["actionType"] in (CALL, CALL_WITH_RETRY), f"this host does not know action {action['actionType']}"
        options = action.get("retryOptions") or {"maxNumberOfAttempts": 1, "firstRetryIntervalInMilliseconds": 1}
        call, name = self.activities[action["functionName"]]
        for attempt in range(options["maxNumberOfAttempts"]):
            self._event(instance, Event.TASK_SCHEDULED, number, Name=action["functionName"], Input=action["input"])
            try:
                result = json.dumps(self._invoke(call, {name: json.loads(action["input"])}))
            except Exception as error:
                self._event(instance, Event.ORCHESTRATOR_STARTED)
                failed = {"Reason": f"Activity function '{action['functionName']}' failed:", "Details": str(error)}
                self._event(instance, Event.TASK_FAILED, TaskScheduledId=number, **failed)
                if action["actionType"] == CALL:
                    return number + 1
                wait = options["firstRetryIntervalInMilliseconds"]
                fire = (self.clock() + timedelta(milliseconds=wait)).isoformat()
                self._event(instance, Event.TIMER_CREATED, number + 1, FireAt=fire)
                self._event(instance, Event.ORCHESTRATOR_COMPLETED)
                instance.ended.wait(wait / 1000)
                self._event(instance, Event.ORCHESTRATOR_STARTED)
                self._event(instance, Event.TIMER_FIRED, TimerId=number + 1, FireAt=fire)
                number += 2
                if attempt + 1 < options["maxNumberOfAttempts"]:
                    self._event(instance, Event.ORCHESTRATOR_COMPLETED)
            else:
                self._event(instance, Event.ORCHESTRATOR_STARTED)
                self._event(instance, Event.TASK_COMPLETED, TaskScheduledId=number, Result=result)
                return number + 1
        return number


def single(action: dict[str, Any]) -> dict[str, Any]:
    """An action; from the second schema on, one that may be tried again comes as a group of one."""
    if action["actionType"] == ALL and len(action["compoundActions"]) == 1:
        inner: dict[str, Any] = action["compoundActions"][0]
        return inner
    return action


def replay(orchestrator: Any, identity: str, given: str, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What azure-functions-durable makes of an orchestrator and a history: its state, or ``error``."""
    context = {
        "history": [{**event} for event in history],
        "instanceId": identity,
        "isReplaying": False,
        "parentInstanceId": None,
        "input": given,
        "upperSchemaVersion": 1,
        "upperSchemaVersionNew": 1,
    }
    try:
        state: dict[str, Any] = json.loads(orchestrator(func.OrchestrationContext(json.dumps(context))))
    except Exception as error:  # the state comes behind the message
        message, _, text = str(error).partition("\n\n$OutOfProcData$:")
        return {**(json.loads(text) if text else {"actions": [], "isDone": False}), "error": message}
    return state


def _json(status: int, body: Any) -> tuple[int, bytes, dict[str, str]]:
    return status, json.dumps(body).encode(), {"Content-Type": "application/json"}


def new_instance() -> str:
    """An id as a caller makes one."""
    return quote(f"trialops-{uuid.uuid4().hex}-01", safe="")
