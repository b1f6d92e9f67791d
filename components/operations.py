"""KFP components: operations."""

from kfp.dsl import HTML, Artifact, Output

from components.base import component


@component
def check_services(health: Output[Artifact], report: Output[HTML], as_of: str = "") -> str:
    """Ask every service the platform stands on over its own protocol; what was not reached is unknown.

    Args:
        health: Everything that was found as a document.
        report: What was asked, what came back, what to do; states over time.
        as_of: ISO 8601 time the answers are judged at; empty is now.

    Returns:
        "healthy", "degraded", "broken" or "unknown".
    """
    from datetime import UTC, datetime

    from trialops.operations.health import alert_on, worst
    from trialops.operations.health_page import services_page
    from trialops.operations.look import document, look_at_services, numbers
    from trialops.safety.clock_times import moment
    from trialops.stores import step

    with step("check-services", as_of=as_of) as run:
        survey, past, refusal = look_at_services(run, moment(as_of) if as_of else datetime.now(UTC))
        run.write_json(health, document(survey.findings, unused=dict(survey.unused), policy=survey.policy.digest))
        run.metrics |= numbers(survey.findings)
        run.show(report, services_page(survey, past))
        if refusal is not None:
            raise refusal
        alert_on(run, survey.findings, name="ServiceUnhealthy", area="infrastructure", runbook="service-unhealthy")
        run.decide(worst(survey.findings), numbers=run.metrics, policy=survey.policy.digest)
    return worst(survey.findings)


@component
def check_infrastructure(health: Output[Artifact], report: Output[HTML], as_of: str = "") -> str:
    """Look at availability, this machine, the cluster, and how long steps take against their history.

    Args:
        health: Everything that was found as a document.
        report: Findings, resources, durations, bottlenecks; states over time.
        as_of: ISO 8601 time it is judged at; empty is now.

    Returns:
        "healthy", "degraded", "broken" or "unknown".
    """
    from datetime import UTC, datetime

    from trialops.operations.health import alert_on, worst
    from trialops.operations.health_page import infrastructure_page
    from trialops.operations.look import document, infrastructure_numbers, look_at_infrastructure
    from trialops.safety.clock_times import moment
    from trialops.stores import step

    with step("check-infrastructure", as_of=as_of) as run:
        found = look_at_infrastructure(run, moment(as_of) if as_of else datetime.now(UTC))
        run.write_json(health, document(found.findings, policy=dict(found.policy)))
        run.metrics |= infrastructure_numbers(found)
        run.show(report, infrastructure_page(found))
        alert_on(
            run, found.raised, name="InfrastructureUnhealthy", area="infrastructure", runbook="infrastructure-unhealthy"
        )
        run.decide(worst(found.findings), numbers=run.metrics, policy=dict(found.policy))
    return worst(found.findings)
