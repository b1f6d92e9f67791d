"""Commands of the feature store."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def features() -> None:
    """Features that models read: rows that come in between two builds."""


@features.command("push")
@click.argument("view")
@click.argument("file", type=FILE)
@click.option("--today", type=int, help="Present study day of every subject; else the file has a column today.")
def push_rows(view: str, file: Path, today: int | None) -> None:
    """Take rows of VIEW from FILE (CSV or Parquet) into the online store and the lake.

    Columns: the keys, study_day (when the row became known) and every feature of the view. All rows are taken or none;
    a row that is older than what is online is kept in the lake alone.
    """
    from trialops.features.materialize import all_services
    from trialops.features.push import push
    from trialops.features.push_file import read_push
    from trialops.stores import step

    with step("push-features", view=view) as run:
        rows, present = read_push(file, today)
        done = push(run, all_services(), view, rows, today=present, url=run.settings.online)
        run.metrics |= {"rows": done.table.rows, "written": done.online.written, "kept": done.online.kept}
    click.echo(f"{done.table.rows} rows kept; online {done.online.written} written, {done.online.kept} were newer")
