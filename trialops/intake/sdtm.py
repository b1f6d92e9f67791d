"""Read a delivery of SDTM data sets (SAS XPORT): every row is loaded, quarantined or ignored, and counted."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trialops.errors import TrialOpsError
from trialops.intake import quarantine
from trialops.intake.domains import RECEIVED, ROW, SOURCE, catalog, file_labels
from trialops.intake.xport_layout import LayoutError
from trialops.intake.xport_read import read_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    Progress = Callable[[str, float], None] | None

CORRECTIONS = "corrections"


@dataclass(frozen=True)
class Intake:
    """What came out of one reading.

    Attributes:
        tables: Loaded rows by domain, with `_SOURCE` (file), `_ROW` (1-based) and `_RECEIVED` (Date; null for
            the first delivery). A correction is another row with the same key, never a replacement.
        quarantine: One line per row set aside; see `quarantine.SCHEMA`. Corrections are named by the number of
            their delivery, see `file_labels`.
        dispositions: One line per file under its own name: file, domain, read, loaded, quarantined, ignored,
            sha256, encoding, reason.
        source_digest: SHA-256 over the names and digests of all files.
        study: STUDYID of the delivery.
    """

    tables: dict[str, pl.DataFrame]
    quarantine: pl.DataFrame
    dispositions: pl.DataFrame
    source_digest: str
    study: str


@dataclass(frozen=True)
class ReceivedFile:
    """One file as read; `frame` is None where it could not be read, and `problem` says why."""

    name: str
    received: dt.date | None
    sha256: str
    domain: str
    encoding: str = ""
    frame: pl.DataFrame | None = None
    problem: str = ""
    ignored: str = ""

    @classmethod
    def of_frame(cls, name: str, frame: pl.DataFrame, sha256: str, *, domain: str = "") -> ReceivedFile:
        """A file of another kind that somebody else has read; its domain is told, or is what its name begins with."""
        import polars as pl

        stem = Path(name).name.split(".")[0].upper()
        found = domain.upper() or _domain_of(stem, stem.split("_")[0].split("-")[0])
        rows = frame.with_columns(
            pl.lit(name).alias(SOURCE),
            pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW),
            pl.lit(None, dtype=pl.Date).alias(RECEIVED),
        )
        ignored = "" if found in catalog().domains else catalog().ignore_reason(found)
        return cls(name, None, sha256, found, frame=rows, ignored=ignored)


def read_folder(
    folder: Path,
    *,
    received: dt.date | None = None,
    study: str | None = None,
    on_bad_file: Literal["error", "skip"] = "error",
    progress: Progress = None,
) -> Intake:
    """Read all data sets of a folder and of its `corrections/<YYYY-MM-DD>/` folders.

    Args:
        folder: Folder with one .xpt file per data set.
        received: Day the first delivery was received: no date in it can be later. Default: today (UTC).
        study: STUDYID every row must have. Default: the one most rows of DM have.
        on_bad_file: "error" stops on a file that cannot be read whole; "skip" records it with its reason and
            without rows.
        progress: Called with a message and the fraction done.

    Returns:
        Tables, quarantine and the count of rows per file, for which read = loaded + quarantined + ignored.

    Raises:
        TrialOpsError: No files, files that cannot be read, or required domains or columns that are missing;
            one error names them all.
    """
    paths = _find(folder)
    files = []
    for i, (path, day) in enumerate(paths):
        if progress:
            progress(f"reading {path.name}", 0.8 * i / len(paths))
        files.append(_read(path, path.relative_to(folder).as_posix(), day))
    return read_files(
        files, where=str(folder), received=received, study=study, on_bad_file=on_bad_file, progress=progress
    )


def read_files(
    files: list[ReceivedFile],
    *,
    where: str,
    received: dt.date | None = None,
    study: str | None = None,
    on_bad_file: Literal["error", "skip"] = "error",
    progress: Progress = None,
) -> Intake:
    """Check files that have been read, wherever they came from; see `read_folder`."""
    import polars as pl

    _require_readable(files, where, on_bad_file)
    _require_content(files, where)
    today = received or dt.datetime.now(dt.UTC).date()
    study = study or _main_study(files)
    tables: dict[str, pl.DataFrame] = {}
    set_aside = [quarantine.empty()]
    subjects: pl.Series | None = None
    order = ["DM", *sorted(set(catalog().domains) - {"DM"})]
    for i, domain in enumerate(order):
        parts = [f for f in files if f.domain == domain and f.frame is not None and not f.ignored]
        if not parts:
            continue
        if progress:
            progress(f"checking {domain}", 0.8 + 0.2 * i / len(order))
        frame, text = _join(domain, parts)
        spec = catalog().domains[domain]
        checks = quarantine.row_checks(spec, frame.columns, text, study)
        if subjects is not None:
            checks.append(quarantine.orphan_check(subjects))
        frame = frame.with_columns(_received_by=pl.col(RECEIVED).fill_null(today))
        loaded, bad = quarantine.split(frame, spec, checks)
        if domain == "DM":
            subjects = loaded["USUBJID"].unique()
        tables[domain] = _typed(domain, loaded.drop("_received_by"))
        set_aside.append(bad)
    bad = pl.concat(set_aside)
    if progress:
        progress("counted every row", 1.0)
    digest = hashlib.sha256("".join(f"{f.name}\0{f.sha256}\n" for f in files).encode()).hexdigest()
    counts = _dispositions(files, tables, bad)
    shown = bad.with_columns(pl.col("file").replace(file_labels(counts["file"]))).sort("file", "row")
    return Intake(tables, shown, counts, digest, study)


def delivery_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a delivery's files, without reading them as data.

    Raises:
        TrialOpsError: The folder does not exist or holds no .xpt file.
    """
    total = hashlib.sha256()
    for path, _ in _find(folder):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _find(folder: Path) -> list[tuple[Path, dt.date | None]]:
    """The .xpt files in reading order, each with the receipt date its correction folder names."""
    if not folder.is_dir():
        raise TrialOpsError(
            "The delivery folder does not exist.",
            where=str(folder),
            fix="Give the folder that holds the .xpt files.",
        )
    found: list[tuple[Path, dt.date | None]] = [(p, None) for p in _xpt(folder)]
    corrections = folder / CORRECTIONS
    wrong = []
    for sub in sorted(p for p in corrections.iterdir() if p.is_dir()) if corrections.is_dir() else []:
        try:
            day = dt.datetime.strptime(sub.name, "%Y-%m-%d").date()
        except ValueError:
            wrong.append(sub.name)
            continue
        found += [(p, day) for p in _xpt(sub)]
    if wrong:
        raise TrialOpsError(
            "A correction folder is not named by the day it was received.",
            where=", ".join(f"{CORRECTIONS}/{name}" for name in wrong),
            fix="Name it YYYY-MM-DD.",
        )
    if not any(day is None for _, day in found):
        raise TrialOpsError(
            "The delivery folder holds no .xpt file.",
            where=str(folder),
            fix="Give the folder that holds the .xpt files.",
        )
    return found


