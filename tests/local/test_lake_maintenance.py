"""lake_maintenance as a person runs it: compaction and removal, with what is referred to or held surviving."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, states
from tests.support.small_files import backdate, readings, small_table
from trialops.operations.lake_proof import contents, differences
from trialops.privacy import holds
from trialops.settings import Settings
from trialops.stores.database import connect, migrate
from trialops.stores.lake import IntegrityError, Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot

pytestmark = pytest.mark.slow


def record(home: Home, step: str) -> dict[str, Any]:
    path = home.path / "runs" / home.run()["run_id"] / "steps" / step / "record.json"
    return dict(json.loads(path.read_text()))


def test_a_week_of_the_lake(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    objects = open_store(str(home.path))
    lake = Lake(str(home.path / "lake"), objects)
    small_table(lake.url, "landing/monitor", 12)
    refs = [lake.write("features/labs", readings(n)) for n in range(4)]
    held = [lake.write("features/vitals", readings(n)) for n in range(2)]
    for table, versions in (("features/labs", 4), ("features/vitals", 2)):
        backdate(lake.url, table, range(versions), dt.date(2015, 1, 1))
    lake.mark_validated("features", Snapshot({"rows": refs[1]}), {})
    engine = connect(Settings(home=home.path).database)
    migrate(engine)
    holds.place(engine, record_class="derived data", object="features/vitals", actor="counsel", reason="litigation")
    tables = lake.tables()
    before = contents(lake, tables)

    done = home.trialops("run", "lake_maintenance", "--set", "apply=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(home.run()).values()) == {"ran"}
    numbers = record(home, "compact-lake")["decision"]["numbers"]
    assert (numbers["files_before"], numbers["files_after"], numbers["versions_compared"]) == (12, 1, 12)
    cleaned = record(home, "clean-lake")["decision"]
    assert cleaned["decision"] == "identical" and cleaned["numbers"]["removed_versions"] == 2
    assert record(home, "storage-report")["metrics"]["lake_bytes"] > 0

    after = contents(lake, tables)
    gone = {"features/labs@0", "features/labs@2"}
    assert differences(before, after, set(before) - gone) == [] and not gone & set(after)
    assert lake.read(refs[1]).equals(readings(1)) and all(lake.read(ref).height for ref in held)
    with pytest.raises(IntegrityError):
        lake.read(refs[0])
    page = (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()
    assert "Identical before and after" in page and "a month" in page
