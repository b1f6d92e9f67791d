"""KFP components: privacy."""

from kfp.dsl import HTML, Dataset, Input, Output

from components.base import component


@component
def deidentify(raw: Input[Dataset], clean: Output[Dataset], withheld: Output[Dataset], report: Output[HTML]) -> int:
    """De-identify under HIPAA_COMPLIANCE_MODE; fails closed.

    Args:
        raw: Sealed tables of an intake.
        clean: De-identified tables with study days.
        withheld: Rows that could not be de-identified: reason, file, row.
        report: What was done to which column, and the residual check.

    Returns:
        Number of withheld rows.
    """
    from trialops.privacy.deidentify import HIPAAComplianceOperator
    from trialops.privacy.page import privacy_page
    from trialops.stores import step

    with step("deidentify") as run:
        mode = run.settings.hipaa_compliance_mode
        result = HIPAAComplianceOperator().run(
            run.unseal(raw), mode, run.vault, synthetic=mode == "off", progress=run.progress
        )
        for kind, link in result.links.items():
            # Who stands behind a pseudonym, encrypted: a safety physician must be able to reach the subject.
            run.vault.remember(kind, dict(link.select("raw", "pseudonym").iter_rows()), engine=run.engine)
        run.write(clean, result.tables, zone="clean")
        run.write_table(withheld, result.quarantine, table="quarantine/privacy")
        run.metrics |= {"subjects": result.report.subjects, "withheld": result.quarantine.height}
        run.audit("privacy.deidentify", "clean", mode, policy=result.report.policy_version)
        run.show(report, privacy_page(result.report))
    return result.quarantine.height
