"""Dataset-JSON 1.1 (CDISC): one data set as JSON, or as NDJSON with the metadata on the first line.

Rows are streamed both ways. Numbers of a float variable are JSON numbers with the shortest text that gives the same
double back; dates are ISO 8601 text. A missing number or date is null and a missing text an empty string, as the
standard asks; read back, both are null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.regulatory.define_xml import SOURCE_SYSTEM, metadata_version
from trialops.regulatory.metadata import DataSet, Item, Metadata

if TYPE_CHECKING:
    import polars as pl

VERSION = "1.1.0"
BLOCK = 10_000
_DATES = {
    "date": "date",
    "datetime": "datetime",
    "partialDate": "date",
    "partialDatetime": "datetime",
    "incompleteDatetime": "datetime",
}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class JsonDataSet:
    """A data set read from Dataset-JSON: its header as it stands, and its rows."""

    header: dict[str, Any]
    frame: pl.DataFrame


def header_of(data_set: DataSet, metadata: Metadata, *, version: str = "") -> dict[str, Any]:
    """Everything of a Dataset-JSON file but its rows.

    Args:
        data_set: The data set.
        metadata: Of the submission it is part of: identifiers are those of its define.xml.
        version: Of the program that writes, stated as the source system's.
    """
    study = metadata.study
    return {
        "datasetJSONCreationDateTime": study.created,
        "datasetJSONVersion": VERSION,
        "fileOID": f"{study.name}.{data_set.name}",
        "dbLastModifiedDateTime": study.created,
        "originator": SOURCE_SYSTEM,
        "sourceSystem": {"name": SOURCE_SYSTEM, "version": version or "1"},
        "studyOID": f"STDY.{study.name}",
        "metaDataVersionOID": metadata_version(metadata),
        "metaDataRef": "define.xml",
        "itemGroupOID": data_set.oid,
        "records": data_set.frame.height,
        "name": data_set.name,
        "label": data_set.label,
        "columns": [_column(item) for item in data_set.items],
    }


def _column(item: Item) -> dict[str, Any]:
    kind = item.typed.data_type
    column: dict[str, Any] = {"itemOID": item.oid, "name": item.name, "label": item.label, "dataType": _type(item)}
    if kind in ("text", "float", "integer") and item.typed.length:
        column["length"] = item.typed.length
    if item.key:
        column["keySequence"] = item.key
    return column


def _type(item: Item) -> str:
    kind = item.typed.data_type
    if kind == "float":
        return "double"
    return _DATES.get(kind, "integer" if kind == "integer" else "string")


def write_json(path: Path, data_set: DataSet, metadata: Metadata, *, version: str = "", lines: bool = False) -> None:
    """Write a data set; the file appears under its name when it is whole.

    Args:
        path: File to write.
        data_set: The data set.
        metadata: Of its submission.
        version: Of the program that writes.
        lines: NDJSON instead of one JSON object.
    """
    staged = path.with_name(f".{path.name}.partial")
    header = header_of(data_set, metadata, version=version)
    types = [_type(item) for item in data_set.items]
    with staged.open("w", encoding="utf-8", newline="\n") as file:
        text = _dumps(header)
        file.write(text + "\n" if lines else text[:-1] + ',"rows":[')
        first = True
        for row in _rows(data_set.frame.select([i.name for i in data_set.items]), types):
            file.write(_dumps(row) + "\n" if lines else ("" if first else ",") + "\n" + _dumps(row))
            first = False
        if not lines:
            file.write("\n]}\n")
    staged.replace(path)


def _rows(frame: pl.DataFrame, types: list[str]) -> Iterator[list[Any]]:
    import polars as pl

    casts = [pl.col(c).cast(pl.Int64) for c, t in zip(frame.columns, types, strict=True) if t == "integer"]
    casts += [pl.col(c).fill_null("") for c, t in zip(frame.columns, types, strict=True) if t == "string"]
    for part in frame.iter_slices(BLOCK):
        yield from map(list, part.with_columns(casts).iter_rows())


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_json(path: Path) -> JsonDataSet:
    """Read a Dataset-JSON 1.1 file of either form, row by row.

    Returns:
        Header and rows: String, Int64, Float64 or Boolean columns by their declared types; nulls stay null.

    Raises:
        TrialOpsError: The file is not Dataset-JSON 1.1, a row does not fit its columns, or rows are missing.
    """
    with path.open(encoding="utf-8") as file:
        try:
            header, rows = _open_lines(file) if path.suffix.lower() == ".ndjson" else _open_object(file)
            frame = _frame(header, rows, path.name)
        except (ValueError, KeyError, RecursionError) as error:
            raise TrialOpsError(
                "The file is not a whole Dataset-JSON 1.1 document",
                where=path.name,
                fix=f"Ask the sender for it again ({type(error).__name__}).",
            ) from None
    if frame.height != header["records"]:
        raise TrialOpsError(
            f"The file promises {header['records']} records and holds {frame.height}",
            where=path.name,
            fix="Ask the sender for it again: it is cut off, or rows were added by hand.",
        )
    return JsonDataSet(header, frame)


def _open_lines(file: IO[str]) -> tuple[dict[str, Any], Iterator[Any]]:
    header = _checked(json.loads(file.readline()))
    return header, (json.loads(line) for line in file if line.strip())


def _open_object(file: IO[str]) -> tuple[dict[str, Any], Iterator[Any]]:
    """Header and rows of the one-object form, whose rows are its last member as this and CDISC's tools write it."""
    text, mark = "", '"rows"'
    decoder = json.JSONDecoder()
    while mark not in text:
        piece = file.read(_CHUNK)
        if not piece:
            return _checked(json.loads(text)), iter(())
        text += piece
    at = text.rindex(mark)
    head = text[:at].rstrip().removesuffix(",") + "}"
    try:
        header = _checked(json.loads(head))
    except (ValueError, KeyError):
        document = json.loads(text + file.read())  # members in another order: read whole
        return _checked(document), iter(document.pop("rows", []))
    rest = text[at + len(mark) :].lstrip()
    start = rest.index("[") + 1
    return header, _array(decoder, rest[start:], file)


