"""Streaming writer for SAS XPORT version 5 transport files (SAS technical note TS-140).

A file is a run of 80-byte records: library and member headers, one 140-byte descriptor per column, then rows
packed without separators. Nothing in the header depends on the number of rows, so rows can be streamed.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

RECORD = 80
NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,7}")
FORMAT = re.compile(r"(\$?[A-Z_][A-Z0-9_]{0,7}|\$)?(\d{1,5})?\.(\d{1,2})?")
MISSING = b".\0\0\0\0\0\0\0"
SPECIAL = re.compile(r"[A-Z_]")
MOST_COLUMNS = 9999
"""The number of columns has four digits in the header."""
EPOCH = datetime(1960, 1, 1)


@dataclass(frozen=True)
class Column:
    """One column of a transport file.

    Attributes:
        name: Upper-case SAS name of at most 8 characters.
        kind: "char" or "num".
        length: Bytes per value: 1 to 200 for "char", 8 for "num".
        label: At most 40 ASCII characters.
        format: Display format as SAS writes it ("DATE9.", "8.2"), or nothing.
    """

    name: str
    kind: Literal["char", "num"]
    length: int
    label: str
    format: str = ""


def ibm_bytes(values: npt.NDArray[np.float64], where: str = "", first_row: int = 0) -> npt.NDArray[np.uint8]:
    """Encode doubles as IBM System/360 long floats, without any rounding.

    The IBM fraction has 56 bits and a base-16 exponent, so it holds every 53-bit significand; only the
    range is smaller (about 5.4e-79 to 7.2e75).

    Args:
        values: Doubles, shape (n,). NaN becomes the SAS missing value ".".
        where: Column named in an error.
        first_row: Rows before these, for the row number in an error.

    Returns:
        Big-endian bytes, shape (n, 8).

    Raises:
        TrialOpsError: A value is infinite or outside the IBM range.
    """
    import numpy as np

    values = np.ascontiguousarray(values, dtype=np.float64)
    missing = np.isnan(values)
    plain = np.where(missing, 0.0, values)
    significand, power = np.frexp(np.abs(plain))
    hexpower = -(-power // 4)
    shift = (4 * hexpower - power).astype(np.uint64)
    bad = ~np.isfinite(plain) | ((plain != 0) & ((hexpower < -64) | (hexpower > 63)))
    if bad.any():
        row = first_row + int(bad.argmax()) + 1
        raise TrialOpsError(
            f"{int(bad.sum())} number(s) cannot be held by a transport file, first in row {row}",
            where=where,
            fix="transport files hold magnitudes between 5.4e-79 and 7.2e75: correct or blank the value",
        )
    fraction = np.ldexp(significand, 53).astype(np.uint64) << (np.uint64(3) - shift)
    word = fraction | ((hexpower + 64).astype(np.uint64) << np.uint64(56))
    word |= np.signbit(plain).astype(np.uint64) << np.uint64(63)
    word[plain == 0] = 0
    word[missing] = np.uint64(int.from_bytes(MISSING, "big"))
    return word.astype(">u8").view(np.uint8).reshape(-1, 8)


def _text_bytes(series: pl.Series, column: Column, where: str, first_row: int) -> npt.NDArray[np.uint8]:
    """Blank-padded bytes of a string column, shape (n, column.length)."""
    import numpy as np
    import polars as pl

    def refuse(bad: pl.Series, what: str, fix: str) -> TrialOpsError:
        row = first_row + int(bad.arg_true()[0]) + 1
        what = f"{int(bad.sum())} value(s) of {column.name} {what}, first in row {row}"
        return TrialOpsError(what, where=where, fix=fix)

    text = series.cast(pl.String).fill_null("").str.strip_chars_end(" ")
    padded = text.str.pad_end(column.length)
    # Every value now has the same byte length unless one is too long or not ASCII; one join gives the bytes in order.
    joined = (padded.str.join("").item() or "").encode()
    if not joined.isascii():
        raise refuse(
            padded.str.contains(r"[^\x00-\x7F]"), "are not ASCII", "version 5 holds ASCII only: transliterate them"
        )
    if len(joined) != len(text) * column.length:
        raise refuse(
            text.str.len_bytes() > column.length,
            f"are longer than {column.length} bytes",
            "declare a longer column (at most 200) or split the value into a SUPP-- record",
        )
    block = np.frombuffer(joined, dtype=np.uint8).reshape(-1, column.length)
    if len(joined) and (int(block.min()) < 32 or int(block.max()) == 127):
        raise refuse(
            text.str.contains(r"[\x00-\x1F\x7F]"),
            "hold a line break or another control character",
            "replace it by a blank: a row of a transport file is one line of text",
        )
    return block


def _mark_special(block: npt.NDArray[np.uint8], letters: pl.Series, column: Column, where: str, first_row: int) -> None:
    """Put the codes of special missing values (.A to .Z, ._) into an encoded number column."""
    import numpy as np
    import polars as pl

    marked = letters.is_not_null()
    wrong = marked & ~letters.cast(pl.String).str.contains(f"^(?:{SPECIAL.pattern})$").fill_null(False)
    filled = marked & pl.Series(block[:, 0] != MISSING[0]) if len(letters) == len(block) else marked
    bad = wrong | filled
    if len(letters) != len(block) or bad.any():
        row = first_row + int(bad.arg_true()[0]) + 1 if bad.any() else first_row + 1
        raise TrialOpsError(
            f"{int(bad.sum())} special missing value(s) of {column.name} cannot be written, first in row {row}",
            where=where,
            fix="give A to Z or _ where the number is null, and null in every other row",
        )
    rows = marked.arg_true().to_numpy()
    block[rows, 0] = np.frombuffer("".join(letters.drop_nulls()).encode(), dtype=np.uint8)


def _check(name: str, label: str, columns: Sequence[Column], where: str) -> None:
    """Reject names, labels and lengths that version 5 cannot hold."""

    def fail(what: str, fix: str) -> None:
        raise TrialOpsError(what, where=where, fix=fix)

    if not columns:
        fail("a transport file needs at least one column", "declare the columns of the table")
    for kind, text in [("data set", name), *(("column", c.name) for c in columns)]:
        if not NAME.fullmatch(text):
            fail(
                f"{kind} name {text!r} is not a SAS name",
                "use 1 to 8 of A-Z, 0-9 and _, not starting with a digit",
            )
    for text in [label, *(c.label for c in columns)]:
        if len(text) > 40 or not (text.isascii() and (text.isprintable() or not text)):
            fail(f"label {text!r} is longer than 40 characters or not printable ASCII", "shorten or correct the label")
    if len({c.name for c in columns}) != len(columns):
        fail("two columns have the same name", "rename one of them")
    for column in columns:
        if column.kind not in ("char", "num"):
            fail(f"column {column.name} is of kind {column.kind!r}", 'use "char" or "num"')
        if column.kind == "num" and column.length != 8:
            fail(f"numeric column {column.name} has length {column.length}", "numbers take 8 bytes")
        if column.kind == "char" and not 1 <= column.length <= 200:
            fail(f"column {column.name} has length {column.length}", "text takes 1 to 200 bytes")
        if column.format and not FORMAT.fullmatch(column.format):
            fail(f"column {column.name} has format {column.format!r}", "use a SAS format such as DATE9. or 8.2")
    if len(columns) > MOST_COLUMNS:
        fail(f"the table has {len(columns)} columns", f"a transport file holds at most {MOST_COLUMNS}: split the table")


class XportWriter:
    """Write one data set to one transport file, in as many pieces as suit the caller.

    The file appears under its name only when `close` succeeds. Use it as a context manager: an exception
    inside the block discards the unfinished file.

    Args:
        path: File to write.
        name: Data set name (the SDTM domain).
        label: Data set label.
        columns: Columns in file order.
        created: Time stamped into the headers. It is fixed unless given, so equal rows give equal bytes.

    Raises:
        TrialOpsError: A name, label or length does not fit the format.
    """

    def __init__(
        self, path: Path | str, name: str, label: str, columns: Sequence[Column], *, created: datetime = EPOCH
    ) -> None:
        self.path = Path(path)
        self.columns = tuple(columns)
        self.rows = 0
        _check(name, label, self.columns, self.path.name)
        self.row_bytes = sum(c.length for c in self.columns)
        self._temporary = self.path.with_name(f".{self.path.name}.part")
        self._file = self._temporary.open("wb")
        header = _header(name, label, self.columns, created)
        self.header_bytes = len(header)
        self._file.write(header)

    def write(self, frame: pl.DataFrame, special: Mapping[str, pl.Series] | None = None) -> None:
        """Append rows; the frame must have every declared column (others are ignored).

        Args:
            frame: Rows. Null text becomes blanks, null or NaN numbers become the missing value. The format pads text
                with blanks, so blanks at the end of a value are not kept.
            special: By number column, the letter of a special missing value (A to Z, _) where the number is null.

        Raises:
            TrialOpsError: A column is absent or of the wrong type, or a value is too long, not printable ASCII or out
                of range. The error names file, column, number of values and the first row.
        """
        import numpy as np
        import polars as pl

        if self._file.closed:
            raise TrialOpsError("the transport file is already closed", where=self.path.name)
        absent = [c.name for c in self.columns if c.name not in frame.columns]
        if absent:
            raise TrialOpsError(
                f"column(s) missing: {', '.join(absent)}",
                where=self.path.name,
                fix="give the table every declared column, or do not declare it",
            )
        out = np.empty((frame.height, self.row_bytes), dtype=np.uint8)
        start = 0
        for column in self.columns:
            where = f"{self.path.name}, column {column.name}"
            series = frame.get_column(column.name)
            if column.kind == "num":
                if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null)):
                    raise TrialOpsError(
                        f"{column.name} is declared as a number and the table has {series.dtype}",
                        where=where,
                        fix="declare it as text, or convert the column before writing",
                    )
                block = ibm_bytes(series.cast(pl.Float64).fill_null(float("nan")).to_numpy(), where, self.rows)
                if special and column.name in special:
                    _mark_special(block, special[column.name], column, where, self.rows)
            else:
                block = _text_bytes(series, column, where, self.rows)
            out[:, start : start + column.length] = block
            start += column.length
        self._file.write(out.data)
        self.rows += frame.height

    def close(self) -> None:
        """Pad to a whole record and move the file to its name."""
        if self._file.closed:
            return
        used = self.rows * self.row_bytes % RECORD
        if used:
            self._file.write(b" " * (RECORD - used))
        self._file.close()
        os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Drop the unfinished file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> XportWriter:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close after success, discard after an exception."""
        if kind is None:
            self.close()
        else:
            self.discard()


