"""What may not be read for a purpose: consent, and restrictions of processing, checked when data are read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.privacy.requests import restricted

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.context import Step


def not_permitted(
    tables: Mapping[str, pl.DataFrame], run: Step, *, purpose: str, at: dt.date | None = None
) -> dict[str, dict[str, str]]:
    """Resource type -> id -> why the resource may not be read for a purpose.

    Args:
        tables: Raw FHIR tables; Consent among them.
        run: The step: its register of restrictions and its vault.
        purpose: v3-ActReason code.
        at: Day of the decision; today by default.

    Returns:
        The resources that stay behind. CONSENT: the subject's consent does not permit it (no consent is no permission);
        NO_SUBJECT: nobody could consent; RESTRICTED: processing of the subject's data is restricted (Art. 18 GDPR).

    Raises:
        TrialOpsError: The consent policy has no such purpose.
    """
    import polars as pl

    from trialops.privacy.consent_filter import permitted_resources
    from trialops.privacy.fhir_people import subject_keys

    allowed = permitted_resources(tables, purpose=purpose, at=at or dt.datetime.now(dt.UTC).date()).tables
    keys = subject_keys(tables)
    names = dict(zip(keys, run.vault.pseudonyms("subject", list(keys.values())), strict=True))
    held = restricted(run.engine, run.vault.study)
    barred = [patient for patient, name in names.items() if name in held]
    made: dict[str, dict[str, str]] = {}
    for kind, frame in tables.items():
        permitted = frame["id"].is_in(allowed[kind]["id"].implode()) if kind in allowed else pl.lit(False)
        reason = (
            pl.when(pl.col("subject").is_in(barred))
            .then(pl.lit("RESTRICTED"))
            .when(permitted)
            .then(pl.lit(None, pl.String))
            .when(pl.col("subject").is_null())
            .then(pl.lit("NO_SUBJECT"))
            .otherwise(pl.lit("CONSENT"))
        )
        made[kind] = dict(frame.select("id", reason=reason).drop_nulls("reason").iter_rows())
    return made


def unrestricted(tables: Mapping[str, pl.DataFrame], run: Step) -> dict[str, pl.DataFrame]:
    """Clean tables without the rows of subjects whose processing is restricted; for what is not the trial's own duty.

    Args:
        tables: Clean SDTM tables.
        run: The step, for the register of restrictions.
    """
    import polars as pl

    held = sorted(restricted(run.engine, run.settings.study))
    if not held:
        return dict(tables)
    keep = ~pl.col("USUBJID").is_in(held).fill_null(False)
    return {name: frame.filter(keep) if "USUBJID" in frame.columns else frame for name, frame in tables.items()}
