"""Content digests of tables and documents: equal content gives an equal digest, whatever the files look like.

A digest of data files would change with compression, chunking or writer version. This one covers column names,
types, validity and values in row order, block by block, so that a resumed run can be shown to equal an
uninterrupted one and a reference can be checked against what is read.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_ROWS = 65_536


def document_digest(content: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their keys: what a person signs, or a window has looked at."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def table_digest(table: pa.Table) -> str:
    """SHA-256 of a table's content.

    Args:
        table: Any Arrow table of fixed-width, boolean, string or binary columns, or lists of fixed-width values.

    Returns:
        64 hexadecimal digits. Depends on column order and row order; not on chunking or encoding.
    """
    import pyarrow as pa

    total = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_string(kind) or pa.types.is_string_view(kind):
            column, kind = column.cast(pa.large_string()), pa.large_string()
        elif pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
            column, kind = column.cast(pa.large_binary()), pa.large_binary()
        elif pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        elif pa.types.is_list(kind):
            kind = pa.large_list(pa.field("item", kind.value_type))
            column = column.cast(kind)
        total.update(f"{field.name}\0{kind}\0{table.num_rows}\0".encode())
        for start in range(0, table.num_rows, BLOCK_ROWS):
            _update(total, column.slice(start, BLOCK_ROWS).combine_chunks(), kind)
    return total.hexdigest()


def _update(total: hashlib._Hash, block: pa.Array, kind: pa.DataType) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(block, pa.ChunkedArray):
        block = pa.concat_arrays(block.chunks) if block.num_chunks else pa.array([], type=kind)
    valid = pc.is_valid(block).to_numpy(zero_copy_only=False)
    total.update(np.packbits(valid).tobytes())
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        lengths = pc.fill_null(pc.binary_length(block), 0).to_numpy(zero_copy_only=False)
        total.update(np.ascontiguousarray(lengths, dtype="<i8").tobytes())
        dense = block.drop_null()
        if len(dense):
            offsets = np.frombuffer(dense.buffers()[1], dtype="<i8", count=len(dense) + 1, offset=dense.offset * 8)
            data = dense.buffers()[2]
            if data is not None:
                total.update(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    elif pa.types.is_null(kind):
        return
    elif pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(block), 0).to_numpy(zero_copy_only=False)
        total.update(np.ascontiguousarray(lengths, dtype="<i8").tobytes())
        _update(total, block.drop_null().flatten(), kind.value_type)
    else:
        width = kind.bit_width // 8
        dense = block.drop_null()
        if len(dense):
            total.update(memoryview(dense.buffers()[1])[dense.offset * width : (dense.offset + len(dense)) * width])
