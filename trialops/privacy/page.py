"""The page of a de-identification: the mode, what was done to which column, and the residual check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Page, Section, Table, Text, Verdict

if TYPE_CHECKING:
    from trialops.privacy.deidentify import DeidentificationReport


def privacy_page(report: DeidentificationReport) -> Page:
    """Columns and counts; no value."""
    shown = {
        "subjects": report.subjects,
        "columns searched": report.scanned.get("columns", 0),
        "texts searched": report.scanned.get("values", 0),
        "identifiers looked for": report.scanned.get("identifiers", 0),
    }
    withheld = [
        ("DM.AGE", "over 89: shown as 90", report.capped_ages),
        ("DM.AGE", "unit not known: empty", report.ages_without_unit),
        *((c, "tells an age over 89: empty", n) for c, n in sorted(report.days_over_age.items())),
        *((c, "neither a number nor a coded term: empty", n) for c, n in sorted(report.withheld.items())),
    ]
    outside = report.day_one_outside
    notes = [
        (f"{outside} subjects have a partial RFSTDTC that day 1 does not fall in.", outside),
        (f"Not delivered, and empty in the clean tables: {', '.join(report.absent_columns)}.", report.absent_columns),
        (f"Counted across subjects, and counted again within each: {', '.join(report.renumbered)}.", report.renumbered),
    ]
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
                    Table(("column", "withheld", "values"), [line for line in withheld if line[2]]),
                    Table(columns.columns, columns.rows()),
                ],
            ),
            Section(
                "Day 1",
                [
                    Table(("from", "subjects"), list(report.day_one.items())),
                    *(Text(text) for text, shown_if in notes if shown_if),
                ],
            ),
        ],
        Verdict(report.label, "bad" if report.mode == "off" else "good", f"policy version {report.policy_version}"),
    )