def _array(decoder: json.JSONDecoder, text: str, file: IO[str]) -> Iterator[Any]:
    """Elements of a JSON array whose opening bracket has been read."""
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at < len(text) and text[at] == "]":
            if (text[at + 1 :] + file.read()).strip() != "}":
                raise ValueError("something follows the rows")
            return
        try:
            row, end = decoder.raw_decode(text, at)
            yield row
            at = end
        except ValueError:
            piece = file.read(_CHUNK)
            if not piece:
                raise ValueError("the rows are cut off") from None
            text, at = text[at:] + piece, 0


def _checked(header: Any) -> dict[str, Any]:
    if not isinstance(header, dict) or not str(header["datasetJSONVersion"]).startswith("1.1"):
        raise ValueError("not Dataset-JSON 1.1")
    if type(header["records"]) is not int or not isinstance(header["columns"], list):
        raise ValueError("not Dataset-JSON 1.1")
    return header


def _frame(header: dict[str, Any], rows: Iterator[Any], where: str) -> pl.DataFrame:
    import polars as pl

    kinds: dict[str, tuple[Any, tuple[type, ...]]] = {
        "integer": (pl.Int64, (int,)),
        "float": (pl.Float64, (int, float)),
        "double": (pl.Float64, (int, float)),
        "boolean": (pl.Boolean, (bool,)),
    }
    typed = {c["name"]: kinds.get(c["dataType"], (pl.String, (str,))) for c in header["columns"]}
    schema = {name: kind for name, (kind, _) in typed.items()}
    parts: list[pl.DataFrame] = []
    block: list[list[Any]] = []
    count = 0

    def close() -> None:
        columns = zip(*block, strict=True) if block else ([] for _ in typed)
        data = {}
        for (name, (kind, allowed)), values in zip(typed.items(), columns, strict=True):
            if not {type(v) for v in values} <= {*allowed, type(None)}:
                rows = f"rows {count - len(block) + 1} to {count}"
                raise TrialOpsError(f"A value of {name} is not of the column's type, in {rows}", where=where)
            data[name] = pl.Series(name, values, dtype=kind, strict=False)
        parts.append(pl.DataFrame(data, schema=schema))
        block.clear()

    for row in rows:
        count += 1
        if not isinstance(row, list) or len(row) != len(schema):
            raise TrialOpsError(f"Row {count} does not have {len(schema)} values", where=where)
        block.append(row)
        if len(block) == BLOCK:
            close()
    close()
    text = pl.col(pl.String)
    return pl.concat(parts).with_columns(pl.when(text != "").then(text))
