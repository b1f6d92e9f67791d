"""Infrastructure health, every quarter of an hour: availability, resources, durations against their history."""

from kfp import dsl

from components.alerts import notify
from components.base import harden, with_services
from components.operations import check_infrastructure


@dsl.pipeline(name="infrastructure-health", display_name="Infrastructure health")
def infrastructure_health(as_of: str = "") -> None:
    """Services that can be reached, this machine, nodes and pods, slow steps, failing pipelines.

    Args:
        as_of: ISO 8601 time it is judged at; empty is now.
    """
    closing = notify(pipeline="infrastructure_health").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        seen = check_infrastructure(as_of=as_of).set_display_name("Check infrastructure")
        with_services(harden(seen, timeout_seconds=600)).set_caching_options(False)
