"""Compaction: the same rows in fewer files, in the same order or in z-order, beside writers of other processes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.s3_server import s3  # noqa: F401
from tests.support.small_files import append, readings, small_table
from trialops.errors import TrialOpsError
from trialops.operations import lake_compaction
from trialops.operations.lake_compaction import compact, z_order
from trialops.operations.lake_layout import layout_of
from trialops.operations.lake_policy import TableRule, default_lake_policy, parse
from trialops.operations.lake_proof import content_of, contents, differences
from trialops.stores.chain_log import IntegrityError
from trialops.stores.lake import Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import TableRef

TABLE = "landing/monitor"
RULE = dataclasses.replace(default_lake_policy().rule("clean/x"), min_small_files=4)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), open_store(str(tmp_path / "objects")))


def scanned(lake: Lake, version: int, table: str = TABLE) -> pl.DataFrame:
    return lake.scan(TableRef(table, version, 0, "")).collect()


def test_small_files_become_one_and_every_version_stays(lake: Lake) -> None:
    small_table(lake.url, TABLE, 12)
    before = contents(lake, [TABLE])
    rows = scanned(lake, 11)
    made = compact(lake, TABLE, RULE)
    assert (made.outcome, made.files, made.of, made.version) == ("done", (12, 1), 11, 12)
    after = contents(lake, [TABLE])
    assert len(before) == 12 and differences(before, after, before) == []
    assert scanned(lake, 12).equals(rows)  # the order too
    commit = lake.versions(TABLE)[0]
    assert commit["rows"] == 12 * 200 and commit["step"] == "compact-lake"
    assert lake.read(TableRef(TABLE, 12, commit["rows"], commit["digest"])).equals(rows)
    assert compact(lake, TABLE, RULE).outcome == "left"  # nothing is left to be done
    assert lake.versions(TABLE)[0]["version"] == 12


def test_only_runs_of_small_files_are_rewritten(lake: Lake) -> None:
    small_table(lake.url, TABLE, 6)
    append(lake.url, TABLE, readings(99, 60_000))
    small_table(lake.url, TABLE, 6)
    rule = dataclasses.replace(RULE, small_bytes=100_000, target_bytes=200_000)
    large = {f.name for f in layout_of(lake, TABLE, rule).files if f.size >= 100_000}
    rows = scanned(lake, 12)
    made = compact(lake, TABLE, rule)
    assert len(large) == 1 and made.files[1] <= 3
    assert large <= {f.name for f in layout_of(lake, TABLE, rule).files}
    assert scanned(lake, 13).equals(rows)


def test_joined_files_stay_below_the_target(lake: Lake) -> None:
    small_table(lake.url, TABLE, 12)
    size = layout_of(lake, TABLE, RULE).files[0].size
    rule = dataclasses.replace(RULE, target_bytes=4 * size + size // 2, small_bytes=2 * size)
    rows = scanned(lake, 11)
    assert compact(lake, TABLE, rule).files == (12, 3)
    assert scanned(lake, 12).equals(rows)


def test_a_z_order_lets_readers_skip_files(lake: Lake) -> None:
    small_table(lake.url, TABLE, 12, rows=1500)
    size = layout_of(lake, TABLE, RULE).size
    rule = dataclasses.replace(
        RULE, order=("subject_id", "study_day"), target_bytes=size // 12, small_bytes=size // 100, order_min_files=4
    )
    before = contents(lake, [TABLE])
    rows = scanned(lake, 11)
    made = compact(lake, TABLE, rule)
    assert (made.action, made.outcome) == ("order", "done")
    first, then = made.overlap
    assert first is not None and then is not None and first > 0.9 and then < 0.6
    new = contents(lake, [TABLE])
    assert differences(before, new, before) == []
    old, now = new[f"{TABLE}@11"], new[f"{TABLE}@12"]
    assert (old.rows, old.bag) == (now.rows, now.bag) and old.digest != now.digest
    every = rows.columns
    assert scanned(lake, 12).sort(every).equals(rows.sort(every))
    assert compact(lake, TABLE, rule).outcome == "left"  # ordered already
    kept = {row["subject_id"] for row in scanned(lake, 12).iter_rows(named=True)}
    assert len(kept) == rows["subject_id"].n_unique()


def test_what_the_lake_wrote_is_never_reordered(lake: Lake) -> None:
    ref = lake.write("features/labs", readings(1))
    rule = dataclasses.replace(RULE, order=("study_day",), target_bytes=100, small_bytes=50, order_min_files=1)
    assert compact(lake, "features/labs", rule).outcome == "left"
    assert lake.read(ref).equals(readings(1)) and len(lake.versions("features/labs")) == 1


def test_partitioned_tables_and_odd_schemas_are_left_alone(lake: Lake) -> None:
    from deltalake import write_deltalake

    for number in range(6):
        write_deltalake(f"{lake.url}/landing/parts", readings(number).to_arrow(), mode="append",
                        partition_by=["study_day"])  # fmt: skip
    made = compact(lake, "landing/parts", RULE)
    assert made.outcome == "left" and "partitioned" in made.reason
    for number in range(6):
        more = {"pulse": [1.0], **({"late": [number]} if number > 3 else {})}
        write_deltalake(f"{lake.url}/landing/grown", pl.DataFrame(more).to_arrow(), mode="append", schema_mode="merge")
    made = compact(lake, "landing/grown", RULE)
    assert made.outcome == "left" and "one table" in made.reason and made.version is None
    assert len(list(Path(lake.url, "landing/grown").glob("*.parquet"))) == 6


def test_types_and_statistics_survive(lake: Lake) -> None:
    import datetime as dt
    from decimal import Decimal

    from deltalake import DeltaTable

    for number in range(6):
        frame = pl.DataFrame(
            {
                "day": [dt.date(2024, 1, 1 + number), None],
                "at": [dt.datetime(2024, 1, 1, number, tzinfo=dt.UTC), None],
                "amount": pl.Series([Decimal("1.25"), None], dtype=pl.Decimal(10, 2)),
                "flag": [True, None],
                "values": [[1.0, float(number)], []],
                "measure": [float("nan"), float(number)],
                "raw": [b"\x00\xff", None],
                "small": pl.Series([number, None], dtype=pl.Int16),
            }
        )
        append(lake.url, TABLE, frame)
    rows = scanned(lake, 5)
    assert compact(lake, TABLE, RULE).files == (6, 1)
    assert scanned(lake, 6).equals(rows, null_equal=True) and scanned(lake, 6).schema == rows.schema
    actions = DeltaTable(f"{lake.url}/{TABLE}").get_add_actions(flatten=True)
    assert actions.column("num_records").to_pylist() == [12]
    assert actions.column("min.day").to_pylist() == [dt.date(2024, 1, 1)]
    assert actions.column("max.small").to_pylist() == [5]
    assert actions.column("null_count.flag").to_pylist() == [6]
    measures = actions.column("min.measure").to_pylist() if "min.measure" in actions.schema.names else [None]
    assert measures == [None]  # a bound beside a NaN would let readers skip what they need


def test_a_writer_that_is_faster_costs_an_attempt_and_no_row(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    small_table(lake.url, TABLE, 8)
    real, interruptions = lake_compaction._commit, iter([100, 101])

    def slow(*arguments: object) -> bool:
        seed = next(interruptions, None)
        if seed is not None:
            append(lake.url, TABLE, readings(seed))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lake_compaction, "_commit", slow)
    made = compact(lake, TABLE, RULE)
    assert made.outcome == "done" and made.of == 9 and made.files == (10, 1)
    expected = pl.concat([*(readings(n) for n in range(8)), readings(100), readings(101)])
    assert content_of(scanned(lake, 10)).bag == content_of(expected).bag
    # What lost was taken away again: no file lies there that no version names.
    named = {f.name for v in range(11) for f in lake_compaction.layout_of(lake, TABLE, RULE).files} | {
        uri.rsplit("/", 1)[-1] for v in range(11) for uri in lake.opened(TABLE, v).file_uris()
    }
    assert {p.name for p in Path(lake.url, TABLE).glob("*.parquet")} == named


def test_always_slower_is_busy_and_changes_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    small_table(lake.url, TABLE, 5)
    real = lake_compaction._commit

    def slow(*arguments: object) -> bool:
        append(lake.url, TABLE, readings(7))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lake_compaction, "_commit", slow)
    made = compact(lake, TABLE, RULE, attempts=3)
    assert (made.outcome, made.version) == ("busy", None)
    assert scanned(lake, 7).height == 8 * 200


def test_what_cannot_be_read_back_is_not_committed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    small_table(lake.url, TABLE, 5)
    real = lake_compaction._joined

    def fewer(*arguments: object) -> object:
        for old, frame, name in real(*arguments):  # type: ignore[arg-type]
            yield old, frame.slice(1), name

    monkeypatch.setattr(lake_compaction, "_joined", fewer)
    with pytest.raises(IntegrityError, match="would change the rows"):
        compact(lake, TABLE, RULE)
    assert lake.versions(TABLE)[0]["version"] == 4
    assert len(list(Path(lake.url, TABLE).glob("*.parquet"))) == 5


def test_two_compactions_at_once_leave_every_row_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """delta-rs's OPTIMIZE does not survive this one: the second commits on top of the first."""
    from deltalake import DeltaTable

    small_table(lake.url, TABLE, 8)
    stale = DeltaTable(f"{lake.url}/{TABLE}")
    real, once = lake_compaction._commit, iter([True])

    def raced(*arguments: object) -> bool:
        if next(once, False):
            assert compact(lake, TABLE, RULE).outcome == "done"
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lake_compaction, "_commit", raced)
    assert compact(lake, TABLE, RULE).outcome == "left"  # the other one has done it
    assert scanned(lake, 8).height == 8 * 200
    from deltalake.exceptions import CommitFailedError

    with pytest.raises(CommitFailedError):  # and an OPTIMIZE begun before ours is refused
        stale.optimize.compact()


