"""A file of late feature rows, as people write it: study days for times, and the present day of each subject beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.features import study_time

if TYPE_CHECKING:
    import polars as pl

#: Columns of a file that are days: the day a row became known, and the present day of its subject.
DAY, TODAY = "study_day", "today"


def read_push(path: Path, today: int | None = None) -> tuple[pl.DataFrame, int | dict[str, int]]:
    """Rows of a push, and the present study day.

    Args:
        path: CSV or Parquet with the keys (text), `study_day`, every feature of the view, and `today` unless it is
            given for all.
        today: Present study day of every subject.

    Returns:
        The rows with event_timestamp for `study_day`, and what `push` takes for today.

    Raises:
        TrialOpsError: The file cannot be read, a day is missing, no whole number or 0, or a subject has two present
            days.
    """
    import polars as pl

    keys = ("subject_id", "visit", "site_id")
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, infer_schema_length=None, schema_overrides=dict.fromkeys(keys, pl.String))
    except (OSError, pl.exceptions.PolarsError) as error:
        # Polars quotes the line it stumbled over.
        raise TrialOpsError(
            f"The file cannot be read ({type(error).__name__}).",
            where=path.name,
            fix="Write CSV with a header, or Parquet.",
        ) from None
    days = [DAY] if today is not None else [DAY, TODAY]
    for column in days:
        if column not in frame.columns:
            raise TrialOpsError(
                f"The column {column} is missing.",
                where=path.name,
                fix="Give study_day in the file, and the present study day in the column today or with --today.",
            )
        numbers = frame[column]
        if not numbers.dtype.is_integer() or numbers.null_count() or (numbers == 0).any():
            raise TrialOpsError(
                f"The column {column} holds something that is no study day.",
                where=path.name,
                fix="Write whole numbers; there is no day 0.",
            )
    present: int | dict[str, int] = today if today is not None else _present(frame, path)
    rows = frame.with_columns(event_timestamp=study_time.timestamp(study_time.ordinal(pl.col(DAY))))
    return rows.drop(DAY, TODAY, strict=False), present


def _present(frame: pl.DataFrame, path: Path) -> dict[str, int]:
    key = next((c for c in ("subject_id", "site_id") if c in frame.columns), None)
    pairs = frame.select(key, TODAY).unique() if key else frame.clear().select(TODAY)
    if key is None or pairs[key].is_duplicated().any():
        raise TrialOpsError(
            "There is no key, or a subject has two present days.",
            where=path.name,
            fix="Give subject_id, and one value of today for all rows of a subject.",
        )
    return {str(name): int(day) for name, day in pairs.iter_rows()}
