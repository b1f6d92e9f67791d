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


@component
def compact_lake(result: Output[Artifact], report: Output[HTML], apply: bool = False) -> str:
    """Join the small files of the lake's tables, or put rows in z-order, where it pays; prove that nothing changed.

    Args:
        result: Layout of every table, what was compacted, versions compared.
        report: The same for people.
        apply: Do it; otherwise the plan is shown.

    Returns:
        plan, nothing or identical. What is not identical fails.
    """
    from trialops.operations import lake_run
    from trialops.operations.lake_page import compaction_page
    from trialops.stores import step

    with step("compact-lake", apply=apply) as run:
        found = lake_run.compact_lake(run, apply=apply)
        run.write_json(result, lake_run.document(found))
        run.show(report, compaction_page(found))
    return found.decision


@component
def clean_lake(result: Output[Artifact], report: Output[HTML], apply: bool = False, as_of: str = "") -> str:
    """Remove what retention lets go and nothing refers to; prove that every version that stays is as it was.

    Args:
        result: Every version and what keeps it, files that no version needs, what was removed.
        report: The same for people.
        apply: Do it; otherwise the plan is shown.
        as_of: ISO 8601 moment to judge from; empty is now.

    Returns:
        plan, nothing or identical. What is not identical fails.
    """
    from trialops.operations import lake_run
    from trialops.operations.lake_page import removal_page
    from trialops.stores import step

    with step("clean-lake", apply=apply, as_of=as_of) as run:
        found = lake_run.clean_lake(run, apply=apply, as_of=as_of)
        run.write_json(result, lake_run.document(found))
        run.show(report, removal_page(found))
    return found.decision


@component
def storage_report(result: Output[Artifact], report: Output[HTML], as_of: str = "") -> float:
    """What the lake and the objects take and cost.

    Args:
        result: Bytes and price per table, zone and kind of object; growth.
        report: The same for people.
        as_of: ISO 8601 moment the last 30 days are counted from; empty is now.

    Returns:
        Price of a month in the policy's currency.
    """
    from trialops.operations.lake_page import storage_page
    from trialops.operations.lake_run import report_storage
    from trialops.stores import step

    with step("storage-report", as_of=as_of) as run:
        found = report_storage(run, as_of=as_of)
        run.write_json(result, found.as_dict())
        run.show(report, storage_page(found))
    return round(found.price, 4)


@component
def inspect_database(result: Output[Artifact], report: Output[HTML]) -> str:
    """Look at the database: empty space, indexes, transactions, connections, archiving. Nothing is changed.

    Args:
        result: Findings and figures.
        report: The same for people.

    Returns:
        "healthy", "degraded", "broken" or "unknown".
    """
    from trialops.operations.database_operator import ClinicalDatabaseOperator
    from trialops.operations.database_page import database_page
    from trialops.stores import step

    with step("inspect-database") as run:
        found = ClinicalDatabaseOperator().run(run, "inspect")
        run.write_json(result, found.as_dict())
        run.show(report, database_page(found))
    return found.decision


@component
def back_up_database(result: Output[Artifact], report: Output[HTML], as_of: str = "") -> str:
    """Back the database up, encrypted, and remove backups that the policy no longer keeps.

    Args:
        result: The backup, what is kept and why.
        report: The same for people.
        as_of: ISO 8601 moment that the age of backups is counted to; empty is now.

    Returns:
        Id of the backup.
    """
    from trialops.operations.database_operator import ClinicalDatabaseOperator
    from trialops.operations.database_page import database_page
    from trialops.stores import step

    with step("back-up-database", as_of=as_of) as run:
        found = ClinicalDatabaseOperator().run(run, "back up", as_of=as_of)
        run.write_json(result, found.as_dict())
        run.show(report, database_page(found))
    return str(found.backup.id) if found.backup else ""


@component
def verify_backup(result: Output[Artifact], report: Output[HTML], backup: str = "", as_of: str = "") -> str:
    """Restore a backup into a database of its own and compare it with what was backed up, table by table.

    Args:
        result: Every check, recovery point and recovery time.
        report: The same for people.
        backup: Its id; empty is the newest.
        as_of: ISO 8601 moment that the recovery point is counted to; empty is now.

    Returns:
        "verified", or "unverified" where there was nowhere to restore it. A backup that is none fails the step.
    """
    from trialops.errors import TrialOpsError
    from trialops.operations.database_operator import ClinicalDatabaseOperator
    from trialops.operations.database_page import database_page
    from trialops.stores import step

    with step("verify-backup", backup=backup, as_of=as_of) as run:
        scratch = run.settings.scratch_database_url
        found = ClinicalDatabaseOperator().run(run, "verify", backup=backup, as_of=as_of, scratch_url=scratch)
        run.write_json(result, found.as_dict())
        run.show(report, database_page(found))
        if found.decision == "failed":
            raise TrialOpsError(found.findings[0].detail, where="backup", fix=found.findings[0].fix)
    return found.decision


@component
def tend_database(result: Output[Artifact], report: Output[HTML], apply: bool = True) -> str:
    """VACUUM, ANALYZE and REINDEX where the policy says that they help.

    Args:
        result: Statements, why, and what became of them.
        report: The same for people.
        apply: Run them; otherwise they are shown.

    Returns:
        "done", "failed" or "plan".
    """
    from trialops.operations.database_operator import ClinicalDatabaseOperator
    from trialops.operations.database_page import database_page
    from trialops.stores import step

    with step("tend-database", apply=apply) as run:
        found = ClinicalDatabaseOperator().run(run, "tend", apply=apply)
        run.write_json(result, found.as_dict())
        run.show(report, database_page(found))
    return found.decision
