"""Pulling from a FHIR server over real HTTP: pages, histories, exports, a busy server, TLS, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from components.intake import ingest_fhir
from tests.support.fhir_server import FhirData, outcome, self_made_certificate, serve
from tests.support.homes import Made, artifact, leave, live_in
from trialops.errors import TrialOpsError
from trialops.intake import fhir_http
from trialops.intake.fhir_http import FhirClient, Limits, check_endpoint, retry_after
from trialops.intake.fhir_intake import open_zone
from trialops.intake.fhir_server import check_since, export, pull
from trialops.intake.fhir_tables import resources_of
from trialops.settings import settings
from trialops.stores import step

QUICK = Limits(attempts=4, first_wait=1.0, timeout=5.0, polls=5)


def hospital(patients: int = 25) -> FhirData:
    """A server with patients and two observations each, a week old."""
    data = FhirData()
    for i in range(patients):
        data.put({"resourceType": "Patient", "id": f"p{i:03d}", "gender": "female"}, "2026-02-20T08:00:00Z")
        for k in range(2):
            data.put(
                {
                    "resourceType": "Observation",
                    "id": f"o{i:03d}-{k}",
                    "status": "final",
                    "code": {"text": "weight"},
                    "subject": {"reference": f"Patient/p{i:03d}"},
                },
                "2026-02-20T08:00:00Z",
            )
    return data


class Kept:
    """Keeps pages in memory."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}

    def __call__(self, name: str, data: bytes) -> Any:
        from trialops.intake.fhir_documents import in_memory

        self.pages[name] = data
        return in_memory(name, data)

    def ids(self, kind: str) -> list[str]:
        """Ids of a type over all pages, in order."""
        entries = [e for data in self.pages.values() for e in json.loads(data)["entry"]]
        return [e["resource"]["id"] for e in entries if e.get("resource", {}).get("resourceType") == kind]


def client(url: str, **options: Any) -> FhirClient:
    return FhirClient(url, limits=options.pop("limits", QUICK), sleep=lambda _: None, **options)


def test_every_page_is_read_and_nothing_twice() -> None:
    with serve(hospital()) as server:
        kept = Kept()
        result = pull(client(server.url), kept, page_size=7)
    assert kept.ids("Patient") == [f"p{i:03d}" for i in range(25)]
    assert len(kept.ids("Observation")) == len(set(kept.ids("Observation"))) == 50
    assert result.pages == 4 + 8 == len(kept.pages)
    # The server's clock, less five minutes: its index may lag behind its clock.
    assert result.cursor == "2026-03-01T11:55:00Z"


def test_a_search_asks_for_what_changed_since() -> None:
    data = hospital()
    data.history = False
    data.put({"resourceType": "Patient", "id": "p003", "gender": "male"}, "2026-02-28T00:00:00Z")
    with serve(data) as server:
        kept = Kept()
        pull(client(server.url), kept, since="2026-02-25T00:00:00Z")
    assert kept.ids("Patient") == ["p003"] and kept.ids("Observation") == []
    assert "_lastUpdated=ge2026-02-25" in data.requests[1][1]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(status: int) -> None:
    data = hospital(3)
    data.faults["/fhir/Patient"] = [(status, {}, outcome("throttled", "")), (status, {"Retry-After": "7"}, b"")]
    with serve(data) as server:
        asked, kept = client(server.url), Kept()
        pull(asked, kept)
    assert len(kept.ids("Patient")) == 3
    first, second = asked.waited
    assert 0.75 <= first <= 1.25 and second == 7.0


def test_a_server_that_stays_busy_is_one_error() -> None:
    data = hospital(1)
    data.faults["/fhir/Patient"] = [(503, {"Retry-After": "999999"}, outcome("timeout", "Mrs Secret"))] * 9
    with serve(data) as server:
        asked = client(server.url)
        with pytest.raises(TrialOpsError, match="still busy after 4 tries: error timeout") as caught:
            pull(asked, Kept())
    assert asked.waited == [QUICK.longest_wait] * 3
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "fix"), [(401, "TRIALOPS_FHIR_TOKEN"), (403, "read access"), (404, "FHIR_ENDPOINT")]
)
def test_a_refusal_names_status_and_codes_and_no_text(status: int, fix: str) -> None:
    data = hospital(1)
    data.faults["/fhir/metadata"] = [(status, {}, outcome("forbidden", "Mrs Secret, born 1950"))]
    with serve(data) as server, pytest.raises(TrialOpsError) as caught:
        pull(client(server.url), Kept())
    assert str(status) in caught.value.what and "error forbidden" in caught.value.what
    assert fix in caught.value.fix and "Secret" not in str(caught.value)
    assert len(data.requests) == 1  # a refusal is not tried again


def test_a_cut_off_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hospital(2)
    data.faults["/fhir/Patient"] = [(200, {"Connection": "close", "Transfer-Encoding": "chunked"}, b"zz\r\n")]
    with serve(data) as server:
        kept = Kept()
        pull(client(server.url), kept)
    assert len(kept.ids("Patient")) == 2


