"""A controller of a rollout as a program, for tests that kill it: python -m tests.support.rollout_controller FILE.

The file is JSON: plan, policy, routing, calls, database, candidate (a backend), most_seconds, result (where the
decision is written).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from trialops.serving.observation import Observer
from trialops.serving.policy import CanaryPolicy
from trialops.serving.rollout import LiveTraffic, Rollout
from trialops.serving.rollout_result import Plan
from trialops.serving.routing import Backend
from trialops.serving.traffic import RouterTraffic
from trialops.stores.database import connect, migrate


def main(file: Path) -> None:
    """Lead the rollout to its end."""
    given = json.loads(file.read_text())
    plan, policy = Plan(**given["plan"]), CanaryPolicy.from_dict(given["policy"])
    engine = connect(given["database"])
    migrate(engine)
    digests = {"candidate": plan.candidate_digest, "stable": plan.stable_digest}
    result = Rollout(
        plan,
        policy,
        RouterTraffic(Path(given["routing"]), Backend(**given["candidate"]), plan.rollout),
        Observer(Path(given["calls"]), plan.rollout, digests),
        LiveTraffic(poll_seconds=0.02, most_seconds=given["most_seconds"]),
        engine,
        live=True,
    ).run()
    Path(given["result"]).write_text(json.dumps(result.as_dict()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
