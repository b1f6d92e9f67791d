"""Where a subject's rows lie beside the trial record: lake tables, feature-store files, models trained on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.lake import Lake
    from trialops.stores.objects import ObjectStore

SUBJECT_COLUMNS = ("subject_id", "USUBJID", "subject", "person_source_value", "SUBJECT")


@dataclass(frozen=True)
class Found:
    """Versions of one table that hold the subject."""

    table: str
    versions: tuple[int, ...]


def versions_with(lake: Lake, patterns: Iterable[str], subject: str) -> list[Found]:
    """Tables below some patterns, with every version that has rows of the subject."""
    patterns = list(patterns)
    found = []
    for table in lake.tables():
        if any(fnmatchcase(table, p) for p in patterns):
            held = [
                int(c["version"])
                for c in lake.versions(table)
                if not lake.disposed(table, c["version"]) and _rows(_read(lake, table, c), subject, lake).height
            ]
            if held:
                found.append(Found(table, tuple(sorted(held))))
    return found


def _read(lake: Lake, table: str, commit: Mapping[str, Any]) -> pl.DataFrame:
    from trialops.stores.refs import TableRef

    return lake.read(TableRef(table, commit["version"], commit["rows"], commit["digest"]))


def _is_subject(frame: pl.DataFrame, subject: str, lake: Lake) -> pl.Expr:
    """True for the subject's rows, by a column of pseudonyms or, in OMOP, by the person's number."""
    import polars as pl

    named = [c for c in SUBJECT_COLUMNS if c in frame.columns and frame.schema[c] == pl.String]
    if named:
        return pl.any_horizontal((pl.col(c) == subject).fill_null(False) for c in named)
    # OMOP's cohort table calls the person's number subject_id.
    numbered = next((c for c in ("person_id", "subject_id") if c in frame.columns), None)
    if numbered is not None and frame.schema[numbered].is_integer():
        return pl.col(numbered).is_in(list(_persons(lake, subject))).fill_null(False)
    return pl.lit(False)


def _rows(frame: pl.DataFrame, subject: str, lake: Lake) -> pl.DataFrame:
    return frame.filter(_is_subject(frame, subject, lake))


def _persons(lake: Lake, subject: str) -> set[int]:
    """Numbers of the subject in every version of omop/person."""
    import polars as pl

    found: set[int] = set()
    for commit in lake.versions("omop/person"):
        if not lake.disposed("omop/person", commit["version"]):
            frame = _read(lake, "omop/person", commit)
            mine = frame.filter(pl.any_horizontal((pl.col(pl.String) == subject).fill_null(False)))
            found |= set(mine["person_id"])
    return found


def erase_rows(lake: Lake, found: Iterable[Found], subject: str, note: Mapping[str, Any], *, run_id: str) -> list[str]:
    """Write each table's newest version again without the subject, and delete the versions that hold the subject.

    Persons' numbers are needed to find rows, so omop/person goes last.

    Returns:
        "table@version" of every version deleted.
    """
    gone = []
    for one in sorted(found, key=lambda f: (f.table == "omop/person", f.table)):
        newest = lake.versions(one.table)[0]
        if newest["version"] in one.versions:
            frame = _read(lake, one.table, newest)
            left = frame.filter(~_is_subject(frame, subject, lake))
            lake.write(one.table, left, run_id=run_id, step="erase-subjects")
        gone += [(one.table, version) for version in one.versions]
    for table, version in gone:
        lake.dispose(table, version, note)
    return [f"{table}@{version}" for table, version in gone]


def erase_feature_files(work: Path, subject: str) -> dict[str, int]:
    """Take a subject out of the feature store's own files below a folder.

    Returns:
        {"offline": parquet files written again, "online": rows deleted}.
    """
    import polars as pl

    offline = online = 0
    if not work.is_dir():
        return {"offline": 0, "online": 0}
    for path in sorted(work.rglob("*.parquet")):
        columns = pl.read_parquet_schema(path)
        if "subject_id" not in columns:
            continue
        frame = pl.read_parquet(path)
        kept = frame.filter((pl.col("subject_id") != subject).fill_null(True))
        if kept.height < frame.height:
            partial = path.with_name(f".{path.name}.partial")
            kept.write_parquet(partial)
            partial.replace(path)
            offline += 1
    for path in sorted(work.rglob("online*.db")):
        online += _erase_online(path, subject)
    return {"offline": offline, "online": online}


def erase_published(objects: ObjectStore, subject: str) -> int:
    """Take a subject out of the features published for Feast, and out of what its offline store prepared from them.

    Returns:
        Files written again.
    """
    import polars as pl

    from trialops.features.offline_store_files import Place

    written = 0
    for key in objects.list("features/current"):
        if not key.endswith(".parquet"):
            continue
        place = Place(f"{objects.url.rstrip('/')}/{key}")
        frame = place.scan().collect()
        if "subject_id" in frame.columns:
            kept = frame.filter((pl.col("subject_id") != subject).fill_null(True))
            if kept.height < frame.height:
                place.write(kept)
                written += 1
    return written


def _erase_online(path: Path, subject: str) -> int:
    """Rows of Feast's online store for a subject: the serialized entity key holds the pseudonym as it is."""
    import sqlite3

    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA secure_delete = ON")
        deleted = 0
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = {row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')}
            if "entity_key" in columns:
                where = f'DELETE FROM "{table}" WHERE instr(entity_key, ?) > 0'
                deleted += connection.execute(where, (subject.encode(),)).rowcount
        connection.commit()
        connection.execute("VACUUM")
    finally:
        connection.close()
    return deleted


def models_trained_on(objects: ObjectStore, training: Iterable[Found]) -> list[dict[str, str]]:
    """Models whose training set held the subject, from the step records: task, run, version where registered.

    Args:
        objects: Holds the records.
        training: Training-set versions with the subject.
    """
    held = {(f.table, version) for f in training for version in f.versions}
    models: dict[tuple[str, str], dict[str, str]] = {}
    for key in objects.list("runs"):
        if not key.endswith("/record.json"):
            continue
        record = json.loads(objects.get(key))
        if record.get("step") not in ("search-model", "register-model"):
            continue
        read = {
            (t.get("table"), t.get("version"))
            for item in record["inputs"]
            for t in item.get("tables", {}).values()
            if isinstance(t, dict)
        }
        if not read & held:
            continue
        task, run_id = str(record["parameters"].get("task", "")), str(record["run_id"])
        entry = models.setdefault(
            (task, run_id),
            {"model": task, "run": run_id, "version": "", "recommend": "train again without the subject"},
        )
        if record["step"] == "register-model":
            entry["version"] = str(record["metrics"].get("version", ""))
    return [models[name] for name in sorted(models)]
