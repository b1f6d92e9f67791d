"""Reader for SAS XPORT transport files, versions 5 and 8: headers checked, columns decoded whole.

Numbers are IBM long floats, possibly stored with their last bytes cut off; text is padded with blanks. Both are
decoded a column at a time, so reading costs about as much as copying the bytes twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trialops.intake.xport import FORMAT, Column
from trialops.intake.xport_layout import Layout, Variable, choose_encoding, read_layout

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

PLAIN_MISSING = ord(".")
SPECIAL_MISSING = frozenset(b"_ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Transport:
    """One data set as a transport file holds it.

    Attributes:
        name: Data set name.
        label: Data set label.
        columns: Columns in file order, with lengths and labels.
        frame: Rows: String without trailing blanks, Float64 with null for a missing number.
        special: By column, the letter of special missing values (``A`` for ``.A``, ``_`` for ``._``) in a String
            series of the frame's height, null elsewhere; only columns that have one.
        encoding: Of the text: "ascii", "utf-8" or "windows-1252".
        version: 5 or 8.
    """

    name: str
    label: str
    columns: tuple[Column, ...]
    frame: pl.DataFrame
    special: Mapping[str, pl.Series] = field(default_factory=dict)
    encoding: str = "ascii"
    version: int = 5


def ibm_floats(raw: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Decode IBM System/360 floats; the inverse of :func:`trialops.intake.xport.ibm_bytes`.

    Args:
        raw: Big-endian bytes, shape (n, 2 to 8).

    Returns:
        Doubles, shape (n,), NaN where missing. A fraction of more than 53 bits is rounded to the nearest double.
        And the code of the missing value, shape (n,): 0 for a number, else "." or the letter of a special one.
    """
    import numpy as np

    full = np.zeros((len(raw), 8), dtype=np.uint8)
    full[:, : raw.shape[1]] = raw
    word = full.view(">u8").ravel().astype(np.uint64)
    fraction = word & np.uint64(0x00FF_FFFF_FFFF_FFFF)
    first = full[:, 0]
    power = 4 * (first & 0x7F).astype(np.int32) - 4 * 64 - 56
    value = np.ldexp(fraction.astype(np.float64), power)
    np.negative(value, out=value, where=first >= 0x80)
    code = np.zeros(len(raw), dtype=np.uint8)
    empty = fraction == 0
    if empty.any():
        codes = np.zeros(256, dtype=np.uint8)
        for letter in (PLAIN_MISSING, *SPECIAL_MISSING):
            codes[letter] = letter
        code[empty] = codes[first[empty]]
        value[empty] = 0.0
        value[code != 0] = np.nan
    return value, code


def read_transport(data: bytes) -> Transport:
    """Read one transport file.

    Args:
        data: The whole file.

    Returns:
        The data set.

    Raises:
        LayoutError: The file is not XPORT, is cut off or damaged, or its text has no encoding we know.
    """
    import numpy as np
    import polars as pl

    layout = read_layout(data)
    rows = np.frombuffer(data, np.uint8, layout.rows * layout.row_length, layout.offset)
    rows = rows.reshape(layout.rows, layout.row_length)
    encoding = "ascii" if layout.labels.isascii() else ""
    series: dict[str, pl.Series] = {}
    special: dict[str, pl.Series] = {}
    for variable in layout.variables:
        block = np.ascontiguousarray(rows[:, variable.position : variable.position + variable.length])
        name = variable.name.upper()
        if not variable.character:
            values, codes = ibm_floats(block)
            series[name] = pl.Series(name, values, nan_to_null=True)
            marked = (codes != 0) & (codes != PLAIN_MISSING)
            if marked.any():
                letters = pl.Series(name, codes.view("S1").astype("U1"))
                special[name] = pl.select(pl.when(pl.Series(marked)).then(letters)).to_series().rename(name)
            continue
        if encoding in ("", "ascii") and int(block.max(initial=0)) > 127:
            # One encoding for the file: decided by all of its text, when the first byte that is not ASCII is met.
            encoding = choose_encoding(data, layout)
        series[name] = _text(name, block, encoding == "windows-1252")
    encoding = encoding or choose_encoding(data, layout)
    columns = tuple(_column(v, encoding) for v in layout.variables)
    frame = pl.DataFrame(series) if layout.rows else _empty(layout)
    label = layout.label.decode(encoding, "replace").strip(" \0")
    return Transport(layout.member, label, columns, frame, special, encoding, layout.version)


def _column(variable: Variable, encoding: str) -> Column:
    shown = variable.format if FORMAT.fullmatch(variable.format) else ""
    label = variable.label.decode(encoding, "replace").strip()
    return Column(variable.name.upper(), "char" if variable.character else "num", variable.length, label, shown)


def _empty(layout: Layout) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(schema={v.name.upper(): pl.String if v.character else pl.Float64 for v in layout.variables})


def _text(name: str, block: npt.NDArray[np.uint8], windows: bool) -> pl.Series:
    """A text column from its padded cells, shape (n, length)."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    count, length = block.shape
    offsets = pa.py_buffer(np.arange(0, (count + 1) * length, length, dtype=np.int64))
    cells = pa.py_buffer(block)
    if windows and int(block.max(initial=0)) > 127:
        packed = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, [None, offsets, cells]).dictionary_encode()
        distinct = [cell.as_py().decode("cp1252") for cell in packed.dictionary]
        known = pa.array(distinct, pa.large_string())
        padded = pl.Series(name, known.take(packed.indices))
    else:
        padded = pl.Series(name, pa.LargeStringArray.from_buffers(count, offsets, cells))
    return padded.str.strip_chars_end(" \0")
