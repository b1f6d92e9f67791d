"""The lake: versioned Delta tables behind a narrow interface.

* Writing the same content twice gives the same version: a step that runs again leaves what one run leaves.
* A version becomes visible with its commit or not at all.
* Every read names one exact version and is checked against the digest it was written with.
* A snapshot that passed its gate is marked validated in a hash-chained manifest; falling back means reading at the
  versions that manifest names, never restoring over newer data.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.settings import RETENTION_FLOOR_DAYS
from trialops.stores.chain_log import ChainLog, IntegrityError, Link
from trialops.stores.digest import table_digest
from trialops.stores.objects import ObjectStore
from trialops.stores.refs import Snapshot, TableRef

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable

__all__ = ["IntegrityError", "Lake", "Manifest", "data_files"]

_NAME = re.compile(r"^[a-z0-9_]+(/[a-z0-9_]+)+$")
_ATTEMPTS = 12
_FILE_BYTES = 1 << 40  # one data file per version: row order is part of the content


@dataclass(frozen=True)
class Manifest:
    """One link in the chain of validated versions of a data set.

    Attributes:
        sequence: 1, 2, 3, ... without gaps.
        snapshot: The exact versions that passed.
        evidence: The gate's numbers and policy.
        previous: SHA-256 of the manifest before it; 64 zeros for the first.
        digest: SHA-256 of this manifest's content.
    """

    dataset: str
    sequence: int
    at: str
    run_id: str
    snapshot: Snapshot
    evidence: Mapping[str, Any]
    previous: str
    digest: str


class Lake:
    """Versioned tables below one root.

    Args:
        url: Folder or ``s3://bucket/prefix``.
        objects: Where the manifests of validated versions are kept.
        retention_days: How long a version must stay readable; written into every table, for other writers too.
    """

    def __init__(self, url: str, objects: ObjectStore, *, retention_days: int = RETENTION_FLOOR_DAYS) -> None:
        self.url = url.rstrip("/")
        self.objects = objects
        self.retention_days = retention_days

    # -- tables ------------------------------------------------------------------------------------------------

    def write(self, table: str, frame: pl.DataFrame, *, run_id: str = "", step: str = "") -> TableRef:
        """Write one full version of a table.

        Args:
            table: ``zone/name`` in lower case.
            frame: The rows, in the order they are to be read back.
            run_id: Kept in the commit.
            step: Kept in the commit.

        Returns:
            The new version; or, when an earlier version has exactly this content, that one.
        """
        import polars as pl
        from deltalake import CommitProperties, PostCommitHookProperties, write_deltalake
        from deltalake.exceptions import CommitFailedError

        frame = frame.with_columns(pl.col(pl.Null).cast(pl.String))  # Delta has no type for a column of nothing
        data = frame.to_arrow(compat_level=_compat()).combine_chunks()
        digest = table_digest(data)
        uri = self._uri(table)
        if "://" not in uri:
            Path(uri).mkdir(parents=True, exist_ok=True)
        note = {
            "trialops.digest": digest,
            "trialops.rows": str(data.num_rows),
            "run_id": run_id,
            "step": step,
        }
        for attempt in range(_ATTEMPTS):
            known = self._version_with(table, digest)
            if known is not None:
                return TableRef(table, known, data.num_rows, digest)
            if attempt:  # another run wrote the table at the same moment
                time.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
            with contextlib.suppress(CommitFailedError):
                write_deltalake(
                    uri,
                    data,
                    mode="overwrite",
                    schema_mode="overwrite",
                    target_file_size=_FILE_BYTES,
                    commit_properties=CommitProperties(custom_metadata=note),
                    configuration={
                        # Delta forgets old versions after 30 days unless told otherwise; here they are the audit
                        # trail of data.
                        "delta.enableExpiredLogCleanup": "false",
                        "delta.logRetentionDuration": f"interval {self.retention_days} days",
                        "delta.deletedFileRetentionDuration": f"interval {self.retention_days} days",
                    },
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )
        known = self._version_with(table, digest)
        if known is None:
            raise TrialOpsError(
                "A table is being written by too many runs at once", where=table, fix="Run the step again."
            )
        return TableRef(table, known, data.num_rows, digest)

    def read(self, ref: TableRef, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read one exact version.

        With ``columns`` only those are read and the digest is not checked; without, it is.

        Raises:
            IntegrityError: When the version is missing or its content is not what was written.
        """
        import polars as pl
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            opened = self._open(ref.table, ref.version)
            files = data_files(opened)
            lazy = pl.scan_parquet(files, glob=False) if files else _empty(opened).lazy()
            frame = (lazy.select(columns) if columns is not None else lazy).collect()
        except (DeltaError, TableNotFoundError, OSError, pl.exceptions.PolarsError) as error:
            raise IntegrityError(
                f"A table version cannot be read ({type(error).__name__})",
                where=f"{ref.table}@{ref.version}",
                fix="Use the last validated version, and check the store for missing or damaged files.",
            ) from None
        if columns is None and table_digest(frame.to_arrow(compat_level=_compat())) != ref.digest:
            raise IntegrityError(
                "A table's content is not what was written",
                where=f"{ref.table}@{ref.version}",
                fix="Use the last validated version; find out what changed the files.",
            )
        return frame

    def scan(self, ref: TableRef) -> pl.LazyFrame:
        """One exact version, lazily: for a reader that needs few of many rows. The digest is not checked.

        Raises:
            IntegrityError: When the version is missing.
        """
        import polars as pl
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            opened = self._open(ref.table, ref.version)
        except (DeltaError, TableNotFoundError, OSError) as error:
            raise IntegrityError(
                f"A table version cannot be read ({type(error).__name__})", where=f"{ref.table}@{ref.version}"
            ) from None
        files = data_files(opened)
        return pl.scan_parquet(files, glob=False) if files else _empty(opened).lazy()

    def schema(self, table: str, version: int) -> dict[str, str]:
        """Columns of one version and their types, without reading rows; empty where the version is gone."""
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            opened = self._open(table, version)
        except (DeltaError, TableNotFoundError, OSError):
            return {}
        return {field.name: str(getattr(field.type, "type", field.type)) for field in opened.schema().fields}

    def versions(self, table: str) -> list[dict[str, Any]]:
        """Commits of a table, newest first: version, time (UTC), digest, rows, run and step."""
        if not self._exists(table):
            return []
        return [
            {
                "version": int(commit["version"]),
                "at": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC).isoformat(),
                "digest": commit.get("trialops.digest", ""),
                "rows": int(commit.get("trialops.rows", 0) or 0),
                "run_id": commit.get("run_id", ""),
                "step": commit.get("step", ""),
            }
            for commit in self._history(table)
        ]

    def _history(self, table: str) -> list[dict[str, Any]]:
        """Commits, newest first, each with its version.

        delta-rs numbers them from the version that was open, though it may list one that was committed since; then all
        numbers are one too low. No commit is ever cleared away here, so their number tells.
        """
        for _ in range(_ATTEMPTS):
            opened = self._open(table)
            commits = opened.history()
            if not commits or len(commits) == int(commits[0]["version"]) + 1:
                return commits
        raise TrialOpsError("A table is being written by too many runs at once", where=table, fix="Run the step again.")

    def opened(self, table: str, version: int | None = None) -> DeltaTable:
        """A table as delta-rs sees it, at a version or the newest: for its files and commits, never for its rows.

        Raises:
            IntegrityError: It is not there, or its log cannot be read.
        """
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return self._open(table, version)
        except (DeltaError, TableNotFoundError, OSError) as error:
            raise IntegrityError(
                f"A table cannot be opened ({type(error).__name__})",
                where=table if version is None else f"{table}@{version}",
                fix="Check the store for a missing or damaged transaction log.",
            ) from None

    def tables(self) -> list[str]:
        """Full names of all tables, in order."""
        from trialops.stores.objects import open_store

        if "://" not in self.url and not os.path.isdir(self.url):
            return []
        logs = (key.partition("/_delta_log/") for key in open_store(self.url).list(""))
        return sorted({table for table, found, _ in logs if found and _NAME.match(table)})

    # -- validated versions ------------------------------------------------------------------------------------

    def mark_validated(
        self, dataset: str, snapshot: Snapshot, evidence: Mapping[str, Any], *, run_id: str = ""
    ) -> Manifest:
        """Append a manifest to the data set's chain; the newest one is returned as it is when it names this content.

        Two writers at once cannot take the same place: the object is created only if absent, and the loser tries
        again behind the winner.
        """
        body = {
            "dataset": dataset,
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "run_id": run_id,
            "snapshot": snapshot.as_dict(),
            "evidence": dict(evidence),
        }

        def newest_is_this(chain: Iterable[Link]) -> Link | None:
            last = list(chain)[-1:]
            return last[0] if last and _manifest(last[0]).snapshot.digest == snapshot.digest else None

        return _manifest(self._chain(dataset).append(body, unless=newest_is_this))

    def manifests(self, dataset: str) -> list[Manifest]:
        """The chain of a data set, oldest first.

        Raises:
            IntegrityError: Names the first manifest that was altered, removed or put out of order.
        """
        return [_manifest(link) for link in self._chain(dataset).links()]

    def as_of(self, dataset: str, at: datetime) -> Manifest | None:
        """The manifest that was the newest at a moment (system time); None before the first.

        Args:
            dataset: Name of the chain.
            at: A moment with its time zone.
        """
        earlier = [link for link in self.manifests(dataset) if datetime.fromisoformat(link.at) <= at]
        return earlier[-1] if earlier else None

    def last_validated(self, dataset: str, *, skipped: list[str] | None = None) -> Manifest | None:
        """The newest validated snapshot whose tables still verify; None when there is none.

        Args:
            dataset: Name of the chain.
            skipped: Takes the tables of newer snapshots that do not verify, for an alert.
        """
        for link in reversed(self.manifests(dataset)):
            try:
                for ref in link.snapshot.tables.values():
                    self.read(ref)
            except IntegrityError as error:
                if skipped is not None:
                    skipped.append(error.where)
                continue
            return link
        return None

    # -- inside ------------------------------------------------------------------------------------------------

    def _chain(self, dataset: str) -> ChainLog:
        return ChainLog(self.objects, f"validated/{dataset}", "validated versions")

    def _uri(self, table: str) -> str:
        if not _NAME.match(table):
            raise TrialOpsError("A table name is zone/name in lower case letters, digits and _", where=table)
        return f"{self.url}/{table}"

    def _exists(self, table: str) -> bool:
        from deltalake import DeltaTable

        uri = self._uri(table)
        if "://" not in uri and not os.path.isdir(f"{uri}/_delta_log"):
            return False
        return bool(DeltaTable.is_deltatable(uri))

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable

        return DeltaTable(self._uri(table), version=version)

    def _version_with(self, table: str, digest: str) -> int | None:
        """The version with this content; one whose files were disposed of counts no more."""
        for commit in self.versions(table):
            number = int(commit["version"])
            if commit["digest"] == digest and not self.disposed(table, number) and self._whole(table, number, commit):
                return number
        return None

    def _whole(self, table: str, version: int, commit: Mapping[str, Any]) -> bool:
        """Whether a version holds the rows it says.

        Two writers that both make a table's first version are not always refused: the later one then keeps the files of
        the earlier one beside its own.
        """
        actions = self._open(table, version).get_add_actions(flatten=True)
        return sum(filter(None, actions.column("num_records").to_pylist())) == int(commit["rows"])

    # -- disposal ----------------------------------------------------------------------------------------------

    def disposed(self, table: str, version: int) -> bool:
        """Whether the rows of a version were deleted for good, by retention or erasure."""
        return self.objects.exists(disposal_key(table, version))

    def dispose(self, table: str, version: int, note: Mapping[str, Any]) -> int:
        """Delete the rows of one version for good; its commit stays, with its digest, so the history can be told.

        Files that another version needs are kept. Reading the version afterwards is an IntegrityError.

        Args:
            table: Full name.
            version: The version.
            note: Why, by whom and under which certificate; kept beside the objects.

        Returns:
            Files deleted.
        """
        return self.dispose_all(table, [version], note)

    def dispose_all(self, table: str, versions: Sequence[int], note: Mapping[str, Any]) -> int:
        """Delete the rows of several versions of a table; see :meth:`dispose`.

        What is deleted is noted first. A process that dies in between leaves files that no version needs, and calling
        it again deletes them.
        """
        from trialops.stores.objects import open_store

        text = json.dumps(dict(note), sort_keys=True).encode()
        for version in versions:
            self.objects.put(disposal_key(table, version), text, if_absent=True)
        needed = {
            _file_name(uri)
            for commit in self.versions(table)
            if not self.disposed(table, commit["version"])
            for uri in self._open(table, commit["version"]).file_uris()
        }
        gone = {_file_name(uri) for v in versions for uri in self._open(table, v).file_uris()} - needed
        files = open_store(self.url)
        there = [f"{table}/{name}" for name in sorted(gone) if files.exists(f"{table}/{name}")]
        for name in there:
            files.delete(name)
        return len(there)


