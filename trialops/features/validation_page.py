"""Page of a validation of features: contracts, distributions between builds, correlations, importance, the past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trialops.features.contracts import MET
from trialops.monitoring.drift_page import correlation_items, importance_items, method_text, report_sections
from trialops.pages import Page, Section, Table, Text, Tone, Verdict, suppressed

if TYPE_CHECKING:
    from trialops.features.contracts import Contracts
    from trialops.features.validation import Validation
    from trialops.monitoring.drift_policy import DriftPolicy

TONES: dict[str, Tone] = {"breach": "bad", "drift": "warn", "insufficient evidence": "warn"}


def validation_page(found: Validation, contracts: Contracts, policy: DriftPolicy) -> Page:
    """The verdict first, then what it rests on.

    Args:
        found: The validation.
        contracts: The contracts.
        policy: The drift policy.
    """
    sections = [Section("Contracts", _contracts(found, contracts))]
    if found.report is not None:
        sections += report_sections(found.report, policy, title="Distributions against the build before")
    if found.restated:
        rows = [(item.view, item.feature, item.what, suppressed(item.subjects), item.of) for item in found.restated]
        text = Text(
            "Rows of the same moment with another value: corrections come as further rows, so new logic did this."
        )
        sections.append(
            Section("Rewritten past", [text, Table(("view", "feature", "what", "subjects", "of"), rows[:40])])
        )
    if found.correlations is not None:
        sections.append(Section("Correlations", correlation_items(found.correlations, policy)))
    if found.importance is not None:
        sections.append(Section("What the model leans on", importance_items(found.importance, policy)))
    sections.append(Section("How it is judged", [method_text(policy)]))
    reason = "; ".join(found.reasons[:5]) or "every contract is met, and nothing has drifted since the build before"
    return Page(
        "Feature validation",
        sections,
        verdict=Verdict(found.verdict, TONES.get(found.verdict, "good"), reason),
    )


def _contracts(found: Validation, contracts: Contracts) -> list[Text | Table]:
    rows = [
        (
            item.feature,
            item.unit,
            item.state,
            suppressed(item.known),
            suppressed(item.outside),
            "; ".join(item.breaches),
        )
        for item in sorted(found.contracts, key=lambda item: item.state == MET)
    ]
    text = Text(
        f"Contracts version {contracts.version}, {contracts.digest[:12]}; a share of {contracts.most_outside:.1%} of "
        "the values may lie outside their range."
    )
    return [text, Table(("feature", "unit", "state", "known", "outside", "what"), rows)]
