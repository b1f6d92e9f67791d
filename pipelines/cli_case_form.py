"""The commands that write readable forms of cases; part of `trialops safety`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("form")
@click.argument("case")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option("--pdf", is_flag=True, help="PDF/A instead of HTML.")
@click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
def form(case: str, target: Path, pdf: bool, purpose: str) -> None:
    """Write the form of CASE, blinded, to a folder outside the platform's home. It identifies a person."""
    from datetime import UTC, datetime

    from pipelines.cli_safety import _open
    from trialops.safety.case_form_file import write_form

    run, register = _open("safety-form")
    made = write_form(
        run,
        register,
        case,
        target=str(target),
        kind="pdf" if pdf else "html",
        stamp=datetime.now(UTC),
        purpose=purpose,
    )
    click.echo(f"version {made.version}: {made.size:,} bytes in {made.file}")


@click.command("read")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--to", "target", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder.")
@click.option("--purpose", required=True, help="Why, in a sentence; it goes into the audit trail.")
def read(file: Path, target: Path, purpose: str) -> None:
    """Read the E2B(R3) messages in FILE, count what FDA's rules find, write a form of each to a folder."""
    from pipelines.cli_output import table
    from trialops.safety.case_form_file import write_forms_of
    from trialops.settings import settings
    from trialops.stores.context import Step

    run = Step("safety-read", {}, settings())
    made = write_forms_of(run, file.read_bytes(), target=str(target), purpose=purpose)
    rows = [[str(place), str(m.rejections), str(m.warnings), str(m.file)] for place, m in enumerate(made, 1)]
    table(["message", "rejections", "warnings", "form"], rows)
