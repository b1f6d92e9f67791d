"""database_maintenance as a person runs it, on PostgreSQL: a backup proved by a restore, and the upkeep after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.local.main_job import Home, states
from trialops.governance.audit import AuditTrail
from trialops.operations.backup_archive import backups, last_check
from trialops.stores.database import connect, migrate, writing
from trialops.stores.objects import open_store

pytestmark = pytest.mark.slow


def record(home: Home, step: str) -> dict[str, Any]:
    path = home.path / "runs" / home.run()["run_id"] / "steps" / step / "record.json"
    return dict(json.loads(path.read_text()))


def test_a_day_of_the_database(tmp_path: Path, postgres_database: str) -> None:
    home = Home(tmp_path / "home")
    engine = connect(postgres_database)
    migrate(engine)
    for number in range(30):
        AuditTrail(engine).append(actor="tester", action="data.read", object=f"x{number}")
    with writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE worn AS SELECT n, repeat('x', 50) t FROM generate_series(1, 5000) n")
        connection.exec_driver_sql("ALTER TABLE worn SET (autovacuum_enabled = false)")
    with writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM worn WHERE n > 2000")
    engine.dispose()  # a session that ends hands its counts of dead rows over; an idle one keeps them for a while
    done = home.trialops("run", "database_maintenance", TRIALOPS_DATABASE_URL=postgres_database)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(home.run()).values()) == {"ran"}
    objects = open_store(str(home.path))
    (backup,) = backups(objects, str(engine.url.database))
    assert backup.body["method"] == "pg_dump" and backup.body["contents"]["tables"]["public.worn"][0] == 2000
    told = last_check(objects, backup)
    assert told is not None and told["outcome"] == "verified"
    assert record(home, "verify-backup")["decision"]["decision"] == "verified"
    tended = json.loads(home.output(home.run()["run_id"], "tend-database", "result").read_text())
    assert ['VACUUM (ANALYZE) "worn"', "3000 dead rows (60%)", "done"] in tended["statements"]
    page = (home.path / "runs" / home.run()["run_id"] / "index.html").read_text()
    assert "it is as it was backed up" in page and "<svg" in page
    engine.dispose()
