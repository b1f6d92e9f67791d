"""The data cut of a submission: the tables of a sealed delivery, as they are submitted.

A submission carries real dates and USUBJID: the reviewer must be able to follow a value to the case report form. So it
is made of the sealed delivery, under a purpose that the audit trail keeps; everything that leaves to anybody else is
made of de-identified tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.intake.domains import catalog, current_rows
from trialops.intake.xport_layout import LayoutError
from trialops.intake.xport_read import read_transport
from trialops.regulatory.standard import structure_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Cut:
    """Tables of a submission, and what a reviewer should know about how they came about.

    Attributes:
        tables: By data set name.
        comments: By data set name, for define.xml.
        notes: Sentences for the reviewer's guide; counts, never values.
    """

    tables: dict[str, pl.DataFrame]
    comments: dict[str, str]
    notes: tuple[str, ...]


def make_cut(loaded: Mapping[str, pl.DataFrame], received: Mapping[str, bytes]) -> Cut:
    """Choose the rows that are submitted.

    Domains come from the tables the intake loaded: newest version of every row, rows set aside left out. Data sets the
    platform does not load (SUPP--, trial design, RELREC) come from the files as received; a later delivery replaces
    rows by key.

    Args:
        loaded: Sealed tables by domain.
        received: Sealed files by label.

    Raises:
        TrialOpsError: There is no DM, or a file cannot be read.
    """
    if "DM" not in loaded:
        raise TrialOpsError("The delivery has no DM: there is no subject to submit", fix="Choose another delivery.")
    tables, comments, notes = {}, {}, []
    for domain, frame in loaded.items():
        current = current_rows(domain, frame)
        replaced = frame.height - current.height
        tables[domain] = current.select([c for c in current.columns if not c.startswith("_")])
        if replaced:
            comments[domain] = (
                f"{replaced} record(s) were corrected after the first delivery; the newest are submitted."
            )
            notes.append(f"{domain}: {comments[domain]}")
    for label, data in sorted(received.items(), key=lambda item: _delivery(item[0])):
        name, frame = _read(label, data)
        if name in catalog().domains or name[:2] in loaded and len(name) in (3, 4):
            continue
        keys = [k for k in structure_of(name).keys if k in frame.columns]
        if name in tables:
            earlier = tables[name].join(frame.select(keys), on=keys, how="anti", nulls_equal=True)
            notes.append(f"{name}: {tables[name].height - earlier.height} record(s) replaced by a later delivery.")
            frame = _stack(earlier, frame)
        tables[name] = frame
    return Cut(tables, comments, tuple(notes))


def _delivery(label: str) -> tuple[int, str]:
    """Deliveries in their order: what came first has no number."""
    number = re.match(r"delivery (\d+)/", label)
    return (int(number[1]) if number else 1, label)


def _read(label: str, data: bytes) -> tuple[str, pl.DataFrame]:
    try:
        transport = read_transport(data)
    except LayoutError as error:
        raise TrialOpsError(f"A sealed file cannot be read: {error}", where=label) from None
    return (transport.name or PurePosixPath(label).stem).upper(), transport.frame


def _stack(earlier: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return pl.concat([earlier, later], how="diagonal_relaxed")