def _header(name: str, label: str, columns: Sequence[Column], created: datetime) -> bytes:
    """Everything before the first row."""
    stamp = created.strftime("%d%b%y:%H:%M:%S").upper().encode()
    system = b"SAS     %-8s%-8s6.06    bsd4.2  " + b" " * 24
    descriptors = b"".join(_descriptor(i, columns) for i in range(len(columns)))
    descriptors += b" " * (-len(descriptors) % RECORD)
    parts: list[Any] = [
        b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!" + b"0" * 30 + b"  ",
        system % (b"SAS", b"SASLIB") + stamp,
        stamp.ljust(RECORD),
        b"HEADER RECORD*******MEMBER  HEADER RECORD!!!!!!!" + b"0" * 17 + b"1600000000140  ",
        b"HEADER RECORD*******DSCRPTR HEADER RECORD!!!!!!!" + b"0" * 30 + b"  ",
        system % (name.encode(), b"SASDATA") + stamp,
        stamp + b" " * 16 + label.encode().ljust(40) + b" " * 8,
        b"HEADER RECORD*******NAMESTR HEADER RECORD!!!!!!!" + b"0" * 6 + b"%04d" % len(columns) + b"0" * 20 + b"  ",
        descriptors,
        b"HEADER RECORD*******OBS     HEADER RECORD!!!!!!!" + b"0" * 30 + b"  ",
    ]
    return b"".join(parts)


def _descriptor(index: int, columns: Sequence[Column]) -> bytes:
    """The 140-byte NAMESTR of one column."""
    column = columns[index]
    position = sum(c.length for c in columns[:index])
    shown = FORMAT.fullmatch(column.format)
    name, width, decimals = shown.groups("") if shown else ("", "", "")
    return struct.pack(
        ">hhhh8s40s8shhh2s8shhl52s",
        1 if column.kind == "num" else 2,
        0,
        column.length,
        index + 1,
        column.name.encode().ljust(8),
        column.label.encode().ljust(40),
        name.encode().ljust(8),
        int(width or 0),
        int(decimals or 0),
        0,
        b"\0\0",
        b" " * 8,
        0,
        0,
        position,
        b"\0" * 52,
    )
