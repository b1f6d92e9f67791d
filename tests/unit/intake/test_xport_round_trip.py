"""What the transport writer writes, our reader and pyreadstat read back; what the format cannot hold is refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyreadstat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.intake.xport import MOST_COLUMNS, Column, XportWriter, ibm_bytes
from trialops.intake.xport_layout import LayoutError
from trialops.intake.xport_read import Transport, ibm_floats, read_transport

LARGEST = float.fromhex("0x1.fffffffffffffp251")
"""The largest double below 16**63."""
SMALLEST = 16.0**-65

numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda v: v == 0 or SMALLEST <= abs(v) <= LARGEST)
letters = st.sampled_from(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"))
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(lambda t: t.rstrip(" "))
names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,7}", fullmatch=True)
labels = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, str, list[Column], pl.DataFrame, dict[str, pl.Series]]:
    """A data set with text, numbers, missing numbers and special missing numbers."""
    rows = draw(st.integers(0, 25))
    columns, data, special = [], {}, {}
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        if draw(st.booleans()):
            cells = draw(st.lists(texts, min_size=rows, max_size=rows))
            length = max([len(c) for c in cells] + [1]) + draw(st.integers(0, 3))
            columns.append(Column(name, "char", length, draw(labels)))
            data[name] = pl.Series(name, cells, pl.String)
        else:
            cell = st.one_of(numbers, st.none(), letters)
            mixed = draw(st.lists(cell, min_size=rows, max_size=rows))
            shown = draw(st.sampled_from(["", "8.2", "BEST12.", "DATE9."]))
            columns.append(Column(name, "num", 8, draw(labels), shown))
            data[name] = pl.Series(name, [v if isinstance(v, float) else None for v in mixed], pl.Float64)
            marks = [v if isinstance(v, str) else None for v in mixed]
            if any(marks):
                special[name] = pl.Series(name, marks, pl.String)
    return draw(names), draw(labels), columns, pl.DataFrame(data), special


def _written(path: Path, table: tuple[str, str, list[Column], pl.DataFrame, dict[str, pl.Series]]) -> Transport:
    name, label, columns, frame, special = table
    with XportWriter(path, name, label, columns) as writer:
        half = frame.height // 2
        for start, stop in ((0, half), (half, frame.height)):
            writer.write(frame[start:stop], {k: v[start:stop] for k, v in special.items()})
    return read_transport(path.read_bytes())


@settings(max_examples=60, deadline=None)
@given(tables())
def test_written_and_read_back_is_equal(
    tmp_path_factory: pytest.TempPathFactory,
    table: tuple[str, str, list[Column], pl.DataFrame, dict[str, pl.Series]],
) -> None:
    name, label, columns, frame, special = table
    path = tmp_path_factory.mktemp("x") / "t.xpt"
    read = _written(path, table)
    assert (read.name, read.label, read.columns, read.encoding) == (name, label, tuple(columns), "ascii")
    if not _blank_tail(frame, columns):
        assert read.frame.equals(frame)
        assert set(read.special) == set(special)
        assert all(read.special[c].equals(s) for c, s in special.items())
        for c in (c.name for c in columns if c.kind == "num"):
            signs = [np.signbit(v) for v in frame[c].drop_nulls()]
            got = [np.signbit(v) for v in read.frame[c].drop_nulls()]
            zero = [v == 0 for v in frame[c].drop_nulls()]
            assert [g for g, z in zip(got, zero, strict=True) if not z] == [
                s for s, z in zip(signs, zero, strict=True) if not z
            ]
        other, meta = pyreadstat.read_xport(str(path), disable_datetime_conversion=True)
        assert len(other) == frame.height or frame.height == 0
        assert [text or "" for text in meta.column_labels] == [c.label for c in columns]
        for column in columns:
            if frame.height and column.kind == "num":
                mine = frame[column.name].to_numpy()
                assert np.array_equal(other[column.name].to_numpy(dtype=float), mine, equal_nan=True)
            elif frame.height:
                assert other[column.name].fillna("").tolist() == frame[column.name].to_list()


def _blank_tail(frame: pl.DataFrame, columns: list[Column]) -> bool:
    """Whether the file's last rows cannot be told from padding: all blank, and shorter than a record (TS-140)."""
    if any(c.kind == "num" for c in columns) or not frame.height:
        return False
    return not "".join(frame.row(-1)) and sum(c.length for c in columns) < 80


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=40))
def test_decoder_equals_the_definition(raw: list[bytes]) -> None:
    """Against rational arithmetic: every 8 bytes are a number or a missing value, rounded once."""
    values, codes = ibm_floats(np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 8))
    for cell, value, code in zip(raw, values, codes, strict=True):
        fraction = int.from_bytes(cell[1:], "big")
        if fraction == 0 and chr(cell[0]) in "._ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            assert np.isnan(value) and chr(code) == chr(cell[0])
            continue
        exact = Fraction(fraction, 2**56) * Fraction(16) ** ((cell[0] & 0x7F) - 64)
        assert code == 0 and abs(value) == float(exact) and (value <= 0) == (cell[0] >= 0x80 or fraction == 0)


