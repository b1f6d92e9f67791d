"""The OMOP standardized vocabularies, from an Athena download that the user supplies.

The download's licence is the user's: nothing of it ships with this project. Loading checks the files, keeps them as
Parquet beside a record with their digest, and mapping reads only the rows that the codes at hand need.

Without a download there are the few concepts that the model fixes (`omop_facts.yaml`); every other code becomes
concept 0 and is counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.standards import cdm
from trialops.standards.omop_facts import built_in_concepts

if TYPE_CHECKING:
    import datetime as dt

    import polars as pl

REQUIRED = (
    "concept",
    "concept_relationship",
    "concept_ancestor",
    "vocabulary",
    "domain",
    "concept_class",
    "relationship",
)
OPTIONAL = ("concept_synonym", "drug_strength")
_RECORD = "vocabulary.json"


@dataclass(frozen=True)
class Vocabulary:
    """Concepts and their relations.

    Attributes:
        version: As the download states it; "none" without one.
        digest: SHA-256 over the files; of the built-in facts without a download.
        at: Day on which mappings must be valid.
        folder: Parquet files, one a table; None without a download.
    """

    version: str
    digest: str
    at: dt.date
    folder: Path | None = None

    def table(self, name: str) -> pl.LazyFrame:
        """One vocabulary table; concepts that the model fixes are always among the concepts."""
        import polars as pl

        fixed = built_in_concepts() if name == "concept" else cdm.empty(name)
        path = self.folder / f"{name}.parquet" if self.folder is not None else None
        if path is None or not path.exists():
            return fixed.lazy()
        loaded = pl.scan_parquet(path)
        if name != "concept":
            return loaded
        return pl.concat([loaded, fixed.lazy().join(loaded, on="concept_id", how="anti")])

    def concepts(self, ids: pl.Series) -> pl.DataFrame:
        """Rows of the concept table for these ids."""
        wanted = ids.drop_nulls().unique().cast(cdm.schema("concept")["concept_id"]).alias("concept_id").to_frame()
        return self.table("concept").join(wanted.lazy(), on="concept_id", how="semi").collect()

    def resolve(self, codes: pl.DataFrame) -> pl.DataFrame:
        """Standard concepts of source codes, by 'Maps to'.

        A target counts when it is standard and not invalid, and the relation is valid on :attr:`at`. A code may map
        to several concepts; each is a row. Without any the row has concept_id 0.

        Args:
            codes: Columns vocabulary_id, concept_code.

        Returns:
            vocabulary_id, concept_code, source_concept_id (0 when unknown), concept_id, domain_id (of the standard
            concept, else null), value_concept_id (by 'Maps to value', else null), n (0, 1, ... per code).
        """
        import polars as pl

        key = ["vocabulary_id", "concept_code"]
        wanted = codes.select(key).drop_nulls().unique()
        known = (
            self.table("concept")
            .join(wanted.lazy(), on=key, how="semi")
            # A code may have been used twice; the valid one counts, then the newest.
            .sort("invalid_reason", "concept_id", descending=[False, True], nulls_last=False)
            .unique(key, keep="first", maintain_order=True)
            .select(*key, "standard_concept", "invalid_reason", "domain_id", source_concept_id="concept_id")
            .collect()
        )
        relations = (
            self.table("concept_relationship")
            .filter(
                pl.col("relationship_id").is_in(["Maps to", "Maps to value"]),
                pl.col("invalid_reason").is_null(),
                pl.col("valid_start_date") <= self.at,
                pl.col("valid_end_date") >= self.at,
            )
            .join(known.lazy(), left_on="concept_id_1", right_on="source_concept_id", how="semi")
            .select("concept_id_1", "concept_id_2", "relationship_id")
            .unique()
            .collect()
        )
        targets = (
            self.concepts(relations["concept_id_2"])
            .filter(pl.col("standard_concept") == "S", pl.col("invalid_reason").is_null())
            .select(concept_id_2="concept_id", target_domain="domain_id")
        )
        relations = relations.join(targets, on="concept_id_2")
        itself = known.filter(pl.col("standard_concept") == "S", pl.col("invalid_reason").is_null()).select(
            concept_id_1="source_concept_id", concept_id_2="source_concept_id", target_domain="domain_id"
        )
        maps = relations.filter(pl.col("relationship_id") == "Maps to").drop("relationship_id")
        maps = pl.concat([maps, itself.join(maps, on="concept_id_1", how="anti")])
        values = (
            relations.filter(pl.col("relationship_id") == "Maps to value")
            .group_by("concept_id_1")
            .agg(value_concept_id=pl.col("concept_id_2").min())
        )
        return (
            wanted.join(known.select(*key, "source_concept_id"), on=key, how="left")
            .join(maps, left_on="source_concept_id", right_on="concept_id_1", how="left")
            .join(values, left_on="source_concept_id", right_on="concept_id_1", how="left")
            .select(
                *key,
                pl.col("source_concept_id").fill_null(0),
                concept_id=pl.col("concept_id_2").fill_null(0),
                domain_id="target_domain",
                value_concept_id="value_concept_id",
            )
            .sort(*key, "concept_id")
            .with_columns(n=pl.int_range(pl.len()).over(key))
        )

    def related(self, ids: pl.Series) -> dict[str, pl.DataFrame]:
        """The vocabulary tables cut to some concepts and what those refer to, so that every foreign key holds."""
        import polars as pl

        concepts = self.concepts(pl.concat([ids.cast(pl.Int64), pl.Series([0])]))
        made: dict[str, pl.DataFrame] = {}
        for name, column in (("domain", "domain"), ("vocabulary", "vocabulary"), ("concept_class", "concept_class")):
            found = self.table(name).filter(pl.col(f"{column}_id").is_in(concepts[f"{column}_id"].unique())).collect()
            absent = concepts.select(f"{column}_id").unique().join(found, on=f"{column}_id", how="anti")
            stated = absent.with_columns(
                pl.col(f"{column}_id").alias(f"{column}_name"),
                pl.lit(0, pl.Int64).alias(f"{column}_concept_id"),
            )
            rows = pl.concat([found.lazy().collect(), cdm.conform(name, stated)])
            # What describes a domain is itself a concept; one step further would never end.
            rows = rows.with_columns(
                pl.when(pl.col(f"{column}_concept_id").is_in(concepts["concept_id"].implode()))
                .then(f"{column}_concept_id")
                .otherwise(0)
                .alias(f"{column}_concept_id")
            )
            made[name] = cdm.conform(name, rows)
        return {"concept": cdm.conform("concept", concepts), **made}


def none() -> Vocabulary:
    """What there is without a download: the concepts that the model fixes."""
    import datetime as dt

    rows = built_in_concepts().write_csv().encode()
    return Vocabulary("none", hashlib.sha256(rows).hexdigest(), dt.date(2000, 1, 1))


def load(source: Path, store: Path, *, progress: Callable[[str, float | None], None] | None = None) -> Vocabulary:
    """Read an Athena download, check it and keep it as Parquet; the same download again is not read twice.

    Args:
        source: Folder with CONCEPT.csv and the other tab-separated files.
        store: Folder for the Parquet files; below it one folder per digest.
        progress: Told what is read and how far.

    Raises:
        TrialOpsError: When a file is missing or is not what Athena writes, with file, column and count.
    """
    files = _files(source)
    digest = hashlib.sha256("".join(f"{n}={_sha256(p)}\n" for n, p in sorted(files.items())).encode()).hexdigest()
    folder = store / digest[:16]
    if not (folder / _RECORD).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for position, (name, path) in enumerate(files.items()):
            if progress is not None:
                progress(f"reading {path.name}", position / len(files))
            _read(name, path).sink_parquet(folder / f"{name}.parquet")
        record = _check(folder)
        (folder / _RECORD).write_text(json.dumps({**record, "digest": digest}, indent=1, sort_keys=True) + "\n")
    return open_vocabulary(folder)


def open_vocabulary(folder: Path) -> Vocabulary:
    """A vocabulary that :func:`load` has kept."""
    import datetime as dt

    try:
        record = json.loads((folder / _RECORD).read_text())
        return Vocabulary(record["version"], record["digest"], dt.date.fromisoformat(record["at"]), folder)
    except (OSError, ValueError, KeyError):
        raise TrialOpsError(
            "The folder holds no loaded vocabulary", where=str(folder), fix="Load the Athena download again."
        ) from None


def _files(source: Path) -> Mapping[str, Path]:
    present = {path.stem.lower(): path for path in source.glob("*.csv")} if source.is_dir() else {}
    missing = [name.upper() + ".csv" for name in REQUIRED if name not in present]
    if missing:
        raise TrialOpsError(
            f"The vocabulary download lacks {', '.join(missing)}",
            where=str(source),
            fix="Unpack the whole download from athena.ohdsi.org into this folder (and run cpt4 if it asks to).",
        )
    return {name: present[name] for name in (*REQUIRED, *OPTIONAL) if name in present}


def _read(name: str, path: Path) -> pl.LazyFrame:
    """One file as a typed frame. Athena writes tabs, no quotes, dates as YYYYMMDD, empty for null."""
    import polars as pl

    header = path.open(encoding="utf-8-sig").readline().rstrip("\r\n").lower().split("\t")
    wanted = cdm.schema(name)
    missing = [column for column in wanted if column not in header]
    if missing:
        raise TrialOpsError(
            f"The file lacks the columns {', '.join(missing)}",
            where=path.name,
            fix="It must be tab-separated, as athena.ohdsi.org writes it; do not open and save it with a spreadsheet.",
        )
    raw = pl.scan_csv(
        path,
        separator="\t",
        quote_char=None,
        has_header=False,
        skip_rows=1,
        schema={column: pl.String() for column in header},
        empty_string_is_null=True,
    )
    columns = []
    for column, kind in wanted.items():
        value = pl.col(column)
        columns.append(value.str.to_date("%Y%m%d", strict=False) if kind == pl.Date else value.cast(kind, strict=False))
    return raw.select(columns)


def _check(folder: Path) -> dict[str, str]:
    """Checks over the Parquet files; returns version and date."""
    import polars as pl

    for name in (*REQUIRED, *OPTIONAL):
        path = folder / f"{name}.parquet"
        if not path.exists():
            continue
        required = [field.name for field in cdm.table(name).fields if field.required]
        # What the model requires Athena fills in every row: an empty one is a damaged line.
        empty = pl.scan_parquet(path).select(pl.col(required).is_null().sum()).collect().row(0, named=True)
        bad = {column: count for column, count in empty.items() if count}
        if bad:
            column, count = next(iter(bad.items()))
            raise TrialOpsError(
                f"{count:,} rows have no usable {column}",
                where=f"{name.upper()}.csv",
                fix="The file is damaged or not as Athena wrote it: download it again.",
            )
    concepts = pl.scan_parquet(folder / "concept.parquet")
    twice = concepts.select(pl.col("concept_id").is_duplicated().sum()).collect().item()
    if twice:
        raise TrialOpsError(f"{twice:,} rows share their concept_id", where="CONCEPT.csv", fix="Download it again.")
    relations = pl.scan_parquet(folder / "concept_relationship.parquet")
    lost = (
        relations.filter(pl.col("relationship_id") == "Maps to")
        .join(concepts.select("concept_id"), left_on="concept_id_2", right_on="concept_id", how="anti")
        .select(pl.len())
        .collect()
        .item()
    )
    if lost:
        raise TrialOpsError(
            f"{lost:,} 'Maps to' relations lead to concepts that are not in CONCEPT.csv",
            where="CONCEPT_RELATIONSHIP.csv",
            fix="Files of different downloads were mixed: unpack one download into an empty folder.",
        )
    whole = pl.scan_parquet(folder / "vocabulary.parquet").filter(pl.col("vocabulary_id") == "None").collect()
    version = str(whole["vocabulary_version"][0] or "unknown") if whole.height else "unknown"
    newest = (
        relations.filter(pl.col("invalid_reason").is_null()).select(pl.col("valid_start_date").max()).collect().item()
    )
    # The day of the download's newest relation: the same download maps the same codes on every day it is used.
    return {"version": version, "at": str(newest)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
