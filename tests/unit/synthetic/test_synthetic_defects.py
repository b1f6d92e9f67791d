"""Every injected fault is in the files exactly as the truth file says, and nowhere else."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest

from trialops.errors import TrialOpsError
from trialops.synthetic import generate
from trialops.synthetic.defects import KINDS
from trialops.synthetic.row_faults import FURTHER

SUBJECTS = 80
ROW_KINDS = (
    "duplicate_subject",
    "impossible_date",
    "unit_swap",
    "missing_unit",
    "out_of_range",
    "orphan_subject",
    *FURTHER,
)
ADDED = ("duplicate_subject", "orphan_subject", "duplicate_key")


def read(path: Path, encoding: str | None = None) -> pd.DataFrame:
    return pyreadstat.read_xport(str(path), encoding=encoding)[0]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound")
    generate(out, subjects=SUBJECTS, sites=5, seed=2, formats=["sdtm"])
    return out


def _faulty(out: Path, *kinds: str) -> list[dict[str, Any]]:
    generate(out, subjects=SUBJECTS, sites=5, seed=2, formats=["sdtm"], defects=kinds)
    records = json.loads((out / "truth" / "defects.json").read_text())
    assert {r["kind"] for r in records} == set(kinds)
    return records


@pytest.mark.parametrize("kind", [k for k in ROW_KINDS if k not in ADDED])
def test_changed_values(tmp_path: Path, sound: Path, kind: str) -> None:
    records = _faulty(tmp_path, kind)
    for file in {r["file"] for r in records}:
        expected = read(sound / file)
        for r in (r for r in records if r["file"] == file):
            row = r["row"] - 1
            assert expected.loc[row, "USUBJID"] == r["usubjid"]
            assert expected.loc[row, r["column"]] == r["before"] != r["after"]
            expected.loc[row, r["column"]] = r["after"]
        pd.testing.assert_frame_equal(read(tmp_path / file), expected)
    changed = {r["file"] for r in records}
    for path in (sound / "sdtm").glob("*.xpt"):
        if f"sdtm/{path.name}" not in changed:
            assert path.read_bytes() == (tmp_path / "sdtm" / path.name).read_bytes()


@pytest.mark.parametrize("kind", ADDED)
def test_added_rows(tmp_path: Path, sound: Path, kind: str) -> None:
    records = _faulty(tmp_path, kind)
    (file,) = {r["file"] for r in records}
    frame = read(tmp_path / file)
    rows = [r["row"] - 1 for r in records]
    assert frame.loc[rows, "USUBJID"].tolist() == [r["usubjid"] for r in records]
    pd.testing.assert_frame_equal(frame.drop(index=rows).reset_index(drop=True), read(sound / file))
    known = set(read(sound / "sdtm" / "dm.xpt")["USUBJID"])
    assert all((r["usubjid"] in known) == (kind != "orphan_subject") for r in records)


def test_missing_column(tmp_path: Path, sound: Path) -> None:
    (record,) = _faulty(tmp_path, "missing_column")
    assert set(read(sound / record["file"]).columns) - set(read(tmp_path / record["file"]).columns) == {
        record["column"]
    }


def test_truncated_file(tmp_path: Path, sound: Path) -> None:
    (record,) = _faulty(tmp_path, "truncated_file")
    whole, cut = (sound / record["file"]).read_bytes(), (tmp_path / record["file"]).read_bytes()
    assert (len(whole), len(cut)) == (record["before"], record["after"])
    assert whole.startswith(cut) and len(cut) % 80 != 0


def test_encoding_cp1252(tmp_path: Path, sound: Path) -> None:
    (record,) = _faulty(tmp_path, "encoding_cp1252")
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / record["file"]).read_bytes().decode("utf-8")
    frame, clean = read(tmp_path / record["file"], encoding="WINDOWS-1252"), read(sound / record["file"])
    row = record["row"] - 1
    assert frame.loc[row, record["column"]] == record["after"]
    assert clean.loc[row, record["column"]] == record["before"]
    assert clean.loc[row, "USUBJID"] == record["usubjid"]


def test_sites(tmp_path: Path) -> None:
    records = {r["kind"]: r for r in _faulty(tmp_path, "tiny_site", "empty_site")}
    with (tmp_path / "sites.csv").open() as file:
        rows = list(csv.DictReader(file))
    dm = read(tmp_path / "sdtm" / "dm.xpt")
    for kind, count in (("tiny_site", 3), ("empty_site", 0)):
        site = rows[records[kind]["row"] - 1]
        assert site["SITEID"] == records[kind]["after"]
        assert int(site["SCREENED"]) == (dm["SITEID"] == site["SITEID"]).sum() == count
    assert len(rows) == 6 and len(dm) == SUBJECTS


def test_tiny_site_is_filled_up_when_it_is_too_small(tmp_path: Path) -> None:
    generate(tmp_path, subjects=8, sites=4, seed=2, formats=["sdtm"], defects=["tiny_site"])
    (record,) = json.loads((tmp_path / "truth" / "defects.json").read_text())
    assert (read(tmp_path / "sdtm" / "dm.xpt")["SITEID"] == record["after"]).sum() == 3


def test_one_class_label(tmp_path: Path) -> None:
    _faulty(tmp_path, "one_class_label")
    ended = read(tmp_path / "sdtm" / "ds.xpt").query("DSCAT == 'DISPOSITION EVENT'")["DSDECOD"]
    assert set(ended) == {"COMPLETED", "SCREEN FAILURE"}


def test_all_at_once(tmp_path: Path) -> None:
    records = _faulty(tmp_path, *KINDS)
    frames = {f: read(tmp_path / f) for f in {r["file"] for r in records if r["kind"] in ROW_KINDS}}
    for r in records:
        if r["kind"] in ROW_KINDS:
            row = frames[r["file"]].loc[r["row"] - 1]
            value = None if pd.isna(row[r["column"]]) else row[r["column"]]
            assert (row["USUBJID"], value) == (r["usubjid"], r["after"]), r["kind"]


def test_too_small_for_a_fault(tmp_path: Path) -> None:
    with pytest.raises(TrialOpsError, match="too short"):
        generate(tmp_path, subjects=1, sites=1, formats=["sdtm"], defects=["truncated_file"])
