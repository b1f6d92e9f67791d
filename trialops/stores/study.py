"""One installation, one study: its keys, audit trail, models and validated versions belong to nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from trialops.errors import TrialOpsError
from trialops.stores.objects import ObjectStore

KEY = "study.json"


def bound_study(objects: ObjectStore) -> str:
    """STUDYID these stores hold; empty before the first delivery."""
    try:
        return str(json.loads(objects.get(KEY))["study"])
    except KeyError:
        return ""


def bind_study(objects: ObjectStore, study: str) -> None:
    """Bind the stores to the study of their first delivery, and refuse any other from then on.

    A fallback, a champion or a held-out site of one trial must never serve another.

    Raises:
        TrialOpsError: The stores hold another study.
    """
    body = json.dumps({"study": study, "since": datetime.now(UTC).isoformat(timespec="seconds")}, sort_keys=True)
    if objects.put(KEY, body.encode(), if_absent=True):
        return
    holds = bound_study(objects)
    if holds != study:
        raise TrialOpsError(
            f"The delivery is of study {study}; these stores hold study {holds}",
            where=objects.url,
            fix="Give each study stores of its own: trialops --home FOLDER here, a namespace of its own on a cluster.",
        )
