"""The consent check of a step: raw tables in, the permitted ones out, and a record of every decision."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.privacy.consent import ConsentPolicy, consent_policy
from trialops.privacy.consent_filter import (
    Permitted,
    permitted_resources,
    permitted_rows,
    study_subjects,
    trial_basis,
)

if TYPE_CHECKING:
    import polars as pl

    from trialops.stores.vault import Vault


def check(
    tables: Mapping[str, pl.DataFrame],
    *,
    purpose: str,
    at: dt.date,
    actor: str = "",
    policy: ConsentPolicy | None = None,
) -> Permitted:
    """What a use may see of the tables of one intake.

    Args:
        tables: Raw FHIR tables, or raw SDTM tables.
        purpose: Purpose of use; for SDTM tables the conduct of the trial, as the policy names it.
        at: Day of the use.
        actor: Who uses it; empty where it is not said.
        policy: The platform's own by default.

    Raises:
        TrialOpsError: The policy does not know the purpose, or it is not the trial's and the tables are SDTM, which
            hold no Consent (see `consent_filter.decide_study_subjects`).
    """
    policy = policy or consent_policy()
    if "DM" not in tables:
        return permitted_resources(tables, purpose=purpose, at=at, actor=actor or None, policy=policy)
    trial = policy.content["trial"]["purpose"]
    if purpose != trial:
        raise TrialOpsError(
            f"SDTM tables hold no consent to {purpose}",
            where="purpose",
            fix=f"Use {trial} for the conduct of the trial; for another use decide from the subjects' FHIR Consents.",
        )
    return permitted_rows(tables, trial_basis(tables, policy), policy)


def day(text: str) -> dt.date:
    """A day as written in a parameter; today (UTC) where it is empty.

    Raises:
        TrialOpsError: It is no day.
    """
    try:
        return dt.date.fromisoformat(text) if text else dt.datetime.now(dt.UTC).date()
    except ValueError:
        raise TrialOpsError("The day of the use is no date", where="at", fix="Write it as 2026-01-31.") from None


def decision_table(result: Permitted, tables: Mapping[str, pl.DataFrame], vault: Vault) -> pl.DataFrame:
    """The decisions without anybody's identity: subject and consent as pseudonyms, no dates.

    Args:
        result: The check.
        tables: The raw tables; they say which USUBJID a Patient stands for.
        vault: Makes the pseudonyms, the same as de-identification gives.

    Returns:
        subject, decision, reason, consent; sorted.
    """
    import polars as pl

    raw = result.decisions
    keys = raw["subject"].to_list()
    if "DM" not in tables:
        named = dict(study_subjects(tables).iter_rows())
        keys = [named.get(patient, f"Patient/{patient}") for patient in keys]
    consents = raw["consent"].to_list()
    return pl.DataFrame(
        {
            "subject": pl.Series(vault.pseudonyms("subject", keys), dtype=pl.String),
            "decision": raw["decision"],
            "reason": raw["reason"],
            "consent": pl.Series(
                [vault.pseudonym("fhir_id", f"Consent/{c}") if c else "" for c in consents], dtype=pl.String
            ),
        }
    ).sort("subject", "decision", "reason")
