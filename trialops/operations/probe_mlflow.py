"""MLflow: answers, keeps a model and forgets it, gives back an artifact."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.operations.health import Finding
from trialops.operations.http_probe import client, question, refusal, text

if TYPE_CHECKING:
    import httpx

    from trialops.operations.probing import Ask

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
NAME = "trialops-health-"
"""What the throw-away names of the probe begin with."""
LEFT_SECONDS = 600


def probe(ask: Ask) -> Iterator[Finding]:
    """A tracking server by its REST API, or the SQLite file of the embedded registry."""
    return _server(ask) if ask.address.startswith("http") else _file(ask)


def _server(ask: Ask) -> Iterator[Finding]:
    import httpx

    with client(ask, ask.address, **_login()) as http:
        try:
            answer = http.get("/health")
        except (httpx.HTTPError, OSError) as error:
            yield ask.failed("reach", error, asked="GET /health")
            return
        yield refusal(ask, "reach", answer, "GET /health") or ask.say(
            "reach", "healthy", "the server answers", asked="GET /health"
        )
        yield _registry(ask, http)
        yield _artifact(ask, http)


def _login() -> dict[str, Any]:
    """The account, as MLflow's own client reads it."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"headers": {"authorization": f"Bearer {token}"}}
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{part}") for part in ("USERNAME", "PASSWORD"))
    return {"auth": (user, password or "")} if user else {}


def _registry(ask: Ask, http: httpx.Client) -> Finding:
    """A model registered under a throw-away name, read back and removed."""
    _remove_leftovers(ask, http)
    name, mark = NAME + secrets.token_hex(8), secrets.token_hex(8)
    fix = "Look at the server's log: its database (backend store) is gone, read-only, or of another version."
    check, place = "registry", f"{API}/registered-models"
    body = {"name": name, "description": mark}
    _, failed = question(ask, http, check, "POST", f"{place}/create", json=body, fix=fix)
    if failed is not None:
        return failed
    found, failed = question(ask, http, check, "GET", f"{place}/get", params={"name": name}, fix=fix)
    same = failed is None and text(found, "registered_model", "description") == mark
    _, kept = question(ask, http, check, "DELETE", f"{place}/delete", json={"name": name}, fix=fix)
    if failed is not None or kept is not None:
        return failed or kept  # type: ignore[return-value]
    return ask.say(
        check, "healthy" if same else "broken",
        "a model was registered, read back and removed" if same else "a model just registered came back otherwise",
        asked=f"{place}: create, get, delete", fix=fix,
    )  # fmt: skip


def _remove_leftovers(ask: Ask, http: httpx.Client) -> None:
    """Take out what a probe that was killed has left; one of the last minutes may belong to a probe under way."""
    place = f"{API}/registered-models"
    query = {"filter": f"name LIKE '{NAME}%'", "max_results": 100}
    found, _ = question(ask, http, "registry", "GET", f"{place}/search", params=query)
    until = (ask.now.timestamp() - LEFT_SECONDS) * 1000
    for model in (found or {}).get("registered_models") or []:
        if str(model["name"]).startswith(NAME) and float(model.get("creation_timestamp", 0)) < until:
            question(ask, http, "registry", "DELETE", f"{place}/delete", json={"name": model["name"]})


def _artifact(ask: Ask, http: httpx.Client) -> Finding:
    """A small file sent through the server to its artifact store, read back and removed."""
    import httpx

    path, data = f"{ARTIFACTS}/{NAME}{secrets.token_hex(8)}/mark", secrets.token_bytes(64)
    asked = f"{ARTIFACTS}: PUT, GET, DELETE"
    fix = "Look at the server's log: its artifact store is gone, read-only, or refuses its account."
    try:
        steps = [http.put(path, content=data)]
        if steps[-1].is_success:
            steps.append(http.get(path))
            content = steps[-1].content
            steps.append(http.delete(path))
    except (httpx.HTTPError, OSError) as error:
        return ask.failed("artifacts", error, asked=asked)
    if steps[0].status_code == 503 and "serve-artifacts" in steps[0].text:
        detail = "the server does not hand artifacts on (--no-serve-artifacts); they were not looked at"
        return ask.say("artifacts", "unknown", detail, asked=asked, fix="Serve artifacts, or watch their store itself.")
    for answer in steps:
        if (refused := refusal(ask, "artifacts", answer, asked, fix=fix)) is not None:
            return refused
    return ask.say(
        "artifacts", "healthy" if content == data else "broken",
        "a file was written, read back and removed" if content == data else "a file just written came back otherwise",
        asked=asked, fix=fix,
    )  # fmt: skip


def _file(ask: Ask) -> Iterator[Finding]:
    file = Path(ask.address.removeprefix("sqlite:///"))
    asked = "the registry's file"
    if not file.is_file():
        fix = f"Restore it from a backup, or correct {ask.variable}."
        yield ask.say("reach", "unknown", "the file is not there", asked=asked, fix=fix)
        return
    query = (
        "SELECT m.name, m.version, m.storage_location, m.source FROM model_versions m "
        "ORDER BY m.last_updated_time DESC LIMIT 1"
    )
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=ask.seconds)
        try:
            (count,) = connection.execute("SELECT COUNT(*) FROM registered_models").fetchone()
            newest = connection.execute(query).fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        fix = "Move it away; the next run makes one. Or restore it from a backup."
        yield ask.say("reach", "broken", "the file is not an MLflow store", asked=asked, fix=fix)
        return
    yield ask.say("reach", "healthy", f"SQLite, {count} registered models", asked=asked)
    if newest is None:
        return
    place = Path(str(newest[2] or newest[3]).removeprefix("file://"))
    if "://" in str(place) or str(place).startswith(("models:", "runs:")):
        return
    there = place.is_dir() and any(place.rglob("*"))
    yield ask.say(
        "artifacts", "healthy" if there else "broken",
        f"the files of {newest[0]} version {newest[1]} are " + ("there" if there else "gone"),
        asked="files of the newest version", fix="Restore the models' folder from a backup.",
    )  # fmt: skip
