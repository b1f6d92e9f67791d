"""HTTP to a FHIR server: encrypted, patient with a busy server, never further than the server asked for.

An answer's text may tell of patients; an error here names status and codes alone.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from trialops.errors import TrialOpsError
from trialops.intake.fhir_json import JsonFault, parse_strict

if TYPE_CHECKING:
    import httpx

ACCEPT = "application/fhir+json"
BUSY = frozenset({408, 429, 500, 502, 503, 504})
MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one page; a page is held in memory while it is sealed."""


@dataclass(frozen=True)
class Limits:
    """How long a server is waited for.

    Attributes:
        attempts: Tries per request.
        first_wait: Seconds before the second try; doubled each time.
        longest_wait: Seconds at most between two tries, also when the server asks for more.
        timeout: Seconds to connect and between bytes.
        pages: Pages of one search.
        polls: Times an export is asked whether it is done.
    """

    attempts: int = 6
    first_wait: float = 1.0
    longest_wait: float = 120.0
    timeout: float = 60.0
    pages: int = 100_000
    polls: int = 720


class Gone(TrialOpsError):
    """The server no longer knows a page: the search has to begin anew."""


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(url: str) -> str:
    """A server's base URL without a slash at its end.

    Raises:
        TrialOpsError: No http(s) URL, one with a password in it, or one that leaves the machine unencrypted.
    """
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise TrialOpsError(
            "The address of the FHIR server is no http or https URL",
            where="FHIR_ENDPOINT",
            fix="Give the base URL, for example https://ehr.example.org/fhir.",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TrialOpsError(
            "The address of the FHIR server holds more than host and path",
            where="FHIR_ENDPOINT",
            fix="Give a token in TRIALOPS_FHIR_TOKEN, and no query.",
        )
    if parts.scheme == "http" and not is_loopback(host):
        raise TrialOpsError(
            "Patient data may not travel unencrypted",
            where=f"FHIR_ENDPOINT (host {host})",
            fix="Use https; plain http is for this machine alone.",
        )
    return url.strip().rstrip("/")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


class FhirClient:
    """Requests to one server.

    Args:
        base: Base URL.
        token: Bearer token; sent to this server alone.
        ca: File of certificates to trust instead of the system's.
        limits: Patience.
        sleep: Waits; replaced in tests.
        say: Called with what is being waited for.
    """

    def __init__(
        self,
        base: str,
        *,
        token: str = "",
        ca: str = "",
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] | None = None,
    ) -> None:
        import httpx

        self.base = check_endpoint(base)
        self.limits = limits or Limits()
        self.waited: list[float] = []
        self._sleep, self._say, self._token = sleep, say, token
        local = is_loopback(urlsplit(self.base).hostname or "")
        self._client = httpx.Client(
            verify=_trust(ca),
            timeout=self.limits.timeout,
            follow_redirects=False,
            trust_env=not local,
            headers={"Accept": ACCEPT, "User-Agent": "trialops"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def absolute(self, url: str, *, foreign: bool = False) -> str:
        """A URL the server named, made absolute.

        Raises:
            TrialOpsError: It leads to another server, or leaves the machine unencrypted.
        """
        full = urljoin(self.base + "/", url)
        if origin(full) == origin(self.base):
            return full
        if not foreign or urlsplit(full).scheme != "https":
            raise TrialOpsError(
                "The FHIR server's answer leads to another server",
                where=f"host {urlsplit(full).hostname}",
                fix="Have the server give links to itself, or point FHIR_ENDPOINT to the address it uses.",
            )
        return full

    def get_json(self, url: str, **headers: str) -> tuple[dict[str, Any], httpx.Response]:
        """GET a JSON object.

        Raises:
            TrialOpsError: The server refuses, stays unavailable, or does not answer with a JSON object.
        """
        response = self.request("GET", url, headers=headers)
        return self.body_of(response), response

    def body_of(self, response: httpx.Response) -> dict[str, Any]:
        """The JSON object of an answer.

        Raises:
            TrialOpsError: It is none.
        """
        try:
            body = parse_strict(response.content)
        except JsonFault as fault:
            raise self._error("answered with something that is not sound JSON", str(fault)) from None
        if not isinstance(body, dict):
            raise self._error("answered with JSON that is no object", "")
        return body

    def request(self, method: str, url: str, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One request, tried again while the server is busy; the answer is read whole, within MAX_ANSWER."""
        for attempt in range(1, self.limits.attempts + 1):
            response, trouble = self._try(method, url, headers or {})
            if response is not None and response.status_code not in BUSY:
                return self._accepted(response)
            if attempt == self.limits.attempts:
                break
            self._wait(attempt, url, response)
        if response is not None:
            raise self._refused(response, f"is still busy after {self.limits.attempts} tries")
        raise self._error(f"cannot be reached in {self.limits.attempts} tries", trouble)

    @contextmanager
    def stream(self, url: str, *, authorised: bool) -> Iterator[httpx.Response]:
        """GET a file piece by piece; the beginning of the answer is tried again as in :meth:`request`."""
        headers = self._authorization(url) if authorised else {}
        for attempt in range(1, self.limits.attempts + 1):
            request = self._client.build_request(
                "GET", url, headers={**headers, "Accept": "application/fhir+ndjson, application/x-ndjson"}
            )
            response, trouble = self._send(request, stream=True)
            if response is not None and response.status_code not in BUSY:
                break
            if response is not None:
                response.close()
            if attempt == self.limits.attempts:
                raise self._error(f"does not give out a file in {attempt} tries", trouble)
            self._wait(attempt, url, response)
        assert response is not None
        try:
            if response.status_code != 200:
                raise self._error("does not give out a file", f"status {response.status_code}")
            yield response
        finally:
            response.close()

    def _try(self, method: str, url: str, headers: Mapping[str, str]) -> tuple[httpx.Response | None, str]:
        import httpx

        request = self._client.build_request(method, url, headers={**self._authorization(url), **headers})
        response, trouble = self._send(request, stream=True)
        if response is None:
            return None, trouble
        parts, size = [], 0
        try:
            for part in response.iter_bytes():
                size += len(part)
                if size > MAX_ANSWER:
                    raise self._error("answers with more than one page may hold", f"over {MAX_ANSWER:,} bytes")
                parts.append(part)
        except httpx.HTTPError as error:
            return None, type(error).__name__
        finally:
            response.close()
        # Built anew: what was read here piece by piece is the content now.
        kept = [(k, v) for k, v in response.headers.items() if k.lower() not in ("content-encoding", "content-length")]
        whole = httpx.Response(response.status_code, headers=kept, content=b"".join(parts), request=request)
        return whole, ""

    def _send(self, request: httpx.Request, *, stream: bool) -> tuple[httpx.Response | None, str]:
        import ssl

        import httpx

        try:
            return self._client.send(request, stream=stream), ""
        except httpx.ConnectError as error:
            cause: BaseException | None = error
            while cause is not None:
                if isinstance(cause, ssl.SSLError):
                    raise self._untrusted() from None
                cause = cause.__cause__ or cause.__context__
            return None, "ConnectError"
        except httpx.HTTPError as error:
            return None, type(error).__name__

    def _authorization(self, url: str) -> dict[str, str]:
        if not self._token or origin(url) != origin(self.base):
            return {}
        return {"Authorization": f"Bearer {self._token}"}

    def _wait(self, attempt: int, url: str, response: httpx.Response | None) -> None:
        asked = retry_after(response.headers.get("Retry-After", "")) if response is not None else None
        wait = self.limits.first_wait * 2 ** (attempt - 1)
        # Spread by the URL, so that requests that failed together do not come back together.
        spread = int(hashlib.sha256(f"{url}{attempt}".encode()).hexdigest()[:4], 16) / 0xFFFF
        seconds = min(self.limits.longest_wait, asked if asked is not None else wait * (0.75 + 0.5 * spread))
        if self._say:
            what = f"status {response.status_code}" if response is not None else "no answer"
            self._say(f"the FHIR server is busy ({what}); trying again in {seconds:.0f} s")
        self.waited.append(seconds)
        self._sleep(seconds)

    def pause(self, response: httpx.Response, attempt: int) -> None:
        """Wait as long as the server asks before it is polled again."""
        asked = retry_after(response.headers.get("Retry-After", ""))
        seconds = min(
            self.limits.longest_wait, asked if asked is not None else self.limits.first_wait * 2 ** min(attempt, 6)
        )
        self.waited.append(seconds)
        self._sleep(seconds)

    def _accepted(self, response: httpx.Response) -> httpx.Response:
        if response.status_code == 410:
            raise Gone("The FHIR server no longer has a page of the search", where=urlsplit(self.base).hostname or "")
        if not 200 <= response.status_code < 300:
            raise self._refused(response, f"refuses (status {response.status_code})")
        return response

    def _refused(self, response: httpx.Response, what: str) -> TrialOpsError:
        fix = {
            401: "Give a valid token in TRIALOPS_FHIR_TOKEN.",
            403: "Have the account that the token stands for granted read access.",
            404: "Check the path of FHIR_ENDPOINT: it ends where resource types begin.",
        }.get(response.status_code, "Try again later; if it stays so, ask the server's operator.")
        return self._error(what, outcome_codes(response.content), fix)

    def _untrusted(self) -> TrialOpsError:
        return self._error(
            "is not trusted: its certificate could not be verified",
            "",
            "Have it issued for this host by a known authority, or give the authority's file in TRIALOPS_FHIR_CA.",
        )

    def _error(self, what: str, detail: str, fix: str = "Look at the server's own log.") -> TrialOpsError:
        return TrialOpsError(
            f"The FHIR server {what}{f': {detail}' if detail else ''}",
            where=f"FHIR_ENDPOINT (host {urlsplit(self.base).hostname})",
            fix=fix,
        )


def _trust(ca: str) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError):
        raise TrialOpsError(
            "The file of trusted certificates cannot be read", where="TRIALOPS_FHIR_CA", fix="Give a PEM file."
        ) from None


def retry_after(text: str, now: dt.datetime | None = None) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date; None where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 8:
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - (now or dt.datetime.now(dt.UTC))).total_seconds())


def outcome_codes(content: bytes) -> str:
    """Severity and code of an OperationOutcome's issues; never its texts, which may quote a patient's data."""
    from trialops.intake.fhir_items import ID

    try:
        body = parse_strict(content)
    except JsonFault:
        return ""
    if not isinstance(body, dict) or body.get("resourceType") != "OperationOutcome":
        return ""
    issues = body.get("issue")
    found = [i for i in issues if isinstance(i, dict)] if isinstance(issues, list) else []
    words = [str(i.get(k, "")) for i in found[:5] for k in ("severity", "code")]
    return " ".join(word for word in words if ID.match(word))
