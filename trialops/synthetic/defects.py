"""Faults put into a generated trial on purpose, each recorded exactly: the ground truth of quality tests.

Row faults go into the first block of a file, so a recorded row number is the row of the file. FHIR and HL7
output stays sound; only faults of the layout (sites, outcome) show there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.intake.xport import Column, XportWriter
from trialops.synthetic.columns import COLUMNS
from trialops.synthetic.protocol import Sites
from trialops.synthetic.row_faults import FURTHER

if TYPE_CHECKING:
    import polars as pl

ORPHAN = "01-700-100000"
FEW = 5
MISSING_COLUMN = ("VS", "VSSTRESN")
TRUNCATED = "sv.xpt"
CUT_BYTES = 1001
ACCENTED = ("MH", 2, "MHTERM", "M\u00c9NI\u00c8RE'S DISEASE")


@dataclass(frozen=True)
class Record:
    """One injected fault. Row numbers are 1-based; None where a fault concerns no row, column or subject."""

    kind: str
    file: str
    row: int | None = None
    usubjid: str | None = None
    column: str | None = None
    before: Any = None
    after: Any = None


@dataclass
class Defects:
    """The faults asked for, applied while the files are written.

    Attributes:
        kinds: Names of the faults, see KINDS.
        records: What has been injected so far.
        people: DM rows of the first block, as they were before any fault.
        chosen: By fault, the subject it concerns, where it spans several domains.
    """

    kinds: frozenset[str]
    records: list[Record] = field(default_factory=list)
    people: pl.DataFrame | None = None
    chosen: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, kinds: Sequence[str], formats: Sequence[str]) -> Defects:
        """Check the names.

        Raises:
            TrialOpsError: A fault does not exist, or would have to go into SDTM files that are not written.
        """
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise TrialOpsError(
                f"unknown defect: {', '.join(unknown)}",
                where="defects",
                fix=f"choose from {', '.join(KINDS)}",
            )
        needs = sorted(set(kinds) & (set(ALL_ROW_FAULTS) | {"missing_column", "truncated_file", "encoding_cp1252"}))
        if needs and "sdtm" not in formats:
            raise TrialOpsError(
                f"{', '.join(needs)} can only be put into SDTM files",
                where="formats",
                fix='add "sdtm" to the formats',
            )
        return cls(frozenset(kinds))

    def columns(self, domain: str) -> tuple[Column, ...]:
        """Columns to write for a domain."""
        columns = COLUMNS[domain]
        if "missing_column" in self.kinds and domain == MISSING_COLUMN[0]:
            columns = tuple(c for c in columns if c.name != MISSING_COLUMN[1])
        return columns

    def rows(self, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Put the row faults of a domain into its first block."""
        if domain == "DM" and self.people is None:
            self.people = frame
        for kind, (where, change) in ALL_ROW_FAULTS.items():
            if kind in self.kinds and domain in where:
                before = len(self.records)
                frame = change(self, domain, frame)
                if len(self.records) == before:
                    raise TrialOpsError(
                        f"there is no row to put the defect {kind} into",
                        where=sdtm_file(domain),
                        fix="ask for more subjects",
                    )
        return frame

    def finish(self, folder: Path, writers: dict[str, XportWriter]) -> None:
        """Faults of whole files, once they are closed."""
        if "missing_column" in self.kinds:
            domain, column = MISSING_COLUMN
            self.records.append(Record("missing_column", sdtm_file(domain), column=column, before=column))
        if "encoding_cp1252" in self.kinds:
            _accent(self, folder, writers[ACCENTED[0]])
        if "truncated_file" in self.kinds:
            path = folder / TRUNCATED
            size = path.stat().st_size
            if size < 2 * CUT_BYTES + writers["SV"].header_bytes:
                raise TrialOpsError(
                    "the visit file is too short to be truncated",
                    where=TRUNCATED,
                    fix="ask for more subjects",
                )
            with path.open("r+b") as file:
                file.truncate(size - CUT_BYTES)
            self.records.append(Record("truncated_file", sdtm_file("SV"), before=size, after=size - CUT_BYTES))

    def layout(self, sites: Sites) -> None:
        """Faults of the trial as a whole."""
        counts = sites.counts()
        if "empty_site" in self.kinds:
            self.records.append(
                Record("empty_site", "sites.csv", row=len(sites.ids), column="SITEID", after=sites.ids[-1])
            )
        if "tiny_site" in self.kinds:
            recruiting = len(sites.ids) - ("empty_site" in self.kinds)
            site = int(sites.weights[:recruiting].argmin())
            self.records.append(
                Record(
                    "tiny_site",
                    "sites.csv",
                    row=site + 1,
                    column="SITEID",
                    before=int(counts[site]),
                    after=sites.ids[site],
                )
            )
        if "one_class_label" in self.kinds:
            self.records.append(Record("one_class_label", sdtm_file("DS"), column="DSDECOD", after="COMPLETED"))

    def as_list(self) -> list[dict[str, Any]]:
        """The records as JSON-ready dictionaries."""
        return [asdict(r) for r in self.records]

    def change(self, kind: str, domain: str, frame: pl.DataFrame, index: int, values: dict[str, Any]) -> pl.DataFrame:
        """Change values of one row and record each change."""
        return self.change_rows(kind, domain, frame, [index], {column: [after] for column, after in values.items()})

    def change_rows(
        self, kind: str, domain: str, frame: pl.DataFrame, rows: list[int], values: Mapping[str, Sequence[Any]]
    ) -> pl.DataFrame:
        """Change values of several rows and record each that is another than before, row by row.

        Args:
            kind: Name of the fault.
            domain: Domain of the frame.
            frame: Its rows.
            rows: Indices to change.
            values: New values by column, one per index.
        """
        import polars as pl

        written = {c.name for c in self.columns(domain)}
        before = {column: frame[column].gather(rows).to_list() for column in values}
        subjects = frame["USUBJID"].gather(rows).to_list()
        for i, row in enumerate(rows):
            for column, after in values.items():
                if column in written and before[column][i] != after[i]:
                    self.records.append(
                        Record(kind, sdtm_file(domain), row + 1, subjects[i], column, before[column][i], after[i])
                    )
        for column, after in values.items():
            new = pl.Series(column, list(after), dtype=frame.schema[column])
            frame = frame.with_columns(frame[column].scatter(rows, new))
        return frame


