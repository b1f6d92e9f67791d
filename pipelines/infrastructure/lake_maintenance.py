"""Lake maintenance: the layout of the lake's tables, what retention lets go, and what everything costs, every week.

Compaction and removal each read every version concerned before and after. A step whose versions are not identical
fails, and removal does not begin after a compaction that failed. The plan comes first: nothing is changed without
`apply`.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.operations import clean_lake, compact_lake, storage_report


@dsl.pipeline(name="lake-maintenance", display_name="Lake maintenance")
def lake_maintenance(apply: bool = False, as_of: str = "") -> None:
    """Compaction, retention, storage cost.

    Args:
        apply: Do it; otherwise the plan is shown and nothing is changed.
        as_of: ISO 8601 moment that retention and growth are judged from; empty is now.
    """
    closing = notify(pipeline="lake_maintenance").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        compacted = compact_lake(apply=apply).set_display_name("Compact")
        cleaned = clean_lake(apply=apply, as_of=as_of).set_display_name("Remove what may go").after(compacted)
        counted = storage_report(as_of=as_of).set_display_name("Storage cost").after(cleaned)
        # All of them look at stores that no input names; a large table is held in memory to be compared.
        for task, memory, seconds in ((compacted, "8Gi", 14_400), (cleaned, "8Gi", 14_400), (counted, "2Gi", 3600)):
            harden(task, memory=memory, timeout_seconds=seconds).set_caching_options(False)
