"""Small pipelines that the runner's tests run for real: each step leaves a mark in the folder it is given."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from components.base import component, harden


@component
def make(marks: str, rows: int, made: Output[Dataset], facts: Output[Metrics]) -> int:
    """Write a table and its digest; metrics are metadata alone."""
    import hashlib
    import json
    import os
    import time

    with open(os.path.join(marks, "make"), "a") as file:
        file.write(os.environ["TRIALOPS_RUN_ID"] + "\n")
    print("::trialops:: " + json.dumps({"event": "start", "step": "make"}), flush=True)
    text = "\n".join(str(number) for number in range(rows))
    with open(made.path, "w") as file:
        file.write(text)
    made.metadata["digest"] = hashlib.sha256(text.encode()).hexdigest()
    facts.log_metric("rows", rows)
    time.sleep(0.05)
    done = {"event": "finish", "step": "make", "seconds": 0.05, "message": f"{rows} rows"}
    print("::trialops:: " + json.dumps(done), flush=True)
    return rows


@component
def count(marks: str, made: Input[Dataset], name: str = "count") -> int:
    """Count lines; crashes, waits or reports a typed error when a file in the folder asks for it."""
    import json
    import os
    import time

    with open(os.path.join(marks, name), "a") as file:
        file.write(f"{os.getpid()}\n")
    print(f"counting for {name}")
    if os.path.exists(os.path.join(marks, f"crash-{name}")):
        raise ValueError("the toy step crashed on request")
    if os.path.exists(os.path.join(marks, f"fail-{name}")):
        error = {"what": "The table is empty", "where": "clean/lb", "fix": "Deliver rows."}
        print("::trialops:: " + json.dumps({"event": "fail", "step": name, "error": error}), flush=True)
        raise SystemExit(1)
    while os.path.exists(os.path.join(marks, f"wait-{name}")):
        time.sleep(0.05)
    with open(made.path) as file:
        return len(file.read().splitlines())


@component
def note(marks: str, name: str) -> str:
    """A side effect."""
    import os

    with open(os.path.join(marks, name), "a") as file:
        file.write("x\n")
    return name


@component
def judge(rows: int) -> NamedTuple("Verdict", [("rows", int), ("good", bool)]):  # noqa: F821
    """Two named outputs."""
    return (rows, True)


@component
def told(marks: str, outcome: dsl.PipelineTaskFinalStatus):
    """The exit handler's task."""
    import os

    with open(os.path.join(marks, "told"), "a") as file:
        file.write(outcome.state + "\n")


@dsl.pipeline(name="toy-chain")
def toy_chain(marks: str, rows: int = 3):
    """Make, count, note."""
    made = harden(make(marks=marks, rows=rows)).set_display_name("Make rows")
    counted = harden(count(marks=marks, made=made.outputs["made"])).set_display_name("Count rows")
    noted = harden(note(marks=marks, name="note")).set_display_name("Note it").after(counted)
    noted.set_caching_options(False)


@dsl.pipeline(name="inner")
def inner(marks: str, name: str, made: Input[Dataset]) -> int:
    """A nested pipeline."""
    counted = count(marks=marks, made=made, name=name).set_display_name("Count inside")
    note(marks=marks, name="inner-note").set_caching_options(False).after(counted)
    return counted.output


@dsl.pipeline(name="toy-nested")
def toy_nested(marks: str, rows: int = 3):
    """An exit handler around two nested pipelines, a loop and a gate."""
    closing = told(marks=marks).set_display_name("Tell").set_caching_options(False)
    with dsl.ExitHandler(closing):
        made = make(marks=marks, rows=rows).set_display_name("Make rows")
        first = inner(marks=marks, name="first", made=made.outputs["made"]).set_display_name("First")
        second = inner(marks=marks, name="second", made=made.outputs["made"]).set_display_name("Second")
        second.after(first)
        with dsl.ParallelFor(items=["a", "b", "c"], parallelism=1) as site:
            each = count(marks=marks, made=made.outputs["made"], name=site).set_display_name("Count site")
            note(marks=marks, name="loop-note").set_caching_options(False).after(each)
        with dsl.If(first.output > 100):
            note(marks=marks, name="many").set_display_name("Many rows")
        with dsl.Else():
            note(marks=marks, name="few").set_display_name("Few rows")


@dsl.pipeline(name="toy-guess")
def toy_guess(marks: str):
    """A bare condition on a named output, which kfp.local cannot resolve."""
    judged = judge(rows=2)
    with dsl.If(judged.outputs["rows"] == 2):
        note(marks=marks, name="gated")
