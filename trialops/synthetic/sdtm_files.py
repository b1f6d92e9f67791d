"""The transport files of a trial, open while its blocks are written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.intake.xport import XportWriter
from trialops.synthetic.columns import COLUMNS, LABELS
from trialops.synthetic.defects import Defects

if TYPE_CHECKING:
    import polars as pl


class SdtmFiles:
    """One file per domain, and one per domain and receipt date of corrections.

    Args:
        folder: The sdtm folder; must not exist.
        faults: Faults to put into the files.
    """

    def __init__(self, folder: Path, faults: Defects) -> None:
        folder.mkdir()
        self.folder = folder
        self.faults = faults
        self.corrections: dict[tuple[str, str], XportWriter] = {}
        self.writers = {
            name: XportWriter(folder / f"{name.lower()}.xpt", name, LABELS[name], faults.columns(name))
            for name in COLUMNS
        }

    def write(self, frames: dict[str, pl.DataFrame], corrections: dict[str, pl.DataFrame]) -> None:
        """Append a block."""
        for name, writer in self.writers.items():
            frame = frames[name]
            writer.write(self.faults.rows(name, frame) if writer.rows == 0 else frame)
        for name, frame in corrections.items():
            for (received,), part in sorted(frame.partition_by("RECEIVED", as_dict=True).items()):
                self._correction(name, str(received)).write(part)

    def _correction(self, name: str, received: str) -> XportWriter:
        if (name, received) not in self.corrections:
            folder = self.folder / "corrections" / received
            folder.mkdir(parents=True, exist_ok=True)
            self.corrections[name, received] = XportWriter(
                folder / f"{name.lower()}.xpt", name, LABELS[name], COLUMNS[name]
            )
        return self.corrections[name, received]

    def close(self) -> dict[str, int]:
        """Close all files and put the file faults in; returns rows per file kind."""
        counts = Counter({name: writer.rows for name, writer in self.writers.items()})
        for (name, _), writer in self.corrections.items():
            counts[f"{name} corrections"] += writer.rows
        for writer in [*self.writers.values(), *self.corrections.values()]:
            writer.close()
        self.faults.finish(self.folder, self.writers)
        return dict(counts)