def test_a_lost_page_begins_the_search_anew() -> None:
    data = hospital(25)
    with serve(data) as server:
        kept, asked = Kept(), client(server.url)
        real = asked.request
        gone = [True]

        def request(method: str, url: str, **more: Any) -> Any:
            if "_offset=20" in url and "/Patient" in url and gone:
                gone.clear()
                data.faults["/fhir/Patient"] = [(410, {}, b"")]
            return real(method, url, **more)

        asked.request = request  # type: ignore[method-assign]
        result = pull(asked, kept)
    assert not gone
    patients = [d.name for d in result.documents if d.name.startswith("Patient")]
    assert patients == [f"Patient-page-{n:04d}.json" for n in (1, 2, 3)]
    assert kept.ids("Patient") == [f"p{i:03d}" for i in range(25)]


def test_pages_in_a_circle_end() -> None:
    data = hospital(25)
    data.circle = True
    with serve(data) as server, pytest.raises(TrialOpsError, match="never end"):
        pull(client(server.url), Kept())


def test_a_next_link_to_another_server_is_not_followed() -> None:
    data = hospital(25)
    data.token, data.next_host = "s3cret", "http://localhost:1/fhir"
    with serve(data) as server, pytest.raises(TrialOpsError, match="leads to another server"):
        pull(client(server.url, token="s3cret"), Kept())


def test_the_token_is_sent_and_never_shown() -> None:
    data = hospital(1)
    data.token = "s3cret"
    with serve(data) as server:
        pull(client(server.url, token="s3cret"), Kept())
        with pytest.raises(TrialOpsError) as caught:
            pull(client(server.url, token="wr0ng"), Kept())
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://ehr.example.org/fhir", "unencrypted"),
        ("ftp://ehr.example.org/fhir", "no http or https URL"),
        ("ehr.example.org", "no http or https URL"),
        ("https://me:pw@ehr.example.org/fhir", "more than host and path"),
        ("https://ehr.example.org/fhir?token=x", "more than host and path"),
    ],
)
def test_an_address_that_may_not_be_used(url: str, said: str) -> None:
    with pytest.raises(TrialOpsError, match=said) as caught:
        check_endpoint(url)
    assert "pw@" not in str(caught.value) and "token=x" not in str(caught.value)


def test_tls_is_verified(tmp_path: Path) -> None:
    pem = self_made_certificate(tmp_path / "server.pem")
    other = self_made_certificate(tmp_path / "other.pem")
    with serve(hospital(2), certificate=pem) as server:
        kept = Kept()
        pull(client(server.url, ca=str(pem)), kept)
        assert len(kept.ids("Patient")) == 2
        for trusted in ("", str(other)):
            with pytest.raises(TrialOpsError, match="not trusted") as caught:
                pull(client(server.url, ca=trusted), Kept())
            assert "TRIALOPS_FHIR_CA" in caught.value.fix


def test_a_certificate_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    pem = self_made_certificate(tmp_path / "server.pem", host="elsewhere.example")
    with serve(hospital(1), certificate=pem) as server, pytest.raises(TrialOpsError, match="not trusted"):
        pull(client(server.url, ca=str(pem)), Kept())


def test_an_answer_larger_than_a_page_may_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir_http, "MAX_ANSWER", 500)
    with serve(hospital(10)) as server, pytest.raises(TrialOpsError, match="more than one page may hold"):
        pull(client(server.url), Kept())


@pytest.mark.parametrize(
    "body", [b"<html>", b'{"resourceType":"Bundle","entry":[', b"[]", b'{"a":1,"a":2}', b'{"resourceType":"Patient"}']
)
def test_an_answer_that_is_no_bundle_is_one_error(body: bytes) -> None:
    data = hospital(1)
    data.faults["/fhir/Patient"] = [(200, {}, body)]
    with serve(data) as server, pytest.raises(TrialOpsError, match="FHIR server answer"):
        pull(client(server.url), Kept())


def test_nobody_there_is_one_error() -> None:
    with pytest.raises(TrialOpsError, match="cannot be reached in 4 tries"):
        pull(client("http://127.0.0.1:1/fhir"), Kept())


def test_an_export_is_awaited_downloaded_counted_and_cleared() -> None:
    data = hospital(5)
    data.delete("Patient", "p004", "2026-02-28T00:00:00Z")
    with serve(data) as server:
        kept, asked = Kept(), client(server.url)
        result = export(asked, kept, since="2026-01-01", types=("Patient", "Observation"))
    assert result.cursor == "2026-03-01T12:00:00Z" and not result.problems
    roles = {result.promises[d.name].role: d.name for d in result.documents}
    assert set(roles) == {"output", "deleted", "error"}
    lines = {name.split("-")[0]: data.count(b"\n") for name, data in kept.pages.items()}
    assert lines == {"Observation": 10, "Patient": 4, "Bundle": 1, "OperationOutcome": 1}
    assert asked.waited == [1.0, 1.0]
    assert [r[0] for r in data.requests][-1] == "DELETE"
    assert data.requests[0][2]["Prefer"] == "respond-async"


