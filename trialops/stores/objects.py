"""Objects by key: a folder or an S3-compatible bucket behind one small interface.

Run records, validated-version manifests, pages and evidence are objects. Conditional creation (``if_absent``) is
what makes the manifest chain safe when two runs finish at once, so both backends must honour it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from trialops.errors import TrialOpsError


class ObjectStore(Protocol):
    """The operations a step may use on objects."""

    url: str

    def get(self, key: str) -> bytes:
        """Bytes of one object; ``KeyError`` when there is none."""
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write one object at once; with ``if_absent`` return False, writing nothing, when the key is taken."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below ``prefix/``, in order."""
        ...

    def listing(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        """Key, bytes and time of writing (UTC) of what is below ``prefix/``, in order of the keys."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the key is taken."""
        ...

    def delete(self, key: str) -> None:
        """Remove one object; no error when there is none."""
        ...

    def written(self, key: str) -> datetime | None:
        """When an object was written, UTC; None when there is none."""
        ...


class _Obstore:
    """Folder and S3 alike, by obstore."""

    def __init__(self, store: Any, url: str) -> None:
        self._store = store
        self.url = url

    def get(self, key: str) -> bytes:
        import obstore
        from obstore.exceptions import NotFoundError

        try:
            return bytes(obstore.get(self._store, key).bytes())
        except (NotFoundError, FileNotFoundError):
            raise KeyError(key) from None

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            obstore.put(self._store, key, data, mode="create" if if_absent else "overwrite", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        import obstore

        keys = [str(item["path"]) for batch in obstore.list(self._store, prefix or None) for item in batch]
        return iter(sorted(keys))

    def listing(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        import obstore

        found = [
            (str(item["path"]), int(item["size"]), item["last_modified"])
            for batch in obstore.list(self._store, prefix or None)
            for item in batch
        ]
        return iter(sorted(found))

    def exists(self, key: str) -> bool:
        import obstore
        from obstore.exceptions import NotFoundError

        try:
            obstore.head(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def delete(self, key: str) -> None:
        import obstore
        from obstore.exceptions import NotFoundError

        try:
            obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return

    def written(self, key: str) -> datetime | None:
        import obstore
        from obstore.exceptions import NotFoundError

        try:
            found: datetime = obstore.head(self._store, key)["last_modified"]
        except (NotFoundError, FileNotFoundError):
            return None
        return found


def open_store(url: str) -> ObjectStore:
    """Open a folder path, ``file://`` URL or ``s3://bucket/prefix``.

    S3 credentials, region and endpoint come from the usual ``AWS_*`` variables.

    Raises:
        TrialOpsError: For a scheme that is not supported.
    """
    from obstore.store import LocalStore, S3Store

    if url.startswith("s3://"):
        return _Obstore(S3Store.from_url(url), url)
    if "://" in url and not url.startswith("file://"):
        raise TrialOpsError(
            f"Object store scheme {url.split('://')[0]}:// is not supported",
            where="TRIALOPS_OBJECTS_URL",
            fix="Use a folder path or s3://bucket/prefix.",
        )
    folder = Path(url.removeprefix("file://")).resolve()
    return _Obstore(LocalStore(prefix=str(folder), mkdir=True), str(folder))
