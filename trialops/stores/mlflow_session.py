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

    MLflow creates the tables of a new SQLite file on first use, and two processes doing that at once break
    it, so the first use happens under a lock on a file beside it.
    """
    from mlflow import MlflowClient

    if not uri.startswith(_SQLITE):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    import fcntl

    path = Path(uri[len(_SQLITE) :])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    return client
