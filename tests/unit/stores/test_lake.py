from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.stores.digest import table_digest
from trialops.stores.lake import IntegrityError, Lake
from trialops.stores.objects import open_store
from trialops.stores.refs import Snapshot, TableRef


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), open_store(str(tmp_path)))


def frame(rows: int = 5, shift: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {"n": range(shift, rows + shift), "s": [None if i % 3 == 0 else f"v{i}" for i in range(rows)]},
        schema={"n": pl.Int64, "s": pl.String},
    )


def test_what_was_written_is_read(lake: Lake) -> None:
    ref = lake.write("clean/lb", frame())
    assert (ref.version, ref.rows) == (0, 5)
    assert lake.read(ref).equals(frame())


def test_same_content_is_the_same_version(lake: Lake) -> None:
    first = lake.write("clean/lb", frame(), run_id="a")
    second = lake.write("clean/lb", frame(shift=1), run_id="b")
    again = lake.write("clean/lb", frame(), run_id="c")
    assert again == first and second.version == 1
    assert len(lake.versions("clean/lb")) == 2


def test_an_older_version_is_read_at_its_place(lake: Lake) -> None:
    first = lake.write("clean/lb", frame())
    lake.write("clean/lb", frame(shift=9).with_columns(extra=pl.lit(True)))
    assert lake.read(first).equals(frame())


@pytest.mark.parametrize("rows", [0, 3])
def test_empty_tables_and_columns_of_nothing(lake: Lake, rows: int) -> None:
    nothing = frame(rows).with_columns(pl.lit(None).alias("none"))
    got = lake.read(lake.write("clean/lb", nothing))
    assert got.height == rows and got.columns == ["n", "s", "none"]


def test_row_order_survives_many_row_groups(lake: Lake) -> None:
    big = pl.DataFrame({"n": range(1_500_000)})
    assert lake.read(lake.write("clean/big", big))["n"].is_sorted()


def test_damaged_file_is_an_integrity_error(lake: Lake) -> None:
    ref = lake.write("clean/lb", frame())
    data = next(Path(lake.url, "clean/lb").glob("*.parquet"))
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match="clean/lb@0"):
        lake.read(ref)


def test_swapped_file_is_an_integrity_error(lake: Lake) -> None:
    ref = lake.write("clean/lb", frame())
    data = next(Path(lake.url, "clean/lb").glob("*.parquet"))
    frame(shift=1).write_parquet(data)
    with pytest.raises(IntegrityError, match="not what was written"):
        lake.read(ref)


def test_missing_version_is_an_integrity_error(lake: Lake) -> None:
    with pytest.raises(IntegrityError):
        lake.read(TableRef("clean/none", 0, 1, "0" * 64))


@pytest.mark.parametrize("name", ["clean", "../x/y", "Clean/lb", "clean/l b"])
def test_table_names_cannot_leave_the_lake(lake: Lake, name: str) -> None:
    with pytest.raises(TrialOpsError):
        lake.write(name, frame())


def test_fallback_reads_at_the_last_validated_version(lake: Lake) -> None:
    good = Snapshot({"LB": lake.write("clean/lb", frame())})
    lake.mark_validated("clean", good, {"score": 99.0}, run_id="r1")
    newer = Snapshot({"LB": lake.write("clean/lb", frame(shift=2))})
    found = lake.last_validated("clean")
    assert found is not None and found.snapshot == good
    lake.mark_validated("clean", newer, {"score": 98.0}, run_id="r2")
    found = lake.last_validated("clean")
    assert found is not None and found.snapshot == newer
    # the newest validated version is damaged: the one before it serves, and nothing newer is lost
    for file in Path(lake.url, "clean/lb").glob("*.parquet"):
        if pl.read_parquet(file)["n"][0] == 2:
            file.write_bytes(b"damaged")
    found = lake.last_validated("clean")
    assert found is not None and found.snapshot == good
    assert len(lake.versions("clean/lb")) == 2


def test_marking_twice_adds_one_manifest(lake: Lake) -> None:
    snapshot = Snapshot({"LB": lake.write("clean/lb", frame())})
    first = lake.mark_validated("clean", snapshot, {"score": 99.0})
    assert lake.mark_validated("clean", snapshot, {"score": 99.0}) == first
    assert len(lake.manifests("clean")) == 1