def _xpt(folder: Path) -> list[Path]:
    found = (p for p in folder.iterdir() if p.is_file() and p.suffix.lower() == ".xpt")
    return sorted(found, key=lambda p: p.name)


def _read(path: Path, name: str, received: dt.date | None) -> ReceivedFile:
    """Read one file as text and numbers; a fault is noted in the result, not raised."""
    import polars as pl

    data = path.read_bytes()
    file = ReceivedFile(name, received, hashlib.sha256(data).hexdigest(), path.stem.upper())
    try:
        transport = read_transport(data)
    except LayoutError as error:
        return replace(file, problem=str(error))
    except Exception as error:  # its text may quote data
        return replace(file, problem=f"the reader refuses it ({type(error).__name__})")
    file = replace(file, domain=_domain_of(transport.name, path.stem), encoding=transport.encoding)
    frame = transport.frame.with_columns(
        pl.lit(name).alias(SOURCE),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW),
        pl.lit(received, dtype=pl.Date).alias(RECEIVED),
    )
    ignored = "" if file.domain in catalog().domains else catalog().ignore_reason(file.domain)
    return replace(file, frame=frame, ignored=ignored)


def _domain_of(member: str, stem: str) -> str:
    """The domain of a data set: its name, the first two letters of a split one (LBCH), else the file name."""
    names = [member.upper(), stem.upper()]
    for name in names:
        if name in catalog().domains:
            return name
    for name in names:
        if len(name) in (3, 4) and name[:2] in catalog().domains and catalog().ignored.get(name[:2]) is None:
            return name[:2]
    return names[0] or names[1]


