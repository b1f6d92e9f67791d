"""Objects by key: a folder or an S3-compatible bucket behind one small interface.

Run records, validated-version manifests, pages and evidence are objects. Conditional creation (``if_absent``) is
what makes the manifest chain safe when two runs finish at once, so both backends must honour it.
"""

from __future__ import annotations

import os
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

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        """Bytes of one object and the tag of this content, for `replace`; ``KeyError`` when there is none."""
        ...

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        """Write over an object only while it has this tag; False, writing nothing, when it has another or is gone."""
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

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        import obstore
        from obstore.exceptions import NotFoundError

        try:
            found = obstore.get(self._store, key)
            return bytes(found.bytes()), str(found.meta["e_tag"])
        except (NotFoundError, FileNotFoundError):
            raise KeyError(key) from None

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        import obstore
        from obstore.exceptions import NotFoundError, PreconditionError

        try:
            obstore.put(self._store, key, data, mode={"e_tag": tag}, use_multipart=False)
        except (PreconditionError, NotFoundError, FileNotFoundError):
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


class _Folder(_Obstore):
    """A folder: it has no conditional replacement of its own, so writers that replace take turns."""

    def get_tagged(self, key: str) -> tuple[bytes, str]:
        import hashlib

        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def replace(self, key: str, data: bytes, tag: str) -> bool:
        import fcntl
        import os

        try:
            turn = os.open((Path(self.url) / key).parent, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(
                turn, fcntl.LOCK_EX
            )  # of the folder itself: no file to leave behind, given back with the process
            try:
                if self.get_tagged(key)[1] != tag:
                    return False
            except KeyError:
                return False
            return self.put(key, data)
        finally:
            os.close(turn)


def open_store(url: str, *, seconds: float | None = None) -> ObjectStore:
    """Open a folder path, ``file://`` URL or ``s3://bucket/prefix``.

    S3 credentials, region and endpoint come from the usual ``AWS_*`` variables.

    Args:
        url: Where.
        seconds: Limit of one request to S3, which is then not tried again; None: the client's own limits and retries.

    Raises:
        TrialOpsError: For a scheme that is not supported.
    """
    from obstore.store import LocalStore, S3Store

    if url.startswith("s3://"):
        if seconds is None:
            return _Obstore(S3Store.from_url(url), url)
        # Options given here take the place of those of the environment, this one included.
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes", "on")
        limit: dict[str, Any] = {"timeout": f"{seconds:g}s", "connect_timeout": f"{seconds:g}s", "allow_http": plain}
        once: dict[str, Any] = {"max_retries": 0}
        return _Obstore(S3Store.from_url(url, client_options=limit, retry_config=once), url)
    if "://" in url and not url.startswith("file://"):
        raise TrialOpsError(
            f"Object store scheme {url.split('://')[0]}:// is not supported",
            where="TRIALOPS_OBJECTS_URL",
            fix="Use a folder path or s3://bucket/prefix.",
        )
    folder = Path(url.removeprefix("file://")).resolve()
    return _Folder(LocalStore(prefix=str(folder), mkdir=True), str(folder))
