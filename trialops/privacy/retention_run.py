"""Retention as a step: plan, disposal where it is not a dry run, certificate, page."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.privacy import certificate
from trialops.privacy.holds import active
from trialops.privacy.operations_page import retention_page
from trialops.privacy.retention import default_retention_policy, dispose, milestones, plan

if TYPE_CHECKING:
    from trialops.pages import Page
    from trialops.stores.context import Step


@dataclass(frozen=True)
class RetentionRun:
    """Counts, the document with the certificate, and the page."""

    due: int
    disposed: int
    document: dict[str, Any]
    page: Page


def run_retention(run: Step, *, dry_run: bool, today: str = "") -> RetentionRun:
    """Plan, and dispose unless it is a dry run.

    Raises:
        TrialOpsError: `today` is no date, or lies in the future: nothing may be disposed of before its time.
    """
    now = dt.datetime.now(dt.UTC).date()
    try:
        day = dt.date.fromisoformat(today) if today else now
    except ValueError:
        raise TrialOpsError("The day to judge by is no date.", where="today", fix="Use YYYY-MM-DD.") from None
    if day > now and not dry_run:
        raise TrialOpsError(
            "Records cannot be disposed of as of a day to come.",
            where="today",
            fix="Leave it empty, or make a dry run.",
        )
    policy = default_retention_policy()
    run.progress("looking at every record", 0.1)
    records = plan(run.lake, run.objects, run.engine, today=day, policy=policy)
    due = [r for r in records if r.state == "due"]
    gone = [] if dry_run else dispose(due, run.lake, run.objects, run.engine, actor=run.settings.who, run_id=run.run_id)
    named = [[r.record_class, r.name, r.version, str(r.due)] for r in (due if dry_run else gone)]
    document: dict[str, Any] = {"dry_run": dry_run, "day": day.isoformat(), "records": named, "policy": policy.version}
    digest = ""
    if gone:
        signed = certificate.issue("retention", document, vault=run.vault, objects=run.objects)
        digest, document = signed["digest"], {**document, "certificate": signed}
        run.audit("retention.certificate", "retention", digest, records=len(gone), public_key=signed["key"])
    holds, reached = active(run.engine), milestones(run.objects)
    page = retention_page(records, policy, holds, reached, gone=None if dry_run else len(gone), certificate=digest)
    return RetentionRun(len(due), len(gone), document, page)