@pytest.mark.parametrize("field", ["run_id", "at", "evidence"])
def test_altered_manifest_breaks_the_chain_behind_it(lake: Lake, field: str) -> None:
    for shift in range(3):
        lake.mark_validated("clean", Snapshot({"LB": lake.write("clean/lb", frame(shift=shift))}), {"score": 1})
    key = "validated/clean/000002.json"
    body = json.loads(lake.objects.get(key))
    body[field] = {"score": 100} if field == "evidence" else "x"
    lake.objects.put(key, json.dumps(body, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(IntegrityError, match="000003"):
        lake.manifests("clean")


def test_removed_manifest_is_noticed(lake: Lake) -> None:
    for shift in range(3):
        lake.mark_validated("clean", Snapshot({"LB": lake.write("clean/lb", frame(shift=shift))}), {})
    lake.objects.delete("validated/clean/000002.json")
    with pytest.raises(IntegrityError, match="000003"):
        lake.manifests("clean")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-9, 9)),
            st.one_of(st.none(), st.text(max_size=4)),
            st.one_of(st.none(), st.lists(st.one_of(st.none(), st.floats(-9, 9)), max_size=3)),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_digest_depends_on_content_not_on_chunks(rows: list[tuple], size: int) -> None:
    whole = pl.DataFrame(rows, schema={"a": pl.Int32, "b": pl.String, "c": pl.List(pl.Float64)}, orient="row")
    parts = [whole.slice(i, size) for i in range(0, whole.height, size)] or [whole]
    pieced = pl.concat(parts, rechunk=False)
    assert table_digest(whole.to_arrow()) == table_digest(pieced.to_arrow())
    if whole.height > 1 and not whole.equals(whole.reverse()):
        assert table_digest(whole.to_arrow()) != table_digest(whole.reverse().to_arrow())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": ["ab", "c"]}, {"a": ["a", "bc"]}),
        ({"a": [None, "a"]}, {"a": ["", "a"]}),
        ({"a": [0, None]}, {"a": [None, 0]}),
        ({"a": [1]}, {"b": [1]}),
        ({"a": [1]}, {"a": [1.0]}),
        ({"a": [[1.0, 2.0], [3.0]]}, {"a": [[1.0], [2.0, 3.0]]}),
        ({"a": [[1.0], [], None]}, {"a": [[1.0], None, []]}),
        ({"a": [[None, 1.0]]}, {"a": [[1.0, None]]}),
    ],
)
def test_digest_tells_apart(one: dict[str, list], two: dict[str, list]) -> None:
    assert table_digest(pl.DataFrame(one).to_arrow()) != table_digest(pl.DataFrame(two).to_arrow())


@pytest.mark.slow
def test_readers_exit_cleanly(tmp_path: Path) -> None:
    """delta-rs's own PyArrow hand-over aborts at interpreter exit now and then; the lake's reads must not."""
    lake = Lake(str(tmp_path / "lake"), open_store(str(tmp_path)))
    refs = [lake.write("clean/lb", frame(2_000, shift)) for shift in range(20)]
    code = (
        "import sys, json; from trialops.stores.lake import Lake; from trialops.stores.objects import open_store;"
        "from trialops.stores.refs import TableRef; lake = Lake(sys.argv[1], open_store(sys.argv[2]));"
        "assert all(lake.read(TableRef(*r)).height == 2000 for r in json.loads(sys.argv[3]))"
    )
    listed = json.dumps([[r.table, r.version, r.rows, r.digest] for r in refs])
    arguments = [sys.executable, "-c", code, lake.url, str(tmp_path), listed]
    codes = [subprocess.run(arguments, check=False).returncode for _ in range(20)]
    assert codes == [0] * 20


def test_versions_outlive_delta_s_own_memory(lake: Lake) -> None:
    """Delta's default drops commits older than 30 days at a checkpoint; a validated version must stay readable."""
    import os
    import time

    first = lake.write("clean/lb", frame())
    log = Path(lake.url, "clean/lb", "_delta_log")
    long_ago = time.time() - 40 * 86_400
    for shift in range(1, 120):
        lake.write("clean/lb", frame(shift=shift))
        for path in log.glob("*.json"):
            os.utime(path, (long_ago, long_ago))
    assert lake.read(first).equals(frame())
    assert len(lake.versions("clean/lb")) == 120


def _write_three(home: str, writer: int) -> list[tuple[TableRef, list[int]]]:
    lake, written = Lake(f"{home}/lake", open_store(home)), []
    for turn in range(3):
        values = [writer * 100 + turn] * (writer + 1)
        written.append((lake.write("features/labs", pl.DataFrame({"x": values})), values))
    return written


@pytest.mark.slow
def test_writers_at_once_each_leave_their_own_version(tmp_path: Path) -> None:
    """Two pipelines on one home: neither is refused, and neither reads the other's rows under its own version."""
    for turn in range(4):
        home = str(tmp_path / str(turn))
        Path(home).mkdir()
        with ThreadPoolExecutor(4) as pool:
            written = [one for part in pool.map(partial(_write_three, home), range(4)) for one in part]
        lake = Lake(f"{home}/lake", open_store(home))
        assert len({ref.version for ref, _ in written}) == len(written) == 12
        for ref, values in written:
            assert lake.read(ref)["x"].to_list() == values
