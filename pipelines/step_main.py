"""The process of a step here: KFP's executor, and an end that does not take the interpreter apart.

Python clears every module before a process ends. With MLflow, Ray and polars loaded that is 0.6 s, in which nothing
happens that the end of the process does not do. What has to happen is done here: threads are waited for, what
registered for the end runs, databases are closed, output is flushed. A step that fails ends as Python ends it.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading


def main() -> None:
    """Run the component that the arguments name (`kfp.dsl.executor_main`), then end the process."""
    from kfp.dsl.executor_main import executor_main

    executor_main()
    leave()


def leave() -> None:
    """End the process with exit code 0, without clearing what its memory holds."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    database = sys.modules.get("trialops.stores.database")
    if database is not None:
        # Else SQLite's write-ahead log would lie beside the file until somebody opens it.
        database.close()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
