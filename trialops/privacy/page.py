"""The page of a de-identification: the mode, what was done to which column, and the residual check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Page, Section, Table, Text, Verdict

if TYPE_CHECKING:
    from trialops.privacy.deidentify import DeidentificationReport


def privacy_page(report: DeidentificationReport) -> Page:
    """Columns and counts; no value."""
    shown = {"subjects": report.subjects, "ages capped at 90": report.capped_ages, **report.scanned}
    identifiers = [(name, ", ".join(columns)) for name, columns in sorted(report.identifiers.items())]
    columns = report.columns.select("domain", "column", "action", "identifier", "values")
    return Page(
        "De-identification",
        [
            Section("What was found", [Facts(shown), Table(("identifier class", "columns"), identifiers)]),
            Section(
                "What was done",
                [
                    Facts(report.actions()),
                    Text(
                        f"{len(report.unlisted_columns)} columns are not in the policy and were dropped"
                        + (f": {', '.join(report.unlisted_columns)}." if report.unlisted_columns else ".")
                    ),
                    Table(columns.columns, columns.rows()),
                ],
            ),
        ],
        Verdict(report.label, "bad" if report.mode == "off" else "good", f"policy version {report.policy_version}"),
    )
