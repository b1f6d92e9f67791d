"""What a person sees of a local run: a live table at a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any, TextIO

from pipelines.catalog import Entry
from pipelines.runs import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    from pipelines.engine import Row
    from pipelines.graph import Planned
    from pipelines.local import RunResult

_MARKS = {
    "waiting": ("·", "dim"),
    "running": ("▸", "cyan"),
    "ran": ("✓", "green"),
    "reused": ("=", "blue"),
    "skipped": ("-", "dim"),
    "failed": ("✗", "bold red"),
    "interrupted": ("!", "yellow"),
    "not run": ("-", "dim"),
}


def view(stream: TextIO | None = None) -> PlainView | LiveView:
    """The view that suits the stream: live at a terminal, plain lines in a file or a pipe."""
    target = stream or sys.stdout
    return LiveView(target) if target.isatty() else PlainView(target)


class PlainView:
    """One line when a step starts to matter: it ended, failed, or was reused."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._guard = threading.Lock()

    def begin(self, run: RunFolder, entry: Entry, plan: list[Planned], rows: Mapping[str, Row]) -> None:
        """Name the run."""
        self._say(f"{entry.title}: run {run.run_id}")

    def change(self, row: Row, event: dict[str, Any]) -> None:
        """Say that a step started or how it ended."""
        if event["event"] == "task":
            self._say(f"  start    {row.title}")
        elif event["event"] == "end":
            detail = f"from run {row.from_run}" if row.state == "reused" else f"{row.seconds:.1f} s"
            told = f"  {row.message}" if row.message else ""
            self._say(f"  {row.state:<8} {row.title}  ({detail}){told}")

    def stop(self) -> None:
        """Nothing to do."""

    def end(self, result: RunResult) -> None:
        """The closing lines."""
        for line in closing(result):
            self._say(line)

    def _say(self, line: str) -> None:
        with self._guard:
            self.stream.write(line + "\n")
            self.stream.flush()


class LiveView:
    """A table of all steps that updates in place."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._live: Live | None = None
        self._plan: list[Planned] = []
        self._rows: Mapping[str, Row] = {}
        self._heading = ""

    def begin(self, run: RunFolder, entry: Entry, plan: list[Planned], rows: Mapping[str, Row]) -> None:
        """Show the planned steps."""
        from rich.live import Live

        self._plan, self._rows = plan, rows
        self._heading = f"{entry.title}  {run.run_id}"
        self._live = Live(
            console=_console(self.stream),
            get_renderable=self._table,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def change(self, row: Row, event: dict[str, Any]) -> None:
        """Nothing to do: the table is drawn from the rows, several times a second."""

    def stop(self) -> None:
        """Draw the last table and give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def end(self, result: RunResult) -> None:
        """The closing lines."""
        for line in closing(result):
            self.stream.write(line + "\n")
        self.stream.flush()

    def _table(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=self._heading, title_justify="left", box=None, pad_edge=False, expand=True)
        table.add_column("", width=1)
        table.add_column("step", ratio=3, no_wrap=True, overflow="ellipsis")
        table.add_column("state", width=9)
        table.add_column("time", justify="right", width=8)
        table.add_column("", ratio=4, no_wrap=True, overflow="ellipsis")
        rows = dict(self._rows)
        started: dict[str, list[Row]] = {}
        for row in rows.values():
            started.setdefault(row.path.partition("@")[0], []).append(row)
        # Steps in the order in which they started, then those that wait.
        plan = sorted(self._plan, key=lambda item: min((r.began for r in started.get(item.path, [])), default=inf))
        for item in plan:
            if item.path not in started:
                table.add_row("·", escape(item.title), "waiting", "", "", style="dim")
            for row in sorted(started.get(item.path, []), key=lambda each: each.path):
                mark, style = _MARKS[row.state]
                seconds = time.monotonic() - row.began if row.state == "running" else row.seconds
                said = f"from run {row.from_run}" if row.state == "reused" else row.message
                if row.state == "running" and row.fraction is not None:
                    said = f"{row.fraction:4.0%}  {said}"
                if row.state == "failed" and row.error:
                    said = row.error["what"].splitlines()[0]
                table.add_row(
                    f"[{style}]{mark}[/]",
                    escape(row.title),
                    f"[{style}]{row.state}[/]",
                    f"{seconds:.1f} s",
                    escape(said),
                )
        return table


def closing(result: RunResult) -> list[str]:
    """The last lines of a run: counts, time, the error if any, how to continue, one link."""
    lines = [""]
    if result.nothing_new:
        lines.append("nothing new: every step was reused")
    shown = [f"{count} {name}" for name, count in result.counts.items() if count or name in ("ran", "reused")]
    lines.append(f"{result.state}: {', '.join(shown)}; {result.seconds:.1f} s, of it {result.overhead:.1f} s overhead")
    if result.error:
        lines += ["", result.error["what"]]
        lines += [f"  {key + ':':<6} {result.error[key]}" for key in ("where", "fix") if result.error[key]]
    if result.state != "succeeded":
        name = result.run_id.split("-", 1)[1].rsplit("-", 1)[0]
        lines.append(f"continue with: trialops run {name} --resume {result.run_id}")
    lines.append((result.page or result.folder / "log.txt").as_uri())
    return lines


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream)