def disposal_key(table: str, version: int) -> str:
    """Key of the note that a version's rows were deleted."""
    return f"disposed/{table}/{version:012d}.json"


def _file_name(uri: str) -> str:
    from urllib.parse import unquote

    name = uri.rsplit("/", 1)[-1]
    return name if "://" in uri else unquote(name)


def data_files(table: DeltaTable) -> list[str]:
    """The data files of an open table version, in write order.

    All reads go through these files and a native Parquet reader. delta-rs's own hand-over to PyArrow drives a
    Python file system from Arrow's threads, which can abort the interpreter at exit (apache/arrow#34314): a step
    would fail after it had succeeded.
    """
    from urllib.parse import unquote

    # delta-rs writes a folder with a blank or an accent in its name as it stands in a URL; a reader of files does not.
    uris = [uri if "://" in uri else unquote(uri) for uri in table.file_uris()]
    return sorted(uris, key=lambda uri: uri.rsplit("/", 1)[-1])


def _empty(table: DeltaTable) -> pl.DataFrame:
    import polars as pl
    import pyarrow as pa

    frame = pl.from_arrow(pa.schema(table.schema()).empty_table())
    assert isinstance(frame, pl.DataFrame)
    return frame


def _compat() -> Any:
    import polars as pl

    return pl.CompatLevel.oldest()


def _manifest(link: Link) -> Manifest:
    body = link.body
    try:
        return Manifest(
            dataset=body["dataset"],
            sequence=link.sequence,
            at=body["at"],
            run_id=body["run_id"],
            snapshot=Snapshot.from_dict(body["snapshot"]),
            evidence=body["evidence"],
            previous=body["previous"],
            digest=link.digest,
        )
    except (KeyError, TypeError, TrialOpsError):
        raise IntegrityError(
            "A manifest of validated versions cannot be read", where=f"manifest {link.sequence}"
        ) from None
