"""Reading a delivery of XPORT files: counts, faults of files, encodings, corrections."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.intake.domains import current_rows
from trialops.intake.page import intake_page
from trialops.intake.sdtm import Intake, read_folder
from trialops.intake.xport_layout import LayoutError, choose_encoding, read_layout

SUBJECTS = ["S-01-001", "S-01-002", "S-02-001"]
RECEIVED = dt.date(2015, 1, 1)


def write(folder: Path, domain: str, columns: dict[str, list[Any]], version: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{domain.lower()}.xpt"
    frame = pl.DataFrame(columns, strict=False)
    pyreadstat.write_xport(frame, path, table_name=domain, file_format_version=version)
    return path


def dm(**changes: list[Any]) -> dict[str, list[Any]]:
    return {
        "STUDYID": ["T1"] * 3,
        "DOMAIN": ["DM"] * 3,
        "USUBJID": list(SUBJECTS),
        "SITEID": ["01", "01", "02"],
        "RFSTDTC": ["2014-01-02", "2014-02-03", ""],
        "DMDTC": ["2013-12-20", "2014-01-20", "2014-03-01"],
        "BRTHDTC": ["1950-01-01", "1949", "1960-02-29"],
        "AGE": [63.0, 64.0, 54.0],
        "SEX": ["F", "M", "F"],
        "ARMCD": ["A", "B", "SCRNFAIL"],
        "RFICDTC": [None, None, None],
    } | changes


def ae(**changes: list[Any]) -> dict[str, list[Any]]:
    return {
        "STUDYID": ["T1"] * 3,
        "DOMAIN": ["AE"] * 3,
        "USUBJID": [SUBJECTS[0], SUBJECTS[0], SUBJECTS[1]],
        "AESEQ": [1.0, 2.0, 1.0],
        "AETERM": ["a headache that lasted through the night", "rash on the left arm, slight", "fever"],
        "AEDECOD": ["HEADACHE", "RASH", "PYREXIA"],
        "AESER": ["N", "N", "Y"],
        "AESTDTC": ["2014-01-05", "2014-01", "2014-02-10T09:30"],
        "AEENDTC": ["2014-01-06", "", "2014-02-11"],
    } | changes


def deliver(folder: Path, version: int = 5, **tables: dict[str, list[Any]]) -> Path:
    """A whole small trial; tables given replace or add."""
    ds = {
        "STUDYID": ["T1"] * 2,
        "USUBJID": SUBJECTS[:2],
        "DSSEQ": [1.0, 1.0],
        "DSDECOD": ["COMPLETED", "ADVERSE EVENT"],
        "DSCAT": ["DISPOSITION EVENT"] * 2,
        "DSSTDTC": ["2014-07-01", "2014-05-01"],
    }
    ex = {
        "STUDYID": ["T1"] * 2,
        "USUBJID": SUBJECTS[:2],
        "EXSEQ": [1.0, 1.0],
        "EXTRT": ["DRUG", "PLACEBO"],
        "EXDOSE": [54.0, 0.0],
        "EXSTDTC": ["2014-01-02", "2014-02-03"],
    }
    for domain, columns in ({"DM": dm(), "DS": ds, "EX": ex, "AE": ae()} | tables).items():
        write(folder, domain, columns, version)
    return folder


def counts(intake: Intake, file: str) -> tuple[int, int, int, int]:
    row = intake.dispositions.filter(pl.col("file") == file).row(0, named=True)
    return row["read"], row["loaded"], row["quarantined"], row["ignored"]


def every_row_counted(intake: Intake) -> None:
    for row in intake.dispositions.iter_rows(named=True):
        assert row["read"] == row["loaded"] + row["quarantined"] + row["ignored"], row["file"]
        seen = [t.filter(pl.col("_SOURCE") == row["file"])["_ROW"] for t in intake.tables.values()]
        seen.append(intake.quarantine.filter(pl.col("file") == row["file"])["row"])
        positions = sorted(pl.concat(seen).to_list())
        if not row["ignored"]:
            assert positions == list(range(1, row["read"] + 1)), row["file"]


@pytest.mark.parametrize("version", [5, 8])
def test_sound_delivery_loads_whole(tmp_path: Path, version: int) -> None:
    intake = read_folder(deliver(tmp_path, version), received=RECEIVED)
    assert {d: t.height for d, t in intake.tables.items()} == {"AE": 3, "DM": 3, "DS": 2, "EX": 2}
    assert intake.quarantine.is_empty()
    assert intake.study == "T1"
    every_row_counted(intake)
    events = intake.tables["AE"]
    assert events["_SOURCE"].unique().to_list() == ["ae.xpt"]
    assert events["_ROW"].to_list() == [1, 2, 3]
    assert events["_RECEIVED"].to_list() == [None, None, None]
    assert events["AEENDTC"].to_list() == ["2014-01-06", None, "2014-02-11"]
    assert intake.tables["DM"].schema["RFICDTC"] == pl.String  # all missing, so the file holds it as a number
    assert events.schema["AESEQ"] == pl.Float64


def test_digest_follows_the_bytes(tmp_path: Path) -> None:
    first = read_folder(deliver(tmp_path / "a"), received=RECEIVED).source_digest
    other = deliver(tmp_path / "b", AE=ae(AESER=["N", "N", "N"]))
    assert read_folder(other, received=RECEIVED).source_digest != first
    for file in (tmp_path / "a").iterdir():
        (tmp_path / "b" / file.name).write_bytes(file.read_bytes())
    assert read_folder(other, received=RECEIVED).source_digest == first


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _inside_row(path: Path) -> int:
    """A block boundary inside the second row, so that the size alone betrays nothing."""
    data = path.read_bytes()
    layout = read_layout(data)
    assert layout.row_length > 80
    size = layout.offset + layout.row_length + 80
    return size - size % 80


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda p: _cut(p, _inside_row(p)), "middle of row 2"),
        (lambda p: _cut(p, len(p.read_bytes()) - 7), "the end is missing"),
        (lambda p: _cut(p, 80 * 9), "cut off"),
        (lambda p: _cut(p, 0), "does not start with"),
        (lambda p: p.write_text("STUDYID,USUBJID\n" * 10), "does not start with"),
        (lambda p: p.write_bytes(p.read_bytes() + p.read_bytes()[240:]), "more than one data set"),
    ],
)
def test_damaged_file_is_one_clear_error(tmp_path: Path, harm: Any, said: str) -> None:
    harm(deliver(tmp_path) / "ae.xpt")
    with pytest.raises(TrialOpsError) as caught:
        read_folder(tmp_path, received=RECEIVED)
    assert "ae.xpt" in caught.value.what and said in caught.value.what
    assert "again" in caught.value.fix


def test_reader_alone_would_not_notice_the_cut(tmp_path: Path) -> None:
    """Why the layout is checked: the plain reader takes a file cut inside a row for a shorter table."""
    path = deliver(tmp_path) / "ae.xpt"
    _cut(path, _inside_row(path))
    frame, _ = pyreadstat.read_xport(str(path), encoding="UTF-8", output_format="polars")
    assert frame.height < 3
    with pytest.raises(LayoutError):
        read_layout(path.read_bytes())


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    deliver(tmp_path)
    _cut(tmp_path / "ae.xpt", 100)
    _cut(tmp_path / "ex.xpt", 100)
    with pytest.raises(TrialOpsError, match=r"(?s)ae\.xpt.*ex\.xpt"):
        read_folder(tmp_path, received=RECEIVED)


def test_damaged_optional_file_can_be_skipped_and_required_cannot(tmp_path: Path) -> None:
    deliver(tmp_path)
    _cut(tmp_path / "ae.xpt", 100)
    intake = read_folder(tmp_path, received=RECEIVED, on_bad_file="skip")
    assert "AE" not in intake.tables
    assert counts(intake, "ae.xpt") == (0, 0, 0, 0)
    assert intake.dispositions.filter(pl.col("file") == "ae.xpt")["reason"].item()
    _cut(tmp_path / "ex.xpt", 100)
    with pytest.raises(TrialOpsError, match="domain EX"):
        read_folder(tmp_path, received=RECEIVED, on_bad_file="skip")


def test_everything_missing_is_named_in_one_error(tmp_path: Path) -> None:
    deliver(tmp_path)
    (tmp_path / "ex.xpt").unlink()
    short = {k: v for k, v in ae().items() if k not in ("AESER", "AEDECOD")}
    write(tmp_path, "AE", short)
    with pytest.raises(TrialOpsError) as caught:
        read_folder(tmp_path, received=RECEIVED)
    assert "domain EX (Exposure)" in caught.value.what
    assert "ae.xpt: columns AEDECOD, AESER" in caught.value.what


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p])
def test_no_files(tmp_path: Path, make: Any) -> None:
    with pytest.raises(TrialOpsError) as caught:
        read_folder(make(tmp_path))
    assert caught.value.fix


@pytest.mark.parametrize(
    ("raw", "encoding", "text"),
    [
        (b"Sjogren ", "ascii", "Sjogren"),
        (b"Sj\xf6gren ", "windows-1252", "Sjögren"),
        ("Sjögren".encode(), "utf-8", "Sjögren"),
    ],
)
def test_encoding_is_found_and_recorded(tmp_path: Path, raw: bytes, encoding: str, text: str) -> None:
    path = deliver(tmp_path, AE=ae(AETERM=["PLACEHLD", "rash", "a fever that stays for long"])) / "ae.xpt"
    path.write_bytes(path.read_bytes().replace(b"PLACEHLD", raw.ljust(8)))
    intake = read_folder(tmp_path, received=RECEIVED)
    assert intake.tables["AE"]["AETERM"][0] == text
    assert intake.dispositions.filter(pl.col("file") == "ae.xpt")["encoding"].item() == encoding


def test_text_in_no_known_encoding_is_an_error(tmp_path: Path) -> None:
    path = deliver(tmp_path, AE=ae(AETERM=["PLACEHLD", "rash", "fever"])) / "ae.xpt"
    path.write_bytes(path.read_bytes().replace(b"PLACEHLD", b"a\x81\x8d\x8f    "))
    with pytest.raises(TrialOpsError, match="neither UTF-8 nor Windows-1252"):
        read_folder(tmp_path, received=RECEIVED)


def test_numbers_do_not_count_as_text_when_the_encoding_is_chosen(tmp_path: Path) -> None:
    data = write(tmp_path, "X", {"A": ["plain"] * 3, "N": [1e30, -1.5, 1e-30]}).read_bytes()
    layout = read_layout(data)
    assert any(byte > 127 for byte in data[layout.offset :])
    assert choose_encoding(data, layout) == "ascii"


def test_other_data_sets_are_counted_and_left_out(tmp_path: Path) -> None:
    deliver(tmp_path, SUPPAE={"STUDYID": ["T1"], "QNAM": ["X"]}, QS={"STUDYID": ["T1"] * 2, "QSSEQ": [1.0, 2.0]})
    intake = read_folder(tmp_path, received=RECEIVED)
    assert counts(intake, "suppae.xpt") == (1, 0, 0, 1)
    assert counts(intake, "qs.xpt") == (2, 0, 0, 2)
    assert intake.dispositions.filter(pl.col("ignored") > 0)["reason"].str.len_chars().min() > 0


def test_split_data_sets_join(tmp_path: Path) -> None:
    lab = {
        "STUDYID": ["T1"],
        "USUBJID": [SUBJECTS[0]],
        "LBSEQ": [1.0],
        "LBTESTCD": ["ALB"],
        "LBORRES": ["3.8"],
        "LBSTRESN": [38.0],
        "LBSTRESU": ["g/L"],
        "LBDTC": ["2014-01-02"],
    }
    intake = read_folder(deliver(tmp_path, LBCH=lab, LBHE=lab | {"LBSEQ": [2.0]}), received=RECEIVED)
    assert intake.tables["LB"]["_SOURCE"].to_list() == ["lbch.xpt", "lbhe.xpt"]


def test_corrections_add_versions_and_never_replace(tmp_path: Path) -> None:
    deliver(tmp_path)
    second = {k: v[1:2] for k, v in ae(AESER=["N", "Y", "N"]).items()}
    write(tmp_path / "corrections" / "2015-02-01", "AE", second)
    late = {k: v[1:2] for k, v in ae(AESTDTC=["", "2015-01-15", ""], AESEQ=[0.0, 9.0, 0.0]).items()}
    write(tmp_path / "corrections" / "2015-03-01", "AE", late)
    intake = read_folder(tmp_path, received=RECEIVED)
    events = intake.tables["AE"]
    assert intake.quarantine.is_empty()
    assert events.height == 5
    assert counts(intake, "corrections/2015-02-01/ae.xpt") == (1, 1, 0, 0)
    versions = events.filter((pl.col("USUBJID") == SUBJECTS[0]) & (pl.col("AESEQ") == 2))
    assert versions["_RECEIVED"].to_list() == [None, dt.date(2015, 2, 1)]
    assert versions["AESER"].to_list() == ["N", "Y"]
    newest = current_rows("AE", events)
    assert newest.height == 4
    assert newest.filter(pl.col("AESEQ") == 2)["AESER"].to_list() == ["Y"]


def test_outside_the_sealed_tables_corrections_go_by_number(tmp_path: Path) -> None:
    """The day a correction came, beside the study day on which it became known, gives day 1 of a subject away."""
    deliver(tmp_path)
    bad = {k: v[:1] for k, v in ae(AESEQ=["one", "2", "1"]).items()}
    for day in ("2015-02-01", "2015-03-01"):
        write(tmp_path / "corrections" / day, "AE", bad)
    intake = read_folder(tmp_path, received=RECEIVED)
    assert intake.quarantine["file"].to_list() == ["delivery 2/ae.xpt", "delivery 3/ae.xpt"]
    assert counts(intake, "corrections/2015-02-01/ae.xpt") == (1, 0, 1, 0)
    page = str(intake_page(intake))
    assert "2015-02" not in page and "delivery 3/ae.xpt" in page


def test_page_shows_no_small_group(tmp_path: Path) -> None:
    page = str(intake_page(read_folder(deliver(tmp_path), received=RECEIVED)))
    assert "1 more reasons have too few subjects" in page and "('A', 1)" not in page


def test_correction_folder_needs_a_date(tmp_path: Path) -> None:
    write(deliver(tmp_path) / "corrections" / "march", "AE", ae())
    with pytest.raises(TrialOpsError) as caught:
        read_folder(tmp_path)
    assert "march" in caught.value.where


def test_messages_carry_no_values(tmp_path: Path) -> None:
    deliver(tmp_path, DM=dm(RFSTDTC=["2014-13-45", "2014-02-03", ""]), AE=ae(AESEQ=["one", "2", "1"]))
    intake = read_folder(tmp_path, received=RECEIVED)
    said = intake.quarantine.write_json()
    assert intake.quarantine.height == 5  # the DM row, and the rows of its subject in AE, DS and EX
    assert not any(value in said for value in ("2014-13-45", "one", *SUBJECTS))
    every_row_counted(intake)


def test_progress_ends_at_one(tmp_path: Path) -> None:
    heard: list[float] = []
    read_folder(deliver(tmp_path), received=RECEIVED, progress=lambda _, done: heard.append(done))
    assert heard == sorted(heard) and heard[-1] == 1.0


DATES = st.sampled_from(
    [
        "",
        "2014",
        "2014-05",
        "2014-05-06",
        "2014-02-30",
        "2014-13-01",
        "1850-01-01",
        "2999-01-01",
        "soon",
        "2014---06",
    ]
)
IDS = st.sampled_from(["", "S1", "S2", "S3", "S4"])


@st.composite
def messy(draw: st.DrawFn) -> dict[str, dict[str, list[Any]]]:
    n, m = draw(st.integers(1, 6)), draw(st.integers(1, 8))

    def some(strategy: st.SearchStrategy[Any], size: int) -> list[Any]:
        return draw(st.lists(strategy, min_size=size, max_size=size))

    studies = st.sampled_from(["T1", "T1", "T1", "T2", ""])
    subjects = {
        "STUDYID": ["T1", *some(studies, n - 1)],
        "DOMAIN": some(st.sampled_from(["DM", "DM", "AE"]), n),
        "USUBJID": some(IDS, n),
        "SITEID": ["1"] * n,
        "RFSTDTC": some(DATES, n),
        "RFENDTC": some(DATES, n),
        "BRTHDTC": some(DATES, n),
        "DMDTC": some(DATES, n),
        "AGE": some(st.sampled_from([50.0, None]), n),
        "SEX": ["F"] * n,
        "ARMCD": ["A"] * n,
    }
    events = {
        "STUDYID": some(studies, m),
        "USUBJID": some(IDS, m),
        "AESEQ": some(st.sampled_from([1.0, 2.0, None]), m),
        "AEDECOD": ["X"] * m,
        "AESER": ["N"] * m,
        "AESTDTC": some(DATES, m),
        "AEENDTC": some(DATES, m),
    }
    return {"DM": subjects, "AE": events}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(messy())
def test_every_row_of_a_messy_delivery_is_accounted_for(tables: dict[str, dict[str, list[Any]]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        intake = read_folder(deliver(Path(name), **tables), received=RECEIVED)
    every_row_counted(intake)
    subjects = intake.tables["DM"]["USUBJID"]
    assert subjects.null_count() == 0 and subjects.is_unique().all()
    for table in intake.tables.values():
        assert table["USUBJID"].is_in(subjects.implode()).all()
        assert (table["STUDYID"] == intake.study).all()
    assert intake.tables["AE"].select(pl.struct("USUBJID", "AESEQ").is_unique().all()).item()
    assert intake.quarantine["message"].null_count() == 0