def sdtm_file(domain: str) -> str:
    """The file of a domain, as the records name it."""
    return f"sdtm/{domain.lower()}.xpt"


def _first(frame: pl.DataFrame, column: str, value: str, count: int) -> list[int]:
    """Row indices of the first `count` rows with a value."""
    return [int(i) for i in (frame[column] == value).arg_true()[:count]]


def _duplicate(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    index = frame.height // 2
    d.records.append(
        Record(
            "duplicate_subject",
            sdtm_file(domain),
            index + 2,
            frame["USUBJID"][index],
            "USUBJID",
            None,
            frame["USUBJID"][index],
        )
    )
    return pl.concat([frame[: index + 1], frame[index:]])


def _orphan(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    new = frame[:3].with_columns(USUBJID=pl.lit(ORPHAN))
    for i in range(new.height):
        d.records.append(Record("orphan_subject", sdtm_file(domain), i + 1, ORPHAN, "USUBJID", None, ORPHAN))
    return pl.concat([new, frame])


def _impossible_date(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    column, text = {"LB": ("LBDTC", "2023-02-30T10:00"), "AE": ("AESTDTC", "2023-13-05")}[domain]
    index = min(40, frame.height - 1)
    return d.change("impossible_date", domain, frame, index, {column: text}) if frame.height else frame


def _unit_swap(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Glucose entered in mmol/L under the unit mg/dL; the standard result follows the wrong entry."""
    from trialops.synthetic.analytes import ANALYTES
    from trialops.synthetic.laboratory import number_text

    factor = next(a.factor for a in ANALYTES if a.code == "GLUC")
    for index in _first(frame, "LBTESTCD", "GLUC", FEW):
        wrong = f"{float(frame['LBSTRESN'][index]):.1f}"
        standard = number_text(float(wrong) * factor)
        frame = d.change(
            "unit_swap",
            domain,
            frame,
            index,
            {"LBORRES": wrong, "LBSTRESC": standard, "LBSTRESN": float(standard), "LBNRIND": "LOW"},
        )
    return frame


def _missing_unit(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    for index in _first(frame, "LBTESTCD", "CREAT", FEW):
        frame = d.change("missing_unit", domain, frame, index, {"LBORRESU": "", "LBSTRESU": ""})
    return frame


def _out_of_range(d: Defects, domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Values no living person has: a potassium of 43 mEq/L, a pulse of 720."""
    if domain == "LB":
        for index in _first(frame, "LBTESTCD", "K", 2):
            frame = d.change(
                "out_of_range",
                domain,
                frame,
                index,
                {"LBORRES": "43.0", "LBSTRESC": "43", "LBSTRESN": 43.0, "LBNRIND": "HIGH"},
            )
        return frame
    for index in _first(frame, "VSTESTCD", "PULSE", 2):
        frame = d.change("out_of_range", domain, frame, index, {"VSORRES": "720", "VSSTRESC": "720", "VSSTRESN": 720.0})
    return frame


def _accent(d: Defects, folder: Path, writer: XportWriter) -> None:
    """Overwrite one term with windows-1252 bytes, as an export from a desktop program would."""
    domain, row, name, text = ACCENTED
    if writer.rows < row:
        raise TrialOpsError(
            "the history file is too short for the defect encoding_cp1252",
            where=sdtm_file(domain),
            fix="ask for more subjects",
        )
    column = next(c for c in writer.columns if c.name == name)
    start = writer.header_bytes + (row - 1) * writer.row_bytes
    before_it = writer.columns[: writer.columns.index(column)]
    subject = next(c for c in writer.columns if c.name == "USUBJID")
    before_subject = writer.columns[: writer.columns.index(subject)]
    with (folder / f"{domain.lower()}.xpt").open("r+b") as file:
        file.seek(start + sum(c.length for c in before_subject))
        usubjid = file.read(subject.length).decode().rstrip()
        offset = start + sum(c.length for c in before_it)
        file.seek(offset)
        before = file.read(column.length).decode().rstrip()
        file.seek(offset)
        file.write(text.encode("cp1252").ljust(column.length))
    d.records.append(Record("encoding_cp1252", sdtm_file(domain), row, usubjid, name, before, text))


Change = Callable[[Defects, str, "pl.DataFrame"], "pl.DataFrame"]

ROW_FAULTS: dict[str, tuple[tuple[str, ...], Change]] = {
    "duplicate_subject": (("DM",), _duplicate),
    "orphan_subject": (("LB",), _orphan),
    "impossible_date": (("LB", "AE"), _impossible_date),
    "unit_swap": (("LB",), _unit_swap),
    "missing_unit": (("LB",), _missing_unit),
    "out_of_range": (("LB", "VS"), _out_of_range),
}
# Insertions come first: the row numbers recorded by the others are then final.
_INSERTIONS = ("duplicate_subject", "orphan_subject", "duplicate_key")
_FAULTS = {**ROW_FAULTS, **FURTHER}
ALL_ROW_FAULTS = {kind: _FAULTS[kind] for kind in sorted(_FAULTS, key=lambda kind: kind not in _INSERTIONS)}
KINDS = (
    "duplicate_subject",
    "impossible_date",
    "missing_column",
    "truncated_file",
    "empty_site",
    "unit_swap",
    "encoding_cp1252",
    "tiny_site",
    "one_class_label",
    "missing_unit",
    "out_of_range",
    "orphan_subject",
    *FURTHER,
)
