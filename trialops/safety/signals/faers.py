"""FAERS quarterly ASCII files as report rows: the latest version of each case, its suspect products, its reactions.

From the files DEMO, DRUG and REAC of one or more quarters ($ between fields, no quotes; layout since 2012Q4, as in the
readme FDA ships with them), and lists of deleted cases (one case id per line), wherever they lie below a folder.
Of the versions of a case the one with the latest FDA_DT counts, then the highest PRIMARYID, as FDA advises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.safety.signals.readers import Columns, ReportRows

if TYPE_CHECKING:
    import duckdb

STRATA = ("sex", "age", "year")
ROLES = ("PS", "SS", "C", "I", "DN")
NEEDED = {
    "DEMO": ("primaryid", "caseid", "fda_dt", "init_fda_dt", "age", "age_cod", "sex"),
    "DRUG": ("primaryid", "role_cod", "drugname"),
    "REAC": ("primaryid", "pt"),
}
_BANDS = ((2, "0-1"), (12, "2-11"), (18, "12-17"), (45, "18-44"), (65, "45-64"), (75, "65-74"), (130, "75+"))
_YEARS = {"YR": 1.0, "DEC": 10.0, "MON": 1 / 12, "WK": 7 / 365.25, "DY": 1 / 365.25, "HR": 1 / 8766}


@dataclass(frozen=True)
class Faers:
    """FAERS files as one Parquet file of report rows, sorted by case.

    Attributes:
        path: The file: report (case id), product, event, sex, age (band), year (of first receipt).
        versions: Case versions read.
        cases: Cases kept.
        older: Versions of a case that a later one replaces.
        deleted: Versions of deleted cases.
        broken: Lines that could not be read.
    """

    path: Path
    versions: int
    cases: int
    older: int
    deleted: int
    broken: int

    def rows(self, strata: Sequence[str] = ()) -> ReportRows:
        """For counting, with any of sex, age and year as strata."""
        return ReportRows(self.path, Columns("report", "product", "event", tuple(strata)))


def read_faers(
    folder: Path, out: Path, *, roles: Sequence[str] = ("PS",), ingredient: bool = True, memory: str = "3GB"
) -> Faers:
    """Bring FAERS quarters into the form that is counted, in bounded memory.

    Args:
        folder: Holds the files, in any sub-folders.
        out: Parquet file to write.
        roles: Roles of products that count: PS primary suspect, SS secondary suspect, C concomitant, I interacting,
            DN drug not administered.
        ingredient: Take PROD_AI (the active ingredient, since 2014Q3) where there is one, else DRUGNAME; False:
            DRUGNAME always.
        memory: Of DuckDB, which spills beyond it.

    Raises:
        TrialOpsError: A kind of file is missing, a column is missing, or a role is unknown.
    """
    import duckdb

    unknown = sorted(set(roles) - set(ROLES))
    if unknown or not roles:
        raise TrialOpsError(f"Unknown role: {', '.join(unknown)}", where="roles", fix="Use some of " + ", ".join(ROLES))
    files = {kind: _files(folder, kind) for kind in NEEDED}
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = out.with_name(f".{out.name}.partial")
    options = {"memory_limit": memory, "threads": 2, "temp_directory": str(out.parent / f".{out.name}.spill")}
    with duckdb.connect(config=options) as link:
        for kind, paths in files.items():
            _load(link, kind, paths)
        _deleted(link, folder)
        link.execute(_KEPT.format(age=_age_band()))
        name = "coalesce(nullif(trim(prod_ai), ''), drugname)" if ingredient else "drugname"
        link.execute(
            f"""COPY (
                SELECT kept.report, upper(trim(drug.name)) AS product, upper(trim(reac.pt)) AS event, sex, age, year
                FROM kept
                LEFT JOIN (SELECT DISTINCT primaryid, {name} AS name FROM drug
                           WHERE role_cod IN ({_quoted(roles)})) drug USING (primaryid)
                LEFT JOIN (SELECT DISTINCT primaryid, pt FROM reac) reac USING (primaryid)
                ORDER BY ALL
            ) TO '{_sql(scratch)}' (FORMAT parquet, ROW_GROUP_SIZE 500000)"""
        )
        versions, cases, deleted = _one(
            link,
            "SELECT count(*), (SELECT count(*) FROM kept), "
            "count(*) FILTER (caseid IN (SELECT caseid FROM deleted)) FROM demo",
        )
        broken = _one(link, "SELECT count(DISTINCT (file_id, line)) FROM reject_errors")[0]
    scratch.replace(out)
    return Faers(out, versions, cases, versions - cases - deleted, deleted, broken)


_KEPT = """
CREATE TABLE kept AS
SELECT primaryid, try_cast(caseid AS BIGINT) AS report, nullif(sex, '') AS sex, {age} AS age,
       substr(coalesce(nullif(init_fda_dt, ''), fda_dt), 1, 4) AS year