@given(st.lists(numbers, min_size=1, max_size=50))
def test_encode_and_decode_are_inverse(values: list[float]) -> None:
    back, codes = ibm_floats(ibm_bytes(np.array(values)))
    assert back.tolist() == values and not codes.any()


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 7, 8])
def test_numbers_stored_short_are_read(width: int) -> None:
    full = ibm_bytes(np.array([1.0, -2.5, 100.0, np.nan]))
    values, _ = ibm_floats(np.ascontiguousarray(full[:, :width]))
    assert values[:3].tolist() == [1.0, -2.5, 100.0] and np.isnan(values[3])


@pytest.mark.parametrize("value", [SMALLEST, -SMALLEST, LARGEST, -LARGEST, 0.0, 0.1, 1 / 3, 2**53 - 1.0])
def test_the_edges_of_the_range_are_exact(value: float) -> None:
    assert ibm_floats(ibm_bytes(np.array([value])))[0][0] == value


@pytest.mark.parametrize("value", [np.nextafter(SMALLEST, 0), 5e-324, 1e-300, np.nextafter(LARGEST, np.inf), np.inf])
def test_outside_the_range_is_refused_with_a_count(tmp_path: Path, value: float) -> None:
    frame = pl.DataFrame({"V": [1.0, value, -value]})
    with (
        pytest.raises(TrialOpsError, match=r"2 number\(s\).*row 2") as caught,
        XportWriter(tmp_path / "x.xpt", "X", "", [Column("V", "num", 8, "v")]) as writer,
    ):
        writer.write(frame)
    assert caught.value.where == "x.xpt, column V" and caught.value.fix


def test_pyreadstat_writes_what_we_write(tmp_path: Path) -> None:
    """The rows of a file are the same bytes as those of pyreadstat's writer, an implementation we did not write."""
    values = [1.0, -0.1, 1e10, 118.625, 0.0, 3.0e-5]
    frame = pd.DataFrame({"ID": ["a", "bcd", "ef", "g", "hij", "k"], "V": values})
    theirs, ours = tmp_path / "theirs.xpt", tmp_path / "ours.xpt"
    pyreadstat.write_xport(frame, str(theirs), table_name="X", file_format_version=5)
    other = read_transport(theirs.read_bytes())
    _written(ours, ("X", "", list(other.columns), other.frame, {}))
    size = len(values) * sum(c.length for c in other.columns)
    rows = [path.read_bytes().split(b"HEADER RECORD*******OBS ")[1][56 : 56 + size] for path in (theirs, ours)]
    assert other.frame.to_dict(as_series=False) == frame.to_dict("list")
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("abcd", "longer than 3 bytes"),
        ("\u00e9", "not ASCII"),
        ("a\nb", "control character"),
        ("a\tb", "control character"),
        ("a\x7f", "control character"),
        ("\x00a", "control character"),
    ],
)
def test_text_the_format_cannot_hold_names_file_column_count_and_row(tmp_path: Path, value: str, what: str) -> None:
    with (
        pytest.raises(TrialOpsError, match=what) as caught,
        XportWriter(tmp_path / "ae.xpt", "AE", "", [Column("AETERM", "char", 3, "")]) as writer,
    ):
        writer.write(pl.DataFrame({"AETERM": ["ok", value, "ok", value]}))
    error = caught.value
    assert error.what.startswith("2 value(s) of AETERM") and "first in row 2" in error.what
    assert error.where == "ae.xpt, column AETERM" and error.fix and value not in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "mark"), [(1.0, "A"), (None, "a"), (None, "AB"), (None, "1"), (None, ".")], ids=str)
