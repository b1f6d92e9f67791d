"""Security monitoring: who did what, what of it is unlike them or against the rules, and the evidence of it.

1. Read accesses from the audit trail (verified first), Kubernetes audit logs and FHIR AuditEvents.
2. Judge the days since the last screening; seal the findings, raise alerts within the budget.
3. Set who may what against who used it, for the reviewer of the month.
4. Put together the evidence of the month.
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.security import collect_activity, collect_evidence, review_access, screen_activity


@dsl.pipeline(name="security-monitoring", display_name="Security monitoring")
def security_monitoring(
    kubernetes_logs: str = "",
    fhir_audit: str = "",
    roster: str = "",
    networks: str = "",
    rbac: str = "",
    scans: str = "",
    days: int = 0,
    month: str = "",
    as_of: str = "",
) -> None:
    """Accesses, findings, access review and evidence.

    Args:
        kubernetes_logs: Folder or file of Kubernetes audit logs; empty: none.
        fhir_audit: Folder or file of FHIR AuditEvents; empty: none.
        roster: CSV list of accounts: actor, kind, role, joined, left; empty: none.
        networks: YAML table of networks; empty: the one that ships.
        rbac: Folder of manifests with RBAC objects; empty: none.
        scans: Folder of results of vulnerability scanners; empty: none.
        days: Days to screen; 0: those since the last screening.
        month: Month of review and evidence, YYYY-MM; empty: the last whole one.
        as_of: ISO 8601 moment of the run; empty is now.
    """
    closing = notify(pipeline="security_monitoring").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        read = collect_activity(
            kubernetes_logs=kubernetes_logs, fhir_audit=fhir_audit, roster=roster, networks=networks, as_of=as_of
        ).set_display_name("Read accesses")
        activity = read.outputs["activity"]
        judged = screen_activity(
            activity=activity,
            collected=read.outputs["collected"],
            roster=roster,
            networks=networks,
            days=days,
            as_of=as_of,
        ).set_display_name("Screen")
        reviewed = review_access(
            activity=activity, roster=roster, rbac=rbac, month=month, as_of=as_of
        ).set_display_name("Access review")
        packed = collect_evidence(
            review=reviewed.outputs["review"],
            summary=judged.outputs["summary"],
            scans=scans,
            month=month,
            as_of=as_of,
        ).set_display_name("Evidence")
        # Every one of them looks at stores that no input names.
        for task, memory in ((read, "4Gi"), (judged, "4Gi"), (reviewed, "2Gi"), (packed, "2Gi")):
            harden(task, memory=memory).set_caching_options(False)