def test_an_export_that_never_ends_is_one_error() -> None:
    data = hospital(1)
    data.polls = 99
    with serve(data) as server, pytest.raises(TrialOpsError, match="does not finish"):
        export(client(server.url), Kept())


def test_retry_after_is_seconds_or_a_date() -> None:
    now = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
    assert retry_after("7") == 7.0
    assert retry_after("Sun, 01 Mar 2026 12:00:30 GMT", now) == 30.0
    assert retry_after("Sun, 01 Mar 2026 11:00:00 GMT", now) == 0.0
    assert retry_after("soon") is None and retry_after("") is None


@pytest.mark.parametrize("since", ["yesterday", "2026-1-1", "2026-01-01T10:00", "2026-01-01&_id=1"])
def test_a_since_that_is_no_instant_is_refused(since: str) -> None:
    with pytest.raises(TrialOpsError, match="no FHIR date"):
        check_since(since)


# -- the component: what is pulled is sealed before the cursor moves ------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def run(home: Path, source: str, since: str = "") -> Made:
    raw = artifact(home, "raw")
    others = [artifact(home, name) for name in ("quarantine", "report")]
    ingest_fhir.python_func(source, raw, *others, since=since)
    return raw


def held(home: Path, kind: str) -> list[dict[str, Any]]:
    with step("look") as run_:
        zone = open_zone(run_)
        tables = zone.read(zone.held(), {kind})
    return list(resources_of(tables[kind])) if kind in tables else []


def cursors(home: Path) -> list[str]:
    with step("look") as run_:
        return list(open_zone(run_).held().cursors.values())


def test_incremental_pulls_follow_changes_and_deletions(home: Path) -> None:
    data = hospital(12)
    with serve(data) as server:
        run(home, server.url)
        assert len(held(home, "Patient")) == 12 and cursors(home) == ["2026-03-01T11:55:00Z"]
        data.now += dt.timedelta(hours=1)
        data.put({"resourceType": "Patient", "id": "p003", "gender": "male"}, "2026-03-01T12:30:00Z")
        data.put({"resourceType": "Patient", "id": "p099", "gender": "male"}, "2026-03-01T12:31:00Z")
        data.delete("Patient", "p005", "2026-03-01T12:32:00Z")
        before = len(data.requests)
        run(home, server.url)
        asked = [path for _, path, _ in data.requests[before:]]
        assert sum("_since=2026-03-01T11%3A55%3A00Z" in path for path in asked) == 2
        patients = {p["id"]: p for p in held(home, "Patient")}
        assert len(patients) == 12 and "p005" not in patients and "p099" in patients
        assert patients["p003"]["gender"] == "male" and patients["p003"]["meta"]["versionId"] == "2"
        assert cursors(home) == ["2026-03-01T12:55:00Z"]
        # Everything again, old versions included: nothing comes back.
        run(home, server.url, since="all")
        assert {p["id"]: p for p in held(home, "Patient")} == patients


def test_the_cursor_stays_when_a_pull_fails(home: Path) -> None:
    data = hospital(12)
    with serve(data) as server:
        run(home, server.url)
        data.now += dt.timedelta(hours=1)
        data.put(
            {"resourceType": "Observation", "id": "new", "status": "final", "code": {"text": "x"}},
            "2026-03-01T12:30:00Z",
        )
        data.faults["/fhir/Observation/_history"] = [(403, {}, b"")]
        with pytest.raises(TrialOpsError):
            run(home, server.url)
        assert cursors(home) == ["2026-03-01T11:55:00Z"]
        run(home, server.url)
        assert cursors(home) == ["2026-03-01T12:55:00Z"] and len(held(home, "Observation")) == 25


def test_the_cursor_stays_when_an_export_is_short(home: Path) -> None:
    data = hospital(3)
    data.short, data.polls = 1, 0
    with serve(data) as server:
        run(home, f"{server.url}/$export")
        assert cursors(home) == [] and len(held(home, "Patient")) == 3  # what is sound is there
        data.short = 0
        run(home, f"{server.url}/$export")
        assert cursors(home) == ["2026-03-01T12:00:00Z"]


def test_token_and_certificate_come_from_settings(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = self_made_certificate(tmp_path / "server.pem")
    data = hospital(1)
    data.token = "s3cret"
    monkeypatch.setenv("TRIALOPS_FHIR_TOKEN", "s3cret")
    monkeypatch.setenv("TRIALOPS_FHIR_CA", str(pem))
    settings.cache_clear()
    with serve(data, certificate=pem) as server:
        run(home, server.url)
    assert len(held(home, "Patient")) == 1
    for path in home.rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes() and b'"p000"' not in path.read_bytes(), path.name
