"""A document as PDF/A-2a: tagged, with fonts inside, the same bytes for the same content and stamp."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from trialops.regulatory.documents.content import Cell, DataTable, Document, text_of

AUTHOR = "TrialOps"
STANDARD: Literal["a-2a"] = "a-2a"
WIDEST, OWN = 46, 18
"""A column whose longest cell has at most OWN characters takes what it needs; the others share what is left by their
longest cell, which counts for no more than WIDEST."""
FIGURE_WIDTH, FIGURE_HEIGHT = 200.0, 132.0
"""Largest size of a figure, in mm."""
_BOX = re.compile(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"')
_FIGURE = re.compile(r"[<≥-]?\d[\d,]*(\.\d+)?( \(.*\)| to .*)?")


def to_pdf(document: Document) -> bytes:
    """Set a document.

    Args:
        document: What it says. Its stamp becomes the creation date.

    Returns:
        The file. Listings run over pages with their heads repeated.
    """
    import matplotlib
    import typst

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    made = typst.compile(
        Path(__file__).with_name("document.typ"),
        format="pdf",
        font_paths=[fonts],
        ignore_system_fonts=True,
        sys_inputs={"document": json.dumps(laid_out(document))},
        pdf_standards=STANDARD,
        timestamp=int(document.stamp.timestamp()),
    )
    return bytes(made)


def laid_out(document: Document) -> dict[str, Any]:
    """Content with what the page needs to know: printed cells, column widths, which columns hold figures."""
    content = document.as_dict() | {"author": AUTHOR}
    numbered = iter(document.numbered())
    for chapter in content["chapters"]:
        for item in chapter["items"]:
            if item["kind"] == "paragraph":
                continue
            found = next(numbered)
            if isinstance(found, DataTable):
                item |= _printed(found)
            else:
                item |= {"label": "Figure", "width": _width(item["svg"])}
    return content


def _width(svg: str) -> float:
    """Width in mm that a figure is printed with, so that it fits a page with its heading and notes."""
    box = _BOX.search(svg)
    wide, high = (float(v) for v in box.groups()) if box else (1.0, 1.0)
    return round(min(FIGURE_WIDTH, FIGURE_HEIGHT * wide / high), 1)


def _printed(table: DataTable) -> dict[str, Any]:
    rows = [[text_of(value) for value in row] for row in table.rows]
    widths = []
    for k, head in enumerate(table.columns):
        texts = [head, *(row[k] for row in rows)]
        word = max(len(part) for text in texts for part in text.split() or [""])
        longest = max([len(text) for text in texts[1:]] + [word])
        widths.append(max(min(longest, WIDEST), 2 * word) if longest > OWN else 0)
    return {
        "label": "Listing" if table.listing else "Table",
        "rows": rows,
        "widths": widths,
        "right": [k > 0 and figures([row[k] for row in table.rows]) for k in range(len(table.columns))],
    }


def figures(cells: list[Cell]) -> bool:
    """Whether a column holds figures, with a percentage or an interval behind them, and is set to the right."""
    told = [value for value in cells if value not in (None, "")]
    return bool(told) and all(not isinstance(value, str) or _FIGURE.fullmatch(value) for value in told)