def _require_readable(files: list[ReceivedFile], where: str, on_bad_file: str) -> None:
    bad = [f for f in files if f.problem]
    if bad and on_bad_file == "error":
        raise TrialOpsError(
            f"{len(bad)} of {len(files)} data sets cannot be read whole. "
            + " ".join(f"{f.name}: {f.problem}." for f in bad),
            where=where,
            fix="Transfer these files again in binary mode and compare their sizes with the sender's; "
            "nothing of this delivery was loaded.",
        )


def _require_content(files: list[ReceivedFile], where: str) -> None:
    usable = [f for f in files if f.frame is not None and not f.ignored]
    first = {f.domain for f in usable if f.received is None}
    problems = [f"domain {d} ({catalog().domains[d].label})" for d in catalog().required if d not in first]
    for f in usable:
        assert f.frame is not None
        missing = [c for c in catalog().domains[f.domain].columns if c not in f.frame.columns]
        if missing:
            problems.append(f"{f.name}: column{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    if problems:
        raise TrialOpsError(
            "The delivery lacks what the trial needs: " + "; ".join(problems) + ".",
            where=where,
            fix="Ask the sender for the missing data sets or columns; nothing of this delivery was loaded.",
        )


def _main_study(files: list[ReceivedFile]) -> str:
    import polars as pl

    first = [f.frame for f in files if f.domain == "DM" and f.received is None and f.frame is not None]
    ids = pl.concat([frame.select(pl.col("STUDYID").cast(pl.String).str.strip_chars()) for frame in first])
    counts = ids.filter(pl.col("STUDYID").fill_null("") != "").group_by("STUDYID").len()
    if counts.is_empty():
        return ""
    return str(counts.sort("len", "STUDYID", descending=[True, False])["STUDYID"][0])


def _join(domain: str, files: list[ReceivedFile]) -> tuple[pl.DataFrame, set[str]]:
    """All files of a domain in one table, text trimmed, empty text null; and its text columns."""
    import polars as pl

    own = {SOURCE, ROW, RECEIVED}
    frames = []
    for file in files:
        assert file.frame is not None
        frame = file.frame
        casts = []
        for c, kind in frame.schema.items():
            if c in own:
                continue
            if kind == pl.String:
                text = pl.col(c).str.strip_chars()
                casts.append(pl.when(text != "").then(text).alias(c))
            elif catalog().is_numeric(domain, c):
                casts.append(pl.col(c).cast(pl.Float64).fill_nan(None))
            else:
                # A character variable that is missing on every row often arrives as a number; a code may too.
                number = pl.col(c).cast(pl.Float64).fill_nan(None)
                whole = (number == number.floor()) & (number.abs() < 1e15)
                as_text = pl.when(whole).then(number.cast(pl.Int64, strict=False).cast(pl.String))
                casts.append(as_text.otherwise(number.cast(pl.String)).alias(c))
        frames.append(frame.with_columns(casts))
    mixed = {c for f in frames for c, k in f.schema.items() if k == pl.String}
    frames = [f.with_columns(pl.col(c).cast(pl.String) for c in mixed if c in f.columns) for f in frames]
    joined = pl.concat(frames, how="diagonal")
    return joined, mixed - own


def _typed(domain: str, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    numbers = [c for c in frame.columns if catalog().is_numeric(domain, c) and frame.schema[c] == pl.String]
    return frame.with_columns(pl.col(c).cast(pl.Float64) for c in numbers)


def _dispositions(files: list[ReceivedFile], tables: dict[str, pl.DataFrame], bad: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    loaded: dict[str, int] = {}
    for frame in tables.values():
        loaded |= dict(frame.group_by(SOURCE).len().iter_rows())
    aside: dict[str, int] = dict(bad.group_by("file").len().iter_rows())
    lines = []
    for f in files:
        read = 0 if f.frame is None else f.frame.height
        lines.append(
            {
                "file": f.name,
                "domain": f.domain,
                "read": read,
                "loaded": loaded.get(f.name, 0),
                "quarantined": aside.get(f.name, 0),
                "ignored": read if f.ignored else 0,
                "sha256": f.sha256,
                "encoding": f.encoding,
                "reason": f.problem or f.ignored,
            }
        )
    table = pl.DataFrame(lines)
    lost = table.filter(pl.col("read") != pl.col("loaded") + pl.col("quarantined") + pl.col("ignored"))
    if lost.height:
        raise TrialOpsError(
            "Rows were lost while reading: read is not loaded + quarantined + ignored.",
            where=", ".join(lost["file"]),
            fix="This is a fault of the intake itself; keep the files and report it.",
        )
    return table
