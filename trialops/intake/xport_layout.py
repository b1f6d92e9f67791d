"""The physical layout of a SAS XPORT file, read from its headers (TS-140, versions 5 and 8).

Version 5 has no row count, and neither has a checksum. The headers give the length of one row. That is
enough to notice a file that ends inside a block or a row, which a plain reader returns as a shorter table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BLOCK = 80
_MARK = b"HEADER RECORD*******"


class LayoutError(ValueError):
    """The file is not a complete XPORT file; the message says why, without data."""


@dataclass(frozen=True)
class Variable:
    """One column: name, whether it is character, its bytes inside a row, label and display format as stored."""

    name: str
    character: bool
    position: int
    length: int
    label: bytes = b""
    format: str = ""


@dataclass(frozen=True)
class Layout:
    """Headers of one data set.

    Attributes:
        version: 5 or 8.
        member: Data set name.
        variables: Columns in file order.
        labels: Bytes of all labels, to decide on an encoding.
        row_length: Bytes per row.
        offset: Where the rows begin.
        rows: Whole rows in the file.
        label: Data set label as stored.
    """

    version: int
    member: str
    variables: tuple[Variable, ...]
    labels: bytes
    row_length: int
    offset: int
    rows: int
    label: bytes = b""


def _kind(block: bytes) -> bytes:
    return block[20:28].strip() if block.startswith(_MARK) else b""


def read_layout(data: bytes) -> Layout:
    """Read the headers and check that the rows fill the rest of the file.

    Args:
        data: The whole file.

    Returns:
        Its layout.

    Raises:
        LayoutError: Not XPORT, cut off, or more than one data set in the file.
    """
    if _kind(data[:BLOCK]) not in (b"LIBRARY", b"LIBV8"):
        raise LayoutError("it does not start with a SAS XPORT library header")
    version = 8 if _kind(data[:BLOCK]) == b"LIBV8" else 5
    if len(data) % BLOCK:
        raise LayoutError(f"its size is {len(data)} bytes, not a multiple of {BLOCK}: the end is missing")
    at = 3 * BLOCK
    if not _kind(data[at : at + BLOCK]).startswith(b"MEMB"):
        raise LayoutError("the member header is missing")
    size = _number(data[at + 74 : at + 78], "the size of a variable descriptor")
    label = data[at + 3 * BLOCK + 32 : at + 3 * BLOCK + 72]
    member = data[at + 2 * BLOCK + 8 : at + 2 * BLOCK + (16 if version == 5 else 40)].decode("ascii", "replace").strip()
    at += 4 * BLOCK
    if not _kind(data[at : at + BLOCK]).startswith(b"NAM"):
        raise LayoutError("the variable header is missing")
    count = _variable_count(data, at, size, version)
    at += BLOCK
    variables, labels = _variables(data[at : at + count * size], count, size, version)
    at += -(-count * size // BLOCK) * BLOCK
    start = at
    while not _kind(data[at : at + BLOCK]).startswith(b"OBS"):
        at += BLOCK
        if at >= len(data):
            raise LayoutError("the header in front of the rows is missing: the file is cut off")
    labels += data[start:at]
    promised = data[at + 48 : at + 63].strip() if version == 8 else b""
    at += BLOCK
    row_length = sum(v.length for v in variables)
    _check_variables(variables, row_length)
    rows = _count_rows(data, at, row_length)
    if promised.isdigit() and int(promised) > rows:
        raise LayoutError(f"its header promises {int(promised)} rows and it holds {rows}")
    return Layout(version, member, variables, labels, row_length, at, rows, label)


def _number(text: bytes, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise LayoutError(f"the header does not give {what}") from None


def _variable_count(data: bytes, at: int, size: int, version: int) -> int:
    """The number of variables: four digits in version 5; four or six in version 8, where writers differ."""
    count = _number(data[at + 54 : at + 58], "the number of variables")
    wide = data[at + 54 : at + 60]
    if version == 8 and wide.isdigit():
        after = at + BLOCK + -(-int(wide) * size // BLOCK) * BLOCK
        if _kind(data[after : after + BLOCK])[:3] in (b"OBS", b"LAB"):
            return int(wide)
    return count


def _variables(data: bytes, count: int, size: int, version: int) -> tuple[tuple[Variable, ...], bytes]:
    if len(data) < count * size or count == 0 or size < 136:
        raise LayoutError("the variable descriptors are cut off")
    variables, labels = [], []
    for i in range(count):
        field = data[i * size : (i + 1) * size]
        kind, _, length = struct.unpack(">hhh", field[:6])
        (position,) = struct.unpack(">l", field[84:88])
        name = field[88:120] if version == 8 else field[8:16]
        text = name.decode("ascii", "replace").strip()
        variables.append(Variable(text, kind == 2, position, length, field[16:56].rstrip(b" \0"), _format(field)))
        labels.append(field[16:56])
    if any(v.length < 1 for v in variables):
        raise LayoutError("a variable descriptor is damaged: a column has no length")
    return tuple(variables), b"".join(labels)


def _check_variables(variables: tuple[Variable, ...], row_length: int) -> None:
    """Refuse descriptors that contradict each other: what they would read is not what was written."""
    if any(v.position < 0 or v.position + v.length > row_length for v in variables):
        raise LayoutError("a variable descriptor is damaged: a column lies outside the row")
    if any(not v.character and not 2 <= v.length <= 8 for v in variables):
        raise LayoutError("a variable descriptor is damaged: a number has 2 to 8 bytes")
    if len({v.name.upper() for v in variables}) != len(variables):
        raise LayoutError("two variables have the same name")


def _format(field: bytes) -> str:
    """The display format of a descriptor as SAS writes it: DATE9., 8.2, or nothing."""
    name = field[56:64].decode("ascii", "replace").strip(" \0")
    width, decimals = struct.unpack(">hh", field[64:68])
    if not (name or width):
        return ""
    return f"{name}{width or ''}.{decimals or ''}"


def _count_rows(data: bytes, start: int, row_length: int) -> int:
    # A header sits on a block boundary; a text value may hold the words anywhere.
    at = data.find(_MARK + b"MEMB", start)
    while at >= 0:
        if (at - start) % BLOCK == 0:
            raise LayoutError("it holds more than one data set; SDTM files hold one each")
        at = data.find(_MARK + b"MEMB", at + 1)
    size = len(data) - start
    rows, remainder = divmod(size, row_length)
    if remainder >= BLOCK or data[start + rows * row_length :].strip(b" "):
        raise LayoutError(f"it ends in the middle of row {rows + 1}")
    # Rows shorter than a block: the blanks that fill the last block can look like whole rows.
    while rows and (size - (rows - 1) * row_length) < BLOCK and not data[start + (rows - 1) * row_length :].strip(b" "):
        rows -= 1
    return rows


def choose_encoding(data: bytes, layout: Layout) -> str:
    """Find the encoding of the text: ASCII, then UTF-8, then Windows-1252.

    Args:
        data: The whole file.
        layout: Its layout.

    Returns:
        "ascii", "utf-8" or "windows-1252".

    Raises:
        LayoutError: The text is in none of them.
    """
    import numpy as np

    rows = np.frombuffer(data, np.uint8, layout.rows * layout.row_length, layout.offset)
    rows = rows.reshape(layout.rows, layout.row_length)
    parts = [layout.labels] if not layout.labels.isascii() else []
    parts += [p for v in layout.variables if v.character for p in _not_ascii(rows, v)]
    if not parts:
        return "ascii"
    for name, codec in (("utf-8", "utf-8"), ("windows-1252", "cp1252")):
        try:
            for part in parts:
                part.decode(codec)
        except UnicodeDecodeError:
            continue
        return name
    raise LayoutError("its text is neither UTF-8 nor Windows-1252")


def _not_ascii(rows: np.ndarray, variable: Variable) -> list[bytes]:
    cells = rows[:, variable.position : variable.position + variable.length]
    # A cell that is cut at its last byte inside a UTF-8 character is not UTF-8: it must not be read as such.
    return [cell.tobytes() for cell in cells[(cells > 127).any(axis=1)]]
