"""Who stands behind a pseudonym: kept by the de-identification step, encrypted, and found again with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kfp.dsl import HTML, Dataset

from components.intake import ingest_sdtm
from components.privacy import deidentify
from trialops.governance.audit import AuditTrail
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.database import connect
from trialops.synthetic import generate


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRIALOPS_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_a_subject_can_be_reached_again_and_that_is_audited(home: Path) -> None:
    generate(home / "trial", subjects=30, sites=3, seed=2, formats=("sdtm",))

    def output(kind: type, name: str):  # type: ignore[no-untyped-def]
        return kind(name=name, uri=str(home / "out" / name), metadata={})

    raw = output(Dataset, "raw")
    ingest_sdtm.python_func(str(home / "trial" / "sdtm"), raw, output(Dataset, "quarantine"), output(HTML, "r1"))
    clean = output(Dataset, "clean")
    deidentify.python_func(raw, clean, output(Dataset, "withheld"), output(HTML, "r2"))

    run = Step("look", {}, settings())
    subject = run.read(clean)["DM"]["USUBJID"][0]
    kind = "subject"
    found = run.vault.reidentify(
        kind, subject, reason="follow-up of a serious event", actor="dr.osei", engine=run.engine
    )
    assert found in run.unseal(raw)["DM"]["USUBJID"].to_list() and found != subject
    assert found.encode() not in (home / "home" / "trialops.db").read_bytes()
    events = list(AuditTrail(connect(settings().database)).events())
    assert [e.actor for e in events if "reidentify" in e.action] == ["dr.osei"]
    assert not any(found in str(e) for e in events)
