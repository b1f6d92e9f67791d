"""Questions over HTTP, and what their answers mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding

if TYPE_CHECKING:
    import httpx

    from trialops.operations.probing import Ask


def client(ask: Ask, base: str, **options: Any) -> httpx.Client:
    """A client with the time limit of one question; redirects are not followed, TLS is verified."""
    import httpx

    return httpx.Client(base_url=base.rstrip("/"), timeout=ask.seconds, **options)


def refusal(ask: Ask, check: str, answer: httpx.Response, asked: str, *, fix: str = "") -> Finding | None:
    """A finding where the status is none of success."""
    status = answer.status_code
    if 200 <= status < 300:
        return None
    if status in (401, 403):
        fix = f"Give the account its rights, or correct its credentials. ({ask.variable})"
        return ask.say(check, "broken", f"access is refused (HTTP {status})", asked=asked, fix=fix)
    fix = fix or ("Read its log." if status >= 500 else f"Correct the address. ({ask.variable})")
    return ask.say(check, "broken", f"it answers HTTP {status}", asked=asked, fix=fix, value=status)


def question(
    ask: Ask, http: httpx.Client, check: str, method: str, path: str, *, fix: str = "", **options: Any
) -> tuple[Any, Finding | None]:
    """Ask for JSON; the document, or the finding that says why there is none."""
    import httpx

    asked = f"{method} {path}"
    try:
        answer = http.request(method, path, **options)
    except (httpx.HTTPError, OSError) as error:
        return None, ask.failed(check, error, asked=asked)
    if (refused := refusal(ask, check, answer, asked, fix=fix)) is not None:
        return None, refused
    try:
        return (answer.json() if answer.content else {}), None
    except ValueError:
        detail = "it answers, but not in JSON: something else listens there"
        return None, ask.say(check, "broken", detail, asked=asked, fix=f"Correct the address. ({ask.variable})")


def text(document: Mapping[str, Any], *path: str) -> str:
    """A word inside a document, empty where a part of the path is missing."""
    at: Any = document
    for name in path:
        at = at.get(name) if isinstance(at, Mapping) else None
    return "" if at is None else str(at)
