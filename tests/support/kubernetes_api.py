"""A Kubernetes API over real HTTP that holds objects and refuses what their published schema refuses.

The official client and kubectl talk to it. What is there: discovery; create, read, replace, patch (JSON, merge,
strategic merge by the names of list entries, server-side apply with field owners), delete; the status subresource;
label and field selectors, paging; watching with bookmarks, and 410 for a version that is too old; conflicts of
versions, generated names; a write that changes nothing keeps its resource version. Custom resources are held against
their CRD, core kinds against Kubernetes' own schema. What is not there: admission, controllers, authorisation, an
OpenAPI document (kubectl needs --validate=false).
"""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.support.crd_validator import Definitions, defaulted, metadata_problems
from tests.support.kubernetes_patch import Owners, merged, patched, strategic

PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>status))?$"
)
KUBERNETES = "1.32"
BORN = "2026-01-01T00:00:00Z"
KEPT = 1000
"""Events kept for watches; who asks for an older version has to list again."""

CORE = {
    ("", "v1"): "Namespace! Node! ServiceAccount ConfigMap Secret Service LimitRange ResourceQuota Pod Event "
    "PersistentVolumeClaim PersistentVolume!",
    ("apps", "v1"): "Deployment StatefulSet DaemonSet ReplicaSet",
    ("batch", "v1"): "Job CronJob",
    ("autoscaling", "v2"): "HorizontalPodAutoscaler",
    ("policy", "v1"): "PodDisruptionBudget",
    ("coordination.k8s.io", "v1"): "Lease",
    ("networking.k8s.io", "v1"): "NetworkPolicy",
    ("rbac.authorization.k8s.io", "v1"): "Role RoleBinding ClusterRole! ClusterRoleBinding!",
    ("scheduling.k8s.io", "v1"): "PriorityClass!",
}
"""Kinds by group and version; ! is for those without a namespace."""


@dataclass(frozen=True)
class Resource:
    """A kind as the API serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    status: bool
    schema: Mapping[str, Any] | None = None

    @property
    def api(self) -> str:
        """Group and version as objects name them."""
        return f"{self.group}/{self.version}" if self.group else self.version


def _core() -> Iterator[Resource]:
    for (group, version), kinds in CORE.items():
        for entry in kinds.split():
            kind = entry.rstrip("!")
            low = kind.lower()
            plural = low[:-1] + "ies" if low.endswith("y") else low + ("es" if low.endswith("s") else "s")
            yield Resource(group, version, plural, kind, not entry.endswith("!"), status=True)


class Schemas:
    """Validators of the published CRDs.

    Args:
        files: CRD files, or folders of them.
        core: Whether core kinds are served too.
    """

    def __init__(self, *files: Path, core: bool = False) -> None:
        self.definitions, self.core = Definitions(*files), core
        self.resources: dict[tuple[str, str, str], Resource] = {}
        for found in self.definitions.served():
            key = (found["group"], found["version"], found["plural"])
            self.resources[key] = Resource(*key, found["kind"], found["namespaced"], found["status"], found["schema"])
        if core:
            self.resources |= {(r.group, r.version, r.plural): r for r in _core()}
        self.kinds = {key: resource.kind for key, resource in self.resources.items()}

    def resource(self, group: str, version: str, plural: str) -> Resource | None:
        """What is served under a path; a kind that was only named is held to no schema."""
        key = (group, version, plural)
        if key not in self.resources and key in self.kinds:
            return Resource(*key, self.kinds[key], namespaced=True, status=True)
        return self.resources.get(key)

    def problems(self, group: str, version: str, plural: str, document: Mapping[str, Any]) -> list[str]:
        """What the schema refuses, with the place."""
        resource = self.resources[group, version, plural]
        if (document.get("apiVersion"), document.get("kind")) != (resource.api, resource.kind):
            return [f"kind: {document.get('apiVersion')} {document.get('kind')} is not {resource.api} {resource.kind}"]
        if resource.schema is None:
            return core_problems(document, namespaced=resource.namespaced)
        return self.definitions.problems(document)

    def check(self, document: Mapping[str, Any]) -> list[str]:
        """As `problems`, of a document that names its kind."""
        return self.definitions.problems(document)


def core_problems(document: Mapping[str, Any], *, namespaced: bool) -> list[str]:
    """What Kubernetes' own schema refuses of a core kind."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message[:200]}"]
    return metadata_problems(document, namespaced=namespaced)


