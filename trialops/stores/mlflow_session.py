"""Talking to MLflow: quietly, without telemetry, with its errors turned into ours."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_SQLITE = "sqlite:///"
_LOGGERS = ("mlflow", "alembic")


@contextmanager
def session(uri: str) -> Iterator[None]:
    """A block that uses MLflow.

    Args:
        uri: Tracking URI, named in an error without its password.

    Raises:
        TrialOpsError: MLflow refused or could not be reached.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)  # read when mlflow is first imported
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    del mlflow  # imported first: it sets the level of its own logger
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"mlflow\b.*")
            yield
    except (MlflowException, DatabaseError) as error:
        raise TrialOpsError(
            f"MLflow refused: {str(error).splitlines()[0]}",
            where=re.sub(r"//[^@/]*@", "//", uri),
            fix="check that the tracking server or file can be reached, and the names in the message",
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def open_client(uri: str) -> MlflowClient:
    """A client whose stores are ready; call it inside a session.

    MLflow creates the tables of a new SQLite file on first use, one statement at a time: two processes doing that at
    once break it, and one that is killed leaves a file no later process can use. So it happens under a lock, in
    another file, which takes its place when it is whole.
    """
    from mlflow import MlflowClient

    if uri.startswith(_SQLITE):
        _create(Path(uri[len(_SQLITE) :]))
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(path: Path) -> None:
    """Make the SQLite file of MLflow's tables unless it is there."""
    import fcntl
    import sqlite3
    from contextlib import closing

    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        staged, whole = path.with_name(f".{path.name}.creating"), path.with_name(f".{path.name}.partial")
        for left in (*path.parent.glob(f"{staged.name}*"), *path.parent.glob(f"{whole.name}*")):
            left.unlink()
        client = MlflowClient(tracking_uri=f"{_SQLITE}{staged}", registry_uri=f"{_SQLITE}{staged}")
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
        # A copy: this process keeps connections to the staged file, which must not become the real one's.
        with closing(sqlite3.connect(staged)) as source, closing(sqlite3.connect(whole)) as target:
            source.backup(target)
        whole.replace(path)
        for left in path.parent.glob(f"{staged.name}*"):
            left.unlink()
