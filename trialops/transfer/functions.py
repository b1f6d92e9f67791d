"""Azure Functions: the report function, by the asynchronous request-reply pattern (202, then poll).

The instance id is our token: asked for before it is posted, so that a repeated start finds it. A status address on any
other host than the function's own is refused, and a key that comes in an address is taken out of it: keys travel in a
header, and no address that holds one is kept, logged or shown.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit, urlunsplit

from trialops.transfer.failures import Kind, TransferFailure
from trialops.transfer.job import Observed, Phase, Start, Started

if TYPE_CHECKING:
    import httpx

STATES: dict[str, Phase] = {
    "Pending": "running",
    "Running": "running",
    "ContinuedAsNew": "running",
    "Suspended": "running",
    "Completed": "succeeded",
    "Failed": "failed",
    "Canceled": "failed",
    "Terminated": "failed",
}
"""OrchestrationRuntimeStatus of Durable Functions, all of it."""

KEY_VARIABLE = "TRIALOPS_REPORT_FUNCTION_KEY"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SECRET_PARAMETERS = frozenset({"code", "sig", "key", "access_token"})


class FunctionJob:
    """One instance of the report orchestration.

    Args:
        client: HTTP client; redirects are never followed.
        start: Address that starts it; ``{instance}`` stands for the instance id.
        status: Address of its status; ``{instance}`` likewise.
        payload: JSON it is started with: names, counts and digests.
        headers: Makes the headers that say who asks.
        stop: Address that terminates it; empty where there is none.
    """

    provider = "functions"

    def __init__(
        self,
        client: httpx.Client,
        *,
        start: str,
        status: str,
        payload: Mapping[str, Any],
        headers: Callable[[], Mapping[str, str]],
        stop: str = "",
    ) -> None:
        # Below INFO, httpcore writes the headers of answers, and the address in one may hold a key.
        for name in ("httpcore.http11", "httpcore.http2"):
            logging.getLogger(name).setLevel(logging.INFO)
        self._client, self._start, self._status, self._stop = client, start, status, stop
        self._payload, self._headers = payload, headers
        self._host = pinned(start)
        for address in (status, stop):
            if address and pinned(address) != self._host:
                raise TransferFailure(
                    "permanent", "The function's addresses are on different hosts", where=self._host[1]
                )
        self._given: dict[str, tuple[str, str]] = {}
        self.where = f"function {urlsplit(start).hostname}"

    def start_or_adopt(self, start: Start) -> Started:
        """Start the instance, unless there is one under this id; see `CloudJob`."""
        if not start.fresh and self._send("GET", self._status_of(start.token), missing=True) is not None:
            return Started(start.token, adopted=True)
        answer = self._send("POST", self._fill(self._start, start.token), json=self._payload, conflict=True)
        assert answer is not None
        if answer.status_code == 409:
            return Started(start.token, adopted=True)
        self._take(start.token, answer)
        return Started(start.token)

    def _take(self, token: str, answer: httpx.Response) -> None:
        """Take the status address of an answer, on our host alone, its key out of it."""
        location = answer.headers.get("Location", "")
        if not location:
            return
        address = urljoin(self._fill(self._start, token), location)
        parts = urlsplit(address)
        if (parts.scheme, parts.hostname or "", _port(parts)) != self._host:
            raise TransferFailure(
                "permanent",
                "The function gave a status address on another host",
                code="host",
                where=self.where,
                fix="Find out who answers in its name; nothing was sent there.",
            )
        query = parse_qsl(parts.query, keep_blank_values=True)
        code = next((value for name, value in query if name.lower() == "code"), "")
        kept = [(name, value) for name, value in query if name.lower() not in SECRET_PARAMETERS]
        self._given[token] = (urlunsplit(parts._replace(query=urlencode(kept), fragment="")), code)

    def _status_of(self, token: str) -> str:
        return self._given[token][0] if token in self._given else self._fill(self._status, token)

    def poll(self, job_id: str) -> Observed:
        """Ask for the status: 202 while it runs, 200 with a runtimeStatus when it has ended."""
        answer = self._send("GET", self._status_of(job_id), key=self._given.get(job_id, ("", ""))[1])
        assert answer is not None
        try:
            body = answer.json()
            native = str(body["runtimeStatus"])
        except (ValueError, KeyError, TypeError):
            if answer.status_code == 202:
                return Observed("", "running")
            raise TransferFailure(
                "retryable", "The function's status has no runtimeStatus", code="no status", where=self.where
            ) from None
        return Observed(native, STATES.get(native, "running"), {"output": body.get("output")}, "permanent", native)

    def cancel(self, job_id: str) -> None:
        """Terminate the instance, where there is an address for it."""
        if self._stop:
            self._send("POST", self._fill(self._stop, job_id), missing=True)

    def evidence(self, job_id: str, seen: Observed) -> dict[str, Any]:
        """The output names the run it was made for and each report with its digest."""
        output, problem = seen.facts.get("output"), ""
        reports = output.get("reports") if isinstance(output, dict) else None
        if not isinstance(output, dict) or not isinstance(reports, list) or not reports:
            problem = "names no report"
        elif output.get("run_id") != self._payload["run_id"]:
            problem = "is of another run"
        elif not all(_is_report(report) for report in reports):
            problem = "has a report without name, digest or size"
        if problem:
            raise TransferFailure(
                "integrity", f"The function completed, but its output {problem}", code="output", where=self.where
            )
        assert isinstance(reports, list)
        kept = [{name: report[name] for name in ("name", "sha256", "bytes")} for report in reports]
        return {"instance": job_id, "reports": sorted(kept, key=lambda report: str(report["name"]))}

    def _send(
        self, method: str, url: str, *, json: Any = None, key: str = "", missing: bool = False, conflict: bool = False
    ) -> httpx.Response | None:
        """One request; its failures by kind. With `missing`, 404 is None; with `conflict`, 409 is an answer."""
        import httpx

        headers = dict(self._headers())
        if key:
            headers["x-functions-key"] = key
        try:
            answer = self._client.request(method, url, json=json, headers=headers, follow_redirects=False)
        except httpx.TransportError as error:
            name = type(error).__name__
            raise TransferFailure(
                "retryable", "The function could not be reached", code=name, where=self.where
            ) from None
        status = answer.status_code
        if status in (200, 202) or (conflict and status == 409):
            return answer
        if missing and status in (404, 410):
            return None
        # Durable Functions answer 500 for a failed instance where they are told to; the body then has its status.
        if status == 500 and method == "GET" and b'"runtimeStatus"' in answer.content:
            return answer
        kind: Kind = "retryable" if status in (408, 425, 429) or status >= 500 else "permanent"
        raise TransferFailure(kind, f"The function answered {status}", code=str(status), where=self.where)

    @staticmethod
    def _fill(address: str, token: str) -> str:
        return address.replace("{instance}", quote(token, safe=""))


def _is_report(report: Any) -> bool:
    return (
        isinstance(report, dict)
        and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,120}", str(report.get("name", ""))))
        and bool(re.fullmatch(r"[0-9a-f]{64}", str(report.get("sha256", ""))))
        and isinstance(report.get("bytes"), int)
        and report["bytes"] > 0
    )


def _port(parts: Any) -> int:
    return int(parts.port or (443 if parts.scheme == "https" else 80))


def pinned(address: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address that may be asked.

    Raises:
        TransferFailure: It is not HTTPS (loopback aside), or holds credentials or a key.
    """
    parts = urlsplit(address)
    names = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise TransferFailure("permanent", "The function's address is not https", where=str(parts.hostname or ""))
    if parts.username or parts.password or names & SECRET_PARAMETERS:
        raise TransferFailure(
            "permanent",
            "The function's address holds a key",
            where=str(parts.hostname or ""),
            fix=f"Take it out of the address; set {KEY_VARIABLE} from a secret, or use workload identity.",
        )
    return parts.scheme, parts.hostname or "", _port(parts)


def credentials(scope: str, credential: Any = None, key: str | None = None) -> Callable[[], Mapping[str, str]]:
    """Who asks: workload identity or another credential of Azure's default chain first, a function key after it.

    Args:
        scope: Scope of the token, ``api://<application>/.default``; empty uses the key alone.
        credential: Of azure-identity; DefaultAzureCredential by default, which takes a pod's workload identity.
        key: Function key; from the environment by default.
    """
    secret = os.environ.get(KEY_VARIABLE, "") if key is None else key
    held: list[Any] = [credential]

    def headers() -> Mapping[str, str]:
        if scope:
            from azure.core.exceptions import ClientAuthenticationError

            if held[0] is None:
                from azure.identity import DefaultAzureCredential

                held[0] = DefaultAzureCredential(exclude_interactive_browser_credential=True)
            try:
                return {"Authorization": f"Bearer {held[0].get_token(scope).token}"}
            except ClientAuthenticationError:  # its text may name tenants and files
                if not secret:
                    raise TransferFailure(
                        "permanent", "No credential for the function could be had", code="credential", where=scope
                    ) from None
        return {"x-functions-key": secret} if secret else {}

    return headers
