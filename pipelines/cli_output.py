"""What commands print: tables, errors with their remedy; the options that several have."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from trialops.errors import TrialOpsError

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def panel(error: TrialOpsError) -> None:
    """Show an error with its place and its remedy."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    text = Text(error.what)
    for label, value in (("where", error.where), ("fix", error.fix)):
        if value:
            text.append(f"\n{label + ':':<6} ", style="bold")
            text.append(value)
    Console(stderr=True, soft_wrap=False).print(Panel(text, title="error", title_align="left", border_style="red"))


def table(columns: list[str], rows: list[list[str]], title: str = "") -> None:
    """Print a table; wide enough for its content when the output is not a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(*columns, title=title or None, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 1000).print(shown)


def home() -> Path:
    """The home in use."""
    return Path(os.environ.get("TRIALOPS_HOME", ".trialops")).resolve()
