"""The transport writer, judged by two independent readers and by exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyreadstat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialops.errors import TrialOpsError
from trialops.intake.xport import Column, XportWriter, ibm_bytes

COLUMNS = (
    Column("USUBJID", "char", 11, "Unique Subject Identifier"),
    Column("AVAL", "num", 8, "Value"),
    Column("NOTE", "char", 200, "Comment"),
)


def _rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "USUBJID": ["01-701-1015", "01-701-1023", "x"],
            "AVAL": [0.1, None, -118.625],
            "NOTE": ["a b", None, "z" * 200],
        }
    )


def _decode(raw: bytes) -> Fraction:
    """IBM long float from its definition: sign, base-16 exponent excess 64, 56-bit fraction."""
    sign = -1 if raw[0] & 0x80 else 1
    power = (raw[0] & 0x7F) - 64
    return sign * Fraction(int.from_bytes(raw[1:], "big"), 2**56) * Fraction(16) ** power


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_ibm_floats_are_exact_or_refused(values: list[float]) -> None:
    smallest, largest = Fraction(16) ** -65, (1 - Fraction(1, 2**56)) * Fraction(16) ** 63
    fits = all(v == 0 or smallest <= abs(Fraction(v)) <= largest for v in values)
    if not fits:
        with pytest.raises(TrialOpsError):
            ibm_bytes(np.array(values))
        return
    for value, raw in zip(values, ibm_bytes(np.array(values)), strict=True):
        assert _decode(raw.tobytes()) == Fraction(value)
        assert value == 0 or raw[1] >> 4, "the fraction must be normalised"


def test_ibm_known_patterns() -> None:
    got = ibm_bytes(np.array([1.0, -118.625, 0.0, math.nan]))
    assert [row.tobytes().hex() for row in got] == [
        "4110000000000000",
        "c276a00000000000",
        "0000000000000000",
        "2e00000000000000",
    ]


def test_two_readers_agree(tmp_path: Path) -> None:
    path = tmp_path / "xx.xpt"
    with XportWriter(path, "XX", "Example", COLUMNS) as writer:
        writer.write(_rows()[:1])
        writer.write(_rows()[1:])
    assert path.stat().st_size % 80 == 0
    frame, meta = pyreadstat.read_xport(str(path))
    sas = pd.read_sas(path, format="xport", encoding="ascii")
    for read in (frame, sas):
        assert list(read.columns) == [c.name for c in COLUMNS]
        assert read["USUBJID"].tolist() == ["01-701-1015", "01-701-1023", "x"]
        assert read["AVAL"].tolist()[::2] == [0.1, -118.625] and math.isnan(read["AVAL"][1])
        assert read["NOTE"].fillna("").tolist() == ["a b", "", "z" * 200]
    assert meta.table_name == "XX" and meta.file_label == "Example"
    assert meta.column_labels == [c.label for c in COLUMNS]


@given(st.lists(st.floats(min_value=-1e70, max_value=1e70).filter(lambda v: v == 0 or abs(v) > 1e-70), max_size=30))
def test_readers_return_the_numbers(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("x") / "n.xpt"
    with XportWriter(path, "N", "", [Column("ID", "char", 3, "row"), Column("V", "num", 8, "v")]) as writer:
        writer.write(
            pl.DataFrame({"ID": ["row"] * len(values), "V": values}, schema={"ID": pl.String, "V": pl.Float64})
        )
    frame, _ = pyreadstat.read_xport(str(path))
    assert frame["V"].tolist() == values


def test_rows_that_fill_records_exactly_and_empty_tables(tmp_path: Path) -> None:
    for rows in (0, 1, 10, 20):
        path = tmp_path / f"r{rows}.xpt"
        with XportWriter(path, "R", "", [Column("A", "char", 8, "a")]) as writer:
            writer.write(pl.DataFrame({"A": ["abcdefgh"] * rows}, schema={"A": pl.String}))
        assert path.stat().st_size % 80 == 0
        frame, _ = pyreadstat.read_xport(str(path))
        assert len(frame) == rows and list(frame.columns) == ["A"]
        if rows:
            assert len(pd.read_sas(path, format="xport")) == rows


def test_bytes_depend_on_rows_only(tmp_path: Path) -> None:
    digests = []
    for name, cuts in (("a", (3,)), ("b", (1, 3))):
        with XportWriter(tmp_path / name, "XX", "", COLUMNS) as writer:
            start = 0
            for cut in cuts:
                writer.write(_rows()[start:cut])
                start = cut
        digests.append((tmp_path / name).read_bytes())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("name", "label", "column"),
    [
        ("lower", "", Column("A", "char", 1, "")),
        ("TOOLONGNAME", "", Column("A", "char", 1, "")),
        ("OK", "x" * 41, Column("A", "char", 1, "")),
        ("OK", "", Column("1A", "char", 1, "")),
        ("OK", "", Column("A", "char", 201, "")),
        ("OK", "", Column("A", "char", 0, "")),
        ("OK", "", Column("A", "num", 4, "")),
        ("OK", "", Column("A", "char", 1, "x" * 41)),
        ("OK", "", Column("A", "char", 1, "caf\u00e9")),
        ("OK", "", Column("A", "date", 8, "")),  # type: ignore[arg-type]
    ],
)
def test_bad_definitions_are_refused(tmp_path: Path, name: str, label: str, column: Column) -> None:
    with pytest.raises(TrialOpsError):
        XportWriter(tmp_path / "x.xpt", name, label, [column])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["toolong", "\u00e9"])
def test_bad_values_are_refused_by_row_and_leave_no_file(tmp_path: Path, value: str) -> None:
    with (
        pytest.raises(TrialOpsError, match="row 3") as caught,
        XportWriter(tmp_path / "x.xpt", "X", "", [Column("A", "char", 3, "")]) as writer,
    ):
        writer.write(pl.DataFrame({"A": ["a", "b"]}))
        writer.write(pl.DataFrame({"A": [value]}))
    assert value not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_missing_column_and_late_write(tmp_path: Path) -> None:
    writer = XportWriter(tmp_path / "x.xpt", "X", "", [Column("A", "char", 3, "")])
    with pytest.raises(TrialOpsError, match="A"):
        writer.write(pl.DataFrame({"B": ["a"]}))
    writer.close()
    with pytest.raises(TrialOpsError, match="closed"):
        writer.write(pl.DataFrame({"A": ["a"]}))
