"""Nothing that identifies a subject gets into an alert."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.alert_clock import database
from trialops.alerts.guard import REDACTED, Guard, clean_alert, guard_of
from trialops.alerts.raise_alert import Alert, raise_alert, register_of
from trialops.errors import TrialOpsError
from trialops.settings import settings
from trialops.stores.database import writing
from trialops.stores.tables import pseudonym_links, safety_cases


@pytest.mark.parametrize(
    "text",
    [
        "01-701-1015",
        "CDISC-701-1015",
        "701-1015",
        "123-45-6789",
        "jane.doe@example.org",
        "+1 555-867-5309",
        "MRN: 8675309",
        "subject id = 12",
        "Patient/abc-123",
        "ab2defgh3jklmnop",
    ],
)
def test_patterns_of_identifiers_are_replaced_and_the_rest_stays(text: str) -> None:
    cleaned = Guard().clean(f"Rows of {text} are late.")
    assert REDACTED in cleaned and cleaned.startswith("Rows of ") and cleaned.endswith("late.")
    assert not any(part in cleaned for part in text.split() if any(c.isdigit() for c in part))


@pytest.mark.parametrize(
    "text",
    [
        "ds.xpt is cut off at row 1,234",
        "2 of 11 sites; 2026-03-02T08:00:00Z; version 12",
        "US-ACME-CDISCPILOT01_000007",
        "20261127T051110-alerting-826b",
        "3f2b8c1e-9a4d-4f6b-8e2a-1c3d5e7f9a0b",
        "responsibilities of the desk",
        "95.5 % of 10000 rows, PSI 0.25",
        "sha256 0123456789abcdef0123456789abcdef",
    ],
)
def test_what_a_person_needs_to_read_stays(text: str) -> None:
    assert Guard().clean(text) == text


def test_identifiers_that_the_database_knows_are_replaced_whatever_they_look_like(tmp_path: Path) -> None:
    engine = database(tmp_path)
    case = {"at": "", "study": "s", "case": "C1", "event": "e", "subject": "WALRUS9", "actor": "", "run_id": ""}
    link = {"study": "s", "kind": "subject", "pseudonym": "abcdefghijklmnop", "sealed": b"", "at": ""}
    before = guard_of(engine)
    with writing(engine) as connection:
        connection.execute(safety_cases.insert(), case)
        connection.execute(pseudonym_links.insert(), link)
    assert before.clean("walrus9 and abcdefghijklmnop") == "walrus9 and abcdefghijklmnop"
    cleaned = guard_of(engine).clean("Walrus9, and (abcdefghijklmnop). WALRUS90 stays.")  # known from now on
    assert cleaned == f"{REDACTED}, and ({REDACTED}). WALRUS90 stays."


def test_an_alert_is_raised_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    engine = database(tmp_path)
    now = datetime(2026, 3, 2, tzinfo=UTC)
    raise_alert(engine, Alert("Late", "warning", {"table": "ae of 01-701-1015"}, "01-701-1015 is late"), now=now)
    (alert,) = register_of(engine).known().values()
    assert alert.labels == {"table": f"ae of {REDACTED}"} and alert.summary == f"{REDACTED} is late"
    assert b"701-1015" not in (tmp_path / "alerts.db").read_bytes() + (tmp_path / "alerts.db-wal").read_bytes()


@pytest.mark.parametrize("label", ["usubjid", "SUBJID", "subject", "patient_id", "mrn", "email", "pseudonym", "dob"])
def test_a_label_that_would_name_a_person_is_refused(label: str) -> None:
    with pytest.raises(TrialOpsError):
        clean_alert(Alert("A", "info", {label: "x"}), Guard())
