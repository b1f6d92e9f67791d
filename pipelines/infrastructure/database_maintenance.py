"""Database maintenance: a backup that is proved by a restore, a look at the database, and its upkeep, every day.

A backup that cannot be restored, or is not what the database held, fails the run. Nothing is vacuumed or reindexed
before a backup of the day was verified, or could at least be made where there is nowhere to restore it.
"""

from kfp import dsl, kubernetes

from components.alerts import notify
from components.base import SECRETS_NAME, harden
from components.operations import back_up_database, inspect_database, tend_database, verify_backup


@dsl.pipeline(name="database-maintenance", display_name="Database maintenance")
def database_maintenance(apply: bool = True, as_of: str = "") -> None:
    """Backup, verification by a restore, bloat, indexes, vacuum.

    Args:
        apply: Run VACUUM, ANALYZE and REINDEX; otherwise they are only shown. A backup is made in any case.
        as_of: ISO 8601 moment that the age of backups is counted to; empty is now.
    """
    closing = notify(pipeline="database_maintenance").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        made = back_up_database(as_of=as_of).set_display_name("Back up")
        verified = verify_backup(backup=made.outputs["Output"], as_of=as_of).set_display_name("Verify by a restore")
        seen = inspect_database().set_display_name("Inspect").after(verified)
        tended = tend_database(apply=apply).set_display_name("Tend").after(seen)
        for task, seconds in ((made, 14_400), (verified, 14_400), (seen, 3600), (tended, 14_400)):
            harden(task, memory="2Gi", timeout_seconds=seconds).set_caching_options(False)
        kubernetes.use_secret_as_env(
            verified,
            secret_name=SECRETS_NAME,
            secret_key_to_env={"TRIALOPS_SCRATCH_DATABASE_URL": "TRIALOPS_SCRATCH_DATABASE_URL"},
            optional=True,
        )
