"""Service health: every service the platform stands on is asked over its own protocol, every half hour.

What cannot be reached is unknown, never healthy. The run itself succeeds when a service is broken: that is its finding,
and an alert says so. It fails where nobody could be alerted.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden, with_services
from components.operations import check_services


@dsl.pipeline(name="service-health", display_name="Service health")
def service_health(as_of: str = "") -> None:
    """Kafka, Spark, MLflow, databases, feature store, model servers, object store.

    Args:
        as_of: ISO 8601 time the answers are judged at; empty is now.
    """
    closing = notify(pipeline="service_health").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        asked = check_services(as_of=as_of).set_display_name("Check services")
        with_services(harden(asked, timeout_seconds=600)).set_caching_options(False)
