"""The two looks, as the pipelines and the command line take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.operations.durations import DurationPolicy, Trend
from trialops.operations.health import STATES, Finding, by_component, counts, worst
from trialops.operations.machine import Use
from trialops.operations.states import Seen

if TYPE_CHECKING:
    from trialops.operations.services import Survey
    from trialops.stores.context import Step

SHOWN_DAYS = 3
LOST = ("broken", "unknown")
SERVICES_PIPELINE, INFRASTRUCTURE_PIPELINE = "service_health", "infrastructure_health"


@dataclass(frozen=True)
class Infrastructure:
    """What a look at the infrastructure found; its thresholds are named by their digests.

    Attributes:
        findings: Availability, machine, cluster, durations, failure rates.
        uses: Use of this machine's resources.
        limits: Resource -> threshold.
        trends: Durations of steps.
        durations: Their policy.
        read: Ended runs whose records were read.
        past: Earlier looks, and this one.
        policy: Digests of the files of thresholds.
    """

    findings: tuple[Finding, ...]
    uses: tuple[Use, ...]
    limits: Mapping[str, float]
    trends: tuple[Trend, ...]
    durations: DurationPolicy
    read: int
    past: tuple[Seen, ...]
    policy: Mapping[str, str]

    @property
    def raised(self) -> list[Finding]:
        """What alerts are raised from here; of machine and failure rate the rules of thresholds.yaml see to that."""
        from trialops.operations.machine import COMPONENT

        return [f for f in self.findings if f.component != COMPONENT and f.check != "failure rate"]


def numbers(findings: Sequence[Finding]) -> dict[str, Any]:
    """Figures of a look for the step's record, from which metrics are made."""
    states = by_component(findings)
    per_state: dict[str, Any] = {state: sum(1 for one in states.values() if one == state) for state in STATES}
    return {"checks": len(findings), "components": len(states), **per_state}


def document(findings: Sequence[Finding], **more: Any) -> dict[str, Any]:
    """A look as JSON."""
    return {
        "state": worst(findings),
        "components": by_component(findings),
        "counts": counts(findings),
        "findings": [found.as_dict() for found in findings],
        **more,
    }


def infrastructure_numbers(found: Infrastructure) -> dict[str, Any]:
    """Figures of a look at the infrastructure for the step's record."""
    return {
        **numbers(found.findings),
        "runs_read": found.read,
        "slow_steps": sum(1 for trend in found.trends if trend.slow),
        **{f"{use.resource}_share": round(use.share, 4) for use in found.uses},
    }


def look_at_services(run: Step, now: datetime) -> tuple[Survey, list[Seen], TrialOpsError | None]:
    """Ask every service, and keep the states.

    Args:
        run: The step.
        now: The time.

    Returns:
        What was found, the looks of the last days, and, where the database is what fails, why nobody can be alerted:
        the step says so after it has shown what was found.
    """
    from trialops.operations import services, states

    policy = services.load_policy()
    run.progress("services are asked")
    survey = services.survey(run.settings, policy, now)
    failing = [f for f in survey.findings if f.component in ("postgresql", "sqlite") and f.state in LOST]
    if failing:
        first = failing[0]
        refusal = TrialOpsError(
            f"Nobody can be alerted: {first.component}, {first.check}: {first.detail}", where=run.name, fix=first.fix
        )
        return survey, [], refusal
    states.remember(run.engine, run.run_id, SERVICES_PIPELINE, now, survey.findings)
    return survey, states.seen(run.engine, SERVICES_PIPELINE, now - timedelta(days=SHOWN_DAYS), now), None


def look_at_infrastructure(run: Step, now: datetime) -> Infrastructure:
    """Availability of services, this machine, the cluster, durations and failure rates.

    Args:
        run: The step; its stores hold the run log and the records.
        now: The time.
    """
    from trialops.alerts.measures import ended_runs
    from trialops.alerts.thresholds import duration, load_thresholds
    from trialops.operations import cluster, durations, machine, services, states
    from trialops.operations.duration_findings import duration_findings, failure_findings

    thresholds, policy, timing = load_thresholds(), services.load_policy(), durations.load_policy()
    run.progress("services are asked")
    available = services.survey(run.settings, policy, now, quick=True).findings
    uses = machine.measure(run.settings.home)
    limits = {name: machine.limit_of(thresholds, name) for name in ("cpu", "memory", "disk")}
    found = [*available, *machine.machine_findings(uses, thresholds)]
    if cluster.configured(run.settings):
        run.progress("the cluster is asked")
        found += cluster.look(run.settings, limit=limits["memory"])
    run.progress("durations are read")
    read = durations.collect(run.engine, run.objects, now, timing)
    trends = durations.trends(durations.history(run.engine, now - timedelta(days=timing.window_days), now), timing)
    found += duration_findings(trends, timing)
    rule = next(rule for rule in thresholds.rules if rule.when.metric == "trialops_pipeline_failure_ratio")
    window = duration(thresholds.metric(rule.when.metric).source["window"])
    least = int(rule.also.threshold) if rule.also is not None else 1
    found += failure_findings(ended_runs(run.engine, window, now), rule.when.threshold, least)
    states.remember(run.engine, run.run_id, INFRASTRUCTURE_PIPELINE, now, found)
    past = states.seen(run.engine, INFRASTRUCTURE_PIPELINE, now - timedelta(days=SHOWN_DAYS), now)
    digests = {"services": policy.digest, "durations": timing.digest, "thresholds": thresholds.digest}
    return Infrastructure(tuple(found), tuple(uses), limits, tuple(trends), timing, read, tuple(past), digests)
