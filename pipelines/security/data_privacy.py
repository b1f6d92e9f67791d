"""Data privacy: what the operation of a trial owes its subjects every day.

1. Carry out the open requests for erasure and restriction.
2. Look for personal data in every table of the lake and the database; masked copies where they are asked for.
3. Measure the residual risk of the subjects' table in force, as if it were released to a partner.
4. Find what retention has ended for; a dry run unless it is told to dispose.
5. Verify the audit trail, which by then holds all of that, anchor it and sum it up.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.privacy import apply_retention, assess_risk, discover_pii, erase_subjects, maintain_audit_log


@dsl.pipeline(name="data-privacy", display_name="Data privacy")
def data_privacy(
    scope: str = "*", mask: bool = False, dry_run: bool = True, today: str = "", rotate_master: bool = False
) -> None:
    """Requests, discovery, retention and the audit trail.

    Args:
        scope: Pattern of the tables to look at; database tables are "database/<name>".
        mask: Write masked copies of tables with personal data.
        dry_run: Say what retention has ended for, and dispose of nothing.
        today: Day to judge retention by, ISO 8601; empty is today.
        rotate_master: Replace the vault's master key after an erasure.
    """
    closing = notify(pipeline="data_privacy").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        erased = erase_subjects(rotate_master=rotate_master).set_display_name("Erase subjects")
        found = discover_pii(scope=scope, mask=mask).set_display_name("Discover personal data").after(erased)
        judged = assess_risk().set_display_name("Residual risk").after(found)
        kept = apply_retention(dry_run=dry_run, today=today).set_display_name("Apply retention").after(judged)
        verified = maintain_audit_log().set_display_name("Maintain audit trail").after(kept)
        # Every one of them looks at stores that no input names.
        for task, memory in ((erased, "4Gi"), (found, "4Gi"), (judged, "2Gi"), (kept, "2Gi"), (verified, "2Gi")):
            harden(task, memory=memory).set_caching_options(False)