WRITER = textwrap.dedent(
    """
    import sys
    import polars as pl
    from deltalake.exceptions import CommitFailedError
    from tests.support.small_files import append, readings

    lake, table, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    print("ready", flush=True)
    for number in range(count):
        while True:
            try:
                append(lake, table, readings(1000 + number))
                break
            except CommitFailedError:
                pass
        print(number, flush=True)
    """
)


def test_beside_a_writer_in_another_process_no_row_is_lost_or_doubled(lake: Lake) -> None:
    small_table(lake.url, TABLE, 6)
    command = [sys.executable, "-c", WRITER, lake.url, TABLE, "40"]
    root = str(Path(__file__).resolve().parents[3])
    compactions = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": root}) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        while writer.poll() is None:
            compactions += compact(lake, TABLE, RULE, attempts=8).outcome == "done"
        assert writer.returncode == 0
    compact(lake, TABLE, RULE)
    newest = lake.versions(TABLE)[0]["version"]
    expected = pl.concat([*(readings(n) for n in range(6)), *(readings(1000 + n) for n in range(40))])
    found = scanned(lake, newest)
    assert found.height == 46 * 200 and content_of(found).bag == content_of(expected).bag
    assert compactions >= 1


def test_the_lake_writes_beside_a_compaction(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole new version by a step, between reading and committing: it stays the newest, with its rows alone."""
    small_table(lake.url, TABLE, 8)
    real, refs = lake_compaction._commit, []

    def raced(*arguments: object) -> bool:
        if not refs:
            refs.append(lake.write(TABLE, readings(500)))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lake_compaction, "_commit", raced)
    assert compact(lake, TABLE, RULE).outcome == "left"
    assert lake.versions(TABLE)[0]["version"] == refs[0].version and lake.read(refs[0]).equals(readings(500))


def test_in_an_object_store(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The same on S3: files through the object store, the commit by a conditional put."""
    bucket = Lake(f"{s3}/lake", open_store(f"{s3}/objects"))
    small_table(bucket.url, TABLE, 6)
    before = contents(bucket, [TABLE])
    made = compact(bucket, TABLE, RULE)
    assert made.outcome == "done" and made.files == (6, 1)
    after = contents(bucket, [TABLE])
    assert differences(before, after, before) == [] and after[f"{TABLE}@6"].bag == before[f"{TABLE}@5"].bag
    real = lake_compaction._commit

    def slow(*arguments: object) -> bool:
        small_table(bucket.url, TABLE, 1)
        return real(*arguments)  # type: ignore[arg-type]

    small_table(bucket.url, TABLE, 5)
    monkeypatch.setattr(lake_compaction, "_commit", slow)
    assert compact(bucket, TABLE, RULE, attempts=1).outcome == "busy"
    assert scanned(bucket, bucket.versions(TABLE)[0]["version"]).height == 12 * 200


def test_z_order_is_a_permutation_that_keeps_neighbours_together() -> None:
    frame = readings(3, 5000)
    order = z_order(frame, ["subject_id", "study_day"])
    assert np.array_equal(np.sort(order), np.arange(frame.height))
    blocks = [frame[order][start : start + 500] for start in range(0, 5000, 500)]
    mean = sum(b["study_day"].max() - b["study_day"].min() for b in blocks) / len(blocks)  # type: ignore[operator]
    assert mean < 200 and sum(b["subject_id"].n_unique() for b in blocks) / len(blocks) < 45
    assert z_order(frame.clear(), ["study_day"]).size == 0


def test_the_policy_refuses_what_makes_no_sense() -> None:
    import yaml

    text = Path(lake_compaction.__file__).with_name("lake.yaml").read_text("utf-8")
    data = yaml.safe_load(text)
    policy = parse(data)
    assert isinstance(policy.rule("landing/monitor"), TableRule)
    assert policy.rule("landing/monitor").order == ("subject_id", "study_day") and policy.rule("clean/lb").order == ()
    assert all(item["why"] for item in data["references"]["opaque"])
    with pytest.raises(TrialOpsError, match="about to commit"):
        parse({**data, "orphans": {"age_days": 0}})
    with pytest.raises(TrialOpsError, match="makes no sense"):
        parse({**data, "compaction": {"default": {**data["compaction"]["default"], "small_share": 2}}})