FROM demo
WHERE try_cast(caseid AS BIGINT) IS NOT NULL AND caseid NOT IN (SELECT caseid FROM deleted)
QUALIFY row_number() OVER (
    PARTITION BY caseid ORDER BY fda_dt DESC NULLS LAST, try_cast(primaryid AS BIGINT) DESC NULLS LAST) = 1
"""


def _files(folder: Path, kind: str) -> list[Path]:
    wanted = re.compile(rf"{kind}\d\dQ[1-4]\.txt", re.IGNORECASE)
    found = sorted(path for path in folder.rglob("*") if wanted.fullmatch(path.name))
    if not found:
        raise TrialOpsError(
            f"There is no {kind} file of FAERS",
            where=folder.name,
            fix=f"Unpack the quarter's ASCII archive there; the file is called {kind}24Q1.txt or the like.",
        )
    for path in found:
        with path.open("rb") as file:
            header = file.readline(1 << 16).decode("latin-1").strip().lower().split("$")
        missing = [name for name in NEEDED[kind] if name not in header]
        if missing:
            raise TrialOpsError(
                f"A FAERS file lacks {', '.join(missing)}",
                where=path.name,
                fix="Files before 2012Q4 (with ISR numbers) have another layout and are not read.",
            )
    return found


def _load(link: duckdb.DuckDBPyConnection, kind: str, paths: Sequence[Path]) -> None:
    # A quote in a verbatim name is a character like any other; lines that do not fit are kept account of.
    optional = ("prod_ai",) if kind == "DRUG" else ()
    columns = ", ".join(f"{name} VARCHAR" for name in (*NEEDED[kind], *optional))
    link.execute(f"CREATE TEMP TABLE {kind.lower()} ({columns})")
    for path in paths:
        with path.open("rb") as file:
            header = file.readline(1 << 16).decode("latin-1").strip().lower().split("$")
        names = ", ".join(name for name in (*NEEDED[kind], *optional) if name in header)
        link.execute(
            f"INSERT INTO {kind.lower()} BY NAME SELECT {names} FROM read_csv('{_sql(path)}', delim='$', quote='', "
            "escape='', header=true, all_varchar=true, normalize_names=true, encoding='latin-1', ignore_errors=true, "
            "store_rejects=true, max_line_size=1000000)"
        )


def _deleted(link: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Case ids from all lists of deleted cases below the folder: files with DELE in their name."""
    cases = {
        line.strip()
        for path in sorted(folder.rglob("*.txt"))
        if "DELE" in path.name.upper()
        for line in path.read_text(encoding="latin-1").splitlines()
        if line.strip().isdigit()
    }
    link.execute("CREATE TABLE deleted (caseid VARCHAR)")
    if cases:
        import polars as pl

        listed = pl.DataFrame({"caseid": sorted(cases)}).to_arrow()
        link.register("listed", listed)
        link.execute("INSERT INTO deleted SELECT caseid FROM listed")


def _age_band() -> str:
    years = " ".join(f"WHEN '{unit}' THEN {factor!r}" for unit, factor in _YEARS.items())
    value = f"try_cast(age AS DOUBLE) * (CASE upper(age_cod) {years} END)"
    bands = " ".join(f"WHEN {value} < {top} THEN '{label}'" for top, label in _BANDS)
    return f"(CASE WHEN {value} < 0 THEN NULL {bands} END)"


def _one(link: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    row = link.execute(query).fetchone()
    assert row is not None
    return tuple(int(value) for value in row)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")
