"""Handing a message to a gateway: what a transport does, and the one over HTTP.

FDA's Electronic Submissions Gateway speaks AS2 and has a web form; it has no REST interface. The HTTP transport talks
to a gateway of the sponsor's (or its provider's) by the interface in docs/reference/report_gateway.openapi.json; the
folder transport (folder_transport.py) hands files to an AS2 gateway such as ESG's own client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from trialops.errors import TrialOpsError
from trialops.intake.fhir_http import is_loopback, retry_after

if TYPE_CHECKING:
    import httpx

    from trialops.settings import Settings

VARIABLE = "REGULATORY_REPORTING_API"
LARGEST = 32 * 1024 * 1024
"""Bytes of an answer."""
GIVE_UP = 3
"""Messages in a row for which the gateway does not answer, after which it is left alone."""
_REFUSALS = frozenset({400, 413, 415, 422})
"""The gateway looked at the message and does not want it; anything else may be different the next time."""


@dataclass(frozen=True)
class Receipt:
    """The gateway has a message.

    Attributes:
        message_id: Number of the message.
        digest: SHA-256 of what the gateway has.
        number: The gateway's own number.
        at: When it took it, as the gateway says.
    """

    message_id: str
    digest: str
    number: str
    at: str


class Unsure(Exception):
    """Not handed over, or not known whether: to be tried again.

    Args:
        reason: A word or two ("status 503", "ReadTimeout"); no content.
        wait: Seconds the gateway asks to wait; None where it does not.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.wait = reason, wait


class Refused(Exception):
    """The gateway has looked at the message and refuses it; `codes` are its error codes."""

    def __init__(self, status: int, codes: Sequence[str] = ()) -> None:
        super().__init__(f"status {status}")
        self.status, self.codes = status, tuple(codes)


class Conflict(Exception):
    """The gateway has another message under this number: a person has to look."""


