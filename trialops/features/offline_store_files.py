"""Parquet files of the offline store: a file or a folder of files, local or on S3, behind one small interface.

A fingerprint tells whether a source is the one something was made from, without reading it: names, sizes, times of
change and a digest of each file's footer locally (the footer holds offsets and statistics of every column, so a
rewrite within one tick of the clock shows), entity tags on S3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Place:
    """Where parquet lies: a file, or a folder whose ``*.parquet`` files are read as one table in order of name.

    Attributes:
        url: Absolute path or ``s3://bucket/key``.
        options: Storage options of object_store (``aws_endpoint_url``, credentials) beside the ``AWS_*`` variables.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether it lies on S3."""
        return self.url.startswith("s3://")

    @property
    def stem(self) -> str:
        """Name without folder and ending."""
        return PurePosixPath(self.url).name.removesuffix(".parquet")

    def beside(self, name: str, location: str | None = None) -> Place:
        """A place in the same folder, or in `location`, where names of other sources do not collide."""
        if location is None:
            return Place(f"{self.url.rstrip('/').rpartition('/')[0]}/{name}", self.options)
        mine = hashlib.sha256(self.url.encode()).hexdigest()[:12]
        base = location if "://" in location else str(Path(location).resolve())
        return Place(f"{base.rstrip('/')}/{mine}-{name.lstrip('.')}", self.options)

    def files(self) -> list[str]:
        """Paths or URLs of the files, in order.

        Raises:
            TrialOpsError: There is none.
        """
        found = self._found()
        if not found:
            raise TrialOpsError(
                "The file of a feature view does not exist.", where=self.url, fix="Compute the features first."
            )
        return found

    def exists(self) -> bool:
        """Whether there is a file."""
        return bool(self._found())

    def _found(self) -> list[str]:
        return _remote_files(self) if self.remote else _local_files(Path(self.url))

    def fingerprint(self) -> str:
        """Digest that changes whenever a file is written, added or removed (hex).

        Raises:
            TrialOpsError: There is no file.
        """
        state = hashlib.sha256()
        for path in self.files():
            about = _remote_state(self, path) if self.remote else _local_state(Path(path))
            state.update(f"{path.rpartition('/')[2]}\n{about}\n".encode())
        return state.hexdigest()

    def scan(self, **how: Any) -> pl.LazyFrame:
        """The rows, lazily; keyword arguments go to `polars.scan_parquet`."""
        import polars as pl

        return pl.scan_parquet(self.files(), storage_options=self._storage, glob=False, **how)

    def metadata(self) -> dict[str, str]:
        """Key-value metadata of the file; empty where there is no readable file."""
        import polars as pl

        try:
            # A crash cannot leave half a file here, but a disk can; what cannot be read is made again.
            return dict(pl.read_parquet_metadata(self.url, storage_options=self._storage))
        except (OSError, pl.exceptions.PolarsError):
            return {}

    def write(self, frame: pl.DataFrame, *, metadata: Mapping[str, str] | None = None, after: str = "") -> bool:
        """Write one file at once: a reader sees the old one or the new one.

        Args:
            frame: Rows.
            metadata: Key-value metadata.
            after: On S3, the entity tag the object must still have; "" for any.

        Returns:
            False, with nothing written, when the object is another one by now.

        Raises:
            TrialOpsError: The place cannot be written.
        """
        how: dict[str, Any] = {"compression": "lz4", "metadata": dict(metadata or {})}
        try:
            if self.remote:
                return _put(self, frame, how, after)
            path = Path(self.url)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name.lstrip('.')}.partial")
            frame.write_parquet(partial, **how)
            partial.replace(path)
        except OSError as error:
            raise TrialOpsError(
                f"The file cannot be written ({type(error).__name__}).",
                where=self.url,
                fix="Give access to the folder, or name another one as prepared_location of the offline store.",
            ) from None
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time on this machine; S3 writes are whole objects and need no lock.

        Raises:
            TrialOpsError: The folder cannot be written.
        """
        if self.remote:
            yield
            return
        import fcntl

        path = Path(self.url)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.with_name(f".{path.name.lstrip('.')}.lock").open("w")
        except OSError as error:
            raise TrialOpsError(
                f"The folder cannot be written ({type(error).__name__}).",
                where=str(path.parent),
                fix="Give access to the folder, or name another one as prepared_location of the offline store.",
            ) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def entity_tag(self) -> str:
        """Entity tag of an S3 object; "" for a local file."""
        return str(_head(self, self.url)["e_tag"] or "") if self.remote else ""

    @property
    def _storage(self) -> dict[str, str] | None:
        return dict(self.options) if self.remote and self.options else None


def _local_files(path: Path) -> list[str]:
    if not path.is_dir():
        return [str(path)] if path.is_file() else []
    return sorted(str(p) for p in path.rglob("*.parquet") if not p.name.startswith((".", "_")) and p.is_file())


def _local_state(path: Path) -> str:
    about = path.stat()
    with path.open("rb") as file:
        file.seek(max(about.st_size - 8, 0))
        tail = file.read()
        length = int.from_bytes(tail[:4], "little") if tail[4:] == _MAGIC else 0
        file.seek(max(about.st_size - 8 - length, 0))
        footer = hashlib.sha256(file.read(length)).hexdigest()
    return f"{about.st_size} {about.st_mtime_ns} {about.st_ctime_ns} {footer}"


def _bucket(place: Place) -> Any:
    from obstore.store import S3Store

    options: Any = {name: value for name, value in place.options.items() if name != "aws_allow_http"}
    client: Any = {"allow_http": True} if "aws_allow_http" in place.options else None
    name = place.url.removeprefix("s3://").partition("/")[0]
    return S3Store.from_url(f"s3://{name}", config=options, client_options=client)


def _key(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[2]


def _head(place: Place, url: str) -> Any:
    import obstore

    return obstore.head(_bucket(place), _key(url))


def _remote_files(place: Place) -> list[str]:
    import obstore
    from obstore.exceptions import NotFoundError

    try:
        _head(place, place.url)
    except (NotFoundError, FileNotFoundError):
        prefix = _key(place.url).rstrip("/")
        bucket = place.url.removeprefix("s3://").partition("/")[0]
        keys = [str(item["path"]) for batch in obstore.list(_bucket(place), prefix) for item in batch]
        kept = [k for k in keys if k.endswith(".parquet") and not k.rpartition("/")[2].startswith((".", "_"))]
        return sorted(f"s3://{bucket}/{k}" for k in kept)
    return [place.url]


def _remote_state(place: Place, url: str) -> str:
    about = _head(place, url)
    return f"{about['size']} {about['e_tag']} {about['last_modified'].isoformat()}"


def _put(place: Place, frame: pl.DataFrame, how: dict[str, Any], after: str) -> bool:
    import io

    import obstore
    from obstore.exceptions import PreconditionError

    buffer = io.BytesIO()
    frame.write_parquet(buffer, **how)
    mode: Any = {"e_tag": after} if after else "overwrite"
    try:
        obstore.put(_bucket(place), _key(place.url), buffer.getvalue(), mode=mode, use_multipart=not after)
    except PreconditionError:
        return False
    return True
