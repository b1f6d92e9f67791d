"""The command that writes a case's readable form; part of `trialops safety`."""

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
