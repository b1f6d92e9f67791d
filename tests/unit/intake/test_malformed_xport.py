"""Malformed SAS XPORT files: no crash, no loss, each with a reason, and nothing of their content in what is said."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.intake.test_sdtm import ae, deliver, write
from trialops.errors import TrialOpsError
from trialops.intake.sdtm import read_folder

RECEIVED = dt.date(2015, 1, 1)
SECRET = "Quetzalcoatlus"
BLOCK = 80


def sound(folder: Path) -> bytes:
    """An AE file of enough rows to damage, with a value that must not be repeated."""
    rows = ae(AETERM=[f"{SECRET} headache {'x' * 60}", f"{SECRET} rash {'y' * 60}", f"{SECRET} fever {'z' * 60}"])
    return write(folder, "AE", rows).read_bytes()


def header(data: bytes, word: bytes) -> int:
    """Where a header record begins."""
    return data.index(b"HEADER RECORD*******" + word)


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def name_field(data: bytes, variable: int) -> int:
    """Where the descriptor of a variable begins."""
    return header(data, b"NAMESTR") + BLOCK + 140 * variable


def rows_at(data: bytes) -> int:
    return header(data, b"OBS") + BLOCK


Harm = Callable[[bytes], bytes]
HARMS: dict[str, tuple[Harm, str]] = {
    "empty": (lambda d: b"", "SAS XPORT library header"),
    "one byte": (lambda d: d[:1], "SAS XPORT library header"),
    "library header alone": (lambda d: d[:BLOCK], "member header"),
    "cut before the member": (lambda d: d[: 3 * BLOCK], "member header"),
    "cut in the descriptors": (lambda d: d[: name_field(d, 1) // BLOCK * BLOCK], "cut off"),
    "cut before the rows": (lambda d: d[: header(d, b"OBS")], "cut off"),
    "cut in a row": (lambda d: d[: (rows_at(d) + 240) // BLOCK * BLOCK], "middle of row"),
    "cut in a block": (lambda d: d[:-7], "the end is missing"),
    "a byte more": (lambda d: d + b"\0", "the end is missing"),
    "a block of noise more": (lambda d: d + b"\x9c" * BLOCK, ""),
    "a second data set": (lambda d: d + d[240:], "more than one data set"),
    "transferred as text": (lambda d: d.replace(b"\0", b""), ""),
    "line ends converted": (lambda d: d.replace(b" ", b"\r\n", 40), ""),
    "spreadsheet": (lambda d: b"PK\x03\x04" + d, "SAS XPORT library header"),
    "CSV": (lambda d: b"STUDYID,USUBJID\n" * 50, "SAS XPORT library header"),
    "compressed": (lambda d: b"\x1f\x8b\x08" + d, "SAS XPORT library header"),
    "CPORT": (lambda d: b"**COMPRESSED** **COMPRESSED** " + d, "SAS XPORT library header"),
    "descriptor size of letters": (lambda d: put(d, header(d, b"MEMB") + 74, b"abcd"), "size of a variable descriptor"),
    "descriptor size of zero": (lambda d: put(d, header(d, b"MEMB") + 74, b"0000"), "cut off"),
    "count of letters": (lambda d: put(d, header(d, b"NAMESTR") + 54, b"many"), "number of variables"),
    "count of zero": (lambda d: put(d, header(d, b"NAMESTR") + 54, b"0000"), "cut off"),
    "count too large": (lambda d: put(d, header(d, b"NAMESTR") + 54, b"9999"), "cut off"),
    "count too small": (lambda d: put(d, header(d, b"NAMESTR") + 54, b"0002"), ""),
    "length of zero": (lambda d: put(d, name_field(d, 4) + 4, struct.pack(">h", 0)), "no length"),
    "length below zero": (lambda d: put(d, name_field(d, 4) + 4, struct.pack(">h", -3)), "no length"),
    "length too large": (lambda d: put(d, name_field(d, 4) + 4, struct.pack(">h", 32000)), ""),
    "position outside the row": (lambda d: put(d, name_field(d, 4) + 84, struct.pack(">l", 2**30)), ""),
    "position below zero": (lambda d: put(d, name_field(d, 4) + 84, struct.pack(">l", -5)), ""),
    "kind of a third sort": (lambda d: put(d, name_field(d, 4), struct.pack(">h", 7)), ""),
    "no header of rows": (lambda d: d.replace(b"HEADER RECORD*******OBS", b"HEADER RECORD*******XXX"), "cut off"),
    "neither UTF-8 nor Windows-1252": (lambda d: d.replace(b"headache", b"head\x81che"), "neither UTF-8 nor"),
    "names twice": (lambda d: put(d, name_field(d, 5) + 8, b"AETERM  "), ""),
    "name of blanks": (lambda d: put(d, name_field(d, 5) + 8, b"        "), ""),
    "name not ASCII": (lambda d: put(d, name_field(d, 5) + 8, b"\xff\xfe\xff\xfe    "), ""),
}
"""What is done to the file, and what must be said; empty where the file may also be read, or its rows set aside."""


@pytest.mark.parametrize("name", HARMS)
def test_malformed(name: str, tmp_path: Path) -> None:
    harm, said = HARMS[name]
    source = deliver(tmp_path / "delivery")
    (source / "ae.xpt").write_bytes(harm(sound(tmp_path / "sound")))
    try:
        intake = read_folder(source, received=RECEIVED, on_bad_file="skip")
    except TrialOpsError as error:
        # A file that can be read, and lacks a column the trial needs, is one error that names both.
        assert not said and "ae.xpt" in str(error) and SECRET not in str(error)
        return
    row = intake.dispositions.filter(pl.col("file") == "ae.xpt").row(0, named=True)
    assert row["read"] == row["loaded"] + row["quarantined"] + row["ignored"]
    if said:
        assert said in row["reason"] and row["read"] == 0
    else:
        assert row["reason"] or row["read"] >= 3
    assert SECRET not in intake.dispositions.write_csv() + intake.quarantine.write_csv()
    with_others = intake.dispositions.filter(pl.col("file") != "ae.xpt")
    assert with_others["loaded"].to_list() == with_others["read"].to_list()


ROWS: dict[str, tuple[dict[str, list[object]], str]] = {
    "no subject": ({"USUBJID": ["S-01-001", "", "S-01-002"]}, "MISSING_SUBJECT"),
    "another study": ({"STUDYID": ["T1", "T9", "T1"]}, "WRONG_STUDY"),
    "another domain": ({"DOMAIN": ["AE", "LB", "AE"]}, "WRONG_DOMAIN"),
    "no sequence": ({"AESEQ": [1.0, None, 1.0]}, "MISSING_KEY"),
    "sequence of letters": ({"AESEQ": ["1", "two", "1"]}, "NOT_A_NUMBER"),
    "sequence twice": ({"AESEQ": [1.0, 1.0, 1.0]}, "DUPLICATE_KEY"),
    "a stranger": ({"USUBJID": ["S-01-001", "S-99-999", "S-01-002"]}, "ORPHAN_SUBJECT"),
    "date of another form": ({"AESTDTC": ["2014-01-05", "05JAN2014", "2014-02-10"]}, "DATE_NOT_ISO8601"),
    "day that does not exist": ({"AESTDTC": ["2014-01-05", "2014-02-30", "2014-02-10"]}, "DATE_IMPOSSIBLE"),
    "day long ago": ({"AESTDTC": ["2014-01-05", "1014-01-05", "2014-02-10"]}, "DATE_BEFORE_1900"),
    "day to come": ({"AESTDTC": ["2014-01-05", "2114-01-05", "2014-02-10"]}, "DATE_AFTER_RECEIPT"),
    "end before start": ({"AEENDTC": ["2014-01-06", "2013-01-01", "2014-02-11"]}, "END_BEFORE_START"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_set_aside_alone(name: str, tmp_path: Path) -> None:
    changes, reason = ROWS[name]
    intake = read_folder(deliver(tmp_path, AE=ae(**changes)), received=RECEIVED)
    assert intake.quarantine.select("row", "reason").rows() == [(2, reason)]
    assert intake.tables["AE"].height == 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_damage_is_survived(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes changed, dropped or doubled anywhere: the file is read, refused with its reason, or named in one error."""
    folder = tmp_path_factory.mktemp("delivery")
    content = sound(tmp_path_factory.mktemp("sound"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 200))
        new = data.draw(st.sampled_from([b"", b"\0" * 80, b"\xff" * 7, b" " * 160, content[at : at + 80] * 2]))
        content = content[:at] + new + content[at + length :]
        if not content:
            break
    source = deliver(folder)
    (source / "ae.xpt").write_bytes(content)
    try:
        intake = read_folder(source, received=RECEIVED, on_bad_file="skip")
    except TrialOpsError as error:
        assert "ae.xpt" in str(error) and SECRET not in str(error)
        return
    for row in intake.dispositions.iter_rows(named=True):
        assert row["read"] == row["loaded"] + row["quarantined"] + row["ignored"]
    assert SECRET not in intake.dispositions.write_csv() + intake.quarantine.write_csv()
