"""Removal: what is due and unneeded goes, what anything refers to survives, and the rest is proved to be as it was."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from components.operations import clean_lake, compact_lake, storage_report
from tests.support.homes import artifact, leave, live_in
from tests.support.small_files import age, backdate, readings, small_table
from trialops.alerts.raise_alert import register_of
from trialops.errors import TrialOpsError
from trialops.operations import lake_retention, lake_run
from trialops.operations.lake_policy import default_lake_policy
from trialops.operations.lake_proof import contents, differences
from trialops.operations.lake_retention import orphans
from trialops.privacy import holds
from trialops.settings import settings
from trialops.stores.context import Step
from trialops.stores.lake import IntegrityError
from trialops.stores.refs import Snapshot, TableRef

LONG_AGO = dt.date(2015, 1, 1)
TABLE = "features/labs"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield live_in(tmp_path / "home", monkeypatch)
    leave()


def now() -> Step:
    return Step("clean-lake", {}, settings())


def lake_path(home: Path) -> str:
    return str(home / "lake")


def written(home: Path, versions: int = 6) -> list[TableRef]:
    """Versions of a table, all of them of ten years ago."""
    refs = [now().lake.write(TABLE, readings(n)) for n in range(versions)]
    backdate(lake_path(home), TABLE, range(versions), LONG_AGO)
    return refs


def clean(home: Path, *, apply: bool = True, name: str = "one", as_of: str = "") -> tuple[str, dict[str, object]]:
    result, report = artifact(home, f"result-{name}"), artifact(home, f"report-{name}")
    decision = clean_lake.python_func(result, report, apply=apply, as_of=as_of)
    return decision, json.loads(Path(result.path).read_text())


def states(document: dict[str, object]) -> dict[str, str]:
    return {f"{v['table']}@{v['version']}": v["state"] for v in document["versions"]}  # type: ignore[attr-defined]


def test_a_version_in_a_manifest_or_under_hold_survives_and_the_rest_goes(home: Path) -> None:
    refs = written(home)
    run = now()
    run.lake.mark_validated("features", Snapshot({"rows": refs[1]}), {})
    run.objects.put("dossiers/d.json", json.dumps({"data": refs[2].digest}).encode())
    decision, plan = clean(home, apply=False)
    assert decision == "plan" and plan["removed"] == {}
    assert states(plan) == {
        f"{TABLE}@0": "removable", f"{TABLE}@1": "kept", f"{TABLE}@2": "referenced", f"{TABLE}@3": "removable",
        f"{TABLE}@4": "removable", f"{TABLE}@5": "newest",
    }  # fmt: skip
    assert len(list(Path(lake_path(home), TABLE).glob("*.parquet"))) == 6  # a dry run removes nothing

    hold = holds.place(run.engine, record_class="derived data", object=TABLE, actor="counsel", reason="litigation")
    decision, held = clean(home, name="held")
    assert decision == "nothing" and states(held)[f"{TABLE}@0"] == "held" and run.lake.read(refs[0]).height
    holds.release(run.engine, hold.hold, actor="counsel", reason="settled")

    decision, done = clean(home, name="done")
    assert decision == "identical" and done["removed"]["versions"] == 3  # type: ignore[index]
    assert done["versions_compared"] == 3
    for kept in (1, 2, 5):
        assert run.lake.read(refs[kept]).equals(readings(kept))
    for gone in (0, 3, 4):
        with pytest.raises(IntegrityError):
            run.lake.read(refs[gone])
    assert len(run.lake.versions(TABLE)) == 6  # the history can still be told
    actions = [e for e in run.trail.events() if e.action == "retention.dispose"]
    assert [e.version for e in actions] == ["0", "3", "4"] and all(e.detail["policy"] for e in actions)
    assert any(e.action == "retention.certificate" for e in run.trail.events())
    assert clean(home, name="again")[0] == "nothing"


def test_a_hold_placed_after_the_plan_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = written(home)
    run = now()
    real = lake_retention.remove_versions

    def late(*arguments: object, **named: object) -> object:
        holds.place(run.engine, record_class="*", object="*", actor="counsel", reason="litigation")
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(lake_run, "remove_versions", late)
    decision, done = clean(home)
    assert decision == "identical" and done["removed"]["versions"] == 0  # type: ignore[index]
    assert all(run.lake.read(ref).height for ref in refs)


def test_a_removal_that_died_is_finished_by_the_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = written(home)
    run = now()
    from trialops.stores import objects

    real, budget = objects._Obstore.delete, iter([True, True])

    def dies(store: objects._Obstore, key: str) -> None:
        if key.endswith(".parquet") and not next(budget, False):
            raise KeyboardInterrupt
        real(store, key)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(objects._Obstore, "delete", dies)
        clean(home)
    assert len(list(Path(lake_path(home), TABLE).glob("*.parquet"))) == 4
    for path in Path(lake_path(home), TABLE).glob("*.parquet"):
        age(path, 30)
    decision, done = clean(home, name="second")
    assert decision == "identical" and done["removed"]["files"] == 3  # type: ignore[index]
    assert [p.name for p in Path(lake_path(home), TABLE).glob("*.parquet")] == [
        uri.rsplit("/", 1)[-1] for uri in run.lake.opened(TABLE).file_uris()
    ]
    assert run.lake.read(refs[5]).equals(readings(5))


def test_files_of_dead_writers_go_when_they_are_old_and_no_version_names_them(home: Path) -> None:
    ref = now().lake.write(TABLE, readings(1))
    folder = Path(lake_path(home), TABLE)
    for name, days in (("old", 8), ("young", 2)):
        readings(5).write_parquet(folder / f"part-00000-{name}.parquet")
        age(folder / f"part-00000-{name}.parquet", days)
    age(next(folder.glob("part-*c000*.parquet")), 400)  # old, and needed
    (folder / "year=2020").mkdir()
    readings(5).write_parquet(folder / "year=2020" / "x.parquet")
    age(folder / "year=2020" / "x.parquet", 400)
    decision, done = clean(home)
    assert decision == "identical" and done["removed"]["files"] == 1  # type: ignore[index]
    assert not (folder / "part-00000-old.parquet").exists() and (folder / "part-00000-young.parquet").exists()
    assert (folder / "year=2020" / "x.parquet").exists()
    assert now().lake.read(ref).equals(readings(1))
    found, left = orphans(now().lake, default_lake_policy(), dt.datetime.now(dt.UTC) + dt.timedelta(days=30))
    assert [one.name for one in found] == ["part-00000-young.parquet"] and left == {}


def test_what_cannot_be_read_before_is_left_alone_and_told(home: Path) -> None:
    refs = written(home)
    victim = Path(lake_path(home), TABLE, now().lake.opened(TABLE, 3).file_uris()[0].rsplit("/", 1)[-1])
    victim.write_bytes(victim.read_bytes()[:-20])
    decision, done = clean(home)
    assert decision == "identical" and done["removed"]["versions"] == 0 and list(done["damaged"]) == [f"{TABLE}@3"]  # type: ignore[index,call-overload]
    assert now().lake.read(refs[0]).height
    known = register_of(now()).known().values()
    assert [(a.name, a.severity) for a in known if a.firing] == [("LakeVersionDamaged", "critical")]


def test_a_difference_fails_the_step_and_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = written(home)
    now().lake.mark_validated("features", Snapshot({"rows": refs[1]}), {})
    real = lake_retention.remove_versions

    def clumsy(run: Step, *arguments: object, **named: object) -> object:
        gone = real(run, *arguments, **named)  # type: ignore[arg-type]
        Path(lake_path(home), TABLE, run.lake.opened(TABLE, 1).file_uris()[0].rsplit("/", 1)[-1]).unlink()
        return gone

    monkeypatch.setattr(lake_run, "remove_versions", clumsy)
    with pytest.raises(TrialOpsError, match="not as they were"):
        clean(home)
    assert [a.name for a in register_of(now()).known().values() if a.firing] == ["LakeNotIdentical"]
    record = json.loads(now().objects.get("runs/run-1/steps/clean-lake/record.json"))
    assert record["decision"]["decision"] == "different" and record["decision"]["policy"]["digest"]


def test_other_values_are_a_difference_where_no_commit_names_a_digest(home: Path) -> None:
    small_table(lake_path(home), "landing/monitor", 3)
    before = contents(now().lake, ["landing/monitor"])
    assert differences(before, contents(now().lake, ["landing/monitor"]), before) == []
    victim = next(Path(lake_path(home), "landing/monitor").glob("*.parquet"))
    frame = pl.read_parquet(victim)
    frame.with_columns(pl.col("pulse").reverse()).write_parquet(victim)  # the same rows' worth, readable, and not it
    wrong = differences(before, contents(now().lake, ["landing/monitor"]), before)
    assert wrong and all("or other values" in line for line in wrong)
    frame[1:].write_parquet(victim)
    wrong = differences(before, contents(now().lake, ["landing/monitor"]), before)
    assert any("held 600 rows and holds 599" in line for line in wrong)


def test_run_records_go_when_due_unless_something_kept_was_made_by_them(home: Path) -> None:
    run = now()
    ref = run.lake.write(TABLE, readings(1))
    snapshot = Snapshot({"rows": ref})
    body = {"run_id": "kept", "step": "s", "started": "2015", "inputs": [], "outputs": [
        {"artifact": "a", **snapshot.as_dict()}]}  # fmt: skip
    for run_id in ("kept", "plain"):
        run.objects.put(f"runs/{run_id}/steps/s/record.json", json.dumps({**body, "run_id": run_id}).encode())
        run.objects.put(f"runs/{run_id}/steps/s/page.html", b"x")
    run.lake.mark_validated("features", snapshot, {}, run_id="kept")
    for path in (home / "runs").rglob("*"):
        if path.is_file():
            age(path, 4000)
    (home / "work" / "long-ago" / "s").mkdir(parents=True)
    for path in (home / "work" / "long-ago" / "s", home / "work" / "long-ago"):
        age(path, 60)
    decision, done = clean(home)
    assert decision == "identical" and done["removed"]["run_records"] == 2  # type: ignore[index]
    assert run.objects.exists("runs/kept/steps/s/record.json") and run.objects.exists("runs/kept/steps/s/page.html")
    assert not run.objects.exists("runs/plain/steps/s/record.json")
    assert done["removed"]["work_folders"] == 1 and not (home / "work" / "long-ago").exists()  # type: ignore[index]


def test_a_day_to_come_is_for_dry_runs_alone(home: Path) -> None:
    now().lake.write(TABLE, readings(1))
    now().lake.write(TABLE, readings(2))
    later = f"{dt.datetime.now(dt.UTC).year + 9}-01-01"
    with pytest.raises(TrialOpsError, match="moment to come"):
        clean(home, as_of=later)
    decision, plan = clean(home, apply=False, as_of=later, name="plan")
    assert decision == "plan" and states(plan)[f"{TABLE}@0"] == "removable"
    with pytest.raises(TrialOpsError, match="no date"):
        clean(home, as_of="soon", name="bad")


def test_compaction_shows_its_plan_first_and_then_proves_itself(home: Path) -> None:
    lake = lake_path(home)
    small_table(lake, "landing/monitor", 10)
    now().lake.write(TABLE, readings(1))
    before = contents(now().lake, ["landing/monitor", TABLE])
    made = {}
    for name, apply in (("plan", False), ("done", True), ("again", True)):
        result, report = artifact(home, f"result-{name}"), artifact(home, f"report-{name}")
        made[name] = compact_lake.python_func(result, report, apply=apply), json.loads(Path(result.path).read_text())
    assert [made[name][0] for name in made] == ["plan", "identical", "nothing"]
    assert made["plan"][1]["compacted"] == [] and len(made["done"][1]["compacted"]) == 1
    assert made["done"][1]["versions_compared"] == 10
    after = contents(now().lake, ["landing/monitor", TABLE])
    assert differences(before, after, before) == [] and len(after) == len(before) + 1
    html = Path(artifact(home, "report-done").path).read_text()
    assert "Identical before and after" in html and "<svg" in html


def test_the_cost_of_everything(home: Path) -> None:
    lake = lake_path(home)
    small_table(lake, "landing/monitor", 3)
    refs = [now().lake.write(TABLE, readings(n)) for n in range(2)]
    now().objects.put("raw/x", b"1" * 1000)
    result, report = artifact(home, "storage"), artifact(home, "storage-report")
    price = storage_report.python_func(result, report)
    found = json.loads(Path(result.path).read_text())
    tables = {t["table"]: t for t in found["tables"]}
    on_disk = {
        t: sum(p.stat().st_size for p in Path(lake, t).rglob("*") if p.is_file()) for t in (TABLE, "landing/monitor")
    }
    for name, table in tables.items():
        assert table["newest"] + table["history"] + table["unneeded"] + table["log"] == on_disk[name]
    assert tables["landing/monitor"]["history"] == 0 and tables[TABLE]["history"] > 0 and tables[TABLE]["versions"] == 2
    assert found["objects"]["raw"][0] == 1000 and "lake" not in found["objects"]
    assert price == pytest.approx(found["price_per_month"], abs=1e-4)
    expected = (sum(on_disk.values()) + sum(v[0] for v in found["objects"].values())) / 1e9 * 0.023
    assert found["price_per_month"] == pytest.approx(expected, abs=1e-6)
    assert now().lake.read(refs[0]).height and "a month" in Path(report.path).read_text()
