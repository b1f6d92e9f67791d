"""Nothing that could not be reached is healthy: silent servers, names that do not resolve, wrong certificates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.bad_servers import https_server, silent_server
from trialops.operations.health import Finding, exit_code, worst
from trialops.operations.probing import PROBES, Ask, ask_all
from trialops.operations.reach import NO_NAME, NOT_TLS, REFUSED, UNTRUSTED, trouble
from trialops.operations.services import load_policy, standing, survey
from trialops.settings import Settings

HOST = "no-such-host.invalid"
ADDRESSES: dict[str, Callable[[str, int], str]] = {
    "kafka": lambda host, port: f"{host}:{port}",
    "spark": lambda host, port: f"http://{host}:{port}",
    "mlflow": lambda host, port: f"http://{host}:{port}",
    "model": lambda host, port: f"http://{host}:{port}",
    "database": lambda host, port: f"postgresql+psycopg://trialops:s3cret@{host}:{port}/trialops",
    "redis": lambda host, port: f"redis://:s3cret@{host}:{port}/0",
    "features": lambda host, port: f"redis://:s3cret@{host}:{port}/0",
    "objects": lambda host, port: "s3://trial/home",
    "kserve": lambda host, port: "models/withdrawal",
}


def ask(
    kinds: list[str], host: str, port: int, home: Path, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 1.0
) -> dict[str, list[Finding]]:
    """Ask services of some kinds, all at one address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    settings = Settings(home=home, kubernetes_url=f"http://{host}:{port}", kafka_groups="intake")
    limits = load_policy().thresholds
    asks = [Ask(kind, kind, ADDRESSES[kind](host, port), "SETTING", settings, seconds, limits[kind]) for kind in kinds]
    found = ask_all(asks, seconds=seconds * 6)
    return {kind: [one for one in found if one.component == kind] for kind in kinds}


def test_every_kind_of_service_is_tried() -> None:
    assert set(ADDRESSES) == set(PROBES)


@pytest.mark.slow
def test_a_server_that_never_answers_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server() as port:
        for kind, found in ask(sorted(ADDRESSES), "127.0.0.1", port, tmp_path, monkeypatch).items():
            assert [one.state for one in found] == ["unknown"], (kind, found)
            assert "s3cret" not in str(found) and found[0].fix


def test_a_server_that_hangs_up_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_server(hang_up=True) as port:
        for kind, found in ask(sorted(ADDRESSES), "127.0.0.1", port, tmp_path, monkeypatch).items():
            assert {one.state for one in found} <= {"unknown", "broken"}, (kind, found)


def test_a_name_that_does_not_resolve_is_unknown_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, found in ask(sorted(ADDRESSES), HOST, 9999, tmp_path, monkeypatch, seconds=3.0).items():
        assert [one.state for one in found] == ["unknown"], (kind, found)
        assert kind == "features" or found[0].detail == NO_NAME.detail, (kind, found)


def test_a_port_nobody_listens_on_is_unknown_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, found in ask(sorted(ADDRESSES), "127.0.0.1", 1, tmp_path, monkeypatch).items():
        assert [one.state for one in found] == ["unknown"], (kind, found)
        assert kind == "features" or found[0].detail == REFUSED.detail, (kind, found)


@pytest.mark.parametrize("kind", ["mlflow", "spark", "model"])
def test_a_certificate_of_another_name_is_broken(kind: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with https_server(tmp_path, "another.example") as port:
        asked = Ask(kind, kind, f"https://127.0.0.1:{port}", "SETTING", settings, 5.0, load_policy().thresholds[kind])
        (found,) = ask_all([asked], seconds=10)
    assert (found.state, found.detail) == ("broken", UNTRUSTED.detail)


def test_a_server_without_tls_is_broken(tmp_path: Path) -> None:
    import http.server
    import threading

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"https://127.0.0.1:{server.server_address[1]}"
        (found,) = ask_all([Ask("mlflow", "mlflow", address, "SETTING", Settings(home=tmp_path), 5.0)], seconds=10)
    finally:
        server.shutdown()
        server.server_close()
    assert (found.state, found.detail) == ("broken", NOT_TLS.detail)


def test_what_a_library_says_is_not_repeated() -> None:
    met = trouble(RuntimeError("postgresql://trialops:s3cret@db/x"), 1.0)
    assert met.state == "unknown" and "s3cret" not in met.detail + met.fix


# -- which services are expected ---------------------------------------------------------------------------------


def test_expected_and_not_configured_is_unknown(tmp_path: Path) -> None:
    looked = survey(Settings(home=tmp_path, services="kafka, spark"), load_policy(), datetime.now(UTC))
    found = {one.component: one for one in looked.findings if one.component in ("kafka", "spark")}
    assert {one.state for one in found.values()} == {"unknown"}
    assert found["kafka"].fix == "Set TRIALOPS_KAFKA_BOOTSTRAP, or take it out of TRIALOPS_SERVICES."
    assert worst(looked.findings) == "unknown" and exit_code(looked.findings) == 2
    assert "kafka" not in looked.unused


def test_neither_expected_nor_configured_is_not_used(tmp_path: Path) -> None:
    looked = survey(Settings(home=tmp_path), load_policy(), datetime.now(UTC))
    assert set(looked.unused) >= {"kafka", "spark", "redis", "model server", "kserve", "postgresql"}
    assert {one.component for one in looked.findings} == {"object store"}
    assert exit_code(looked.findings) == 0


def test_a_service_nobody_knows_is_refused(tmp_path: Path) -> None:
    from trialops.errors import TrialOpsError

    with pytest.raises(TrialOpsError, match="no service 'kafak'"):
        standing(Settings(home=tmp_path, services="kafak"), load_policy())


def test_of_nothing_nothing_is_known() -> None:
    assert worst([]) == "unknown" and exit_code([]) == 2