class Transport(Protocol):
    """What the sender needs of a gateway."""

    def deliver(self, message_id: str, digest: str, data: bytes) -> Receipt:
        """Hand a message over; doing it twice with the same bytes leaves one. Raises Unsure, Refused, Conflict."""

    def find(self, message_id: str, digest: str) -> Receipt | None:
        """What the gateway has under a number; None where it has nothing. Raises Unsure, Conflict."""

    def acknowledgements(self, message_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Acknowledgements that are there, each with its place, for messages that wait for one. Raises Unsure."""

    def read(self, place: str) -> None:
        """An acknowledgement has been dealt with."""

    def close(self) -> None:
        """Let go of connections."""


def open_transport(settings: Settings, *, timeout: float = 30.0) -> Transport:
    """The transport to the gateway at REGULATORY_REPORTING_API.

    Raises:
        TrialOpsError: It is not set, or not an address that may be used.
    """
    url = settings.regulatory_reporting_api.strip()
    if not url:
        raise TrialOpsError(
            "There is no gateway to send reports to",
            where=VARIABLE,
            fix="Set it to the gateway's https URL, or to file:///folder for a gateway that picks up files.",
        )
    parts = urlsplit(url)
    if parts.scheme == "file":
        from pathlib import Path

        from trialops.safety.e2b.folder_transport import FolderTransport

        if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
            raise TrialOpsError("The folder of the gateway is no local path", where=VARIABLE, fix="file:///folder")
        return FolderTransport(Path(unquote(parts.path)))
    token = settings.regulatory_token.get_secret_value() if settings.regulatory_token else ""
    return HttpTransport(url, token=token, ca=settings.regulatory_ca, timeout=timeout)


def check_gateway(url: str) -> str:
    """The gateway's base URL without a slash at its end.

    Raises:
        TrialOpsError: No http(s) URL, one with more than host and path, or one that leaves the machine unencrypted.
    """
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    problem, fix = "", "Give the base URL, for example https://gateway.example.org/reports, or file:///folder."
    if parts.scheme not in ("http", "https") or not host:
        problem = "The address of the gateway is no http, https or file URL"
    elif parts.username or parts.password or parts.query or parts.fragment:
        problem, fix = "The address of the gateway holds more than host and path", "Token: TRIALOPS_REGULATORY_TOKEN."
    elif parts.scheme == "http" and not is_loopback(host):
        problem, fix = "A safety report may not travel unencrypted", "Use https; plain http is for this machine alone."
    if problem:
        raise TrialOpsError(problem, where=VARIABLE, fix=fix)
    return url.strip().rstrip("/")


class HttpTransport:
    """A gateway over HTTP.

    Args:
        base: Base URL.
        token: Bearer token; sent to this host alone, since redirects are not followed.
        ca: File of certificates to trust instead of the system's.
        timeout: Seconds to connect and between bytes.
    """

    def __init__(self, base: str, *, token: str = "", ca: str = "", timeout: float = 30.0) -> None:
        import ssl

        import httpx

        self.base = check_gateway(base)
        try:
            trust = ssl.create_default_context(cafile=ca or None)
        except (OSError, ssl.SSLError):
            raise TrialOpsError(
                "The file of trusted certificates cannot be read",
                where="TRIALOPS_REGULATORY_CA",
                fix="Give a PEM file.",
            ) from None
        headers = {"User-Agent": "trialops", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(
            verify=trust,
            timeout=timeout,
            follow_redirects=False,
            trust_env=not is_loopback(urlsplit(self.base).hostname or ""),
            headers=headers,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def deliver(self, message_id: str, digest: str, data: bytes) -> Receipt:
        """POST a message under its number and digest."""
        headers = {"Content-Type": "application/xml", "Idempotency-Key": message_id, "Content-Digest": _digest(data)}
        response = self._request("POST", "/messages", content=data, headers=headers)
        if response.status_code in (200, 201, 202):
            return self._receipt(response, message_id, digest)
        if response.status_code == 409:
            raise Conflict
        if response.status_code in _REFUSALS:
            raise Refused(response.status_code, _codes(response))
        raise _unsure(response)

    def find(self, message_id: str, digest: str) -> Receipt | None:
        """GET what the gateway has under a number."""
        response = self._request("GET", f"/messages/{quote(message_id, safe='')}")
        if response.status_code == 404 and "message_unknown" in _codes(response):
            return None
        if response.status_code != 200:
            raise _unsure(response)
        return self._receipt(response, message_id, digest)

    def acknowledgements(self, message_ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """GET the acknowledgements of each message; one that fails does not keep back the others."""
        trouble, in_a_row = None, 0
        for message_id in message_ids:
            try:
                found = self._acknowledgements(message_id)
            except Unsure as error:
                trouble, in_a_row = error, in_a_row + 1
                if in_a_row == GIVE_UP:
                    break
                continue
            in_a_row = 0
            for place, data in enumerate(found, 1):
                yield f"{message_id}, acknowledgement {place}", data
        if trouble:
            raise trouble

    def _acknowledgements(self, message_id: str) -> list[bytes]:
        response = self._request("GET", f"/messages/{quote(message_id, safe='')}/acknowledgements")
        if response.status_code == 404 and "message_unknown" in _codes(response):
            return []
        if response.status_code != 200:
            raise _unsure(response)
        listed = _json(response).get("acknowledgements")
        try:
            return [base64.b64decode(str(item["content"]), validate=True) for item in listed or []]
        except (binascii.Error, ValueError, TypeError, KeyError):
            raise Unsure("acknowledgements that are not base 64") from None

    def read(self, place: str) -> None:
        """Nothing to do: the gateway keeps them."""

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        request = self._client.build_request(method, self.base + path, **more)
        try:
            response = self._client.send(request, stream=True)
            try:
                parts, size = [], 0
                for part in response.iter_bytes():
                    size += len(part)
                    if size > LARGEST:
                        raise Unsure("an answer that is too large")
                    parts.append(part)
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise Unsure(type(error).__name__) from None
        kept = [(k, v) for k, v in response.headers.items() if k.lower() not in ("content-encoding", "content-length")]
        return httpx.Response(response.status_code, headers=kept, content=b"".join(parts), request=request)

    def _receipt(self, response: httpx.Response, message_id: str, digest: str) -> Receipt:
        body = _json(response)
        found = Receipt(*(str(body.get(name, "")) for name in ("message_id", "digest", "receipt", "received_at")))
        if found.message_id != message_id or not found.digest:
            raise Unsure("a receipt for another message")
        if found.digest != digest:
            raise Conflict
        return found


def _digest(data: bytes) -> str:
    """RFC 9530."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        raise Unsure("an answer that is no JSON") from None
    if not isinstance(body, dict):
        raise Unsure("an answer that is no JSON object")
    return body


def _codes(response: httpx.Response) -> list[str]:
    """Error codes of an answer; never its words, which may quote a case."""
    try:
        body = response.json()
    except ValueError:
        return []
    listed = body.get("errors") if isinstance(body, dict) else None
    codes = [str(item.get("code", "")) for item in listed or [] if isinstance(item, dict)]
    return [code for code in codes[:20] if code.isascii() and code.replace("_", "").replace(".", "").isalnum()]


def _unsure(response: httpx.Response) -> Unsure:
    return Unsure(f"status {response.status_code}", retry_after(response.headers.get("Retry-After", "")))
