"""The page of a FHIR de-identification: the mode, what was released, what was done to which element, the search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.pages import Facts, Figure, Page, Section, Table, Text, Verdict, plots, suppressed

if TYPE_CHECKING:
    from trialops.privacy.fhir_deidentify import FhirReport


def fhir_privacy_page(report: FhirReport) -> Page:
    """Elements and counts; no value."""
    total = [sum(counts[i] for counts in report.resources.values()) for i in range(3)]
    actions: dict[str, int] = {}
    for _, action, _, seen, _ in report.elements:
        actions[action] = actions.get(action, 0) + seen
    shown = sorted((a, n) for a, n in actions.items() if a != "inside")
    kinds = [(kind, *counts) for kind, counts in sorted(report.resources.items())]
    notes = [
        (
            f"{sum(report.unlisted.values())} values stood in elements that R4 does not have and were dropped.",
            report.unlisted,
        ),
        (f"{report.capped_ages} ages over the limit were shown as one category.", report.capped_ages),
    ]
    return Page(
        "De-identification of FHIR resources",
        [
            Section(
                "Resources",
                [
                    Facts(
                        {
                            "read": total[0],
                            "released": total[1],
                            "withheld": total[2],
                            "subjects": suppressed(report.subjects),
                        }
                    ),
                    Table(("type", "read", "released", "withheld"), kinds),
                    Table(("reason to withhold", "resources"), list(report.withheld.items())),
                ],
            ),
            Section(
                "What was done",
                [
                    Figure(
                        plots.bars([a for a, _ in shown], [float(n) for _, n in shown], xlabel="values"),
                        "Values by what happened to them.",
                    )
                    if shown
                    else Text("Nothing was changed."),
                    *(Text(text) for text, there in notes if there),
                    Table(("extension dropped", "times"), list(report.extensions.items())),
                    Table(("attachment content dropped", "times"), list(report.media.items())),
                    Table(("element", "action", "identifier class", "values", "gone"), report.elements),
                ],
            ),
            Section(
                "Subjects",
                [
                    Table(("subject key from", "subjects"), [(k, suppressed(n)) for k, n in report.keys.items()]),
                    Table(("day 1 from", "subjects"), [(k, suppressed(n)) for k, n in report.day_one.items()]),
                ],
            ),
            Section(
                "Search of the result",
                [
                    Facts(
                        {
                            "paths searched": report.scanned.get("paths", 0),
                            "texts searched": report.scanned.get("values", 0),
                            "identifiers looked for": report.scanned.get("identifiers", 0),
                            "free texts looked at": report.texts.get("texts", 0),
                            "free texts changed": report.texts.get("changed", 0),
                        }
                    ),
                    Text("Nothing was found, or there would be no release.", quiet=True),
                ],
            ),
        ],
        Verdict(
            report.label,
            "bad" if report.mode == "off" else "good",
            f"policy version {report.policy_version}, restricted ZIP areas {report.zip3_version}",
        ),
    )
