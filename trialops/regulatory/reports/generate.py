"""The step that makes reports: parameters as text, a sealed delivery in, registered documents out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.pages import Page
from trialops.regulatory.documents.register import signatures_on
from trialops.regulatory.reports.case_facts import said_of, sent_reports
from trialops.regulatory.reports.operator import RegulatoryReportGeneratorOperator
from trialops.regulatory.reports.page import reports_page
from trialops.safety.safety_policy import safety_policy
from trialops.trial.study_file import study_file
from trialops.trial.tables import trial_tables

if TYPE_CHECKING:
    from trialops.stores.context import Artifact, Step


@dataclass(frozen=True)
class Generated:
    """What a run made: a manifest and figures without subject data, and a page."""

    manifest: Mapping[str, Any]
    metrics: Mapping[str, int]
    page: Page


def generate(
    run: Step,
    raw: Artifact,
    *,
    study: str = "",
    kinds: str = "due",
    audience: str = "blinded",
    cut: str = "",
    as_of: str = "",
    stamp: str = "",
    purpose: str = "",
) -> Generated:
    """Make and register the reports; parameters as the component ``generate_reports`` has them.

    Raises:
        TrialOpsError: A day cannot be read, or as `RegulatoryReportGeneratorOperator.run`.
    """
    today = day_of(as_of, "as_of") if as_of else datetime.now(UTC).date()
    trial = trial_tables(run, raw, reason=f"Periodic reports, {audience}")
    stated = study_file(study)
    policy = safety_policy(stated)
    made = RegulatoryReportGeneratorOperator(run, stated).run(
        trial,
        wanted=[name.strip() for name in kinds.split(",") if name.strip()],
        audience=audience,
        cut=day_of(cut, "cut") if cut else None,
        today=today,
        stamp=_time_of(stamp) if stamp else None,
        purpose=purpose,
        said=said_of(run, trial, policy),
        sent=sent_reports(run, trial.study, policy),
    )
    signed = [sum(not problem for _, problem in signatures_on(run, one.version)) for one in made]
    manifest = {
        "documents": [
            {
                "document": one.version.document,
                "version": one.version.version,
                "manifest": one.version.manifest,
                "content": one.version.content,
                "cut": one.version.cut,
                "since": one.period.since.isoformat(),
                "due": one.period.due.isoformat(),
                "new": one.new,
                "tables": sum(1 for _ in one.document.numbered()),
            }
            for one in made
        ]
    }
    metrics = {"documents": len(made), "new": sum(one.new for one in made)}
    return Generated(manifest, metrics, reports_page(made, today=today, signed=signed))


def day_of(text: str, where: str) -> date:
    """A day as ISO 8601.

    Raises:
        TrialOpsError: It is none.
    """
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise TrialOpsError(f"{text!r} is no day", where=where, fix="Give it as YYYY-MM-DD.") from None


def _time_of(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise TrialOpsError(f"{text!r} is no time", where="stamp", fix="Give YYYY-MM-DDThh:mm:ss+00:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
