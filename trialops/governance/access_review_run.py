"""The step of the access review."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trialops.governance.access_review import keep, period_of, review, signed_reviews
from trialops.governance.access_review_page import review_page
from trialops.security.collect_run import listed, moment, pseudonyms

if TYPE_CHECKING:
    import polars as pl

    from trialops.pages import Page
    from trialops.stores.context import Step


@dataclass(frozen=True)
class Reviewed:
    """A month's review: its document and digest, items that need a decision, its page."""

    period: str
    document: dict[str, Any]
    digest: str
    marked: int
    page: Page


def run_review(
    run: Step, activity: pl.DataFrame, *, roster: str = "", rbac: str = "", month: str = "", as_of: str = ""
) -> Reviewed:
    """Review a month and keep the document.

    Args:
        run: The step.
        activity: As security monitoring keeps it.
        roster: List of accounts.
        rbac: Folder of manifests.
        month: YYYY-MM; empty: the last whole month.
        as_of: Moment of the run.
    """
    period, first, until = period_of(month, moment(as_of))
    document = review(activity, listed(run, roster), rbac, first, until, pseudonyms(run))
    digest = keep(run, period, document)
    marked = sum(bool(item["mark"]) for item in document["items"])
    run.audit("access.review", period, digest, marked=marked)
    page = review_page(period, digest, document, signed_reviews(run, period))
    return Reviewed(period, document, digest, marked, page)
