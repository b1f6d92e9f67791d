"""KFP components: security monitoring, access review, evidence."""

from kfp.dsl import HTML, Artifact, Dataset, Input, Output

from components.base import component


@component
def collect_activity(
    activity: Output[Dataset],
    quarantine: Output[Dataset],
    collected: Output[Artifact],
    report: Output[HTML],
    kubernetes_logs: str = "",
    fhir_audit: str = "",
    roster: str = "",
    networks: str = "",
    as_of: str = "",
) -> int:
    """Read accesses from the audit trail, Kubernetes audit logs and FHIR AuditEvents.

    Args:
        activity: Hourly and daily counts and single notable events, under pseudonyms.
        quarantine: Lines of logs that could not be used: file, line, reason.
        collected: Verification of the audit chain, counts.
        report: The same for people.
        kubernetes_logs: Folder or file of audit.k8s.io/v1 events, JSON lines; empty: none.
        fhir_audit: Folder or file of FHIR R4 AuditEvents, NDJSON or bundles; empty: none.
        roster: CSV list of accounts; empty: none.
        networks: YAML table of networks; empty: the one that ships.
        as_of: ISO 8601 moment; what happened on that day and later is left out. Empty is now.

    Returns:
        Lines in quarantine.
    """
    from trialops.security.collect_run import ZONE, collect
    from trialops.stores import step

    with step("collect-activity", as_of=as_of) as run:
        done = collect(run, kubernetes=kubernetes_logs, fhir=fhir_audit, roster=roster, networks=networks, as_of=as_of)
        run.write(activity, done.kept.tables(), zone=ZONE)
        run.write_table(quarantine, done.quarantine, table="quarantine/security")
        run.write_json(collected, done.document)
        run.metrics |= {"events": sum(done.document["events"].values()), "quarantined": done.quarantine.height}
        run.show(report, done.page)
    return done.quarantine.height


@component
def screen_activity(
    activity: Input[Dataset],
    collected: Input[Artifact],
    summary: Output[Artifact],
    report: Output[HTML],
    roster: str = "",
    networks: str = "",
    days: int = 0,
    as_of: str = "",
) -> int:
    """Judge the accesses since the last screening; findings are sealed, alerts name nobody.

    Args:
        activity: Of collect_activity.
        collected: Of collect_activity.
        summary: Counts, and the policy they were judged by.
        report: Findings with their figures, without who they are about.
        roster: CSV list of accounts; empty: none.
        networks: YAML table of networks; empty: the one that ships.
        days: Days to screen; 0: those since the last screening.
        as_of: ISO 8601 moment of the run; empty is now.

    Returns:
        Alerts.
    """
    from trialops.security.screen_run import run_screening
    from trialops.stores import step

    with step("screen-activity", days=days, as_of=as_of) as run:
        done = run_screening(
            run,
            run.read(activity),
            run.read_json(collected),
            roster=roster,
            networks=networks,
            days=int(days),
            as_of=as_of,
        )
        run.write_json(summary, done.document)
        run.show(report, done.page)
    return int(done.document["told"])


@component
def review_access(
    activity: Input[Dataset],
    review: Output[Artifact],
    report: Output[HTML],
    roster: str = "",
    rbac: str = "",
    month: str = "",
    as_of: str = "",
) -> int:
    """Set who may what against who used it in a month; a reviewer signs with: trialops security review.

    Args:
        activity: Of collect_activity.
        review: Grants and accounts with their use, and what needs a decision.
        report: Grants for people; accounts as counts.
        roster: CSV list of accounts; empty: none.
        rbac: Folder of manifests with RBAC objects; empty: none.
        month: YYYY-MM; empty: the last whole month.
        as_of: ISO 8601 moment of the run; empty is now.

    Returns:
        Items that need a decision.
    """
    from trialops.governance.access_review_run import run_review
    from trialops.stores import step

    with step("review-access", month=month, as_of=as_of) as run:
        done = run_review(run, run.read(activity)["activity"], roster=roster, rbac=rbac, month=month, as_of=as_of)
        run.write_json(review, {"period": done.period, "digest": done.digest, "marked": done.marked})
        run.metrics |= {"items": len(done.document["items"]), "marked": done.marked}
        run.show(report, done.page)
    return int(done.marked)


@component
def collect_evidence(
    review: Input[Artifact],
    summary: Input[Artifact],
    pack: Output[Artifact],
    report: Output[HTML],
    scans: str = "",
    month: str = "",
    as_of: str = "",
) -> int:
    """Put together the evidence of a month for SOC 2 CC6 to CC8, signed by the installation.

    Args:
        review: Of review_access, so that the pack has it.
        summary: Of screen_activity, so that the pack has it.
        pack: Digests of the files, and the signature.
        report: Criteria, their evidence, and what is missing.
        scans: Folder of results of vulnerability scanners (SARIF, Trivy, Grype); empty: none.
        month: YYYY-MM; empty: the last whole month.
        as_of: ISO 8601 moment of the run; empty is now.

    Returns:
        Files in the pack.
    """
    from trialops.governance import evidence_pack
    from trialops.governance.access_review import period_of
    from trialops.security.collect_run import moment
    from trialops.stores import step

    with step("collect-evidence", month=month, as_of=as_of) as run:
        run.read_json(review)
        run.read_json(summary)
        made = evidence_pack.build(run, *period_of(month, moment(as_of)), scans=scans)
        run.write_json(pack, made.manifest)
        run.show(report, evidence_pack.page(made))
    return len(made.manifest["body"]["files"])