class Cluster:
    """What the API holds, and what it was asked.

    Attributes:
        objects: (plural, namespace, name) to document.
        requests: Method and path of each request, in order.
        conflicts: Replacements still to be refused as if somebody had written in between.
    """

    def __init__(self, schemas: Schemas) -> None:
        self.schemas = schemas
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.conflicts = 0
        self.url = ""
        self._lock = threading.Condition()
        self._revision = 0
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._forgotten = 0
        self._owners: dict[tuple[str, str, str], Owners] = {}
        if schemas.core:
            for name in ("default", "kube-system"):
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                with self._lock:
                    self._store(schemas.resources["", "v1", "namespaces"], ("namespaces", "", name), body, "ADDED")

    # -- requests -----------------------------------------------------------------------------------------

    def answer(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None, kind: str = ""
    ) -> tuple[int, dict[str, Any]]:
        """Answer one request.

        Args:
            method: HTTP method.
            path: Path without the query.
            body: Body as read.
            query: Query parameters.
            kind: Content type, which says how a patch is meant.
        """
        query = query or {}
        with self._lock:
            self.requests.append((method, path))
            found = self._discovery(path) if method == "GET" else None
            if found is not None:
                return 200, found
            match = PATH.match(path)
            if match is None:
                return _status(404, "NotFound", "the server could not find the requested resource")
            given = {name: unquote(value) if value else "" for name, value in match.groupdict().items()}
            resource = self.schemas.resource(given["group"], given["core"] or given["version"], given["plural"])
            if resource is None:
                return _status(404, "NotFound", "the server could not find the requested resource")
            key = (resource.plural, given["namespace"] if resource.namespaced else "", given["name"])
            if method == "GET" and not given["name"]:
                return self._list(resource, given["namespace"], query)
            if method == "POST":
                return self._create(resource, key, body or {})
            if method == "PATCH":
                return self._patch(resource, key, body, query, kind, given["sub"])
            held = self.objects.get(key)
            if method == "DELETE" and not given["name"]:
                return self._delete_many(resource, given["namespace"], query)
            if held is None:
                return _status(404, "NotFound", f"{resource.plural} {key[2]!r} not found")
            if method == "DELETE":
                return self._delete(resource, key, body or {})
            if method == "PUT":
                return self._replace(resource, key, body or {}, given["sub"])
            return 200, {**copy.deepcopy(held), "apiVersion": resource.api}

    def _discovery(self, path: str) -> dict[str, Any] | None:
        resources = list(self.schemas.resources.values())
        if path == "/version":
            major, minor = KUBERNETES.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{KUBERNETES}.0", "platform": "linux/amd64"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups: dict[str, list[str]] = {}
            for resource in resources:
                if resource.group and resource.version not in groups.setdefault(resource.group, []):
                    groups[resource.group].append(resource.version)
            for versions in groups.values():
                versions.sort(key=lambda version: ("alpha" in version, "beta" in version, version))
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {
                        "name": name,
                        "versions": [{"groupVersion": f"{name}/{v}", "version": v} for v in versions],
                        "preferredVersion": {"groupVersion": f"{name}/{versions[0]}", "version": versions[0]},
                    }
                    for name, versions in groups.items()
                ],
            }
        match = re.fullmatch(r"/(?:api|apis/([^/]+))/([^/]+)", path)
        served = [r for r in resources if match and (r.group, r.version) == (match[1] or "", match[2])]
        if not served and path != "/api/v1":
            return None
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        entries = []
        for r in served:
            about = {"kind": r.kind, "namespaced": r.namespaced, "singularName": r.kind.lower()}
            entries.append({**about, "name": r.plural, "verbs": verbs})
            if r.status:
                entries.append({**about, "name": f"{r.plural}/status", "verbs": ["get", "patch", "update"]})
        api = served[0].api if served else "v1"
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api, "resources": entries}

    def _list(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        found = [
            document
            for key, document in sorted(self.objects.items())
            if key[0] == resource.plural
            and document["apiVersion"].partition("/")[0] == resource.api.partition("/")[0]
            and (not namespace or key[1] == namespace)
            and selected(document, query)
        ]
        start, size = int(query.get("continue") or 0), int(query.get("limit") or 0)
        page = found[start : start + size] if size else found[start:]
        metadata = {"resourceVersion": str(self._revision)}
        if size and start + size < len(found):
            metadata |= {"continue": str(start + size), "remainingItemCount": len(found) - start - size}  # type: ignore[dict-item]
        body = {"apiVersion": resource.api, "kind": f"{resource.kind}List", "metadata": metadata}
        return 200, {**body, "items": copy.deepcopy(page)}

    def _create(
        self, resource: Resource, key: tuple[str, str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        body = copy.deepcopy(body)
        metadata = body.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{uuid.uuid4().hex[:5]}"
        key = (key[0], key[1], metadata.get("name", ""))
        problem = self._refused(resource, key, body)
        if problem:
            return problem
        if key in self.objects:
            return _status(409, "AlreadyExists", f"{resource.plural} {key[2]!r} already exists")
        if metadata.get("resourceVersion"):
            return _status(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        if resource.schema is not None and resource.status:
            body.pop("status", None)
        return 201, self._store(resource, key, body, "ADDED")

    def _replace(
        self, resource: Resource, key: tuple[str, str, str], body: dict[str, Any], sub: str
    ) -> tuple[int, dict[str, Any]]:
        held = self.objects[key]
        if self.conflicts:
            self.conflicts -= 1
            self._revision += 1
            held["metadata"]["resourceVersion"] = str(self._revision)
            held["metadata"].setdefault("annotations", {})["somebody"] = "else"
        wanted = self._sub(resource, held, copy.deepcopy(body), sub)
        problem = self._refused(resource, key, wanted)
        if problem:
            return problem
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version != held["metadata"]["resourceVersion"] and (version or resource.schema is not None):
            return _status(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        return 200, self._store(resource, key, wanted, "MODIFIED")

    def _patch(
        self, resource: Resource, key: tuple[str, str, str], body: Any, query: Mapping[str, str], kind: str, sub: str
    ) -> tuple[int, dict[str, Any]]:
        held = self.objects.get(key)
        if "apply-patch" in kind:
            return self._apply(resource, key, body, query)
        if held is None:
            return _status(404, "NotFound", f"{resource.plural} {key[2]!r} not found")
        if not isinstance(body, list if "json-patch" in kind else dict):
            return _status(400, "BadRequest", f"the body is no {kind}")
        if "strategic" in kind and resource.schema is not None:
            return _status(415, "UnsupportedMediaType", "strategic merge patches are for core kinds")
        try:
            if "json-patch" in kind:
                wanted = patched(held, body)
            else:
                wanted = strategic(held, body) if "strategic" in kind else merged(held, body)
        except ValueError as error:
            return _status(422, "Invalid", str(error))
        asked = body.get("metadata", {}).get("resourceVersion") if isinstance(body, dict) else None
        if asked and asked != held["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified")
        wanted = self._sub(resource, held, wanted, sub)
        return self._refused(resource, key, wanted) or (200, self._store(resource, key, wanted, "MODIFIED"))

    def _apply(
        self, resource: Resource, key: tuple[str, str, str], body: dict[str, Any], query: Mapping[str, str]
    ) -> tuple[int, dict[str, Any]]:
        manager = query.get("fieldManager")
        if not manager:
            return _status(400, "BadRequest", "fieldManager is required for apply patch")
        owners, held = self._owners.setdefault(key, Owners()), self.objects.get(key)
        wanted, disputed = owners.applied(held, body, manager, force=query.get("force") == "true")
        if disputed:
            return _status(409, "Conflict", f"Apply failed with conflicts: {', '.join(disputed)}")
        problem = self._refused(resource, key, wanted)
        if problem:
            return problem
        owners.keep(body, manager)
        code, event = (200, "MODIFIED") if held else (201, "ADDED")
        return code, self._store(resource, key, wanted, event)

    def _delete(
        self, resource: Resource, key: tuple[str, str, str], options: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        held = self.objects[key]
        asked = (options.get("preconditions") or {}).get("uid")
        if asked and asked != held["metadata"]["uid"]:
            return _status(409, "Conflict", "the UID in the precondition does not match")
        del self.objects[key]
        self._owners.pop(key, None)
        self._revision += 1
        gone = copy.deepcopy(held)
        gone["metadata"]["resourceVersion"] = str(self._revision)
        self._tell("DELETED", resource, gone)
        return _status(200, "", "")

    def _delete_many(self, resource: Resource, namespace: str, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        _, found = self._list(resource, namespace, query)
        for item in found["items"]:
            metadata = item["metadata"]
            self._delete(resource, (resource.plural, metadata.get("namespace", ""), metadata["name"]), {})
        return _status(200, "", "")

    # -- what is written ----------------------------------------------------------------------------------

    def _sub(self, resource: Resource, held: dict[str, Any], wanted: dict[str, Any], sub: str) -> dict[str, Any]:
        """A write to an object leaves its status, a write to the status leaves the object."""
        if sub == "status":
            return {**copy.deepcopy(held), **({"status": wanted["status"]} if "status" in wanted else {})}
        if resource.status and resource.schema is not None:
            wanted.pop("status", None)
            return {**wanted, **({"status": copy.deepcopy(held["status"])} if "status" in held else {})}
        return wanted

    def _refused(
        self, resource: Resource, key: tuple[str, str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, Any]] | None:
        metadata = body.get("metadata") or {}
        if resource.namespaced and self.schemas.core and ("namespaces", "", key[1]) not in self.objects:
            return _status(404, "NotFound", f"namespaces {key[1]!r} not found")
        bare = {k: v for k, v in metadata.items() if k not in ("managedFields", "selfLink")}
        problems = self.schemas.problems(
            resource.group, resource.version, resource.plural, {**body, "metadata": {**bare, "name": key[2]}}
        )
        if metadata.get("namespace", key[1]) != key[1]:
            problems.append("metadata.namespace: another than the path's")
        if metadata.get("name", key[2]) != key[2]:
            problems.append("metadata.name: another than the path's")
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?", key[2]) or len(key[2]) > 253:
            problems.append("metadata.name: not a DNS subdomain")
        return _status(422, "Invalid", "; ".join(problems)) if problems else None

    def _store(self, resource: Resource, key: tuple[str, str, str], body: dict[str, Any], event: str) -> dict[str, Any]:
        held = self.objects.get(key)
        stored = copy.deepcopy(body)
        if self.schemas.core and resource.schema is not None:
            stored = defaulted(stored, resource.schema)
        before = held["metadata"] if held else {}
        born = {"uid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key}{self._revision}")), "creationTimestamp": BORN}
        stored["metadata"] = {**stored.get("metadata", {}), "name": key[2]} | {
            name: before.get(name, value) for name, value in born.items()
        }
        if key[1]:
            stored["metadata"]["namespace"] = key[1]
        generation = before.get("generation", 0)
        changed = held is None or any(held.get(k) != stored.get(k) for k in {*held, *stored} - {"metadata", "status"})
        stored["metadata"]["generation"] = generation + 1 if changed else generation
        stored["metadata"]["resourceVersion"] = before.get("resourceVersion", "")
        if held is not None and stored == held:
            return copy.deepcopy(held)  # as a real server: what changes nothing is no event
        self._revision += 1
        stored["metadata"]["resourceVersion"] = str(self._revision)
        self.objects[key] = stored
        self._tell(event, resource, stored)
        return copy.deepcopy(stored)

    # -- watching -----------------------------------------------------------------------------------------

    def _tell(self, event: str, resource: Resource, document: dict[str, Any]) -> None:
        self._events.append((self._revision, event, resource.plural, copy.deepcopy(document)))
        if len(self._events) > KEPT:
            self.forget(self._events[-KEPT][0] - 1)
        self._lock.notify_all()

    def forget(self, revision: int | None = None) -> None:
        """Drop the history up to a version, as compaction does: who watches from before is told 410."""
        with self._lock:
            self._forgotten = self._revision if revision is None else revision
            self._events = [event for event in self._events if event[0] > self._forgotten]

    def watch(self, path: str, query: Mapping[str, str], seconds: float) -> Iterator[dict[str, Any]]:
        """Events from a resource version on, until the time is over; the last one is a bookmark where one is wanted."""
        import time

        match = PATH.match(path)
        assert match is not None
        plural, namespace = match["plural"], match["namespace"] or ""
        with self._lock:
            self.requests.append(("WATCH", path))
            asked = query.get("resourceVersion") or ""
            seen = int(asked or 0)
            if asked in ("", "0"):
                start = [d for k, d in sorted(self.objects.items()) if k[0] == plural]
                for document in start:
                    if selected(document, query) and namespace in ("", document["metadata"].get("namespace")):
                        yield {"type": "ADDED", "object": copy.deepcopy(document)}
                seen = self._revision
            elif seen < self._forgotten:
                yield {"type": "ERROR", "object": _status(410, "Expired", "too old resource version")[1]}
                return
        end = time.monotonic() + seconds
        while True:
            with self._lock:
                news = [event for event in self._events if event[0] > seen and event[2] == plural]
                revision = self._revision
                if not news and (left := end - time.monotonic()) > 0:
                    self._lock.wait(min(left, 0.2))
                    continue
            for number, event, _, document in news:
                seen = number
                if selected(document, query) and namespace in ("", document["metadata"].get("namespace")):
                    yield {"type": event, "object": document}
            if not news:
                if query.get("allowWatchBookmarks") in ("true", "True"):
                    api, kind = next((r.api, r.kind) for r in self.schemas.resources.values() if r.plural == plural)
                    mark = {"apiVersion": api, "kind": kind, "metadata": {"resourceVersion": str(revision)}}
                    yield {"type": "BOOKMARK", "object": mark}
                return


def selected(document: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether an object meets the label and field selectors of a query."""
    labels = document["metadata"].get("labels") or {}
    for term in re.split(r",(?![^(]*\))", query.get("labelSelector") or ""):
        term = term.strip()
        among = re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term)
        if among:
            inside = labels.get(among[1]) in {value.strip() for value in among[3].split(",")}
            met = inside if among[2] == "in" else not inside
        elif "=" in term:
            key, value = re.split(r"==|!=|=", term, maxsplit=1)
            met = (labels.get(key.strip()) == value.strip()) != ("!=" in term)
        else:
            met = not term or ((term.lstrip("!") in labels) != term.startswith("!"))
        if not met:
            return False
    for term in filter(None, (query.get("fieldSelector") or "").split(",")):
        path, value = re.split(r"==|!=|=", term, maxsplit=1)
        node: Any = document
        for part in path.split("."):
            node = node.get(part, "") if isinstance(node, Mapping) else ""
        if (str(node) == value) == ("!=" in term):
            return False
    return True


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    state = "Success" if code < 400 else "Failure"
    return code, {
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": state, "reason": reason, "message": message,
        "code": code,
    }  # fmt: skip


@contextmanager
def cluster(schemas: Schemas) -> Iterator[Cluster]:
    """A cluster's API on a loopback port; its `url` is where."""
    held = Cluster(schemas)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm, wbufsize = True, -1  # headers and body leave together, without waiting

        def _handle(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("content-length") or 0)
            data = self.rfile.read(length) if length else b""
            kind = self.headers.get("content-type") or ""
            if "protobuf" in kind:
                self._send(415, json.dumps(_status(415, "UnsupportedMediaType", "JSON and YAML alone")[1]).encode())
                return
            # The official client sends JSON under the name of YAML, of which it is a part.
            body = (json.loads(data) if data[:1] in b"{[" else yaml.safe_load(data)) if data else None
            if query.get("watch") in ("true", "1", "True"):
                self._stream(held.watch(url.path, query, float(query.get("timeoutSeconds") or 5)))
                return
            code, document = held.answer(self.command, url.path, body, query, kind)
            self._send(code, json.dumps(document).encode())

        def _send(self, code: int, data: bytes) -> None:
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, events: Iterator[dict[str, Any]]) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            try:
                for event in events:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _handle  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield held
    finally:
        server.shutdown()
        server.server_close()