def test_special_missing_values_stand_only_for_missing_numbers(tmp_path: Path, number: float | None, mark: str) -> None:
    with (
        pytest.raises(TrialOpsError, match="special missing"),
        XportWriter(tmp_path / "x.xpt", "X", "", [Column("V", "num", 8, "")]) as writer,
    ):
        writer.write(pl.DataFrame({"V": [None, number]}, schema={"V": pl.Float64}), {"V": pl.Series(["B", mark])})


def test_declared_kind_and_table_must_agree(tmp_path: Path) -> None:
    with (
        pytest.raises(TrialOpsError, match="declared as a number"),
        XportWriter(tmp_path / "x.xpt", "X", "", [Column("V", "num", 8, "")]) as writer,
    ):
        writer.write(pl.DataFrame({"V": ["1"]}))


def test_more_columns_than_the_header_can_count(tmp_path: Path) -> None:
    columns = [Column(f"V{i}", "num", 8, "") for i in range(MOST_COLUMNS + 1)]
    with pytest.raises(TrialOpsError, match="10000 columns"):
        XportWriter(tmp_path / "x.xpt", "X", "", columns)


@pytest.mark.parametrize(
    ("at", "packed", "what"),
    [
        (0 + 4, struct.pack(">h", 9), "2 to 8 bytes"),
        (84, struct.pack(">l", 73), "outside the row"),
        (84, struct.pack(">l", -1), "outside the row"),
        (140 + 8, b"V       ", "same name"),
    ],
)
def test_descriptors_that_contradict_each_other_are_refused(tmp_path: Path, at: int, packed: bytes, what: str) -> None:
    path = tmp_path / "x.xpt"
    columns = [Column("V", "num", 8, "v"), Column("W", "char", 72, "w")]
    _written(path, ("X", "", columns, pl.DataFrame({"V": [1.0], "W": ["x" * 72]}), {}))
    data = bytearray(path.read_bytes())
    start = data.index(b"HEADER RECORD*******NAMESTR") + 80
    data[start + at : start + at + len(packed)] = packed
    with pytest.raises(LayoutError, match=what):
        read_transport(bytes(data))


@pytest.mark.parametrize(("codec", "encoding"), [("utf-8", "utf-8"), ("cp1252", "windows-1252")])
def test_text_of_older_senders_is_decoded_by_one_encoding(tmp_path: Path, codec: str, encoding: str) -> None:
    path = tmp_path / "x.xpt"
    cells = ["plain", "Anw?sen", "zwei"]
    _written(path, ("X", "", [Column("A", "char", 10, "a"), Column("B", "char", 4, "")], pl.DataFrame(
        {"A": cells, "B": ["x", "", "y"]}), {}))  # fmt: skip
    wanted = "Anw\u00e4sen"
    data = path.read_bytes().replace(b"Anw?sen".ljust(10), wanted.encode(codec).ljust(10))
    read = read_transport(data)
    assert read.encoding == encoding
    assert read.frame.to_dict(as_series=False) == {"A": ["plain", wanted, "zwei"], "B": ["x", "", "y"]}
