"""A step that says a lot before it says why it failed."""

from kfp import dsl

from components.base import component


@component
def talk(lines: int):
    """Print, report, exit: the report is the last thing in the pipe when the process is gone."""
    import json
    import os
    import sys

    error = {"what": "The table is empty", "where": "clean/lb", "fix": "Deliver rows."}
    text = ".\n" * lines  # short lines: as many as possible are still unread when the process ends
    text += "::trialops:: " + json.dumps({"event": "fail", "step": "talk", "error": error}) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    os._exit(1)


@dsl.pipeline(name="wordy")
def wordy(lines: int = 10):
    """One step."""
    talk(lines=lines)
