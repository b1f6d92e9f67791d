"""Report rows from CSV and Parquet files, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

BATCH_ROWS = 1_000_000
_CSV_BYTES = 32 << 20


@dataclass(frozen=True)
class Columns:
    """Names of the columns in the input.

    Attributes:
        report: Report id.
        product: Product.
        event: Event.
        strata: Stratum columns, in the order in which strata are named.
    """

    report: str = "report"
    product: str = "product"
    event: str = "event"
    strata: tuple[str, ...] = ()

    @property
    def all(self) -> list[str]:
        """Every column, each once."""
        return [self.report, self.product, self.event, *self.strata]


class ReportRows:
    """Report rows that can be read more than once, as batches with the columns report, product, event and the strata.

    Args:
        source: A CSV or Parquet file, a folder of them, several of them, or a frame.
        columns: Names of the columns.
        delimiter: Of CSV files.
        batch_rows: Rows of a batch.
    """

    def __init__(
        self,
        source: str | Path | Sequence[Path] | pl.DataFrame,
        columns: Columns | None = None,
        *,
        delimiter: str = ",",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        import polars as pl

        self.columns = columns or Columns()
        if len(set(self.columns.all)) < len(self.columns.all):
            raise TrialOpsError("A column is named twice", where="columns", fix="Give every part a column of its own.")
        self.frame = source if isinstance(source, pl.DataFrame) else None
        self.files = [] if isinstance(source, pl.DataFrame) else _files(source)
        self.delimiter = delimiter
        self.batch_rows = batch_rows

    @property
    def strata(self) -> tuple[str, ...]:
        """Stratum columns."""
        return self.columns.strata

    def size(self) -> int:
        """Rows, counted or estimated from the size of the files; for choosing how finely to spill and for progress."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.frame is not None:
            return self.frame.height
        try:
            return sum(
                pq.read_metadata(file).num_rows if file.suffix == ".parquet" else file.stat().st_size // 40
                for file in self.files
            )
        except pa.ArrowException:
            return 1  # reading it will say what is wrong with it

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in their order.

        Raises:
            TrialOpsError: A file cannot be read or lacks a column.
        """
        if self.frame is not None:
            self._check(self.frame.columns, "the frame")
            for start in range(0, self.frame.height, self.batch_rows):
                part = self.frame[start : start + self.batch_rows].select(self.columns.all)
                yield self._named(part.to_arrow(compat_level=_compat()).combine_chunks().to_batches()[0])
        for file in self.files:
            yield from self._parquet(file) if file.suffix == ".parquet" else self._csv(file)

    def frame_of_all(self) -> pl.DataFrame:
        """All rows as one frame, under the names in the input changed to report, product, event and the strata."""
        import polars as pl
        import pyarrow as pa

        names = ["report", "product", "event", *self.strata]
        text = pa.schema([(name, pa.string()) for name in names])
        tables = [pa.Table.from_batches([batch]).cast(text) for batch in self.batches()]
        frame = pl.from_arrow(pa.concat_tables([text.empty_table(), *tables]))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def _parquet(self, file: Path) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            opened = pq.ParquetFile(file, read_dictionary=[*self.columns.all[1:]])
            self._check(opened.schema_arrow.names, file.name)
            for batch in opened.iter_batches(self.batch_rows, columns=self.columns.all):
                yield self._named(batch)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from None

    def _csv(self, file: Path) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.csv as pacsv

        text = pa.dictionary(pa.int32(), pa.string())
        kinds = {self.columns.report: pa.string(), **dict.fromkeys(self.columns.all[1:], text)}
        try:
            with file.open("rb") as head:
                first = head.readline(1 << 20).decode("utf-8-sig", "replace")
            self._check([name.strip().strip('"') for name in first.rstrip("\r\n").split(self.delimiter)], file.name)
            reader = pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(block_size=_CSV_BYTES),
                parse_options=pacsv.ParseOptions(delimiter=self.delimiter),
                convert_options=pacsv.ConvertOptions(
                    column_types=kinds, include_columns=self.columns.all, null_values=[""], strings_can_be_null=True
                ),
            )
            for batch in reader:
                yield self._named(batch)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from None

    def _named(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow as pa

        names = ["report", "product", "event", *self.columns.strata]
        columns = [batch.column(name) for name in self.columns.all]
        if pa.types.is_integer(columns[0].type):
            columns[0] = columns[0].cast(pa.int64())
        return pa.RecordBatch.from_arrays(columns, names=names)

    def _check(self, there: Sequence[str], where: str) -> None:
        missing = [name for name in self.columns.all if name not in there]
        if missing:
            raise TrialOpsError(
                f"Columns are missing: {', '.join(missing)}",
                where=where,
                fix="Name the columns that hold report id, product, event and strata.",
            )


def _files(source: str | Path | Sequence[Path]) -> list[Path]:
    given = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    found = [file for path in given for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in found if file.suffix.lower() in (".parquet", ".csv", ".txt", ".tsv")]
    missing = [file for file in files if not file.is_file()]
    if not files or missing:
        raise TrialOpsError(
            "There is no file of report rows",
            where=", ".join(path.name for path in given),
            fix="Give a .csv or .parquet file, or a folder of them.",
        )
    return files


def _unreadable(file: Path, error: Exception) -> TrialOpsError:
    return TrialOpsError(
        f"A file of report rows cannot be read ({type(error).__name__})",
        where=file.name,
        fix="Check that it is complete: UTF-8 CSV with a header, or Parquet.",
    )


def _compat() -> Any:
    import polars as pl

    return pl.CompatLevel.oldest()
