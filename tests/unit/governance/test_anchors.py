"""Anchors: written once for each head, and the reminder when there are none or the newest is old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.support.homes import leave, live_in
from trialops.governance.anchors import LONGEST, anchor_head, stored_anchors, unanchored
from trialops.governance.audit import AuditTrail
from trialops.stores.context import Step
from trialops.stores.database import connect
from trialops.stores.objects import open_store


def append(trail: AuditTrail, count: int = 1) -> None:
    for _ in range(count):
        trail.append(actor="tester", action="write", object="clean/lb")


def test_a_head_is_anchored_once(engine: Engine, tmp_path: Path) -> None:
    trail, objects = AuditTrail(engine), open_store(str(tmp_path / "objects"))
    append(trail, 3)
    first = anchor_head(trail, objects)
    (key,) = objects.list("audit/anchors")
    kept = objects.get(key)
    anchor_head(trail, objects)
    assert list(objects.list("audit/anchors")) == [key] and objects.get(key) == kept
    append(trail)
    anchor_head(trail, objects)
    anchors = stored_anchors(objects)
    assert anchors[0] == first and [anchor.seq for anchor in anchors] == [3, 4]
    found = trail.verify(anchors)
    assert found.ok and found.anchors == 2


def test_reminder(engine: Engine, tmp_path: Path) -> None:
    trail, objects = AuditTrail(engine), open_store(str(tmp_path / "objects"))
    assert unanchored(trail, []) == "", "an empty trail has nothing to lose"
    append(trail, 2)
    assert unanchored(trail, []).startswith("no anchors: none of 2 records")
    anchor_head(trail, objects)
    later = datetime.now(UTC) + timedelta(days=400)
    assert unanchored(trail, stored_anchors(objects), later) == "", "an old anchor of the last record protects all"
    append(trail, 3)
    written = datetime.fromisoformat(list(trail.events())[2].at)
    assert unanchored(trail, stored_anchors(objects), written + LONGEST) == ""
    late = unanchored(trail, stored_anchors(objects), written + LONGEST + timedelta(days=8, seconds=1))
    assert "3 records behind it, the first 9 days ago" in late


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path, monkeypatch)
    leave()


def test_the_end_of_a_run_is_anchored_with_the_step_that_ends_it(home: Path) -> None:
    from kfp.dsl import PipelineTaskFinalStatus

    from components.alerts import notify
    from trialops.settings import settings

    status = PipelineTaskFinalStatus("SUCCEEDED", "job/1", "p", "", "")
    assert notify.python_func(status=status, pipeline="p") == "info"
    run = Step("look", {}, settings())
    events = list(run.trail.events())
    assert [event.action for event in events] == ["alert.notify", "step.finish"]
    assert [(anchor.seq, anchor.digest) for anchor in stored_anchors(run.objects)] == [(2, events[-1].digest)]


def test_without_an_audit_trail_there_is_nothing_to_anchor(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.dsl import PipelineTaskFinalStatus

    from components.alerts import notify
    from trialops.settings import settings

    monkeypatch.setenv("AUDIT_LOG_ENABLED", "false")
    monkeypatch.setenv("HIPAA_COMPLIANCE_MODE", "off")
    settings.cache_clear()
    notify.python_func(status=PipelineTaskFinalStatus("FAILED", "job/1", "p", "", ""), pipeline="p")
    trail = AuditTrail(connect(f"sqlite:///{home / 'trialops.db'}"))
    assert stored_anchors(open_store(str(home))) == [] and list(trail.events()) == []
