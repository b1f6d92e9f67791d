"""What somebody must look at: rules over data, models, runs, resources and reporting clocks, and what was raised.

One pass: measure, evaluate the rules, bring the register of alerts in line (for how long, again, ended), hand it to
Alertmanager or, where there is none or it does not answer, group it and queue messages. ``notification`` delivers them.
"""

from kfp import dsl

from components.alerts import evaluate_alerts, notify, with_delivery
from components.base import harden


@dsl.pipeline(name="alerting", display_name="Alerting")
def alerting(study: str = "", as_of: str = "") -> None:
    """Evaluate the rules and decide who is told.

    Args:
        study: Study file, for the reporting clocks; the demonstration trial's by default.
        as_of: ISO 8601 time of the pass; empty is now.
    """
    closing = notify(pipeline="alerting").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        evaluated = evaluate_alerts(study=study, as_of=as_of).set_display_name("Evaluate alerts")
        # A pass comes every minute: one that hangs must end before many are behind it.
        with_delivery(harden(evaluated, memory="1Gi", timeout_seconds=300)).set_caching_options(False)
